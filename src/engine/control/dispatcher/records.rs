//! Table and database as recovery sees them: one store, whose writes go to the journal.

use std::sync::Arc;

use super::counted::Counted;
use super::journal::Journal;
use super::orphans::{OrphanTable, not_held, not_to_be_had};
use crate::api::{self, Answer, OrphanFate, Reply};
use crate::cascade::Speakers;
use crate::cms::Operations;
use crate::database::{Change, Database, DatabaseError, Job, KeyParameters, Opened, Wanted};
use crate::limits::GENERATION_BLOCK;
use crate::recovery::{DatabaseStore, Orphans, Recovery, TableStore, Warmed, Warming};
use crate::table::Part;
use crate::table::Writer;
use crate::wire::{Domain, Epoch, MeetingId};

/// What recovery looks up and writes back to, for as long as one call takes.
pub(super) type Store<'a> = TableStore<'a, DatabaseStore<'a, &'a mut (dyn FnMut(Vec<Change>) + 'a)>>;

/// See [`Records::take_unfinished`].
pub(super) type Unfinished = (MeetingId, Vec<KeyParameters>, Vec<(MeetingId, Wanted)>);

/// The table, the database, and what is on its way into that.
pub(super) struct Records {
    pub writer: Writer,
    pub database: DatabaseState,
    pub journal: Journal,
    pub orphans: OrphanTable,
    /// Parts whose records were damaged and are written anew, for the log.
    pub replaced: Vec<(MeetingId, Domain)>,
    /// What a new table is warmed from.
    pub warming: Option<Warming>,
    speakers: Arc<Speakers>,
    counted: Counted,
}

/// The database, by the word of its thread.
pub(super) enum DatabaseState {
    /// It is not open yet.
    Opening,
    /// It cannot be opened, for another reason than that somebody has it: nothing is waited for.
    Lost(String),
    /// It can be read.
    Open {
        /// What was learned when it opened. What of it operations get is gone from here then.
        opened: Opened,
        /// Why it cannot be written.
        unwritable: Option<String>,
    },
}

impl DatabaseState {
    pub fn database(&self) -> Option<&Database> {
        match self {
            Self::Open { opened, .. } => Some(&opened.database),
            Self::Opening | Self::Lost(_) => None,
        }
    }

    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    pub const fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_))
    }

    /// For the status.
    pub fn seen(&self) -> api::DatabaseState {
        match self {
            Self::Opening => api::DatabaseState::Opening,
            Self::Lost(why) | Self::Open { unwritable: Some(why), .. } => api::DatabaseState::Failed(why.clone()),
            Self::Open { unwritable: None, .. } => api::DatabaseState::Open,
        }
    }

    pub fn set_unwritable(&mut self, why: Option<String>) {
        if let Self::Open { unwritable, .. } = self {
            *unwritable = why;
        }
    }
}

impl Records {
    /// Throws away the members of a part of which something cannot be read; false if there were
    /// some. Its autonomous server still knows them, and is to be asked.
    pub fn discard_unreadable_members(&mut self, part: &Part) -> bool {
        let table = self.writer.table();
        let unreadable = table.unreadable();
        let _ = table.members(part.meeting, part.domain).count();
        // What another writer has at this moment is read the next time.
        table.unreadable() == unreadable
            || !matches!(self.writer.discard_damaged_members(part.meeting, part.domain), Ok(1..))
    }

    pub fn new(
        writer: Writer,
        opened: Option<Opened>,
        warming: Option<Warming>,
        journal: Journal,
        speakers: Arc<Speakers>,
    ) -> Self {
        let database = match opened {
            Some(opened) => DatabaseState::Open { opened, unwritable: None },
            None => DatabaseState::Opening,
        };
        Self {
            writer,
            database,
            journal,
            orphans: OrphanTable::default(),
            replaced: Vec::new(),
            warming,
            speakers,
            counted: Counted::default(),
        }
    }

    /// Has `work` done on all of it as one store.
    pub fn with<T>(&mut self, operations: &Operations, work: impl FnOnce(&mut Store<'_>) -> T) -> T {
        let Self { writer, database, journal, orphans, replaced, warming, speakers, .. } = self;
        let mut write = |changes| journal.update(changes);
        let mut store = DatabaseStore {
            database: database.database(),
            is_lost: database.is_lost(),
            write: &mut write as &mut dyn FnMut(Vec<Change>),
        };
        let is_busy = |meeting| operations.is_under_way(meeting);
        let (store, is_busy, warming) = (&mut store, &is_busy, warming.as_mut());
        work(&mut TableStore { writer, store, is_busy, speakers, orphans, replaced, warming })
    }

    /// The database is open. Gives whether that was in doubt.
    pub fn open(&mut self, opened: Opened, epoch: Epoch) -> bool {
        let was_lost = self.database.is_lost();
        self.journal.open();
        self.journal.forget_updates_of(&opened.unfinished);
        self.database = DatabaseState::Open { opened, unwritable: None };
        let left = self.writer.table().generation_end().saturating_sub(epoch.generation().into());
        if left < u32::from(GENERATION_BLOCK / 2) {
            self.journal.ask(Job::Reserve { count: GENERATION_BLOCK });
        }
        was_lost
    }

    /// The database cannot be opened.
    pub fn lose(&mut self, error: &DatabaseError) {
        self.database = DatabaseState::Lost(error.to_string());
        self.journal.close();
    }

    /// What operations are to know of the database, once: the next number, what was begun and not
    /// finished, and what conferences are to come to yet.
    pub fn take_unfinished(&mut self) -> Option<Unfinished> {
        let DatabaseState::Open { opened, .. } = &mut self.database else { return None };
        Some((opened.next_meeting, std::mem::take(&mut opened.unfinished), std::mem::take(&mut opened.wanted)))
    }

    /// Adopts or ends one orphan, in every domain where it is held.
    pub fn decide_orphan(
        &mut self,
        meeting: MeetingId,
        become_of: OrphanFate,
        recovery: &mut Recovery,
        operations: &Operations,
    ) -> Reply {
        let become_of = match become_of {
            OrphanFate::Adopted => Orphans::Adopt,
            OrphanFate::Ended => Orphans::End,
        };
        let mut held = self.orphans.held(meeting);
        if held.is_empty() {
            return Err(not_held(meeting));
        }
        held.retain(|orphan| {
            let domain = orphan.domain;
            let is_decided = self.with(operations, |store| recovery.decide_orphan(domain, meeting, become_of, store));
            if is_decided {
                self.orphans.remove(domain, meeting);
            }
            is_decided
        });
        if held.is_empty() { Err(not_to_be_had(meeting)) } else { Ok(Answer::Orphans(held)) }
    }

    /// What came of the snapshot.
    pub fn warmed(&self) -> Option<&Warmed> {
        self.warming.as_ref().map(Warming::warmed)
    }

    pub fn speakers(&self) -> &Speakers {
        &self.speakers
    }

    /// How many parts the table has in a domain.
    pub fn parts_in(&mut self, domain: Domain) -> u32 {
        let Self { writer, counted, .. } = self;
        counted.parts_in(domain, writer.changes_in(domain), || writer.table().count_parts_in(domain))
    }
}
