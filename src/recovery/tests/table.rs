//! The machine over the table itself.

use std::sync::Arc;

use super::hand::{EPOCH, domain, entries};
use crate::recovery::{DatabaseStore, Path, ServerRecovery, Settings, TableHoldings};
use crate::table::{Capacity, OwnerId, Part, Table};
use crate::time::Nanos;
use crate::wire::{Address, Epoch, Layout, Level, MeetingId, MeetingState, Opcode, Record, TakeoverEntry};

fn part(meeting: u64, level: Level) -> Part {
    Part {
        meeting: MeetingId(meeting),
        domain: domain(),
        version: 1,
        epoch: Epoch::new(1, 6),
        state: MeetingState::InMeeting,
        level,
        layout: Layout::new(4).expect("a layout"),
        participants: 0,
        chairman: Address::default(),
    }
}

#[test]
fn the_first_takeover_asks_for_level_1_although_it_was_entered_last() {
    let table = Arc::new(Table::on_heap(Capacity { meetings: 1000, terminals: 8 }));
    let mut writer = table.writer(OwnerId::CONTROL);
    let per_page = TakeoverEntry::PER_PAGE as u64;
    let (low, high) = (3 * per_page, per_page / 2);
    for meeting in 1..=low {
        writer.insert_part(&part(meeting, Level::LOWEST)).unwrap();
    }
    for meeting in low + 1..=low + high {
        writer.insert_part(&part(meeting, Level::HIGHEST)).unwrap();
    }
    let mut server = ServerRecovery::new(domain(), EPOCH, Path::Cache, Settings::default(), Nanos(0));
    let mut holdings = TableHoldings {
        writer: &mut writer,
        store: &mut DatabaseStore { database: None, write: drop },
        is_busy: &|_| false,
        orphan: &mut |_, _| {},
    };
    let first = server.poll_transmit(Nanos(0), &mut holdings).expect("a request");
    assert_eq!(first.opcode(), Opcode::TakeoverBatch.wire());
    let asked = entries(&first);
    assert_eq!(asked.len(), TakeoverEntry::PER_PAGE);
    let expected: Vec<u64> = (low + 1..=low + high).chain(1..=per_page - high).collect();
    assert_eq!(asked, expected);
}
