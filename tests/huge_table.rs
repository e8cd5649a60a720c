//! A table on hugetlbfs, as on a dispatch server: it survives its maker, and if there are not
//! enough pages it is refused, without a SIGBUS.

use std::path::Path;
use std::sync::Arc;

use baton::lab::testbed::huge_pages::{self, HugeFolder, HugePages};
use baton::lab::testbed::need_root;
use baton::sys::mapping::BootId;
use baton::table::file::OpenError;
use baton::table::{Capacity, OwnerId, Part, Recovered, Table, Terminal};
use baton::wire::{Address, Domain, Epoch, Layout, Level, MeetingId, MeetingState, Role, Run};

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
        is_unlisted: false,
        run: Run(7),
    }
}

#[test]
fn a_table_on_huge_pages_is_there_again_and_one_without_room_is_refused() {
    const CAPACITY: Capacity = Capacity { meetings: 5_000, terminals: 10_000 };
    need_root("huge pages");
    let folder = HugeFolder::new(4).unwrap();
    if !folder.is_huge() {
        eprintln!("THIS MACHINE HAS NO 8 MiB LEFT IN PIECES OF TWO: a table on huge pages is not tested");
        return;
    }
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

#[test]
fn pages_of_a_killed_process_are_given_back_by_the_next_borrower() {
    need_root("huge pages");
    // No process has this number: it is the kernel's bound (PID_MAX_LIMIT).
    let dead = format!("{}-0", 1 << 22);
    huge_pages::borrow(&dead, 1).unwrap();
    let note = Path::new("/dev/shm").join(format!("baton-huge-pages.{dead}"));
    assert!(note.exists());
    let own = HugePages::borrow(0).unwrap();
    assert!(!note.exists());
    assert_eq!(own.lent(), 0);
}
