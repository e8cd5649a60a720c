//! The table's protocols under loom, which tries the interleavings of their threads, and the stale
//! values that each load may see, as far as three preemptions go. Slots have two words a bank here,
//! for the number of steps counts.
//!
//! What can run beside each other, and the test that has both:
//!
//! | one | the other | test |
//! |---|---|---|
//! | read a slot | publish | `records_are_whole_and_no_change_is_lost_while_two_write` |
//! | read a slot | claim, die, evict, claim again | `a_dead_writer_stops_nobody_and_spoils_nothing` |
//! | claim a slot | claim it | `records_are_whole_and_no_change_is_lost_while_two_write` |
//! | claim a slot | claim it and let go | `a_claim_that_is_dropped_leaves_the_record` |
//! | claim a slot | evict the dead from it | `who_claims_after_an_eviction_sees_what_recovery_did` |
//! | report | leave, and another joins in the slot | `a_report_never_lands_on_who_has_the_slot_since` |
//! | read part and count | leave, remove, insert, join | `a_count_is_never_that_of_a_part_which_has_the_slot_since` |
//! | report | report of the same terminal | `the_checks_are_those_of_their_banks_while_two_report` |
//! | read a line | report | `a_record_is_read_whole_while_another_reports` |
//! | report | leave, and another joins in the line | `a_line_is_one_terminals_at_a_time` |
//! | take an extent | take it | `an_extent_is_taken_once` |
//! | read information | give its extent back, another takes it | `an_extent_changes_hands_under_no_reader` |
//! | read information | publish anew in the same extent | `information_is_that_of_its_record` |
//! | find | insert, remove, replace another | `what_stays_is_found_whatever_changes_beside_it` |
//! | find | insert | `what_is_found_was_published_before` |
//! | find | replace, as the first of a chain changes | `what_is_replaced_is_found_as_the_old_or_the_new` |
//! | walk | any two operations on the structure | `a_walk_never_changes_chains` |
//! | walk | link | `a_member_that_is_reached_has_its_link` |
//! | change the structure | change it | `one_at_a_time_has_the_structure_and_sees_what_the_last_did` |
//! | walk by level | change a level | `a_part_that_sinks_is_met_by_a_walk` |
//! | change a level | change it | `whoever_changes_a_level_last_leaves_its_bit` |
//! | change a level | change another part's | `bits_of_one_word_are_changed_beside_each_other` |
//! | read the epoch | change it | `the_epoch_is_read_whole_and_never_goes_back` |
//!
//! A walk over the live bitmap and `set_bit` are the pair of find and insert again: one Release
//! store behind the record, one Acquire load in front of it. An update of a part or terminal is the
//! pair of two that claim a slot.
//!
//! What cannot run beside each other, and why: two that change an index, a chain or a live bitmap,
//! for they have the structure's claim; two that change the epoch, for one thread controls; two
//! that write an owner's cell, for a number has one writer ([`crate::table::Table::writer`]);
//! recovery and any writer, for it has the lock that the kernel gives to nobody before the last
//! writer is dead; two recoveries, for the same lock; creation and anything, for the file has no
//! name before.
//!
//! The bits of the columns and their entries have one writer: the thread that changes parts.
//!
//! Slots, lines, extents' owners, indexes, bits of levels, the structure's claim and the count of
//! operations are the production code over loom's words. Links of chains are models of their
//! stores, and say so.

mod around;
mod levels;
mod line;

use std::sync::atomic::Ordering;

use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, fence};
use loom::thread;

use crate::table::OwnerId;
use crate::table::slot::{Seen, Slot, Unreadable, Word};

impl Word for AtomicU64 {
    fn load(&self, ordering: Ordering) -> u64 {
        self.load(ordering)
    }

    fn store(&self, value: u64, ordering: Ordering) {
        self.store(value, ordering);
    }

    fn compare_exchange(&self, old: u64, new: u64, success: Ordering, failure: Ordering) -> Result<u64, u64> {
        self.compare_exchange(old, new, success, failure)
    }

    fn fetch_or(&self, bits: u64, ordering: Ordering) -> u64 {
        self.fetch_or(bits, ordering)
    }

    fn fetch_and(&self, bits: u64, ordering: Ordering) -> u64 {
        self.fetch_and(bits, ordering)
    }

    fn fence(ordering: Ordering) {
        fence(ordering);
    }

    fn pause() {
        thread::yield_now();
    }
}

type Small<'a> = Slot<'a, AtomicU64, 2>;
const ONE: OwnerId = OwnerId(1);
const TWO: OwnerId = OwnerId(2);

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn words<const N: usize>() -> Arc<[AtomicU64; N]> {
    Arc::new(std::array::from_fn(|_| AtomicU64::new(0)))
}

/// A record is whole where both its words are the same.
fn read(words: &[AtomicU64]) -> (Seen, u64) {
    let read = Small::new(words).read(|&[one, two], _| (one == two).then_some(one));
    read.expect("a record is whole while others write")
}

/// Publishes the value behind the one that is current, however often another is first.
fn write_next(words: &[AtomicU64], owner: OwnerId) -> u64 {
    loop {
        let (seen, value) = read(words);
        if let Some(claim) = Small::new(words).claim(seen, owner) {
            claim.publish(&[value + 1; 2]);
            return value + 1;
        }
        thread::yield_now();
    }
}

#[test]
fn records_are_whole_and_no_change_is_lost_while_two_write() {
    check(|| {
        let slot = words::<5>();
        let other = thread::spawn({
            let slot = slot.clone();
            move || write_next(&slot[..], ONE)
        });
        let reader = thread::spawn({
            let slot = slot.clone();
            move || {
                let (first, second) = (read(&slot[..]).1, read(&slot[..]).1);
                assert!(first <= second, "what was read is not taken back");
            }
        });
        let mine = write_next(&slot[..], TWO);
        assert_ne!(mine, other.join().unwrap());
        reader.join().unwrap();
        assert_eq!(read(&slot[..]).1, 2);
    });
}

#[test]
fn a_dead_writer_stops_nobody_and_spoils_nothing() {
    for stores in 0..=2 {
        check(move || {
            let slot = words::<5>();
            let reader = thread::spawn({
                let slot = slot.clone();
                move || assert!(read(&slot[..]).1 <= 1)
            });
            let dead = thread::spawn({
                let slot = slot.clone();
                move || {
                    let claim = Small::new(&slot[..]).claim(read(&slot[..]).0, ONE).unwrap();
                    let bank = 1 + 2 * claim.bank();
                    slot[bank..bank + stores].iter().for_each(|word| word.store(77, Ordering::Relaxed));
                    std::mem::forget(claim);
                }
            });
            // Recovery knows that a writer is dead from a lock of the kernel's; here from the join.
            dead.join().unwrap();
            assert_eq!(read(&slot[..]).1, 0);
            assert!(Small::new(&slot[..]).evict(ONE));
            assert_eq!(write_next(&slot[..], TWO), 1);
            reader.join().unwrap();
        });
    }
}

#[test]
fn a_claim_that_is_dropped_leaves_the_record() {
    check(|| {
        let slot = words::<5>();
        let other = thread::spawn({
            let slot = slot.clone();
            move || write_next(&slot[..], ONE)
        });
        let (seen, _) = read(&slot[..]);
        drop(Small::new(&slot[..]).claim(seen, TWO));
        other.join().unwrap();
        assert_eq!(read(&slot[..]).1, 1);
    });
}

#[test]
fn who_claims_after_an_eviction_sees_what_recovery_did() {
    check(|| {
        let (slot, link) = (words::<5>(), words::<1>());
        std::mem::forget(Small::new(&slot[..]).claim(read(&slot[..]).0, ONE).unwrap());
        let recovery = thread::spawn({
            let (slot, link) = (slot.clone(), link.clone());
            move || {
                link[0].store(7, Ordering::Relaxed);
                assert!(Small::new(&slot[..]).evict(ONE));
            }
        });
        let claim = Small::new(&slot[..]).claim(read(&slot[..]).0, TWO);
        if let Some(claim) = claim {
            assert_eq!(link[0].load(Ordering::Relaxed), 7);
            claim.publish(&[1; 2]);
        }
        recovery.join().unwrap();
        assert!(!Small::new(&slot[..]).evict(ONE), "it is nobody's, or was never given to who is dead");
    });
}

/// Terminal 1 has the slot, and terminal 2 gets it. A report adds 10 to the terminal that it was
/// for.
#[test]
fn a_report_never_lands_on_who_has_the_slot_since() {
    check(|| {
        let slot = words::<5>();
        let claim = Small::new(&slot[..]).claim(read(&slot[..]).0, TWO).unwrap();
        claim.publish(&[1; 2]);
        let worker = thread::spawn({
            let slot = slot.clone();
            move || {
                let (seen, record) = read(&slot[..]);
                if record == 1
                    && let Some(claim) = Small::new(&slot[..]).claim(seen, ONE)
                {
                    claim.publish(&[11; 2]);
                }
            }
        });
        for next in [0, 2] {
            loop {
                let (seen, _) = read(&slot[..]);
                if let Some(claim) = Small::new(&slot[..]).claim(seen, TWO) {
                    claim.publish(&[next; 2]);
                    break;
                }
                thread::yield_now();
            }
        }
        worker.join().unwrap();
        assert_eq!(read(&slot[..]).1, 2);
    });
}

/// Part 1 with one member goes, and part 2 with two comes into its slot. Stores to the link are as
/// joining, leaving and clearing make them.
#[test]
fn a_count_is_never_that_of_a_part_which_has_the_slot_since() {
    check(|| {
        let (slot, link) = (words::<5>(), words::<1>());
        Small::new(&slot[..]).claim(read(&slot[..]).0, TWO).unwrap().publish(&[1; 2]);
        link[0].store(1, Ordering::Release);
        let reader = thread::spawn({
            let (slot, link) = (slot.clone(), link.clone());
            move || {
                let whole = |&[one, two]: &[u64; 2], _| {
                    let count = link[0].load(Ordering::Acquire);
                    (one == two).then_some((one, count))
                };
                let (_, found) = Small::new(&slot[..]).read(whole).unwrap();
                let possible = [(1, 1), (1, 0), (0, 0), (2, 0), (2, 2)];
                assert!(possible.contains(&found), "{found:?}");
            }
        });
        link[0].store(0, Ordering::Release);
        Small::new(&slot[..]).claim(read(&slot[..]).0, TWO).unwrap().publish(&[0; 2]);
        let claim = Small::new(&slot[..]).claim(read(&slot[..]).0, TWO).unwrap();
        link[0].store(0, Ordering::Release);
        claim.publish(&[2; 2]);
        link[0].store(2, Ordering::Release);
        reader.join().unwrap();
    });
}

/// Epoch and end of its block, in one record: two generations of a block that ends at 100, then one
/// of the next.
#[test]
fn the_epoch_is_read_whole_and_never_goes_back() {
    const SAID: [[u64; 2]; 3] = [[0, 0], [1, 100], [2, 200]];
    check(|| {
        let slot = words::<5>();
        let reader = thread::spawn({
            let slot = slot.clone();
            move || {
                let at = || {
                    let (_, record) = Small::new(&slot[..]).read(|&record, _| Some(record)).unwrap();
                    SAID.iter().position(|said| *said == record).expect("as it was written")
                };
                let (first, second) = (at(), at());
                assert!(first <= second);
            }
        });
        for record in &SAID[1..] {
            let (seen, _) = Small::new(&slot[..]).read(|_, _| Some(())).unwrap();
            Small::new(&slot[..]).claim(seen, OwnerId::CONTROL).unwrap().publish(record);
        }
        reader.join().unwrap();
    });
}

/// The fences are what the proof rests on: without that of a claim, a reader is misled, and loom
/// says so.
#[test]
#[should_panic(expected = "torn")]
fn without_the_claims_fence_a_record_would_be_torn() {
    check(|| {
        let slot = words::<5>();
        let reader = thread::spawn({
            let slot = slot.clone();
            move || {
                let read = Small::new(&slot[..]).read(|&[one, two], _| (one == two).then_some(one));
                assert_ne!(read.map(|_| ()), Err(Unreadable::Damaged), "torn");
            }
        });
        for value in 1..=2 {
            let control = slot[0].load(Ordering::Relaxed);
            let bank = 1 + 2 * (!(control >> 8) as usize & 1);
            slot[0].store(control | 1, Ordering::Relaxed);
            slot[bank..bank + 2].iter().for_each(|word| word.store(value, Ordering::Relaxed));
            slot[0].store(((control >> 8) + 1) << 8, Ordering::Release);
        }
        reader.join().unwrap();
    });
}
