//! Parts with damaged records, removed completely.

use crate::wire::MeetingId;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::kill::{Dump, assert_usable, control, dump, furnished};
use super::walk::walked;
use super::{domain, part, words_of};
use crate::sys::mapping::killed_after;
use crate::table::claims::Named;
use crate::table::layout::BANK;
use crate::table::meetings::part_hash;
use crate::table::slot::Unreadable;
use crate::table::*;
use crate::wire::mix;

/// The parts of the furnished table: a meeting's first, middle and last, and a meeting's only one.
const PARTS: [(u64, u64); 4] = [(1, 1), (1, 2), (1, 3), (2, 1)];

fn slot_of(table: &Table, meeting: u64, number: u64) -> u32 {
    table.words().find_part(MeetingId(meeting), domain(number)).unwrap().unwrap().0
}

/// Changes a word of a part's current bank. Returns its slot.
fn damage(table: &Table, (meeting, number): (u64, u64), word: usize) -> u32 {
    let slot = slot_of(table, meeting, number);
    let bank = (table.words().part(slot).unwrap().control() >> 8 & 1) as usize;
    let damaged = &words_of(table, Named::Part(slot))[1 + bank * BANK + word];
    damaged.store(damaged.load(Ordering::Relaxed) ^ mix(7), Ordering::Relaxed);
    assert_eq!(table.words().read_part(slot).map(|_| ()), Err(Unreadable::Damaged));
    slot
}

fn without(mut dump: Dump, (meeting, number): (u64, u64)) -> Dump {
    dump.2.retain(|part| (part.meeting.0, part.domain) != (meeting, domain(number)));
    dump.3.retain(|member| (member.meeting.0, member.terminal.domain()) != (meeting, Some(domain(number))));
    dump
}

fn discard(table: &Arc<Table>, (meeting, number): (u64, u64)) -> Result<bool, TableError> {
    control(table).discard_damaged(MeetingId(meeting), domain(number))
}

#[test]
fn a_damaged_part_goes_with_its_members_and_nothing_else_does() {
    for of in PARTS {
        for word in 0..BANK {
            for updated in [false, true] {
                let story = format!("{of:?}, word {word}, updated {updated}");
                let table = furnished();
                if updated {
                    let update = control(&table).update_part(MeetingId(of.0), domain(of.1), |part| part.version += 1);
                    assert_eq!(update, Ok(true));
                }
                let before = dump(&table);
                damage(&table, of, word);
                assert_eq!(table.part(MeetingId(of.0), domain(of.1)), None);
                assert_eq!(discard(&table, of), Ok(true), "{story}");
                assert_eq!(discard(&table, of), Ok(false), "{story}");
                assert_eq!(table.verify(), Vec::<String>::new(), "{story}");
                assert_eq!(dump(&table), without(before, of), "{story}");
                control(&table).insert_part(&part(of.0, of.1)).unwrap();
                assert_eq!(table.verify(), Vec::<String>::new(), "{story}");
                let found = dump(&table);
                assert_usable(&table, &found, &story);
            }
        }
    }
}

#[test]
fn what_is_whole_or_not_there_is_not_discarded() {
    let table = furnished();
    let before = dump(&table);
    for of in PARTS.into_iter().chain([(9, 1)]) {
        assert_eq!(discard(&table, of), Ok(false));
    }
    assert_eq!((dump(&table), table.verify()), (before, vec![]));
}

/// Killed before each store, and the recovery before each of its own.
#[test]
fn it_is_damaged_as_before_or_out_whenever_its_writer_dies() {
    for of in PARTS {
        let damaged = || {
            let table = furnished();
            damage(&table, of, 2);
            table
        };
        let after = without(dump(&furnished()), of);
        let (mut left, mut deaths) = (0, 0);
        let mut settle = |table: &Arc<Table>, story: &str| {
            if table.verify().is_empty() {
                assert_eq!(discard(table, of), Ok(false), "{story}");
            } else {
                left += 1;
                assert_eq!(discard(table, of), Ok(true), "{story}");
            }
            assert_eq!(table.verify(), Vec::<String>::new(), "{story}");
            assert_eq!(dump(table), after, "{story}");
            assert!((1..4).all(|number| walked(table, number).iter().all(|(_, part)| after.2.contains(part))));
            assert_usable(table, &after, story);
        };
        for first in 0.. {
            let table = damaged();
            if killed_after(first, || assert_eq!(discard(&table, of), Ok(true))).is_some() {
                break;
            }
            table.recover();
            settle(&table, &format!("{of:?}, killed at store {first}"));
            for second in 0.. {
                let table = damaged();
                assert!(killed_after(first, || discard(&table, of)).is_none());
                let recovered = killed_after(second, || table.recover()).is_some();
                deaths += 1;
                if recovered {
                    break;
                }
                table.recover();
                settle(&table, &format!("{of:?}, killed at store {first}, its recovery at {second}"));
            }
        }
        assert!(deaths > 20 && left > 0, "{of:?}: {deaths} deaths, of which {left} left it as it was");
    }
}

/// An entry that leads to another's slot, as one with the same tag does.
#[test]
fn the_earlier_record_tells_whose_it_is() {
    let table = furnished();
    assert_eq!(control(&table).update_part(MeetingId(1), domain(1), |part| part.version += 1), Ok(true));
    let slot = damage(&table, (1, 1), 0);
    assert!(table.words().part_index().insert(part_hash(MeetingId(9), domain(1)), slot));
    assert_eq!(discard(&table, (9, 1)), Ok(false));
    assert_eq!(table.words().read_part(slot).map(|_| ()), Err(Unreadable::Damaged));
    // Every entry is removed, under any key.
    assert_eq!(discard(&table, (1, 1)), Ok(true));
    assert_eq!(table.verify(), Vec::<String>::new());
}

#[test]
fn one_that_is_taken_for_another_leaves_no_entry_either() {
    for of in PARTS {
        let table = furnished();
        let before = dump(&table);
        let slot = damage(&table, of, 0);
        assert!(table.words().part_index().insert(part_hash(MeetingId(9), domain(of.1)), slot));
        assert_eq!(discard(&table, (9, of.1)), Ok(true));
        assert_eq!(table.verify(), Vec::<String>::new());
        assert_eq!(dump(&table), without(before, of));
    }
}

#[test]
fn several_damaged_parts_of_one_meeting_go_in_any_order() {
    for (one, other) in PARTS.into_iter().flat_map(|one| PARTS.map(|other| (one, other))) {
        if one == other {
            continue;
        }
        let table = furnished();
        let before = dump(&table);
        damage(&table, one, 3);
        damage(&table, other, 4);
        assert_eq!((discard(&table, one), discard(&table, other)), (Ok(true), Ok(true)));
        assert_eq!(table.verify(), Vec::<String>::new());
        assert_eq!(dump(&table), without(without(before, one), other));
    }
}

/// While the first of a chain cannot be read, another part of the meeting begins a chain of its
/// own.
#[test]
fn chains_that_damage_has_parted_are_one_again() {
    let table = furnished();
    let first = table.words().first_part_of(MeetingId(1)).unwrap();
    let of = PARTS.into_iter().find(|&(meeting, number)| slot_of(&table, meeting, number) == first).unwrap();
    damage(&table, of, 1);
    control(&table).insert_part(&part(1, 7)).unwrap();
    assert_eq!(discard(&table, of), Ok(true));
    assert_eq!(table.verify(), Vec::<String>::new());
    assert_eq!(table.parts_of(MeetingId(1)).count(), 3);
}

/// The link to its members is damaged too: it leads nowhere, or to another part's members.
#[test]
fn its_members_go_and_anothers_stay_wherever_its_chain_leads() {
    let (other, ..) = furnished().words().find_terminal(domain(2).device(1)).unwrap().unwrap();
    for link in [4 << 32, 4 << 32 | (u64::from(other) + 1), 4 << 32 | 0xffff_ffff, u64::from(other) + 1] {
        let table = furnished();
        let before = dump(&table);
        let slot = damage(&table, (1, 1), 1);
        table.words().part_link(slot).unwrap().store(link, Ordering::Relaxed);
        assert_eq!(discard(&table, (1, 1)), Ok(true));
        assert_eq!(table.verify(), Vec::<String>::new(), "{link:x}");
        assert_eq!(dump(&table), without(before, (1, 1)));
    }
}

#[test]
fn none_of_its_members_stays_behind_whenever_its_writer_dies() {
    // One that leads nowhere and says that there are more: all terminals are searched.
    let damaged = || {
        let table = furnished();
        let slot = damage(&table, (1, 1), 1);
        table.words().part_link(slot).unwrap().store(4 << 32, Ordering::Relaxed);
        table
    };
    let after = without(dump(&furnished()), (1, 1));
    for stores in 0.. {
        let table = damaged();
        let done = killed_after(stores, || discard(&table, (1, 1))).is_some();
        table.recover();
        if !table.verify().is_empty() {
            assert_eq!(discard(&table, (1, 1)), Ok(true), "killed at store {stores}");
        }
        assert_eq!(table.verify(), Vec::<String>::new(), "killed at store {stores}");
        assert_eq!(dump(&table), after, "killed at store {stores}");
        if done {
            break;
        }
    }
}
