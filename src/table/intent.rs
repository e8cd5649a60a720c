//! Owner cells: what each writer is about to do, noted before it does it.
//!
//! ```text
//! cell: 0 operation │ 1 part's slot + 1 │ 2 terminal's slot + 1 │ 3 extent + 1 │ 4 to 7 zero
//! ```
//!
//! Words 1 and 2 name the slots that the owner may have claimed, word 3 the extent that it may be
//! taking or giving back for the terminal of word 2. They are left as they are after that: a note
//! of something finished does no harm. Word 0 is written last when an operation over several slots
//! begins, and first when it ends. A cell is its owner's cache line, so a note costs a store.

use std::sync::atomic::Ordering;

use crate::sys::mapping::SharedWord;

/// An operation over several slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub(super) enum Operation {
    InsertPart = 1,
    RemovePart = 2,
    Join = 3,
    Leave = 4,
    DiscardPart = 5,
    /// Of the terminal. The part is the one whose chain has it, if any does.
    DiscardTerminal = 6,
}

/// One owner's cell.
///
/// Its loads and stores pair with none of a living thread: only its owner and, once that is dead,
/// recovery look at it. That it is written *before* what it names is kept by the Release of
/// [`super::slot::Slot::claim`] and of each store that follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell<'a>(pub &'a [SharedWord]);

impl Cell<'_> {
    pub fn note_part(self, slot: u32) {
        self.0[1].store(u64::from(slot) + 1, Ordering::Release);
    }

    pub fn note_terminal(self, slot: u32) {
        self.0[2].store(u64::from(slot) + 1, Ordering::Release);
    }

    pub fn note_extent(self, extent: u32) {
        self.0[3].store(u64::from(extent) + 1, Ordering::Release);
    }

    /// Notes an operation and its slots. The cell names no operation before.
    pub fn begin(self, operation: Operation, part: Option<u32>, terminal: Option<u32>) {
        let noted = |slot: Option<u32>| slot.map_or(0, |slot| u64::from(slot) + 1);
        self.0[3].store(0, Ordering::Release);
        self.0[2].store(noted(terminal), Ordering::Release);
        self.0[1].store(noted(part), Ordering::Release);
        self.0[0].store(operation as u64, Ordering::Release);
    }

    pub fn end(self) {
        self.0[0].store(0, Ordering::Release);
    }

    pub fn clear(self) {
        for word in self.0 {
            word.store(0, Ordering::Release);
        }
    }

    pub fn operation(self) -> Option<Operation> {
        use Operation::{DiscardPart, DiscardTerminal, InsertPart, Join, Leave, RemovePart};
        [InsertPart, RemovePart, Join, Leave, DiscardPart, DiscardTerminal]
            .into_iter()
            .find(|&operation| operation as u64 == self.0[0].load(Ordering::Relaxed))
    }

    pub fn part(self) -> Option<u32> {
        self.noted(1)
    }

    pub fn terminal(self) -> Option<u32> {
        self.noted(2)
    }

    pub fn extent(self) -> Option<u32> {
        self.noted(3)
    }

    fn noted(self, at: usize) -> Option<u32> {
        self.0[at].load(Ordering::Relaxed).checked_sub(1).and_then(|number| number.try_into().ok())
    }
}
