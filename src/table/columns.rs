//! What a takeover needs of the parts, side by side, so that a million of them are asked for and
//! acknowledged without a look at their records.
//!
//! Of each part there are meeting and version, as TAKEOVER_BATCH has them, and two bits:
//!
//! - *settled*: an acknowledgement has nothing to change but the epoch, for the part is in meeting,
//!   and neither in doubt nor unlisted.
//! - *held*: the part is controlled under the epoch that its group of 64 names, and counts in the
//!   digest of that. The epoch in its record may be an older one. Where a group gets the bits of a
//!   new epoch it loses those of the one before, which is over: of that, records may say less.
//!
//! All of it follows from the records, and one thread changes it: the one that changes parts. Under
//! the claim of a part's slot it clears the bits that the new record does not merit, publishes the
//! record, then stores meeting and version, and sets the bits that it does merit. So after a death
//! a bit may be missing and never one too many, and the slot that may have an old version is named
//! in its writer's cell: recovery fits it. [`super::sums`] has these steps.

use std::sync::atomic::Ordering;

use super::layout::Words;
use super::slot::Word;
use crate::sys::mapping::SharedWord;
use crate::wire::{Epoch, MeetingId, TakeoverEntry};

/// Meeting and version of the part in a slot; of a settled part they are what its record says.
#[inline]
pub(super) fn entry_at(words: Words<'_>, slot: u32) -> Option<TakeoverEntry> {
    // Relaxed: read by the thread that writes them, or told from damage by a verification that
    // looks twice.
    let [meeting, version] = words.entry(slot)?.each_ref().map(|word| word.load(Ordering::Relaxed));
    Some(TakeoverEntry { meeting: MeetingId(meeting), version })
}

pub(super) fn set_entry(words: Words<'_>, slot: u32, entry: TakeoverEntry) {
    let Some([meeting, version]) = words.entry(slot) else { return };
    meeting.store(entry.meeting.0, Ordering::Release);
    version.store(entry.version, Ordering::Release);
}

/// Whether the part in a slot is settled.
#[inline]
pub(super) fn is_settled_at(words: Words<'_>, slot: u32) -> bool {
    has_bit(words.settled_bits().get(slot as usize / 64), slot)
}

/// The epoch under which the part in a slot is held; none where it is not, or where the group is
/// being given to another epoch.
#[inline]
pub(super) fn held_under(words: Words<'_>, slot: u32) -> Option<Epoch> {
    let [epoch, bits] = words.held(slot as usize / 64)?;
    // Acquire pairs with the Release stores of `hold`: who sees the bits of a later epoch sees that
    // the one before is gone.
    let before = epoch.load(Ordering::Acquire);
    let is_held = before != Epoch::NONE.0 && has_bit(Some(bits), slot);
    (is_held && epoch.load(Ordering::Acquire) == before).then_some(Epoch(before))
}

fn has_bit(word: Option<&SharedWord>, slot: u32) -> bool {
    word.is_some_and(|word| word.load(Ordering::Acquire) >> (slot % 64) & 1 == 1)
}

pub(super) fn set_settled(words: Words<'_>, slot: u32, settled: bool) {
    set_bit(words.settled_bits().get(slot as usize / 64), slot, settled);
}

fn set_bit(word: Option<&SharedWord>, slot: u32, set: bool) {
    if has_bit(word, slot) != set
        && let Some(word) = word
    {
        let bit = 1 << (slot % 64);
        // Release keeps it behind the record that it is set for; the claim keeps the clearing of it
        // before the record that it is cleared for.
        if set {
            Word::fetch_or(word, bit, Ordering::Release)
        } else {
            Word::fetch_and(word, !bit, Ordering::Release)
        };
    }
}

/// Holds the part in a slot under an epoch.
pub(super) fn hold(words: Words<'_>, slot: u32, epoch: Epoch) {
    let Some([stamp, bits]) = words.held(slot as usize / 64) else { return };
    // Relaxed: only this thread writes.
    if stamp.load(Ordering::Relaxed) == epoch.0 {
        return set_bit(Some(bits), slot, true);
    }
    // No epoch while the bits are of neither: a death in between leaves nothing held.
    stamp.store(Epoch::NONE.0, Ordering::Release);
    bits.store(1 << (slot % 64), Ordering::Release);
    stamp.store(epoch.0, Ordering::Release);
}

pub(super) fn let_go(words: Words<'_>, slot: u32) {
    if let Some([_, bits]) = words.held(slot as usize / 64) {
        set_bit(Some(bits), slot, false);
    }
}

/// Clears the bits of a slot whose part is gone.
pub(super) fn vacate_columns(words: Words<'_>, slot: u32) {
    set_settled(words, slot, false);
    let_go(words, slot);
}
