//! Claims without a holder: a control word that, being damaged, says that its slot is claimed.
//!
//! A writer names a slot in its cell before it claims it, and names no other slot of that kind
//! while it has the claim. So a claim by a number that no writer has, or by a writer whose cell
//! names another slot, has no holder. It can be removed by one exchange of the word as it was when
//! the cell was read. This is sound while other writers run: a worker that has a claim always
//! publishes, so a word with its claim never comes back once it is gone. The control thread does
//! not always publish, and so is the only one to judge its own number: while it waits for a slot it
//! has no claim on it.
//!
//! Without this, no writer could change a slot with such a claim until the table is created again,
//! and each attempt would wait as long as a real writer may take.

use std::sync::atomic::{Ordering, fence};

use super::OwnerId;
use super::intent::Cell;
use super::layout::Words;
use super::slot::{Slot, pause};
use crate::limits::{CLAIM_JUDGED_EVERY, OWNERS_MAX};
use crate::sys::mapping::SharedWord;

/// A slot, as a cell names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Named {
    Part(u32),
    Terminal(u32),
}

impl Named {
    /// What its claims are judged by.
    pub fn control(self, words: Words<'_>) -> Option<Slot<'_, SharedWord, 0>> {
        match self {
            Self::Part(slot) => words.part(slot).map(Slot::control_only),
            Self::Terminal(slot) => words.terminal(slot).map(|line| line.slot().control_only()),
        }
    }

    fn is_in(self, cell: Cell<'_>) -> bool {
        match self {
            Self::Part(slot) => cell.part() == Some(slot),
            Self::Terminal(slot) => cell.terminal() == Some(slot),
        }
    }
}

/// Waits for a slot's claim to end, for the try number `tried`; now and then checks that it has a
/// holder.
pub(super) fn wait(words: Words<'_>, slot: Named, owner: OwnerId, tried: u32) {
    if tried % CLAIM_JUDGED_EVERY == CLAIM_JUDGED_EVERY - 1 {
        evict_nobody(words, slot, owner);
    }
    pause(tried);
}

/// Removes a slot's claim if it has no holder. Returns whether it did.
pub(super) fn evict_nobody(words: Words<'_>, named: Named, owner: OwnerId) -> bool {
    let Some(slot) = named.control(words) else { return false };
    let seen = slot.seen();
    let Some(holder) = seen.holder() else { return false };
    let is_somebodys = usize::from(holder.0) < OWNERS_MAX
        && holder != owner
        && (holder == OwnerId::CONTROL || named.is_in(Cell(words.cell(holder))));
    // Pairs with the Release of the holder's next note: once we have read that note, we see what it
    // published before.
    fence(Ordering::Acquire);
    !is_somebodys && slot.evict_seen(seen)
}
