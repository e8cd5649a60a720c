//! What a resize copies from: a table of this version's, or of the version before.

use std::sync::Arc;

use super::earlier::{self, Earlier};
use super::open::Refusal;
use crate::sys::mapping::{BootId, Mapping};
use crate::table::{Capacity, OwnerId, Part, Progress, Table, TableError, Terminal};
use crate::wire::{Domain, Epoch};

/// Its file, not read yet.
pub(super) enum File {
    /// In this program's layout.
    Ours(Box<Table>),
    /// In the layout of the version before.
    Earlier(Mapping),
}

/// Its content.
pub(super) enum Old {
    /// Read as it is asked for.
    Ours(Arc<Table>),
    /// Read all at once.
    Earlier(Mapping, Box<Earlier>),
}

impl File {
    pub fn mapping(&self) -> &Mapping {
        match self {
            Self::Ours(table) => table.mapping(),
            Self::Earlier(mapping) => mapping,
        }
    }
}

impl Old {
    /// Reads a table whose writers are all dead.
    pub fn read(file: File) -> Result<Self, Refusal> {
        match file {
            File::Ours(table) => Ok(Self::Ours(Arc::new(*table))),
            File::Earlier(mapping) => {
                let read = Box::new(earlier::read(&mapping)?);
                Ok(Self::Earlier(mapping, read))
            }
        }
    }

    pub fn mapping(&self) -> &Mapping {
        match self {
            Self::Ours(table) => table.mapping(),
            Self::Earlier(mapping, _) => mapping,
        }
    }

    pub fn capacity(&self) -> Capacity {
        match self {
            Self::Ours(table) => table.capacity(),
            Self::Earlier(_, read) => read.capacity,
        }
    }

    /// The boot under which it was created, the epoch of the engine that controls, and the end of
    /// the block of generations.
    pub fn head(&self) -> (BootId, Epoch, u32) {
        match self {
            Self::Ours(table) => (table.boot_id(), table.epoch(), table.generation_end()),
            Self::Earlier(_, read) => (read.boot, read.epoch, read.generation_end),
        }
    }

    pub fn fences(&self) -> Vec<(Domain, Epoch)> {
        match self {
            Self::Ours(table) => table.fences().collect(),
            Self::Earlier(_, read) => read.fences.clone(),
        }
    }

    /// How many parts and terminals it holds.
    pub fn counts(&self) -> (u32, u32) {
        match self {
            Self::Ours(table) => (table.count_parts(), table.count_terminals()),
            Self::Earlier(_, read) => {
                let members: usize = read.parts.iter().map(|(_, members)| members.len()).sum();
                (read.parts.len() as u32, members as u32)
            }
        }
    }

    /// Finishes or undoes what the dead writers had begun, and leaves out terminals whose records
    /// are damaged; gives how many. Their autonomous servers
    /// still know them, and are asked, because their parts are in doubt. A damaged part is not left
    /// out: only the database, which is not open now, can bring it back.
    pub fn settle(&self) -> Result<u32, TableError> {
        match self {
            Self::Ours(table) => {
                table.recover();
                table.writer(OwnerId::CONTROL).discard_damaged_terminals()
            }
            Self::Earlier(_, read) => Ok(read.damaged),
        }
    }

    /// What is wrong with it otherwise, up to a bound.
    pub fn flaws(&self, progress: Progress<'_>) -> Vec<String> {
        match self {
            Self::Ours(table) => table.verify_with(progress),
            Self::Earlier(_, read) => read.flaws.clone(),
        }
    }

    /// All parts with their members, until `with` fails.
    pub fn try_for_each<E>(&self, mut with: impl FnMut(&Part, &[Terminal]) -> Result<(), E>) -> Result<(), E> {
        match self {
            Self::Ours(table) => table.parts().try_for_each(|part| {
                let members: Vec<Terminal> = table.members(part.meeting, part.domain).collect();
                with(&part, &members)
            }),
            Self::Earlier(_, read) => read.parts.iter().try_for_each(|(part, members)| with(part, members)),
        }
    }
}
