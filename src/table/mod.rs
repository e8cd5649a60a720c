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

mod changes;
mod claims;
mod discard;
mod discard_terminal;
mod domains;
mod dump;
mod extents;
mod fences;
pub mod file;
mod index;
mod intent;
mod layout;
mod levels;
mod meetings;
mod membership;
mod prefetch;
mod quota;
mod read;
mod recover;
mod slot;
mod slot_set;
mod terminals;
#[cfg(test)]
mod tests;
mod verify;
mod version_order;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use discard_terminal::Discarded;
pub use dump::TableDump;
pub use meetings::Part;
pub use prefetch::SlotHint;
pub use read::Cursor;
pub use recover::Recovered;
pub use terminals::Terminal;
pub use verify::Progress;
pub use verify::live::Looked;
pub(crate) use version_order::is_newer;
pub use writer::{Reported, Writer};

use crate::limits::OWNERS_MAX;
use crate::sys::mapping::Mapping;
use crate::wire::{Domain, MeetingId};
pub use layout::LAYOUT_HASH;
use layout::{Layout, Words};

/// How much a table holds, fixed when it is created.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Parts of meetings.
    pub meetings: u32,
    /// Terminals.
    pub terminals: u32,
}

/// A writer's number, in its claims and of its owner cell. Each thread has its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OwnerId(pub u8);

impl OwnerId {
    /// The control thread.
    pub const CONTROL: Self = Self(0);

    /// Worker `n`, counted from 0.
    pub const fn worker(n: u8) -> Self {
        Self(n + 1)
    }
}

/// Why a change was not made. Unless its method says otherwise, the table is as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TableError {
    /// Of what there is no free slot.
    #[error("the table has no more {0}; create it with a larger capacity")]
    Full(&'static str),
    /// The part or terminal is in the table already.
    #[error("it is in the table already")]
    Exists,
    /// There is no such part.
    #[error("{0:?} has no part in {1:?}")]
    UnknownPart(MeetingId, Domain),
    /// The terminal is a member of this other meeting.
    #[error("the terminal is in {0:?}")]
    Conflict(MeetingId),
    /// The terminal has no address in a domain.
    #[error("a terminal needs an address in a domain")]
    NoAddress,
    /// Another writer has claimed the record. Nothing is wrong; try again.
    #[error("another writer is changing it; try again")]
    Contended,
    /// A record's checksum does not match its bytes.
    #[error("a record of the table is damaged; its autonomous server still knows it")]
    Damaged,
}

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

    /// The most terminals that the table can hold whose additional information is longer than 16
    /// bytes ([`INFO_BYTES_INLINE`](crate::limits::INFO_BYTES_INLINE)).
    pub fn information_max(&self) -> u32 {
        self.layout.extents
    }

    /// Finishes or undoes what dead writers had begun. Call it before any writer starts, and only
    /// with proof that all earlier writers are dead: the lock of the table's file.
    pub fn recover(&self) -> Recovered {
        recover::recover(self.words())
    }

    /// The writer with this number. Panics if a living writer of this process has the number
    /// already, or if there is no such number.
    pub fn writer(self: &Arc<Self>, owner: OwnerId) -> Writer {
        assert!(usize::from(owner.0) < OWNERS_MAX, "owner numbers end at {OWNERS_MAX}");
        let (word, bit) = self.writer_bit(owner);
        // AcqRel pairs with itself in `give_back_writer`: a number's next writer sees what its last
        // one did.
        let before = word.fetch_or(bit, Ordering::AcqRel);
        assert!(before & bit == 0, "owner {} writes already", owner.0);
        Writer::new(Arc::clone(self), owner)
    }

    fn give_back_writer(&self, owner: OwnerId) {
        let (word, bit) = self.writer_bit(owner);
        word.fetch_and(!bit, Ordering::AcqRel);
    }

    fn writer_bit(&self, owner: OwnerId) -> (&AtomicU64, u64) {
        (&self.writers[usize::from(owner.0) / 64], 1 << (owner.0 % 64))
    }
}
