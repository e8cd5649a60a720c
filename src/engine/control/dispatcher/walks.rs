//! Walks over all parts, some of them a round: a new table is filled from the database, and then
//! the table is held against the database.

use std::time::Duration;

use super::records::Records;
use super::unfinished::Unfinished;
use crate::cms::Operations;
use crate::limits::FILL_BATCH;
use crate::recovery::{Cursor, Path, Recovery, Store};
use crate::table;
use crate::time::Nanos;
use crate::wire::Domain;

/// How long nothing is read from a database that could not be read.
const PAUSE: Duration = Duration::from_millis(250);
/// How long the comparison waits, again and again, while meetings are being taken over: it reads
/// what a takeover need not read, on the thread that takes over.
const AFTER_TAKEOVER: Duration = Duration::from_millis(20);
/// How often it waits at most: one autonomous server that never answers for all does not stop it.
const WAITS_MAX: u32 = 250;

/// Where a walk over the parts of database or table stands.
struct Walk {
    /// The domains that are left, the next one last.
    domains: Vec<Domain>,
    cursor: Cursor,
    /// Whether a part of the next domain could not be read.
    met_damage: bool,
}

/// The two walks, one after the other.
pub(super) struct Walks {
    state: State,
    /// Not before: the database could not be read, or takeovers go first.
    resume: Nanos,
    /// How often the comparison has waited for takeovers.
    waits: u32,
}

enum State {
    /// What of the database is to be put into the table yet. Operations may not begin.
    Filling(Walk),
    /// What of the table is to be held against the database yet.
    Comparing(Walk),
    Done,
}

impl Walk {
    fn over(domains: impl Iterator<Item = Domain>) -> Self {
        Self { domains: domains.collect(), cursor: Cursor::default(), met_damage: false }
    }

    /// The walk through this domain is over.
    fn next_domain(&mut self) {
        self.domains.pop();
        (self.cursor, self.met_damage) = (Cursor::default(), false);
    }
}

impl Walks {
    pub fn new(path: Path, domains: impl Iterator<Item = Domain>) -> Self {
        // A table that lives holds everything: there is no domain left to fill it from.
        let domains = domains.filter(|_| path == Path::Database);
        Self { state: State::Filling(Walk::over(domains)), resume: Nanos(0), waits: 0 }
    }

    /// When there is something to walk over; none where that waits for the database to open, or is
    /// done.
    pub fn due(&self, records: &Records) -> Option<Nanos> {
        (records.database.is_open() && !matches!(self.state, State::Done)).then_some(self.resume)
    }

    /// Fills a new table with what the database holds, some meetings a round. True when all is
    /// there and operations may begin: before, a conference that is not in the table might be one
    /// that is not there yet.
    pub fn fill(&mut self, now: Nanos, records: &mut Records, operations: &Operations) -> bool {
        let State::Filling(walk) = &mut self.state else { return false };
        if now < self.resume || !records.database.is_open() {
            return false;
        }
        for _ in 0..FILL_BATCH {
            let Some(&domain) = walk.domains.last() else { break };
            let mut cursor = walk.cursor;
            // What cannot be read now is tried again a little later; the table is whole after a
            // real end alone.
            let Ok(next) = records.with(operations, |store| store.next_in_database(domain, &mut cursor)) else {
                self.resume = now + PAUSE;
                return false;
            };
            walk.cursor = cursor;
            if next.is_none() {
                walk.next_domain();
            }
        }
        walk.domains.is_empty()
    }

    /// The table is filled: it is held against the database from now on.
    pub fn begin_comparing(&mut self, domains: impl Iterator<Item = Domain>) {
        self.state = State::Comparing(Walk::over(domains));
    }

    /// The database has lost something that it was to have: once more, if that is not to come yet.
    pub fn compare_again(&mut self, domains: impl Iterator<Item = Domain>) {
        if !matches!(self.state, State::Filling(_)) {
            self.begin_comparing(domains);
        }
    }

    /// Holds the table against the database, some parts a round, and has written what that lacks:
    /// it may have been closed while recovery had something for it, or be an older one, or a new
    /// one in place of one that was lost.
    ///
    /// It is the first to read the records of parts that were taken over by the table's columns:
    /// gives the domain, at its end, if some of them are damaged.
    pub fn compare(
        &mut self,
        now: Nanos,
        records: &mut Records,
        (recovery, operations): (&Recovery, &Operations),
        unfinished: &mut Unfinished,
    ) -> Option<Domain> {
        let State::Comparing(walk) = &mut self.state else { return None };
        if now < self.resume {
            return None;
        }
        if self.waits < WAITS_MAX && recovery.is_taking_over() {
            self.waits += 1;
            self.resume = now + AFTER_TAKEOVER;
            return None;
        }
        let Some(&domain) = walk.domains.last() else {
            self.state = State::Done;
            return None;
        };
        let mut at = table::Cursor(walk.cursor.0);
        let mut parts = Vec::with_capacity(FILL_BATCH);
        let unreadable = records.writer.table().unreadable();
        let more = records.writer.table().walk_by_level(domain, &mut at, |_, part| {
            parts.push(part);
            parts.len() < FILL_BATCH
        });
        walk.cursor = Cursor(at.0);
        walk.met_damage |= records.writer.table().unreadable() != unreadable;
        let damaged = (!more && walk.met_damage).then_some(domain);
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
        damaged
    }
}
