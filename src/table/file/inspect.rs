//! Looking at a table without being able to change it, whether or not a server uses it.
//!
//! The memory is mapped read-only, so that no mistake here can disturb a server. An [`Inspection`]
//! gives access only to methods that read: not to the table, a writer or the words. A test shows
//! that these methods store nothing: a store would kill it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::OpenError;
use super::export::write_by_hand;
use super::snapshot::SnapshotError;
use crate::limits::PROGRESS_EVERY;
use crate::sys::exclusive::lock_taker;
use crate::sys::mapping::{BootId, Mapping};
use crate::table::archive::Written;
use crate::table::layout::LAYOUT_HASH;
use crate::table::membership::live;
use crate::table::{Capacity, Looked, Part, Progress, Table, Terminal};
use crate::wire::{Domain, Epoch, Level, MeetingId, MeetingState};

/// A table that is only read.
#[derive(Debug)]
pub struct Inspection {
    table: Table,
}

/// What a table or a snapshot holds, counted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "numbers of parts and of their members")]
pub struct Counts {
    pub parts: u64,
    pub members: u64,
    pub states: BTreeMap<MeetingState, u64>,
    pub levels: BTreeMap<Level, u64>,
    pub domains: BTreeMap<Domain, DomainCount>,
}

/// What there is in one domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "numbers of parts and of their members")]
pub struct DomainCount {
    pub parts: u64,
    pub members: u64,
}

impl Counts {
    /// Counts parts.
    pub fn of(parts: impl Iterator<Item = Part>) -> Self {
        let mut counts = Self::default();
        parts.for_each(|part| counts.add(&part));
        counts
    }

    /// Counts one more.
    pub fn add(&mut self, part: &Part) {
        let members = u64::from(part.participants);
        self.parts += 1;
        self.members += members;
        *self.states.entry(part.state).or_default() += 1;
        *self.levels.entry(part.level).or_default() += 1;
        let domain = self.domains.entry(part.domain).or_default();
        domain.parts += 1;
        domain.members += members;
    }
}

impl Table {
    /// Opens the table in a file for reading, whether or not a server uses it. The caller needs
    /// read permission on the file only.
    ///
    /// # Errors
    /// As [`Table::open`].
    pub fn inspect(path: &Path) -> Result<Inspection, OpenError> {
        Ok(Inspection { table: Self::open(Mapping::open_read_only(path)?)? })
    }
}

impl Inspection {
    #[cfg(test)]
    pub(in crate::table) fn over(table: Table) -> Self {
        Self { table }
    }

    /// The process that holds the lock of its file, if one does: the keeper of the server that uses
    /// it.
    ///
    /// # Errors
    /// The system's.
    pub fn holder(&self) -> io::Result<Option<u32>> {
        self.table.mapping().fd().map_or(Ok(None), lock_taker)
    }

    /// How it is laid out.
    pub fn layout_hash(&self) -> u64 {
        LAYOUT_HASH
    }

    /// The length of its file.
    pub fn bytes(&self) -> u64 {
        self.table.mapping().bytes()
    }

    /// What it holds at most.
    pub fn capacity(&self) -> Capacity {
        self.table.capacity()
    }

    /// The boot under which it was created.
    pub fn boot_id(&self) -> BootId {
        self.table.boot_id()
    }

    /// The epoch of the engine that controls.
    pub fn epoch(&self) -> Epoch {
        self.table.epoch()
    }

    /// The end of the block of generations that the database has reserved.
    pub fn generation_end(&self) -> u32 {
        self.table.generation_end()
    }

    /// How many terminals it holds.
    pub fn count_terminals(&self) -> u32 {
        self.table.count_terminals()
    }

    /// Extents in use, and how many there are.
    pub fn extents(&self) -> (u32, u32) {
        let words = self.table.words();
        let used = |extent: &u32| words.extent_owner(*extent).is_some_and(|owner| owner.load(Ordering::Relaxed) != 0);
        ((0..words.extents()).filter(used).count() as u32, words.extents())
    }

    /// All parts of all meetings.
    pub fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        self.table.parts()
    }

    /// The parts in a domain.
    pub fn parts_in(&self, domain: Domain) -> impl Iterator<Item = Part> + '_ {
        self.table.parts_in(domain)
    }

    /// The parts of a meeting.
    pub fn parts_of(&self, meeting: MeetingId) -> impl Iterator<Item = Part> + use<> {
        self.table.parts_of(meeting)
    }

    /// The members of a part.
    pub fn members(&self, meeting: MeetingId, domain: Domain) -> impl Iterator<Item = Terminal> + use<> {
        self.table.members(meeting, domain)
    }

    /// Reads every record, and returns how many could not be read.
    pub fn count_unreadable(&self, progress: Progress<'_>) -> u64 {
        let words = self.table.words();
        let total = u64::from(self.table.count_parts()) + u64::from(self.table.count_terminals());
        let parts = live(words.part_bits(), 0).map(|slot| words.read_part(slot).is_err());
        let terminals = live(words.terminal_bits(), 0).map(|slot| words.read_member(slot).is_err());
        let mut unreadable = 0;
        for (done, is_unreadable) in (1..).zip(parts.chain(terminals)) {
            unreadable += u64::from(is_unreadable);
            if done % PROGRESS_EVERY == 0 {
                progress(done.min(total), total);
            }
        }
        unreadable
    }

    /// [`Table::verify_with`], for a table that no writer changes.
    pub fn verify(&self, progress: Progress<'_>) -> Vec<String> {
        self.table.verify_with(progress)
    }

    /// [`Table::verify_living`], for a table in use.
    pub fn verify_living(&self, progress: Progress<'_>, wait: impl FnMut()) -> Looked {
        self.table.verify_living(progress, wait)
    }

    /// Writes a snapshot to a path of the caller's choice; see [`super::export`].
    ///
    /// # Errors
    /// What is there is as it was.
    pub fn write_snapshot(&self, path: &Path) -> Result<Written, SnapshotError> {
        write_by_hand(&self.table, path)
    }
}
