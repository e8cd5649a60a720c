//! What damage, readers and failures in the middle make of columns and sums.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::kill::{control, furnished};
use super::{domain, part, words_of};
use crate::sys::mapping::killed_after;
use crate::table::claims::Named;
use crate::table::file::Inspection;
use crate::table::slot::Unreadable;
use crate::table::*;
use crate::wire::{Address, Epoch, MeetingId, MeetingState};

impl Table {
    /// Damages the word beside a terminal's line that names its part.
    pub(crate) fn damage_berth(&self, terminal: Address) {
        let (slot, ..) = self.words().find_terminal(terminal).unwrap().expect("it is here");
        let word = self.words().terminal_part(slot).unwrap();
        word.store(word.load(Ordering::Relaxed) ^ 1 << 20, Ordering::Relaxed);
    }
}

const NOW: Epoch = Epoch::new(1, 2);

/// The furnished table with its writer, the parts in domain 1 taken over, and the slot of meeting
/// 2's.
fn taken_over() -> (Arc<Table>, Writer, u32) {
    let table = furnished();
    let mut writer = control(&table);
    writer.begin(NOW);
    let mut met = Vec::new();
    table.walk_to_take_over(domain(1), &mut Cursor::default(), |at, entry| {
        met.push((at, entry.meeting));
        true
    });
    for (at, meeting) in met {
        let participants = table.part(meeting, domain(1)).unwrap().participants;
        assert!(writer.take_over(at, &TakenOver { meeting, domain: domain(1), epoch: NOW, participants }));
    }
    assert_eq!(writer.digest_of_parts(domain(1), NOW).0, 2);
    let (slot, ..) = table.words().find_part(MeetingId(2), domain(1)).unwrap().unwrap();
    (table, writer, slot)
}

/// A round of recovery makes of each part what its autonomous server lists. It must come to an end
/// at which both sides agree.
#[test]
fn a_damaged_version_in_the_columns_is_gone_after_the_next_change_of_its_part() {
    let (table, mut writer, slot) = taken_over();
    table.words().entry(slot).unwrap()[1].store(99, Ordering::Relaxed);
    writer.update_part(MeetingId(2), domain(1), |part| part.version += 1).unwrap();
    assert_eq!(table.verify(), Vec::<String>::new());
    assert_eq!(writer.digest_of_parts(domain(1), NOW), table.digest_of_parts(domain(1), NOW));
}

/// An audit that differs has the domain counted anew.
#[test]
fn a_bit_of_the_held_that_is_lost_is_there_again_after_the_next_count() {
    let (table, mut writer, slot) = taken_over();
    let [_, bits] = table.words().held(slot as usize / 64).unwrap();
    bits.store(bits.load(Ordering::Relaxed) & !(1 << slot), Ordering::Relaxed);
    writer.update_part(MeetingId(2), domain(1), |part| part.epoch = NOW).unwrap();
    writer.recount(domain(1));
    assert_eq!(table.verify(), Vec::<String>::new());
    assert_eq!(writer.digest_of_parts(domain(1), NOW), table.digest_of_parts(domain(1), NOW));
}

/// Damages the record of meeting 2's part.
fn damage(table: &Table, slot: u32) {
    let words = &words_of(table, Named::Part(slot))[1..=14];
    words.iter().for_each(|word| word.store(word.load(Ordering::Relaxed) ^ 7 << 20, Ordering::Relaxed));
    assert_eq!(table.words().read_part(slot).map(|_| ()), Err(Unreadable::Damaged));
}

/// Both sides agree until somebody reads it; a count of the records differs.
#[test]
fn a_record_that_is_damaged_does_not_count_any_more_after_the_next_count() {
    let (table, mut writer, slot) = taken_over();
    damage(&table, slot);
    writer.update_part(MeetingId(1), domain(1), |part| part.version += 1).unwrap();
    writer.recount(domain(1));
    assert_eq!(writer.digest_of_parts(domain(1), NOW), table.digest_of_parts(domain(1), NOW));
}

/// The audit keeps its word while the domain counts no change.
#[test]
fn whatever_changes_the_digest_is_counted_as_a_change() {
    let (table, mut writer, slot) = taken_over();
    damage(&table, slot);
    let before = (writer.changes_in(domain(1)), writer.digest_of_parts(domain(1), NOW));
    assert_eq!(writer.discard_damaged_parts_in(domain(1)).map(|found| found.len()), Ok(1));
    let after = (writer.changes_in(domain(1)), writer.digest_of_parts(domain(1), NOW));
    assert_ne!(before.1, after.1);
    assert_ne!(before.0, after.0, "it changed, and no change is counted");
}

/// The slot of a part whose bit says that it is free is not: its record says so.
#[test]
fn a_live_bit_that_is_lost_makes_no_other_domain_count_wrongly() {
    let (table, mut writer, slot) = taken_over();
    let bits = &table.words().part_bits()[slot as usize / 64];
    bits.store(bits.load(Ordering::Relaxed) & !(1 << slot), Ordering::Relaxed);
    writer.insert_part(&Part { epoch: Epoch::NONE, ..part(9, 2) }).unwrap();
    for number in 1..=2 {
        let (ours, walked) = (writer.digest_of_parts(domain(number), NOW), table.digest_of_parts(domain(number), NOW));
        assert_eq!(ours, walked, "domain {number}");
    }
}

/// What the sweep and the discarding of parts do depends on whether anything was met unreadable:
/// not on whether the program was compiled with assertions.
#[test]
fn to_begin_an_epoch_reads_no_record() {
    let table = furnished();
    let mut writer = control(&table);
    let (slot, ..) = table.words().find_part(MeetingId(2), domain(1)).unwrap().unwrap();
    damage(&table, slot);
    let before = table.unreadable();
    writer.begin(NOW);
    assert_eq!(table.unreadable(), before);
}

/// Runs `read` beside `write` until it finds something, or `write` is done. Returns what it found.
fn race<T: Send>(read: impl Fn() -> Option<T> + Sync, write: impl FnOnce(&AtomicBool)) -> Option<T> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                if let Some(found) = read() {
                    is_over.store(true, Ordering::Relaxed);
                    return Some(found);
                }
            }
            None
        });
        write(&is_over);
        is_over.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    })
}

/// A part is either missing and under nobody's control, or in meeting and under ours.
#[test]
fn a_part_that_is_read_has_the_epoch_of_its_record() {
    let table = furnished();
    let mut writer = control(&table);
    writer.begin(NOW);
    let change = |part: &mut Part, is_held: bool| {
        (part.state, part.epoch) =
            if is_held { (MeetingState::InMeeting, NOW) } else { (MeetingState::Missing, Epoch::NONE) };
    };
    writer.update_part(MeetingId(2), domain(1), |part| change(part, false)).unwrap();
    let read = || {
        let part = table.part(MeetingId(2), domain(1)).unwrap();
        (part.state == MeetingState::Missing && part.epoch != Epoch::NONE).then_some(part)
    };
    let found = race(read, |is_over| {
        for turn in 0..2_000_000 {
            writer.update_part(MeetingId(2), domain(1), |part| change(part, turn % 2 == 0)).unwrap();
            if is_over.load(Ordering::Relaxed) {
                break;
            }
        }
    });
    assert_eq!(found, None, "read with the epoch of a later record");
}

/// Of two parts in a group, one is taken over under every even epoch and the other under every odd
/// one.
#[test]
fn a_part_is_never_read_under_an_epoch_that_it_was_not_taken_over_under() {
    let table = furnished();
    let mut writer = control(&table);
    let mut met = Vec::new();
    table.walk_to_take_over(domain(1), &mut Cursor::default(), |at, entry| {
        met.push((at, entry.meeting, table.part(entry.meeting, domain(1)).unwrap().participants));
        true
    });
    let read = || {
        let epoch = table.part(met[0].1, domain(1)).unwrap().epoch;
        (epoch.term() > 1 && epoch.generation() % 2 == 1).then_some(epoch)
    };
    let found = race(read, |is_over| {
        'all: for term in 2..6 {
            for generation in 0..60_000 {
                let epoch = Epoch::new(term, generation);
                writer.begin(epoch);
                let (at, meeting, participants) = met[usize::from(generation % 2)];
                assert!(writer.take_over(at, &TakenOver { meeting, domain: domain(1), epoch, participants }));
                if is_over.load(Ordering::Relaxed) {
                    break 'all;
                }
            }
        }
    });
    assert_eq!(found, None, "it was never taken over under this");
}

/// The line of a terminal whose part's word is damaged is whole, and is read with its extent until
/// the terminal is gone: nobody else may have that before.
#[test]
fn an_extent_is_its_terminals_for_as_long_as_a_record_names_it() {
    for changes in 0.. {
        let table = furnished();
        let words = table.words();
        let terminal = domain(1).device(4);
        let (slot, ..) = words.find_terminal(terminal).unwrap().unwrap();
        words.terminal_part(slot).unwrap().store(77, Ordering::Relaxed);
        let done = killed_after(changes, || control(&table).discard_damaged_terminal(terminal).unwrap()).is_some();
        if let Ok(Some((_, raw))) = words.read_terminal(slot) {
            let owner = words.extent_owner(raw.extent().unwrap()).unwrap().load(Ordering::Relaxed);
            assert_eq!(owner, u64::from(slot) + 1, "at store {changes} the extent is free for others, and is read");
        }
        if done {
            break;
        }
    }
}

#[test]
fn an_inspection_counts_a_terminal_of_which_only_the_part_is_damaged() {
    let table = furnished();
    let (slot, ..) = table.words().find_terminal(domain(1).device(4)).unwrap().unwrap();
    table.words().terminal_part(slot).unwrap().store(77, Ordering::Relaxed);
    assert!(!table.verify().is_empty());
    let inspection = Inspection::over(Arc::into_inner(table).unwrap());
    assert_eq!(inspection.count_unreadable(&mut |_, _| {}), 1);
}
