//! Extents: two banks of 64 bytes for information that does not fit a terminal's line.
//!
//! An extent's owner word names the terminal's slot that owns it, or is 0 while the extent is free.
//! A writer takes an extent before a record names it and gives it back when no record names it any
//! more; before either, it names slot and extent in its cell. So an extent that a slot owns and its
//! record does not name was left by a writer that died: recovery gives it back.

use std::sync::atomic::Ordering;

use super::TableError;
use super::intent::Cell;
use super::layout::Words;
use super::line::LineClaim;
use super::slot::Word;
use super::terminals::Raw;
use crate::limits::INFO_BYTES_INLINE;
use crate::sys::mapping::SharedWord;

/// Takes a free extent for a terminal's slot, from among `probes` extents from `hint` on. If all of
/// them are taken, the next call looks at those after them.
pub(super) fn take(words: Words<'_>, cell: Cell<'_>, slot: u32, hint: &mut u32, probes: u32) -> Option<u32> {
    let extents = words.extents();
    let probes = probes.min(extents);
    for step in 0..probes {
        let extent = (*hint + step) % extents;
        let Some(owner) = words.extent_owner(extent) else { continue };
        // Relaxed: a guess, which the exchange settles.
        if owner.load(Ordering::Relaxed) != 0 {
            continue;
        }
        cell.note_terminal(slot);
        cell.note_extent(extent);
        if take_owner(owner, slot) {
            *hint = extent + 1;
            return Some(extent);
        }
    }
    *hint = (*hint + probes) % extents;
    None
}

/// Frees an extent that a terminal's slot owns and its record no longer names. Returns whether the
/// slot did own it.
pub(super) fn give_back(words: Words<'_>, extent: Option<u32>, slot: u32) -> bool {
    extent.and_then(|extent| words.extent_owner(extent)).is_some_and(|owner| give_back_owner(owner, slot))
}

pub(super) fn take_owner<W: Word>(owner: &W, slot: u32) -> bool {
    // Acquire pairs with the Release of `give_back_owner`: the last owner's record stopped naming
    // it before we write to it. Release keeps the notes in the cell before this store.
    owner.compare_exchange(0, u64::from(slot) + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

pub(super) fn give_back_owner<W: Word>(owner: &W, slot: u32) -> bool {
    // Relaxed: while the word names our slot, no other thread writes it.
    let ours = owner.load(Ordering::Relaxed) == u64::from(slot) + 1;
    if ours {
        // Release pairs with the Acquire of `take_owner`.
        owner.store(0, Ordering::Release);
    }
    ours
}

/// The extent that information of this length needs: the one that the terminal has, or a free one,
/// or none. The hint comes with the number of extents to look at: a worker looks at a few for a
/// report, a change of membership at all.
pub(super) fn extent_for(
    words: Words<'_>,
    cell: Cell<'_>,
    slot: u32,
    has: Option<u32>,
    info: &[u8],
    (hint, probes): (&mut u32, u32),
) -> Result<Option<u32>, TableError> {
    if info.len() <= INFO_BYTES_INLINE {
        return Ok(None);
    }
    let extent = has.or_else(|| take(words, cell, slot, hint, probes));
    extent.map(Some).ok_or(TableError::Full("extents for additional information"))
}

/// Publishes a terminal's new record, and frees the extent that only the old one named.
pub(super) fn publish(
    words: Words<'_>,
    cell: Cell<'_>,
    slot: u32,
    old: &Raw,
    new: &Raw,
    claim: LineClaim<'_, SharedWord>,
) {
    let unused = old.extent().filter(|_| new.extent().is_none());
    if let Some(extent) = unused {
        cell.note_extent(extent);
    }
    new.publish(words, slot, claim);
    give_back(words, unused, slot);
}
