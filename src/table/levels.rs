//! Which parts are of which level: a bitmap for each, so that the parts of a domain can be walked
//! over with level 1 first.
//!
//! What always holds: where a part's record is published, the bit of its slot in the bitmap of its
//! level is set. So that bit is set before the record is published, and the bit of the earlier
//! level is cleared after it, both under the claim of its slot. Between the two, and after a death
//! there, a bit too many is set: a walk reads the record, and skips a part that is of another
//! level. Recovery makes the bits of the slots that cells name fit their records.
//!
//! Different writers may change parts whose bits share a word at the same time, and none has a
//! claim on the word: so a bit is changed by one atomic operation on its word, unlike those of the
//! live bitmaps (`set_bit`).

use std::sync::atomic::Ordering;

use super::layout::Words;
use super::slot::Word;
use crate::wire::Level;

/// Sets or clears a slot's bit. Writes nothing if it is so already.
#[inline]
pub(super) fn set_level_bit<W: Word>(bits: &[W], slot: u32, member: bool) {
    if is_of_level(bits, slot) == member {
        return;
    }
    let Some(word) = bits.get(slot as usize / 64) else { return };
    let bit = 1 << (slot % 64);
    // Release pairs with the Acquire loads of walks: a walk that finds the bit cleared sees the
    // record that it was cleared for, and the bit that was set instead. The Release of publishing
    // keeps the setting of a bit before its record.
    if member {
        word.fetch_or(bit, Ordering::Release)
    } else {
        word.fetch_and(!bit, Ordering::Release)
    };
}

/// Whether a slot's bit is set.
pub(super) fn is_of_level<W: Word>(bits: &[W], slot: u32) -> bool {
    // Acquire as in a walk, for verification. A writer that changes the bit has the claim of its
    // slot, or the structure's while the slot is free, and so sees all earlier changes of it.
    bits.get(slot as usize / 64).is_some_and(|word| word.load(Ordering::Acquire) >> (slot % 64) & 1 == 1)
}

/// Makes a slot's five bits say that its part is of this level; of none where it is free.
pub(super) fn fit_levels(words: Words<'_>, slot: u32, level: Option<Level>) {
    for each in Level::ALL {
        set_level_bit(words.level_bits(each), slot, Some(each) == level);
    }
}
