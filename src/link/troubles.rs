//! What workers find wrong with the table and the control thread has to see to: they neither log
//! nor change membership.

use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::queue::ArrayQueue;

use crate::limits::TROUBLES_MAX;
use crate::wire::Address;

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// There is no extent for a terminal's additional information.
    Full(Address),
    /// A terminal's record is damaged.
    Damaged(Address),
}

/// The troubles that the control thread has not yet taken. Bounded: what finds no room comes again
/// with the terminal's next report.
#[derive(Debug)]
pub struct Troubles {
    waiting: ArrayQueue<Trouble>,
    /// Enough terminals that found no room were named.
    enough: AtomicBool,
}

impl Default for Troubles {
    fn default() -> Self {
        Self { waiting: ArrayQueue::new(TROUBLES_MAX), enough: AtomicBool::new(false) }
    }
}

impl Troubles {
    /// Tells of one; gives whether the control thread is to look. Neither waits nor allocates.
    pub fn tell(&self, trouble: Trouble) -> bool {
        // Relaxed: it orders nothing, and one too many or too few does no harm.
        let is_wanted = matches!(trouble, Trouble::Damaged(_)) || !self.enough.load(Ordering::Relaxed);
        is_wanted && self.waiting.push(trouble).is_ok()
    }

    /// The oldest that was not taken.
    pub fn take(&self) -> Option<Trouble> {
        self.waiting.pop()
    }

    /// Has workers no longer tell of terminals that find no room.
    pub fn have_enough(&self) {
        self.enough.store(true, Ordering::Relaxed);
    }
}
