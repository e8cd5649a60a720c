//! Which parts are of which domain: two bytes a slot, side by side, so that a walk over one
//! domain's parts skips 64 slots of others for two cache lines.
//!
//! The two bytes are a tag of the domain, not its number: a walk reads the record, and skips the
//! rare part that only has the same tag. 0 is the tag of no domain, so zeroed memory belongs to
//! none.
//!
//! Tags are written by the writer that has the structure's claim, and by recovery if that writer
//! died: so there is one writer at a time, and four tags can share a word that is loaded and stored
//! whole.

use std::sync::atomic::Ordering;

use super::slot::Word;
use crate::wire::{Domain, mix};

/// Slots in a group: as many as a word of a bitmap has bits.
const GROUP: usize = 64;
/// Tags in a word.
const TAGS: usize = 4;
/// Words for the tags of a group.
pub(super) const TAG_WORDS: usize = GROUP / TAGS;

/// A domain's tag, in all four places of a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tag(u64);

impl Tag {
    pub fn of(domain: Domain) -> Self {
        let tag = (mix(domain.number()) >> 48).max(1);
        Self(tag * LOWEST)
    }
}

/// 1 in each of the four places.
const LOWEST: u64 = 0x0001_0001_0001_0001;
/// All but the highest bit of each place.
const LOWER: u64 = 0x7fff_7fff_7fff_7fff;

/// Sets the tag of a slot; none where it is free.
pub(super) fn set_tag<W: Word>(tags: &[W], slot: u32, tag: Option<Tag>) {
    let Some(word) = tags.get(slot as usize / TAGS) else { return };
    let place = 0xffff << (slot as usize % TAGS * 16);
    // Relaxed: the last writer of the word had the structure's claim, which we have now.
    let others = word.load(Ordering::Relaxed) & !place;
    // Release pairs with the Acquire loads of `tagged`: a part's record is published before its
    // tag.
    word.store(others | (tag.map_or(0, |tag| tag.0) & place), Ordering::Release);
}

/// A slot's tag, as a number.
pub(super) fn tag_at<W: Word>(tags: &[W], slot: u32) -> u64 {
    // Acquire as in `tagged`.
    let word = tags.get(slot as usize / TAGS).map_or(0, |word| word.load(Ordering::Acquire));
    word >> (slot as usize % TAGS * 16) & 0xffff
}

/// Whether a slot's tag is this one.
pub(super) fn has_tag<W: Word>(tags: &[W], slot: u32, tag: Option<Tag>) -> bool {
    tag_at(tags, slot) == tag.map_or(0, |tag| tag.0 & 0xffff)
}

/// Which slots of a group have a tag: a bit for each.
#[inline]
pub(super) fn tagged<W: Word>(tags: &[W], group: usize, tag: Tag) -> u64 {
    let Some(words) = tags.get(group * TAG_WORDS..(group + 1) * TAG_WORDS) else { return 0 };
    words.iter().enumerate().fold(0, |set, (at, word)| {
        // Acquire pairs with the Release store of `set_tag`.
        let differing = word.load(Ordering::Acquire) ^ tag.0;
        // The highest bit of a place that is all 0, and of no other; no carry leaves its place.
        let equal = !(((differing & LOWER) + LOWER) | differing | LOWER);
        // The four bits, from the lowest of their places, brought together.
        let bits = (equal >> 15).wrapping_mul(1 << 48 | 1 << 33 | 1 << 18 | 1 << 3) >> 48 & 0xf;
        set | bits << (at * TAGS)
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{domain, table};
    use super::*;

    #[test]
    fn a_group_shows_whose_slots_are_whose() {
        let table = table(128, 4);
        let tags = table.words().domain_tags();
        let of = |slot: u32| (!slot.is_multiple_of(5)).then(|| Tag::of(domain(1 + u64::from(slot * slot % 7))));
        (0..128).for_each(|slot| set_tag(tags, slot, Some(Tag::of(domain(9)))));
        (0..128).for_each(|slot| set_tag(tags, slot, of(slot)));
        for number in 1..=8 {
            let tag = Tag::of(domain(number));
            for group in 0..2 {
                let set = tagged(tags, group as usize, tag);
                for bit in 0..64 {
                    let slot = group * 64 + bit;
                    assert_eq!(set >> bit & 1 == 1, of(slot) == Some(tag), "slot {slot}, domain {number}");
                    assert_eq!(has_tag(tags, slot, Some(tag)), of(slot) == Some(tag));
                }
            }
        }
        assert!((0..128).all(|slot| has_tag(tags, slot, of(slot))));
        assert_eq!(tagged(tags, 2, Tag::of(domain(1))), 0, "behind the end there is nothing");
    }

    /// No value in a place disturbs its neighbours.
    #[test]
    fn tags_that_differ_in_one_bit_differ() {
        let table = table(64, 4);
        let tags = table.words().domain_tags();
        for place in 0..TAGS {
            for bit in 0..16 {
                let tag = Tag::of(domain(3));
                tags[0].store(tag.0 ^ 1 << (place * 16 + bit), Ordering::Relaxed);
                assert_eq!(tagged(tags, 0, tag), 0xf & !(1 << place), "place {place}, bit {bit}");
            }
        }
    }
}
