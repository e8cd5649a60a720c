//! Claims that nobody holds: a control word that says it is claimed, by damage.
//!
//! Whoever has claimed a slot has named it in its cell before, and names nothing else of that kind
//! while it has the claim. So a claim by a number that is nobody's, or whose cell names another
//! slot, is nobody's, and can be taken away, by one exchange of the word as it was when the cell
//! was looked at. What makes that sound beside the living: a worker that has a claim always
//! publishes, so a word with its claim never comes back once it is gone. The control thread does
//! not always, and is the only one to judge its own number: while it waits for a slot it has no
//! claim on it.
//!
//! Without this a slot with such a claim could be written to by nobody until the table is made
//! anew, and each who tries would wait for a writer that there is not, as long as a writer may
//! take.

use std::sync::atomic::{Ordering, fence};

use super::OwnerId;
use super::intent::Cell;
use super::layout::{TableSlot, Words};
use super::membership::pause;
use crate::limits::{CLAIM_JUDGED_EVERY, OWNERS_MAX};

/// A slot that cells may name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Named {
    Part(u32),
    Terminal(u32),
}

impl Named {
    fn slot(self, words: Words<'_>) -> Option<TableSlot<'_>> {
        match self {
            Self::Part(slot) => words.part(slot),
            Self::Terminal(slot) => words.terminal(slot),
        }
    }

    fn is_in(self, cell: Cell<'_>) -> bool {
        match self {
            Self::Part(slot) => cell.part() == Some(slot),
            Self::Terminal(slot) => cell.terminal() == Some(slot),
        }
    }
}

/// Waits for a slot's claim to end, for the try number `tried`; and now and then looks whether it
/// is anybody's.
pub(super) fn wait(words: Words<'_>, slot: Named, owner: OwnerId, tried: u32) {
    if tried % CLAIM_JUDGED_EVERY == CLAIM_JUDGED_EVERY - 1 {
        evict_nobody(words, slot, owner);
    }
    pause(tried);
}

/// Takes a slot's claim away if it is nobody's. Gives whether it was.
pub(super) fn evict_nobody(words: Words<'_>, named: Named, owner: OwnerId) -> bool {
    let Some(slot) = named.slot(words) else { return false };
    let seen = slot.seen();
    let Some(holder) = seen.holder() else { return false };
    let is_somebodys = usize::from(holder.0) < OWNERS_MAX
        && holder != owner
        && (holder == OwnerId::CONTROL || named.is_in(Cell(words.cell(holder))));
    // Pairs with the Release of the holder's next note: who has read that sees what it published
    // before.
    fence(Ordering::Acquire);
    !is_somebodys && slot.evict_seen(seen)
}
