//! Terminals with damaged records, removed and entered again.

use crate::wire::MeetingId;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::kill::{Dump, assert_usable, control, dump, furnished};
use super::{domain, part, words_of};
use crate::sys::mapping::killed_after;
use crate::table::claims::Named;
use crate::table::layout::BANK;
use crate::table::slot::Unreadable;
use crate::table::*;
use crate::wire::{Address, Info, Role, mix};

/// Members of the furnished table: the first, two in the middle and the last of a chain, some with
/// an extent, and an only one.
const MEMBERS: [(u64, u16); 5] = [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1)];

fn address((number, device): (u64, u16)) -> Address {
    domain(number).device(device)
}

/// What of a terminal is damaged.
#[derive(Clone, Copy, Debug)]
enum What {
    /// A word of its current bank.
    Bank(usize),
    /// Of its current bank.
    Check,
    Address,
    Meeting,
    /// The word that names its part.
    Part,
    /// A word of its extent.
    Extent(usize),
}

/// Where every damage shows.
const EACH: [What; 8] = [
    What::Bank(0),
    What::Bank(1),
    What::Check,
    What::Address,
    What::Meeting,
    What::Part,
    What::Extent(0),
    What::Extent(7),
];

/// Damages a terminal. Returns its slot; none if it has no extent to be damaged.
fn damage(table: &Table, of: (u64, u16), what: What) -> Option<u32> {
    let words = table.words();
    let (slot, _, raw) = words.find_terminal(address(of)).unwrap().unwrap();
    let bank = (words.terminal(slot).unwrap().slot().control() >> 8 & 1) as usize;
    let line = words_of(table, Named::Terminal(slot));
    let (damaged, by) = match what {
        What::Bank(word) => (&line[1 + bank * 2 + word], mix(7)),
        What::Check => (&line[5], 1 << (32 * bank)),
        What::Address => (&line[6], mix(7) >> 8),
        What::Meeting => (&line[7], mix(7)),
        What::Part => (words.terminal_part(slot).unwrap(), mix(7)),
        What::Extent(word) => (&words.extent_bank(raw.extent()?, bank).unwrap()[word], mix(7)),
    };
    damaged.store(damaged.load(Ordering::Relaxed) ^ by, Ordering::Relaxed);
    assert_eq!(words.read_member(slot).map(|_| ()), Err(Unreadable::Damaged));
    Some(slot)
}

/// The table without a terminal, whose part is in doubt and counts one fewer.
fn without(mut dump: Dump, of: (u64, u16)) -> Dump {
    dump.3.retain(|member| member.terminal != address(of));
    let of_part = dump.2.iter_mut().filter(|part| (part.meeting, part.domain) == (MeetingId(1), domain(of.0)));
    of_part.for_each(|part| (part.in_doubt, part.participants) = (true, part.participants - 1));
    dump
}

fn discard(table: &Arc<Table>, of: (u64, u16)) -> Result<Option<Discarded>, TableError> {
    control(table).discard_damaged_terminal(address(of))
}

fn reported(table: &Arc<Table>, of: (u64, u16)) -> Reported {
    let mut state = Terminal::new(address(of), MeetingId(1), Role::Participant);
    state.version = 9;
    table.writer(OwnerId::worker(0)).report_state(&(&state).into())
}

#[test]
fn a_damaged_terminal_goes_its_part_is_in_doubt_and_nothing_else_changes() {
    for of in MEMBERS {
        for what in EACH {
            for updated in [false, true] {
                let story = format!("{of:?}, {what:?}, updated {updated}");
                let table = furnished();
                if updated {
                    let update = |terminal: &mut Terminal| std::mem::replace(&mut terminal.channel, 3) != 3;
                    assert_eq!(control(&table).update_terminal(address(of), update), Ok(true));
                }
                let before = dump(&table);
                if damage(&table, of, what).is_none() {
                    continue;
                }
                // A report does not look at what is beside the line.
                let expected = if matches!(what, What::Part) { Reported::Applied } else { Reported::Damaged };
                assert_eq!(reported(&table, of), expected, "{story}");
                let member_of = Some((MeetingId(1), domain(of.0)));
                assert_eq!(discard(&table, of), Ok(Some(Discarded { member_of })), "{story}");
                assert_eq!(discard(&table, of), Ok(None), "{story}");
                assert_eq!(table.verify(), Vec::<String>::new(), "{story}");
                let after = without(before, of);
                assert_eq!(dump(&table), after, "{story}");
                assert_eq!(reported(&table, of), Reported::UnknownTerminal, "{story}");
                assert_usable(&table, &after, &story);
            }
        }
    }
}

/// Every operation on a terminal by its address discards the damaged record.
#[test]
fn whoever_joins_changes_or_takes_out_a_damaged_terminal_gets_it_out_of_the_way() {
    for of in MEMBERS {
        for what in EACH {
            let damaged = || {
                let table = furnished();
                damage(&table, of, what).map(|_| table)
            };
            let Some(table) = damaged() else { continue };
            let mut terminal = Terminal::new(address(of), MeetingId(2), Role::Participant);
            terminal.info = Info::new(&[5; 64]);
            assert_eq!(control(&table).join(MeetingId(2), domain(1), &terminal), Ok(()), "{of:?}, {what:?}");
            assert_eq!(table.terminal(address(of)), Some(terminal));
            assert_eq!(table.verify(), Vec::<String>::new(), "{of:?}, {what:?}");

            let table = damaged().unwrap();
            assert_eq!(control(&table).update_terminal(address(of), |_| true), Ok(false), "{of:?}, {what:?}");
            assert_eq!(table.verify(), Vec::<String>::new(), "{of:?}, {what:?}");

            let table = damaged().unwrap();
            assert_eq!(control(&table).leave(MeetingId(1), address(of)), Ok(true), "{of:?}, {what:?}");
            assert_eq!(table.verify(), Vec::<String>::new(), "{of:?}, {what:?}");

            let table = damaged().unwrap();
            assert_eq!(control(&table).remove_part(MeetingId(1), domain(of.0)), Ok(true), "{of:?}, {what:?}");
            assert_eq!(table.verify(), Vec::<String>::new(), "{of:?}, {what:?}");
            let left = dump(&table);
            assert_usable(&table, &left, "the slot of a damaged member is used again");
        }
    }
}

#[test]
fn what_is_whole_or_not_there_stays() {
    let table = furnished();
    let before = dump(&table);
    for of in MEMBERS.into_iter().chain([(3, 9)]) {
        assert_eq!(discard(&table, of), Ok(None));
    }
    assert_eq!((dump(&table), table.verify()), (before, vec![]));
}

/// Killed before each store, and the recovery before each of its own.
fn kill_everywhere(of: (u64, u16), name: &str, act: impl Fn(&Arc<Table>)) {
    let damaged = || {
        let table = furnished();
        damage(&table, of, What::Bank(0));
        table
    };
    let after = {
        let table = damaged();
        act(&table);
        dump(&table)
    };
    let mut deaths = 0;
    let settle = |table: &Arc<Table>, story: &str| {
        // Still damaged, or removed; if still damaged, another attempt removes it.
        if table.verify().iter().any(|flaw| flaw.contains("unreadable")) {
            act(table);
        }
        assert_eq!(table.verify(), Vec::<String>::new(), "{story}");
        let found = dump(table);
        if found != after {
            act(table);
        }
        assert_eq!(dump(table), after, "{story}");
        assert_usable(table, &after, story);
    };
    for first in 0.. {
        let table = damaged();
        if killed_after(first, || act(&table)).is_some() {
            break;
        }
        table.recover();
        settle(&table, &format!("{name} {of:?}, killed at store {first}"));
        // Most of its stores are the last, which clear the cells, one like the other.
        for second in (0..50).chain((50..).step_by(67)) {
            let table = damaged();
            assert!(killed_after(first, || act(&table)).is_none());
            let recovered = killed_after(second, || table.recover()).is_some();
            deaths += 1;
            if recovered {
                break;
            }
            table.recover();
            settle(&table, &format!("{name} {of:?}, killed at store {first}, its recovery at {second}"));
        }
    }
    assert!(deaths > 20, "{name} {of:?}: {deaths} deaths");
}

#[test]
fn it_is_damaged_as_before_or_out_whenever_its_writer_dies() {
    for of in MEMBERS {
        kill_everywhere(of, "discard", |table| _ = discard(table, of).unwrap());
    }
    for of in [MEMBERS[1], MEMBERS[4]] {
        kill_everywhere(of, "its part goes", |table| {
            _ = control(table).remove_part(MeetingId(1), domain(of.0)).unwrap()
        });
    }
}

#[test]
fn all_that_are_damaged_go_at_once() {
    let table = furnished();
    let mut after = dump(&table);
    for of in [MEMBERS[0], MEMBERS[1], MEMBERS[4]] {
        damage(&table, of, What::Bank(1));
        after = without(after, of);
    }
    assert_eq!(
        table.part(MeetingId(1), domain(1)).unwrap().participants,
        4,
        "its link counts those that it cannot read"
    );
    assert_eq!(control(&table).discard_damaged_members(MeetingId(1), domain(1)), Ok(2));
    assert_eq!(control(&table).discard_damaged_terminals(), Ok(1));
    assert_eq!((dump(&table), table.verify()), (after, vec![]));
}

/// A free slot that is overwritten costs the table nothing: its next user repairs it.
#[test]
fn a_damaged_free_slot_is_used_again() {
    let table = furnished();
    // Of both banks, whichever is current.
    for slot in [Named::Terminal(6), Named::Part(5)] {
        words_of(&table, slot)[1..5].iter().for_each(|word| word.store(7, Ordering::Relaxed));
    }
    assert!(table.verify().len() >= 2);
    let found = dump(&table);
    let mut control = control(&table);
    for number in 4..=5 {
        control.insert_part(&part(9, number)).unwrap();
    }
    for device in 50..53 {
        let terminal = Terminal::new(domain(9).device(device), MeetingId(9), Role::Participant);
        control.join(MeetingId(9), domain(4), &terminal).unwrap();
    }
    assert_eq!(table.verify(), Vec::<String>::new());
    assert_eq!(control.remove_part(MeetingId(9), domain(4)), Ok(true));
    assert_eq!(control.remove_part(MeetingId(9), domain(5)), Ok(true));
    drop(control);
    assert_usable(&table, &found, "both slots are used again");
}

/// A terminal that no autonomous server lists cannot be removed by its address.
#[test]
fn damaged_parts_are_found_and_discarded_by_their_domain() {
    let table = furnished();
    assert_eq!(control(&table).update_part(MeetingId(2), domain(1), |part| part.version += 1), Ok(true));
    let before = dump(&table);
    let words = table.words();
    for (meeting, number) in [(1, 1), (2, 1), (1, 2)] {
        let (slot, ..) = words.find_part(MeetingId(meeting), domain(number)).unwrap().unwrap();
        let bank = (words.part(slot).unwrap().control() >> 8 & 1) as usize;
        words_of(&table, Named::Part(slot))[1 + bank * BANK + 2].store(77, Ordering::Relaxed);
    }
    let mut found: Vec<_> = table.damaged_parts_in(domain(1)).collect();
    found.sort();
    assert_eq!(found, [None, Some(MeetingId(2))], "the record before says whose it is, where there is one");
    assert_eq!(table.damaged_parts_in(domain(3)).count(), 0);
    let mut discarded = control(&table).discard_damaged_parts_in(domain(1)).unwrap();
    discarded.sort();
    assert_eq!(discarded, found);
    assert_eq!(table.damaged_parts_in(domain(1)).count(), 0);
    assert_eq!(table.damaged_parts_in(domain(2)).count(), 1);
    assert_eq!(control(&table).discard_damaged_parts_in(domain(2)).unwrap().len(), 1);
    assert_eq!(table.verify(), Vec::<String>::new());
    let left = dump(&table);
    assert_eq!(left.2.len(), before.2.len() - 3);
    assert_eq!(left.3.len(), 0, "and its members are free for other meetings");
}
