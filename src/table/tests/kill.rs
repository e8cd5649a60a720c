//! Death before every store: each operation is killed before each of its changes of a shared word,
//! and so is the recovery from each of these deaths. The table is then as before the operation or
//! as after it.

use crate::wire::MeetingId;
use std::sync::Arc;

use super::walk::walked;
use super::{domain, part, report};
use crate::sys::mapping::killed_after;
use crate::table::*;
use crate::wire::{Epoch, Info, Level, MeetingState, Role};

pub(super) type Dump = (Epoch, u32, Vec<Part>, Vec<Terminal>);

pub(super) fn dump(table: &Table) -> Dump {
    let mut parts: Vec<Part> = table.parts().collect();
    let mut terminals: Vec<Terminal> = table.terminals().collect();
    parts.sort_by_key(|part| (part.meeting, part.domain));
    terminals.sort_by_key(|terminal| terminal.terminal);
    (table.epoch(), table.generation_end(), parts, terminals)
}

/// Meeting 1 has parts in domains 1 to 3 of level 1, meeting 2 in domain 1 of level 2. Part 1 in 1
/// has members 1 to 4, of whom 2 and 4 have long information; part 1 in 2 has member 1.
pub(super) fn furnished() -> Arc<Table> {
    let table = Arc::new(Table::on_heap(Capacity { meetings: 6, terminals: 8 }));
    table.set_reservation(Epoch::new(1, 5), 100);
    let mut control = table.writer(OwnerId::CONTROL);
    for (meeting, number) in [(1, 1), (1, 2), (1, 3), (2, 1)] {
        control.insert_part(&Part { level: Level::new(meeting as u8).unwrap(), ..part(meeting, number) }).unwrap();
    }
    for (number, device) in [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1)] {
        control.join(MeetingId(1), domain(number), &member(number, device, usize::from(device) * 15 % 40)).unwrap();
    }
    table
}

fn member(number: u64, device: u16, info: usize) -> Terminal {
    let mut terminal = Terminal::new(domain(number).device(device), MeetingId(1), Role::Participant);
    terminal.info = Info::new(&[device as u8; 64][..info]);
    terminal
}

fn assert_old_or_new(table: &Table, before: &Dump, after: &Dump, story: &str) -> Dump {
    assert_eq!(table.verify(), Vec::<String>::new(), "{story}");
    let found = dump(table);
    for number in 1..4 {
        let mut met: Vec<Part> = walked(table, number).into_iter().map(|(_, part)| part).collect();
        assert!(met.is_sorted_by_key(|part| part.level), "{story}: {met:?}");
        met.sort_by_key(|part| part.meeting);
        let there = found.2.iter().filter(|part| part.domain == domain(number));
        assert!(met.iter().eq(there), "{story}: a walk by level meets {met:?}");
    }
    assert!(&found == before || &found == after, "{story}: neither the old table nor the new one: {found:#?}");
    found
}

pub(super) fn assert_usable(table: &Arc<Table>, found: &Dump, story: &str) {
    // Nothing leaked: it can still be filled to its capacity, and emptied.
    let mut control = table.writer(OwnerId::CONTROL);
    for _ in found.2.len()..6 {
        let free = (1..10).find(|&number| table.part(MeetingId(9), domain(number)).is_none()).unwrap();
        control.insert_part(&part(9, free)).expect(story);
    }
    let into = table.parts().next().unwrap();
    for device in 0..8 - found.3.len() as u16 {
        control.join(into.meeting, into.domain, &member(7, 100 + device, 64)).expect(story);
    }
    for part in table.parts().collect::<Vec<_>>() {
        assert_eq!(control.remove_part(part.meeting, part.domain), Ok(true), "{story}");
    }
    assert_eq!((table.verify(), table.count_terminals()), (Vec::new(), 0), "{story}");
}

/// Kills `act` before each of its stores, and the recovery from that before each of its own.
fn kill_everywhere(name: &str, act: impl Fn(&Arc<Table>)) {
    let (before, after) = (dump(&furnished()), {
        let table = furnished();
        act(&table);
        dump(&table)
    });
    assert_ne!(before, after, "{name} changes something");
    let mut deaths = 0;
    for first in 0.. {
        let table = furnished();
        if killed_after(first, || act(&table)).is_some() {
            break;
        }
        // While the dead writer's claims are in place, readers find a record, old or new, without
        // waiting.
        for part in table.parts() {
            assert!(table.members(part.meeting, part.domain).count() <= 5);
            let met = walked(&table, part.domain.number());
            assert_eq!(
                met.iter().filter(|(_, met)| *met == part).count(),
                1,
                "{name}, killed at store {first}: {part:?}"
            );
        }
        assert_eq!(table.unreadable(), 0);
        table.recover();
        let story = format!("{name}, killed at store {first}");
        assert_usable(&table, &assert_old_or_new(&table, &before, &after, &story), &story);
        for second in 0.. {
            let table = furnished();
            assert!(killed_after(first, || act(&table)).is_none());
            let recovered = killed_after(second, || table.recover());
            deaths += 1;
            if recovered.is_some() {
                break;
            }
            table.recover();
            assert_old_or_new(&table, &before, &after, &format!("{story}, its recovery at {second}"));
        }
    }
    assert!(deaths > 20, "{name} died {deaths} times: the stores are counted");
}

pub(super) fn control(table: &Arc<Table>) -> Writer {
    table.writer(OwnerId::CONTROL)
}

#[test]
fn a_part_is_entered_or_not() {
    kill_everywhere("a new meeting's part", |table| control(table).insert_part(&part(3, 1)).unwrap());
    kill_everywhere("a further part", |table| control(table).insert_part(&part(2, 3)).unwrap());
}

#[test]
fn a_part_is_out_or_in_with_its_members() {
    for number in 1..=3 {
        kill_everywhere(&format!("meeting 1 leaves domain {number}"), |table| {
            assert_eq!(control(table).remove_part(MeetingId(1), domain(number)), Ok(true));
        });
    }
    kill_everywhere("a meeting's only part", |table| {
        assert_eq!(control(table).remove_part(MeetingId(2), domain(1)), Ok(true));
    });
}

#[test]
fn a_terminal_joins_or_not() {
    for (number, info) in [(1, 0), (1, 64), (3, 5), (3, 7)] {
        kill_everywhere(&format!("a join in domain {number} with {info} bytes"), |table| {
            control(table).join(MeetingId(1), domain(number), &member(number, 9, info)).unwrap();
        });
    }
}

#[test]
fn a_terminal_leaves_or_not() {
    for device in 1..=4 {
        kill_everywhere(&format!("member {device} leaves"), |table| {
            assert_eq!(control(table).leave(MeetingId(1), domain(1).device(device)), Ok(true));
        });
    }
}

#[test]
fn a_report_is_in_or_not() {
    for device in 1..=4 {
        for info in [0, 6, 7, 64] {
            kill_everywhere(&format!("terminal {device} reports {info} bytes"), |table| {
                let mut worker = table.writer(OwnerId::worker(2));
                let reported = report(&mut worker, domain(1).device(device), 7, &[9; 64][..info]);
                assert_eq!(reported, Reported::Applied);
            });
        }
    }
}

#[test]
fn a_change_is_in_or_not() {
    kill_everywhere("a part ends", |table| {
        let changed = control(table).update_part(MeetingId(1), domain(1), |part| part.state = MeetingState::Ending);
        assert_eq!(changed, Ok(true));
    });
    for level in [Level::HIGHEST, Level::LOWEST] {
        kill_everywhere(&format!("a part goes to {level:?}"), |table| {
            let changed = control(table).update_part(MeetingId(2), domain(1), |part| part.level = level);
            assert_eq!(changed, Ok(true));
        });
    }
    kill_everywhere("a window and a caption are set", |table| {
        let changed = control(table).update_terminal(domain(1).device(1), |terminal| {
            terminal.window = 3;
            terminal.info = Info::new(&[7; 50]);
            true
        });
        assert_eq!(changed, Ok(true));
    });
    kill_everywhere("the next generation", |table| {
        table.bump_generation().unwrap();
    });
    kill_everywhere("a new reservation", |table| table.set_reservation(Epoch::new(2, 7), 9));
}

/// Kills an operation that fails before each of its stores, and the recovery from that before each
/// of its own: the table does not change.
fn kill_in_vain(name: &str, act: impl Fn(&Arc<Table>)) {
    let before = dump(&furnished());
    for first in 0.. {
        let table = furnished();
        let done = killed_after(first, || act(&table)).is_some();
        if done {
            assert_old_or_new(&table, &before, &before, name);
            break;
        }
        table.recover();
        let story = format!("{name}, killed at store {first}");
        assert_usable(&table, &assert_old_or_new(&table, &before, &before, &story), &story);
        for second in 0.. {
            let table = furnished();
            assert!(killed_after(first, || act(&table)).is_none());
            if killed_after(second, || table.recover()).is_some() {
                break;
            }
            table.recover();
            assert_old_or_new(&table, &before, &before, &format!("{story}, its recovery at {second}"));
        }
    }
}

#[test]
fn what_comes_to_nothing_leaves_nothing() {
    let known = domain(1).device(1);
    kill_in_vain("a part that is there", |table| {
        assert_eq!(control(table).insert_part(&part(1, 1)), Err(TableError::Exists));
    });
    kill_in_vain("a part that is not there", |table| {
        assert_eq!(control(table).remove_part(MeetingId(9), domain(1)), Ok(false));
    });
    kill_in_vain("a member that is there", |table| {
        let joined = control(table).join(MeetingId(1), domain(1), &member(1, 1, 64));
        assert_eq!(joined, Err(TableError::Exists));
    });
    kill_in_vain("a member of another meeting", |table| {
        let joined = control(table).join(MeetingId(2), domain(1), &member(1, 1, 64));
        assert_eq!(joined, Err(TableError::Conflict(MeetingId(1))));
    });
    kill_in_vain("a join without a part", |table| {
        let joined = control(table).join(MeetingId(9), domain(1), &member(1, 9, 64));
        assert_eq!(joined, Err(TableError::UnknownPart(MeetingId(9), domain(1))));
    });
    kill_in_vain("a leave from another meeting", |table| {
        assert_eq!(control(table).leave(MeetingId(2), known), Ok(false));
    });
    kill_in_vain("a change that is declined", |table| {
        assert_eq!(control(table).update_terminal(known, |_| false), Ok(false));
    });
    kill_in_vain("a change of nobody", |table| {
        assert_eq!(control(table).update_terminal(domain(7).device(1), |_| true), Ok(false));
        assert_eq!(control(table).update_part(MeetingId(9), domain(1), |_| {}), Ok(false));
    });
    kill_in_vain("a report that is known", |table| {
        let reported = report(&mut table.writer(OwnerId::worker(2)), known, 0, &[1; 64]);
        assert_eq!(reported, Reported::Known);
    });
}

/// The block ends with the generation in use.
#[test]
fn a_block_that_is_used_up_stays_so() {
    for first in 0.. {
        let table = furnished();
        table.set_reservation(Epoch::new(1, 5), 6);
        let done = killed_after(first, || assert_eq!(table.bump_generation(), None)).is_some();
        table.recover();
        assert_eq!((table.epoch(), table.generation_end(), table.verify()), (Epoch::new(1, 5), 6, vec![]));
        if done {
            break;
        }
    }
}

#[test]
fn information_changes_its_length_or_not() {
    for device in [2, 4] {
        for info in [0, 6, 7, 64] {
            kill_everywhere(&format!("terminal {device} is given {info} bytes"), |table| {
                let changed = control(table).update_terminal(domain(1).device(device), |terminal| {
                    terminal.info = Info::new(&[7; 64][..info]);
                    terminal.window = 5;
                    true
                });
                assert_eq!(changed, Ok(true));
            });
        }
    }
}
