//! Which parts are of which level: a bitmap for each, so that the parts of a domain can be walked
//! over with level 1 first.
//!
//! What always holds: where a part's record is published, the bit of its slot in the bitmap of its
//! level is set. So it is set in front of the record, and the bit of the level that it had is
//! cleared behind it, both under the claim of its slot. A bit too many is what a death in between
//! leaves, or a moment: a walk reads the record, and passes over a part that is of another level
//! than the one it is at. Recovery makes the bits of the slots that cells name fit their records.
//!
//! Slots of one word are of parts that different writers may change beside each other, and none has
//! a claim on the word: so a bit is changed by one atomic exchange of its word, unlike those of the
//! live bitmaps (`set_bit`).

use std::sync::atomic::Ordering;

use super::layout::Words;
use super::slot::Word;
use crate::wire::Level;

/// Sets a slot's bit, or clears it. Where it is so already, nothing is written.
#[inline]
pub(super) fn set_level_bit<W: Word>(bits: &[W], slot: u32, member: bool) {
    if is_of_level(bits, slot) == member {
        return;
    }
    let Some(word) = bits.get(slot as usize / 64) else { return };
    let bit = 1 << (slot % 64);
    // Release pairs with the Acquire loads of walks: who finds that a bit is cleared sees the
    // record for which it was, and the bit that was set instead. The Release of publishing keeps
    // the setting of a bit in front of its record.
    if member {
        word.fetch_or(bit, Ordering::Release)
    } else {
        word.fetch_and(!bit, Ordering::Release)
    };
}

/// Whether a slot's bit is set.
pub(super) fn is_of_level<W: Word>(bits: &[W], slot: u32) -> bool {
    // Acquire as a walk's, for who verifies. Who changes a bit has the claim of its slot, or the
    // structure while the slot is free, and with it all that was done to the bit.
    bits.get(slot as usize / 64).is_some_and(|word| word.load(Ordering::Acquire) >> (slot % 64) & 1 == 1)
}

/// Makes a slot's five bits say that its part is of this level; of none where it is free.
pub(super) fn fit_levels(words: Words<'_>, slot: u32, level: Option<Level>) {
    for each in Level::ALL {
        set_level_bit(words.level_bits(each), slot, Some(each) == level);
    }
}
