//! Bits of levels. A record says its level, here a number of a bitmap of one word.

use std::sync::atomic::Ordering;

use loom::sync::atomic::AtomicU64;
use loom::thread;

use super::{ONE, Small, TWO, check, read, words};
use crate::table::OwnerId;
use crate::table::levels::{is_of_level, set_level_bit};

/// The stores of `Writer::update_part` where the level changes.
fn change(slot: (&[AtomicU64], u32), bits: &[AtomicU64], level: u64, owner: OwnerId) {
    let bit_of = |level: u64| std::slice::from_ref(&bits[level as usize]);
    let claim = loop {
        let (seen, old) = read(slot.0);
        match Small::new(slot.0).claim(seen, owner) {
            Some(claim) => break (old != level).then_some((claim, old)),
            None => thread::yield_now(),
        }
    };
    if let Some((claim, old)) = claim {
        set_level_bit(bit_of(level), slot.1, true);
        let _kept = claim.publish_and_keep(&[level; 2]);
        set_level_bit(bit_of(old), slot.1, false);
    }
}

fn fits(slot: (&[AtomicU64], u32), bits: &[AtomicU64]) -> bool {
    let (_, level) = read(slot.0);
    bits.iter().enumerate().all(|(at, word)| is_of_level(std::slice::from_ref(word), slot.1) == (at as u64 == level))
}

#[test]
fn a_part_that_sinks_is_met_by_a_walk() {
    check(|| {
        let (slot, bits) = (words::<5>(), words::<3>());
        set_level_bit(&bits[..1], 7, true);
        let walk = thread::spawn({
            let (slot, bits) = (slot.clone(), bits.clone());
            move || {
                let met = (0..3).filter(|&level| {
                    is_of_level(std::slice::from_ref(&bits[level]), 7) && read(&slot[..]).1 == level as u64
                });
                assert!(met.count() >= 1);
            }
        });
        change((&slot[..], 7), &bits[..], 1, ONE);
        change((&slot[..], 7), &bits[..], 2, ONE);
        walk.join().unwrap();
        assert!(fits((&slot[..], 7), &bits[..]));
    });
}

#[test]
fn whoever_changes_a_level_last_leaves_its_bit() {
    check(|| {
        let (slot, bits) = (words::<5>(), words::<2>());
        set_level_bit(&bits[..1], 7, true);
        let other = thread::spawn({
            let (slot, bits) = (slot.clone(), bits.clone());
            move || change((&slot[..], 7), &bits[..], 1, ONE)
        });
        change((&slot[..], 7), &bits[..], 0, TWO);
        other.join().unwrap();
        assert!(fits((&slot[..], 7), &bits[..]));
    });
}

#[test]
fn bits_of_one_word_are_changed_beside_each_other() {
    check(|| {
        let (one, two, bits) = (words::<5>(), words::<5>(), words::<2>());
        set_level_bit(&bits[..1], 7, true);
        set_level_bit(&bits[..1], 9, true);
        let other = thread::spawn({
            let (one, bits) = (one.clone(), bits.clone());
            move || change((&one[..], 7), &bits[..], 1, ONE)
        });
        change((&two[..], 9), &bits[..], 1, TWO);
        other.join().unwrap();
        assert!(fits((&one[..], 7), &bits[..]) && fits((&two[..], 9), &bits[..]));
        assert_eq!(bits[0].load(Ordering::Relaxed), 0);
    });
}
