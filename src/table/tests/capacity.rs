//! A table that is full in each possible way: the error names what is full, and the table still has
//! no flaw.

use crate::wire::MeetingId;
use std::sync::Arc;

use super::{domain, part, report};
use crate::limits::{EXTENTS_MIN, MEMBERS_MAX, PARTS_MAX};
use crate::table::index::{BUCKET, STASH};
use crate::table::*;
use crate::wire::{Info, Role, mix};

fn table(meetings: u32, terminals: u32) -> Arc<Table> {
    Arc::new(Table::on_heap(Capacity { meetings, terminals }))
}

fn member(device: u16, info: usize) -> Terminal {
    let mut member = Terminal::new(domain(1).device(device), MeetingId(1), Role::Participant);
    member.info = Info::new(&[device as u8; 64][..info]);
    member
}

/// A full table refuses one more, twice with the same error, and takes it once there is room.
fn full<T: PartialEq + std::fmt::Debug>(
    table: &Table,
    what: &'static str,
    mut more: impl FnMut() -> Result<T, TableError>,
    room: impl FnOnce(),
) {
    let before = (table.count_parts(), table.count_terminals());
    for _ in 0..2 {
        assert_eq!(more(), Err(TableError::Full(what)));
        assert_eq!((table.count_parts(), table.count_terminals()), before);
        assert_eq!(table.verify(), Vec::<String>::new(), "full of {what}");
    }
    assert_eq!(table.recover(), Recovered::default(), "what was refused is not under way");
    room();
    assert!(more().is_ok(), "there is room for {what}");
    assert_eq!(table.verify(), Vec::<String>::new());
}

#[test]
fn no_more_parts() {
    let table = table(5, 4);
    let (mut one, mut two) = (table.writer(OwnerId::CONTROL), table.writer(OwnerId(1)));
    (1..=5).for_each(|meeting| one.insert_part(&part(meeting, 1)).unwrap());
    full(
        &table,
        "parts of meetings",
        || one.insert_part(&part(6, 1)),
        || {
            assert_eq!(two.remove_part(MeetingId(3), domain(1)), Ok(true));
        },
    );
}

#[test]
fn no_more_parts_of_one_meeting() {
    let table = table(PARTS_MAX as u32 + 8, 4);
    let (mut one, mut two) = (table.writer(OwnerId::CONTROL), table.writer(OwnerId(1)));
    (1..=PARTS_MAX as u64).for_each(|number| one.insert_part(&part(1, number)).unwrap());
    one.insert_part(&part(2, 1)).unwrap();
    full(
        &table,
        "parts of one meeting",
        || one.insert_part(&part(1, 1000)),
        || {
            assert_eq!(two.remove_part(MeetingId(1), domain(7)), Ok(true));
        },
    );
    assert_eq!(table.parts_of(MeetingId(1)).count(), PARTS_MAX);
}

#[test]
fn no_more_terminals() {
    let table = table(2, 10);
    let (mut one, mut two) = (table.writer(OwnerId::CONTROL), table.writer(OwnerId(1)));
    one.insert_part(&part(1, 1)).unwrap();
    (1..=10).for_each(|device| one.join(MeetingId(1), domain(1), &member(device, 0)).unwrap());
    full(
        &table,
        "terminals",
        || one.join(MeetingId(1), domain(1), &member(11, 0)),
        || {
            assert_eq!(two.leave(MeetingId(1), domain(1).device(4)), Ok(true));
        },
    );
}

#[test]
fn no_more_members_of_one_part() {
    let table = table(2, MEMBERS_MAX as u32 + 64);
    let (mut one, mut two) = (table.writer(OwnerId::CONTROL), table.writer(OwnerId(1)));
    one.insert_part(&part(1, 1)).unwrap();
    (1..=MEMBERS_MAX as u16).for_each(|device| one.join(MeetingId(1), domain(1), &member(device, 0)).unwrap());
    full(
        &table,
        "members of one part",
        || one.join(MeetingId(1), domain(1), &member(9000, 0)),
        || {
            assert_eq!(two.leave(MeetingId(1), domain(1).device(4)), Ok(true));
        },
    );
    assert_eq!(table.members(MeetingId(1), domain(1)).count(), MEMBERS_MAX);
}

#[test]
fn no_more_extents() {
    const WHAT: &str = "extents for additional information";
    let table = table(2, 200);
    let (mut one, mut two) = (table.writer(OwnerId::CONTROL), table.writer(OwnerId(1)));
    one.insert_part(&part(1, 1)).unwrap();
    (1..=EXTENTS_MIN as u16).for_each(|device| one.join(MeetingId(1), domain(1), &member(device, 64)).unwrap());
    full(
        &table,
        WHAT,
        || one.join(MeetingId(1), domain(1), &member(100, 7)),
        || {
            assert_eq!(two.leave(MeetingId(1), domain(1).device(4)), Ok(true));
        },
    );
    one.join(MeetingId(1), domain(1), &member(101, 6)).unwrap();
    let longer = |terminal: &mut Terminal| {
        terminal.info = Info::new(&[1; 7]);
        true
    };
    full(
        &table,
        WHAT,
        || one.update_terminal(domain(1).device(101), longer),
        || {
            assert_eq!(report(&mut two, domain(1).device(5), 9, b"short"), Reported::Applied);
        },
    );
}

/// By what a look-up costs: hardly a key beyond its first bucket, and the stash, which every miss
/// looks through, left for what cannot be foreseen. Also after as many have come and gone.
#[test]
fn a_full_index_has_hardly_a_key_beyond_its_first_bucket() {
    const KEYS: u32 = 200_000;
    let table = table(1, KEYS);
    let index = table.words().terminal_index();
    let buckets = index.room() - STASH;
    let in_first = |hash: u64, slot: u32| {
        let first = (((hash & u64::from(u32::MAX)) * (buckets / BUCKET) as u64) >> 32) as usize;
        (first * BUCKET..(first + 1) * BUCKET).any(|place| index.slot_at(place) == Some(slot))
    };
    for round in 0..3 {
        let hash = |slot: u32| mix(u64::from(round * KEYS + slot));
        (0..KEYS).for_each(|slot| assert!(index.insert(hash(slot), slot), "slot {slot} in round {round}"));
        assert!((0..KEYS).all(|slot| index.find(hash(slot), |found| (found == slot).then_some(())).is_some()));
        let beyond = (0..KEYS).filter(|&slot| !in_first(hash(slot), slot)).count();
        assert!(beyond < KEYS as usize / 18, "{beyond} of {KEYS} are beyond their first bucket");
        assert_eq!((buckets..index.room()).filter_map(|place| index.slot_at(place)).count(), 0, "in the stash");
        if round < 2 {
            // Slots are numbered as keys are here: those of the next round take their places.
            (0..KEYS).for_each(|slot| assert!(index.remove(hash(slot), slot)));
        }
    }
}
