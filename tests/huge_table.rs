//! A table on hugetlbfs, as on a dispatch server: it survives its maker, and if there are not
//! enough pages it is refused, without a SIGBUS.

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use baton::sys::mapping::BootId;
use baton::table::file::OpenError;
use baton::table::{Capacity, OwnerId, Part, Recovered, Table, Terminal};
use baton::wire::{Address, Domain, Epoch, Layout, Level, MeetingId, MeetingState, Role, Run};
use support::huge_pages::HugePages;

/// A hugetlbfs of the test, removed on drop.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("baton-huge-").tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "hugetlbfs", "-o", "pagesize=2M", "none"]).arg(folder.path());
        assert!(mount.status().unwrap().success(), "mounting hugetlbfs");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

fn domain(number: u64) -> Domain {
    Domain::new(number).unwrap()
}

fn part(meeting: u64) -> Part {
    Part {
        meeting: MeetingId(meeting),
        domain: domain(1 + meeting % 3),
        version: meeting,
        epoch: Epoch::NONE,
        state: MeetingState::InMeeting,
        level: Level::new(1 + (meeting % 5) as u8).unwrap(),
        layout: Layout::new(4).unwrap(),
        participants: 0,
        chairman: Address::default(),
        in_doubt: false,
        run: Run(7),
    }
}

#[test]
fn a_table_on_huge_pages_is_there_again_and_one_without_room_is_refused() {
    const CAPACITY: Capacity = Capacity { meetings: 5_000, terminals: 10_000 };
    let Some(_pages) = HugePages::lent(4) else { return };
    let folder = Mounted::new();
    let path = folder.path().join("table");
    let table = Arc::new(Table::create_at(&path, CAPACITY, BootId(7)).unwrap());
    let mut control = table.writer(OwnerId::CONTROL);
    for meeting in 1..=5_000 {
        let part = part(meeting);
        control.insert_part(&part).unwrap();
        let terminal = Terminal::new(part.domain.device(meeting as u16), part.meeting, Role::Participant);
        control.join(part.meeting, part.domain, &terminal).unwrap();
    }
    drop(control);
    drop(table);

    let table = Table::open_at(&path).unwrap();
    assert_eq!(table.recover(), Recovered::default());
    assert_eq!((table.count_parts(), table.count_terminals()), (5_000, 5_000));
    assert!(table.parts().all(|found| found == Part { participants: 1, ..part(found.meeting.0) }));
    assert_eq!(table.verify(), Vec::<String>::new());

    let larger = Capacity { meetings: 100_000, terminals: 100_000 };
    let refused = Table::create_at(&folder.path().join("larger"), larger, BootId(7)).map(drop);
    assert!(matches!(refused, Err(OpenError::Mapping(_))), "{refused:?}");
}
