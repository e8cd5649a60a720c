//! Walks over all parts, some of them a round: a new table is filled from the database, and then
//! the table is held against the database.

use std::time::Duration;

use super::records::Records;
use super::unfinished::Unfinished;
use crate::cms::Operations;
use crate::limits::FILL_BATCH;
use crate::recovery::{Cursor, Path, Store};
use crate::table;
use crate::time::Nanos;
use crate::wire::{Domain, MeetingId};

/// How long nothing is read from a database that could not be read.
const PAUSE: Duration = Duration::from_millis(250);

/// Where a walk over the parts of snapshot, database or table stands.
struct Walk {
    /// The domains that are left, the next one last.
    domains: Vec<Domain>,
    cursor: Cursor,
}

/// The two walks, one after the other.
pub(super) struct Walks {
    state: State,
    /// The database could not be read: not before.
    resume: Nanos,
}

enum State {
    /// What of the snapshot is to be put into the table yet. Operations may not begin.
    Warming(Walk),
    /// What of the database is. They may not either.
    Filling(Walk),
    /// What of the table is to be held against the database yet.
    Comparing(Walk),
    Done,
}

impl Walk {
    fn over(domains: impl Iterator<Item = Domain>) -> Self {
        Self { domains: domains.collect(), cursor: Cursor::default() }
    }

    /// The walk through this domain is over.
    fn next_domain(&mut self) {
        self.domains.pop();
        self.cursor = Cursor::default();
    }
}

impl Walks {
    pub fn new(path: Path, domains: impl Iterator<Item = Domain>) -> Self {
        let state = match path {
            // A table that lives holds everything: there is no domain left to fill it from.
            Path::Cache => State::Filling(Walk::over(std::iter::empty())),
            Path::Snapshot => State::Warming(Walk::over(domains)),
            Path::Database => State::Filling(Walk::over(domains)),
        };
        Self { state, resume: Nanos(0) }
    }

    /// When there is something to walk over; none where that waits for the database to open, or is
    /// done.
    pub fn due(&self, records: &Records) -> Option<Nanos> {
        (records.database.is_open() && !matches!(self.state, State::Done)).then_some(self.resume)
    }

    /// Fills a new table with what the snapshot and the database hold, some meetings a round. True
    /// when all is there and operations may begin: before, a conference that is not in the table
    /// might be one that is not there yet.
    pub fn fill(
        &mut self,
        now: Nanos,
        records: &mut Records,
        operations: &Operations,
        domains: impl Iterator<Item = Domain>,
    ) -> bool {
        if now < self.resume || !records.database.is_open() {
            return false;
        }
        let is_warming = matches!(self.state, State::Warming(_));
        let (State::Warming(walk) | State::Filling(walk)) = &mut self.state else { return false };
        if let Some(&domain) = walk.domains.last() {
            let cursor = &mut walk.cursor;
            let more = records.with(operations, |store| {
                if is_warming {
                    return store.walk_snapshot(domain, cursor, &mut |_, _| true);
                }
                let mut next = MeetingId(cursor.0);
                let more = store.fill(domain, &mut next);
                cursor.0 = next.0;
                more
            });
            match more {
                Ok(true) => {}
                Ok(false) => walk.next_domain(),
                // What cannot be read now is tried again a little later; the table is whole after a
                // real end alone.
                Err(_) => {
                    self.resume = now + PAUSE;
                    return false;
                }
            }
        }
        let is_over = walk.domains.is_empty();
        if is_over && is_warming {
            self.state = State::Filling(Walk::over(domains));
            return false;
        }
        is_over
    }

    /// Whether the table holds all that the database holds.
    pub const fn is_filled(&self) -> bool {
        matches!(self.state, State::Comparing(_) | State::Done)
    }

    /// The table is filled: it is held against the database from now on.
    pub fn begin_comparing(&mut self, domains: impl Iterator<Item = Domain>) {
        self.state = State::Comparing(Walk::over(domains));
    }

    /// The database has lost something that it was to have: once more, if that is not to come yet.
    pub fn compare_again(&mut self, domains: impl Iterator<Item = Domain>) {
        if !matches!(self.state, State::Warming(_) | State::Filling(_)) {
            self.begin_comparing(domains);
        }
    }

    /// Holds the table against the database, some parts a round, and has written what that lacks:
    /// it may have been closed while recovery had something for it, or be an older one, or a new
    /// one in place of one that was lost.
    pub fn compare(&mut self, records: &mut Records, operations: &Operations, unfinished: &mut Unfinished) {
        let State::Comparing(walk) = &mut self.state else { return };
        let Some(&domain) = walk.domains.last() else {
            self.state = State::Done;
            return;
        };
        let mut at = table::Cursor(walk.cursor.0);
        let mut parts = Vec::with_capacity(FILL_BATCH);
        let more = records.writer.table().walk_by_level(domain, &mut at, |_, part| {
            parts.push(part);
            parts.len() < FILL_BATCH
        });
        walk.cursor = Cursor(at.0);
        if !more {
            walk.next_domain();
        }
        records.with(operations, |store| {
            for part in parts {
                if !store.write_what_is_not_kept(&part) {
                    unfinished.note(part.domain, part.meeting);
                }
            }
        });
    }
}
