//! Terminals with damaged records, removed and entered again.

use crate::wire::MeetingId;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::kill::{Dump, assert_usable, control, dump, furnished};
use super::{domain, part};
use crate::sys::mapping::killed_after;
use crate::table::layout::{BANK, LINK};
use crate::table::slot::Unreadable;
use crate::table::*;
use crate::wire::{Address, Info, Role, mix};

/// Members of the furnished table: the first, two in the middle and the last of a chain, some with
/// an extent, and an only one.
const MEMBERS: [(u64, u16); 5] = [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1)];

fn address((number, device): (u64, u16)) -> Address {
    domain(number).device(device)
}

/// Changes a word of a terminal's current bank, or of its extent. Returns its slot; none if there
/// is no such word.
fn damage(table: &Table, of: (u64, u16), word: usize) -> Option<u32> {
    let words = table.words();
    let (slot, _, raw) = words.find_terminal(address(of)).unwrap().unwrap();
    let bank = (words.terminal(slot).unwrap().control() >> 8 & 1) as usize;
    let damaged = if let Some(word) = word.checked_sub(BANK) {
        &words.extent_bank(raw.extent()?, bank).unwrap()[word]
    } else {
        let link = words.terminal_link(slot).unwrap();
        let all = table.mapping().words();
        let link = all.iter().position(|word| std::ptr::eq(word, link)).unwrap();
        &all[link - LINK + 1 + bank * BANK + word]
    };
    damaged.store(damaged.load(Ordering::Relaxed) ^ mix(7), Ordering::Relaxed);
    assert_eq!(words.read_terminal(slot).map(|_| ()), Err(Unreadable::Damaged));
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

/// Where every damage shows, the words of an extent among them.
fn each_word() -> impl Iterator<Item = usize> {
    (0..BANK).chain([BANK, BANK + 7])
}

fn reported(table: &Arc<Table>, of: (u64, u16)) -> Reported {
    let mut state = Terminal::new(address(of), MeetingId(1), Role::Participant);
    state.version = 9;
    table.writer(OwnerId::worker(0)).report_state(&(&state).into())
}

#[test]
fn a_damaged_terminal_goes_its_part_is_in_doubt_and_nothing_else_changes() {
    for of in MEMBERS {
        for word in each_word() {
            for updated in [false, true] {
                let story = format!("{of:?}, word {word}, updated {updated}");
                let table = furnished();
                if updated {
                    let update = |terminal: &mut Terminal| std::mem::replace(&mut terminal.channel, 3) != 3;
                    assert_eq!(control(&table).update_terminal(address(of), update), Ok(true));
                }
                let before = dump(&table);
                if damage(&table, of, word).is_none() {
                    continue;
                }
                assert_eq!(reported(&table, of), Reported::Damaged, "{story}");
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
        for word in each_word() {
            let damaged = || {
                let table = furnished();
                damage(&table, of, word).map(|_| table)
            };
            let Some(table) = damaged() else { continue };
            let mut terminal = Terminal::new(address(of), MeetingId(2), Role::Participant);
            terminal.info = Info::new(&[5; 64]);
            assert_eq!(control(&table).join(MeetingId(2), domain(1), &terminal), Ok(()), "{of:?}, word {word}");
            assert_eq!(table.terminal(address(of)), Some(terminal));
            assert_eq!(table.verify(), Vec::<String>::new(), "{of:?}, word {word}");

            let table = damaged().unwrap();
            assert_eq!(control(&table).update_terminal(address(of), |_| true), Ok(false), "{of:?}, word {word}");
            assert_eq!(table.verify(), Vec::<String>::new(), "{of:?}, word {word}");

            let table = damaged().unwrap();
            assert_eq!(control(&table).leave(MeetingId(1), address(of)), Ok(true), "{of:?}, word {word}");
            assert_eq!(table.verify(), Vec::<String>::new(), "{of:?}, word {word}");

            let table = damaged().unwrap();
            assert_eq!(control(&table).remove_part(MeetingId(1), domain(of.0)), Ok(true), "{of:?}, word {word}");
            assert_eq!(table.verify(), Vec::<String>::new(), "{of:?}, word {word}");
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
        damage(&table, of, 2);
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
        damage(&table, of, 3);
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
    let words = table.mapping().words();
    let free_terminal = table.words().terminal_link(6).unwrap();
    let free_part = table.words().part_link(5).unwrap();
    for link in [free_terminal, free_part] {
        let at = words.iter().position(|word| std::ptr::eq(word, link)).unwrap();
        words[at - LINK + 3].store(7, Ordering::Relaxed);
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
        let all = table.mapping().words();
        let link = all.iter().position(|word| std::ptr::eq(word, words.part_link(slot).unwrap())).unwrap();
        all[link - LINK + 1 + bank * BANK + 2].store(77, Ordering::Relaxed);
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
