//! The table's protocols under loom, which tries the interleavings of their threads, and the stale values that each load
//! may see, as far as three preemptions go. Slots have two words a bank here, for the number of steps counts.

use std::sync::atomic::Ordering;

use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, fence};
use loom::thread;

use super::OwnerId;
use super::extents::{give_back_owner, take_owner};
use super::index::{BUCKET, Index, STASH};
use super::slot::{Seen, Slot, Unreadable, Word};
use super::structure::{count_operation, undisturbed};

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
    read.expect("a record is whole, whoever writes")
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
            // That the dead are dead comes to recovery by a lock of the kernel's; here by the join.
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

/// Slot A's record names the extent while its first word is 1, and says with its second what the extent holds.
#[test]
fn an_extent_changes_hands_under_no_reader() {
    check(|| {
        let (slot, extent, owner) = (words::<5>(), words::<2>(), words::<1>());
        assert!(take_owner(&owner[0], 0));
        let (seen, ()) = Small::new(&slot[..]).read(|_, _| Some(())).unwrap();
        let claim = Small::new(&slot[..]).claim(seen, ONE).unwrap();
        extent[claim.bank()].store(5, Ordering::Relaxed);
        claim.publish(&[1, 5]);

        let reader = thread::spawn({
            let (slot, extent) = (slot.clone(), extent.clone());
            move || {
                let read = Small::new(&slot[..]).read(|&[named, says], bank| {
                    let holds = if named == 1 { extent[bank].load(Ordering::Relaxed) } else { says };
                    Some((says, holds))
                });
                let (_, (says, holds)) = read.unwrap();
                assert_eq!(says, holds);
            }
        });
        let next_owner = thread::spawn({
            let (extent, owner) = (extent.clone(), owner.clone());
            move || {
                let other = words::<5>();
                if take_owner(&owner[0], 1) {
                    let (seen, ()) = Small::new(&other[..]).read(|_, _| Some(())).unwrap();
                    let claim = Small::new(&other[..]).claim(seen, TWO).unwrap();
                    extent.iter().for_each(|word| word.store(9, Ordering::Relaxed));
                    claim.publish(&[1, 9]);
                }
            }
        });
        let (seen, ()) = Small::new(&slot[..]).read(|_, _| Some(())).unwrap();
        Small::new(&slot[..]).claim(seen, ONE).unwrap().publish(&[0, 0]);
        assert!(give_back_owner(&owner[0], 0));
        reader.join().unwrap();
        next_owner.join().unwrap();
    });
}

#[test]
fn what_stays_is_found_whatever_changes_beside_it() {
    check(|| {
        let index = words::<{ BUCKET + STASH }>();
        // All of one hash, so all in one bucket, and told apart by their slots alone.
        assert!(Index::new(&index[..]).insert(0, 1) && Index::new(&index[..]).insert(0, 2));
        let reader = thread::spawn({
            let index = index.clone();
            move || {
                let found = Index::new(&index[..]).find(0, |slot| (slot == 2).then_some(()));
                assert_eq!(found, Some(()));
            }
        });
        let words = Index::new(&index[..]);
        assert!(words.remove(0, 1) && words.insert(0, 3) && words.replace(0, 3, 4));
        reader.join().unwrap();
    });
}

/// A member moves from one chain to another, where its link leads elsewhere: a walk along the first never gets there.
/// The links are Relaxed here, unlike the table's: that the count proves it does not hang on them.
#[test]
fn a_walk_never_changes_chains() {
    const ELSEWHERE: u64 = 9;
    check(|| {
        let (sequence, first, second, link) = (words::<1>(), words::<1>(), words::<1>(), words::<1>());
        first[0].store(1, Ordering::Relaxed);
        let reader = thread::spawn({
            let (sequence, first, link) = (sequence.clone(), first.clone(), link.clone());
            move || {
                let behind = undisturbed(&sequence[0], || {
                    (first[0].load(Ordering::Relaxed) == 1).then(|| link[0].load(Ordering::Relaxed))
                });
                assert_ne!(behind.flatten(), Some(ELSEWHERE));
            }
        });
        count_operation(&sequence[0]);
        first[0].store(0, Ordering::Relaxed);
        count_operation(&sequence[0]);
        link[0].store(ELSEWHERE, Ordering::Relaxed);
        second[0].store(1, Ordering::Relaxed);
        reader.join().unwrap();
    });
}

/// The fences are what the proof rests on: without that of a claim, a reader is misled, and loom says so.
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
