//! The table of meetings and terminals: mapped, lock-free, and usable after the processes that
//! wrote it are dead.
//!
//! It is the *cache* that a dispatch server recovers from. It lies in shared memory that outlives
//! every process, so that after SIGKILL, panic or abort the next process goes on with it as it is.
//!
//! What always holds:
//!
//! - A record is old or new, and whole, whichever instruction its writer died at (`slot`).
//! - Readers take no lock and never wait for a writer, living or dead.
//! - A writer notes in its *owner cell* what it is about to do before it does it (`intent`);
//!   [`Table::recover`] reads the cells and finishes or undoes what they name, in a time that does
//!   not depend on the table's size (`recover`).
//! - One writer at a time changes membership, which is parts and their members (`membership`); all
//!   writers enter reports at the same time (`writer`).
//! - Every record has a checksum, which each read checks. A number found in the memory never leads
//!   outside it: a damaged table gives errors, not panics. Parts and terminals that cannot be read
//!   can be discarded (`discard`, `discard_terminal`).
//! - Only methods that say so allocate, and capacity is fixed when the table is created:
//!   [`TableError::Full`], never SIGBUS.
//!
//! Why words and not structs: each is an atomic of its own, so that what a dead or a concurrent
//! writer leaves is a value and never undefined behaviour; and every process that maps them sees
//! the same bytes.

pub mod archive;
mod capacity;
mod changes;
mod claims;
mod columns;
mod discard;
mod discard_terminal;
mod domains;
mod dump;
mod error;
mod extents;
mod fences;
pub mod file;
mod groups;
mod index;
mod intent;
mod layout;
mod levels;
mod line;
mod meetings;
mod membership;
mod owner;
mod prefetch;
mod quota;
mod read;
mod recover;
mod reports;
mod slot;
mod slot_set;
mod sums;
mod terminals;
#[cfg(test)]
mod tests;
mod verify;
mod version_order;
mod writer;

use std::sync::atomic::{AtomicU64, Ordering};

pub use capacity::Capacity;
pub use discard_terminal::Discarded;
pub use dump::TableDump;
pub use error::TableError;
pub use meetings::Part;
pub use owner::OwnerId;
pub use prefetch::{Finder, SlotHint, Sought};
pub use read::{Cursor, Share};
pub use recover::Recovered;
pub use reports::Reported;
pub use sums::TakenOver;
pub use terminals::Terminal;
pub use verify::Progress;
pub use verify::live::Looked;
pub(crate) use version_order::is_newer;
pub use writer::Writer;

use crate::limits::OWNERS_MAX;
use crate::sys::mapping::Mapping;
pub use layout::LAYOUT_HASH;
use layout::{Layout, Words};

/// Shared by all threads of a process; each thread that writes has its own [`Writer`].
#[derive(Debug)]
pub struct Table {
    mapping: Mapping,
    layout: Layout,
    /// A bit for each owner number that a writer of this process has.
    writers: [AtomicU64; OWNERS_MAX.div_ceil(64)],
    /// Records that readers could not read.
    unreadable: AtomicU64,
}

impl Table {
    fn over(mapping: Mapping, layout: Layout) -> Self {
        Self { mapping, layout, writers: Default::default(), unreadable: AtomicU64::new(0) }
    }

    fn words(&self) -> Words<'_> {
        self.layout.over(self.mapping.words())
    }

    /// The memory that the table is in, with its descriptor and lock.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Fixed when the table was created.
    pub fn capacity(&self) -> Capacity {
        self.layout.capacity
    }

    /// The most terminals that the table can hold whose additional information is longer than 6
    /// bytes ([`INFO_BYTES_INLINE`](crate::limits::INFO_BYTES_INLINE)).
    pub fn information_max(&self) -> u32 {
        self.layout.extents
    }

    fn give_back_writer(&self, owner: OwnerId) {
        let (word, bit) = self.writer_bit(owner);
        word.fetch_and(!bit, Ordering::AcqRel);
    }

    fn writer_bit(&self, owner: OwnerId) -> (&AtomicU64, u64) {
        (&self.writers[usize::from(owner.0) / 64], 1 << (owner.0 % 64))
    }
}
