//! What lies around the slots: extents, indexes, chains, and the structure's claim.

use std::sync::atomic::Ordering;

use loom::sync::atomic::AtomicU64;
use loom::thread;

use super::{ONE, Small, TWO, check, read, words};
use crate::table::OwnerId;
use crate::table::extents::{give_back_owner, take_owner};
use crate::table::index::{BUCKET, Index, STASH};
use crate::table::membership::{claim_structure, count_operation, release_structure, undisturbed};

/// Slot A's record names the extent while its first word is 1, and says with its second what the
/// extent holds.
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

/// A member moves from one chain to another, where its link leads elsewhere: a walk along the first
/// never gets there. The links are Relaxed here, unlike the table's: that the count proves it does
/// not hang on them.
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

#[test]
fn an_extent_is_taken_once() {
    check(|| {
        let (owner, bank) = (words::<1>(), words::<1>());
        let other = thread::spawn({
            let (owner, bank) = (owner.clone(), bank.clone());
            move || {
                let taken = take_owner(&owner[0], 1);
                if taken {
                    bank[0].store(1, Ordering::Relaxed);
                    assert_eq!(bank[0].load(Ordering::Relaxed), 1, "nobody else writes it");
                    assert!(give_back_owner(&owner[0], 1));
                }
                taken
            }
        });
        let taken = take_owner(&owner[0], 2);
        if taken {
            bank[0].store(2, Ordering::Relaxed);
            assert_eq!(bank[0].load(Ordering::Relaxed), 2, "nobody else writes it");
            assert!(give_back_owner(&owner[0], 2));
        }
        assert!(!give_back_owner(&owner[0], 2), "it is given back once");
        assert!(other.join().unwrap() || taken, "one of two gets it");
    });
}

/// The record says what the extent's bank of the same number holds, through two changes.
#[test]
fn information_is_that_of_its_record() {
    check(|| {
        let (slot, extent) = (words::<5>(), words::<2>());
        let reader = thread::spawn({
            let (slot, extent) = (slot.clone(), extent.clone());
            move || {
                let with = |&[one, two]: &[u64; 2], bank: usize| {
                    let holds = extent[bank].load(Ordering::Relaxed);
                    (one == two && two == holds).then_some(())
                };
                assert!(Small::new(&slot[..]).read(with).is_ok());
            }
        });
        for value in 1..=2 {
            let claim = Small::new(&slot[..]).claim(read(&slot[..]).0, ONE).unwrap();
            extent[claim.bank()].store(value, Ordering::Relaxed);
            claim.publish(&[value; 2]);
        }
        reader.join().unwrap();
    });
}

#[test]
fn what_is_found_was_published_before() {
    check(|| {
        let (index, slot) = (words::<{ BUCKET + STASH }>(), words::<5>());
        let reader = thread::spawn({
            let (index, slot) = (index.clone(), slot.clone());
            move || {
                if Index::new(&index[..]).find(0, Some).is_some() {
                    assert_eq!(read(&slot[..]).1, 1);
                }
            }
        });
        Small::new(&slot[..]).claim(read(&slot[..]).0, TWO).unwrap().publish(&[1; 2]);
        assert!(Index::new(&index[..]).insert(0, 1));
        reader.join().unwrap();
    });
}

#[test]
fn what_is_replaced_is_found_as_the_old_or_the_new() {
    check(|| {
        let index = words::<{ BUCKET + STASH }>();
        assert!(Index::new(&index[..]).insert(0, 1));
        let reader = thread::spawn({
            let index = index.clone();
            move || {
                let (first, second) = (Index::new(&index[..]).find(0, Some), Index::new(&index[..]).find(0, Some));
                assert!(
                    matches!((first, second), (Some(1), Some(1 | 2)) | (Some(2), Some(2))),
                    "{first:?}, {second:?}"
                );
            }
        });
        assert!(Index::new(&index[..]).replace(0, 1, 2));
        reader.join().unwrap();
    });
}

/// The stores of `Structure::link`, and the loads of `members`.
#[test]
fn a_member_that_is_reached_has_its_link() {
    const BEHIND: u64 = 5;
    check(|| {
        let (head, link) = (words::<1>(), words::<1>());
        let reader = thread::spawn({
            let (head, link) = (head.clone(), link.clone());
            move || {
                if head[0].load(Ordering::Acquire) == 1 {
                    assert_eq!(link[0].load(Ordering::Acquire), BEHIND);
                }
            }
        });
        link[0].store(BEHIND, Ordering::Release);
        head[0].store(1, Ordering::Release);
        reader.join().unwrap();
    });
}

/// What the structure's claim guards is written Relaxed here: bitmaps are changed by a load and a
/// store.
#[test]
fn one_at_a_time_has_the_structure_and_sees_what_the_last_did() {
    fn count_once(holder: &AtomicU64, guarded: &AtomicU64, owner: OwnerId) {
        while !claim_structure(holder, owner) {
            thread::yield_now();
        }
        let before = guarded.load(Ordering::Relaxed);
        guarded.store(before + 1, Ordering::Relaxed);
        release_structure(holder);
    }
    check(|| {
        let (holder, guarded) = (words::<1>(), words::<1>());
        let other = thread::spawn({
            let (holder, guarded) = (holder.clone(), guarded.clone());
            move || count_once(&holder[0], &guarded[0], ONE)
        });
        count_once(&holder[0], &guarded[0], TWO);
        other.join().unwrap();
        assert_eq!(guarded[0].load(Ordering::Relaxed), 2);
    });
}
