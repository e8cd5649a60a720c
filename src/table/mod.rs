//! The table of meetings and terminals: mapped, lock-free, and alive after whoever wrote it is dead.

mod meetings;
mod terminals;
mod writer;

use std::path::Path;

pub use meetings::Part;
pub use terminals::Terminal;
pub use writer::{Reported, Writer};

use crate::sys::mapping::{BootId, Mapping, MappingError};
use crate::wire::{Address, Domain, Epoch, MeetingId};
use std::sync::Arc;

/// How much a table holds, fixed when it is created.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Parts of meetings.
    pub meetings: u32,
    /// Terminals.
    pub terminals: u32,
}

/// Who writes: the number in claims and of the cell with its intents. One thread, one number.
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

/// Why a change was not made. The table is as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TableError {
    /// No slot is left.
    #[error("the table is full of {0}; create it with more")]
    Full(&'static str),
    /// It is there already.
    #[error("it is in the table already")]
    Exists,
    /// There is no such part.
    #[error("{0} has no part in {1:?}")]
    UnknownPart(MeetingId, Domain),
    /// Another meeting has the terminal.
    #[error("meeting {0} has the terminal")]
    Conflict(MeetingId),
    /// Another writer has it; nothing is wrong, try again.
    #[error("another writer has it just now")]
    Contended,
    /// Its checksum does not fit its bytes.
    #[error("a record of the table is damaged")]
    Damaged,
}

/// Why a table file was refused. It is left untouched.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file could not be made or mapped.
    #[error(transparent)]
    Mapping(#[from] MappingError),
    /// What it says of itself is not what this program lays out.
    #[error("not a table of this program: {0}")]
    Refused(&'static str),
    /// It was asked for with a capacity that no table has.
    #[error("a table holds 1 to {max} meetings and terminals; asked for {meetings} and {terminals}")]
    Capacity {
        /// Asked for.
        meetings: u32,
        /// Asked for.
        terminals: u32,
        /// The most of each.
        max: u32,
    },
}

/// What [`Table::recover`] found in the cells of the dead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// Claims that the dead still held.
    pub claims: u32,
    /// Operations over several slots that were brought to their end.
    pub finished: u32,
    /// Operations over several slots that were taken back.
    pub undone: u32,
    /// Extents of additional information that were given back.
    pub extents: u32,
}

/// Where a walk over the parts of a domain stands; the default is the beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cursor(pub u32);

/// The table.
#[derive(Debug)]
pub struct Table {
    mapping: Mapping,
}

#[expect(unused_variables, reason = "the bodies land next")]
impl Table {
    /// The bytes of a table of this capacity.
    pub fn bytes(capacity: Capacity) -> u64 {
        unreachable!()
    }

    /// Lays out a new, empty table in zeroed memory of [`Table::bytes`].
    pub fn create(mapping: Mapping, capacity: Capacity, boot: BootId) -> Result<Self, OpenError> {
        unreachable!()
    }

    /// Takes a table as it is. Nothing is written: what is wrong with it is said, and it stays untouched.
    pub fn open(mapping: Mapping) -> Result<Self, OpenError> {
        unreachable!()
    }

    /// A new table in a new file, which gets its name when it is complete.
    pub fn create_at(path: &Path, capacity: Capacity, boot: BootId) -> Result<Self, OpenError> {
        unreachable!()
    }

    /// A table on the heap, for tests and simulations.
    pub fn on_heap(capacity: Capacity) -> Self {
        unreachable!()
    }

    /// The memory that it lives in: descriptor and lock.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// The boot under which it was created.
    pub fn boot_id(&self) -> BootId {
        unreachable!()
    }

    /// What it holds at most.
    pub fn capacity(&self) -> Capacity {
        unreachable!()
    }

    /// The epoch of who controls.
    pub fn epoch(&self) -> Epoch {
        unreachable!()
    }

    /// The end of the block of generations that the database has reserved: generations below it may be used.
    pub fn generation_end(&self) -> u32 {
        unreachable!()
    }

    /// Enters a block that the database has reserved: `generation` is in use now, and those below `end` may follow.
    pub fn set_reservation(&self, term: u32, generation: u32, end: u32) {
        unreachable!()
    }

    /// Begins the next generation of the block; none where the block is used up, and nothing is changed then.
    pub fn bump_generation(&self) -> Option<Epoch> {
        unreachable!()
    }

    /// Finishes or takes back what the dead had begun. To be called before any writer starts, by who has proof that
    /// all writers are dead.
    pub fn recover(&self) -> Recovered {
        unreachable!()
    }

    /// The writer of this number. Panics where a living writer of this process has it already.
    pub fn writer(self: &Arc<Self>, owner: OwnerId) -> Writer {
        unreachable!()
    }

    /// A part of a meeting.
    pub fn part(&self, meeting: MeetingId, domain: Domain) -> Option<Part> {
        unreachable!()
    }

    /// All parts of a meeting.
    pub fn parts_of(&self, meeting: MeetingId) -> impl Iterator<Item = Part> + use<> {
        std::iter::empty()
    }

    /// All parts of all meetings.
    pub fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        std::iter::empty()
    }

    /// The parts in a domain.
    pub fn parts_in(&self, domain: Domain) -> impl Iterator<Item = Part> + '_ {
        std::iter::empty()
    }

    /// The next part in a domain from where `cursor` stands. What is there all through a walk is met exactly once.
    pub fn next_part_in(&self, domain: Domain, cursor: &mut Cursor) -> Option<Part> {
        unreachable!()
    }

    /// A terminal.
    pub fn terminal(&self, terminal: Address) -> Option<Terminal> {
        unreachable!()
    }

    /// The members of a part. Allocates: for the control plane.
    pub fn members(&self, meeting: MeetingId, domain: Domain) -> impl Iterator<Item = Terminal> + use<> {
        std::iter::empty()
    }

    /// Every terminal.
    pub fn terminals(&self) -> impl Iterator<Item = Terminal> + '_ {
        std::iter::empty()
    }

    /// How many parts it holds.
    pub fn count_parts(&self) -> u32 {
        unreachable!()
    }

    /// How many terminals it holds.
    pub fn count_terminals(&self) -> u32 {
        unreachable!()
    }

    /// Count and digest (wire.md, rule 6) of the parts in a domain that are held under `epoch`.
    pub fn digest_of_parts(&self, domain: Domain, epoch: Epoch) -> (u32, u64) {
        unreachable!()
    }
}
