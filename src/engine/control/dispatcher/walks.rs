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
use crate::wire::{Domain, MeetingId};

/// How long nothing is read from a database that could not be read.
const PAUSE: Duration = Duration::from_millis(250);
/// How long the comparison waits, again and again: while meetings are being taken over, for it
/// reads what a takeover need not read, on the thread that takes over; and, before it begins with a
/// domain, while the database does not have all yet that recovery wrote of it, which would be
/// written once more.
const AFTER_TAKEOVER: Duration = Duration::from_millis(20);
/// How often it waits at most: neither one autonomous server that never answers for all nor a
/// database that cannot be written stops it.
const WAITS_MAX: u32 = 250;
/// How long nobody looks for damage after all was read, and between two rounds of reading: a large
/// table takes minutes, and costs the control thread a hundredth of its time.
const PATROL_PAUSE: Duration = Duration::from_secs(20);
const PATROL_STEP: Duration = Duration::from_millis(20);

/// Where a walk over the parts of snapshot, database or table stands.
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
    /// Not before: the database could not be read, the patrol is at rest, or others go first.
    resume: Nanos,
    /// How often the comparison has waited.
    waits: u32,
}

enum State {
    /// What of the snapshot is to be put into the table yet. Operations may not begin.
    Warming(Walk),
    /// What of the database is. They may not either.
    Filling(Walk),
    /// What of the table is to be held against the database yet.
    Comparing(Walk),
    /// What of the table is to be read yet, for damage that something else did since.
    Patrolling(Walk),
}

/// What a round met that cannot be read.
#[derive(Default)]
pub(super) struct Damage {
    /// A domain that has a part of which that is so, at the end of a walk through it.
    pub domain: Option<Domain>,
    /// Parts of which it was so of members, which were thrown away: they are in doubt.
    pub in_doubt: Vec<(Domain, MeetingId)>,
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
        let state = match path {
            // A table that lives holds everything: there is no domain left to fill it from.
            Path::Cache => State::Filling(Walk::over(std::iter::empty())),
            Path::Snapshot => State::Warming(Walk::over(domains)),
            Path::Database => State::Filling(Walk::over(domains)),
        };
        Self { state, resume: Nanos(0), waits: 0 }
    }

    /// When there is something to walk over; none where that waits for the database to open.
    pub fn due(&self, records: &Records) -> Option<Nanos> {
        records.database.is_open().then_some(self.resume)
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
        matches!(self.state, State::Comparing(_) | State::Patrolling(_))
    }

    /// The table is filled: it is held against the database from now on.
    pub fn begin_comparing(&mut self, domains: impl Iterator<Item = Domain>) {
        self.state = State::Comparing(Walk::over(domains));
        // The patrol may be at rest: this is not to wait for that.
        self.resume = Nanos(0);
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
    ///
    /// It is the first to read the records of parts that were taken over by the table's columns.
    /// After it the table is read again and again: who takes over by the columns, or enters a
    /// report, reads no more than that, and what else something damages is to be found.
    pub fn read_on(
        &mut self,
        now: Nanos,
        records: &mut Records,
        (recovery, operations): (&Recovery, &Operations),
        unfinished: &mut Unfinished,
    ) -> Damage {
        let mut damage = Damage::default();
        if now < self.resume {
            return damage;
        }
        let (walk, compares) = match &mut self.state {
            State::Warming(_) | State::Filling(_) => return damage,
            State::Comparing(walk) => (walk, true),
            State::Patrolling(walk) => (walk, false),
        };
        let is_behind = || walk.cursor == Cursor::default() && !records.journal.is_up_to_date();
        if compares && self.waits < WAITS_MAX && (recovery.is_taking_over() || is_behind()) {
            self.waits += 1;
            self.resume = now + AFTER_TAKEOVER;
            return damage;
        }
        let Some(&domain) = walk.domains.last() else {
            self.resume = now + PATROL_PAUSE;
            self.state = State::Patrolling(Walk::over(recovery.domains()));
            return damage;
        };
        if !compares {
            self.resume = now + PATROL_STEP;
        }
        let mut at = table::Cursor(walk.cursor.0);
        let mut parts = Vec::with_capacity(FILL_BATCH);
        let unreadable = records.writer.table().unreadable();
        let more = records.writer.table().walk_by_level(domain, &mut at, |_, part| {
            parts.push(part);
            parts.len() < FILL_BATCH
        });
        walk.cursor = Cursor(at.0);
        walk.met_damage |= records.writer.table().unreadable() != unreadable;
        damage.domain = (!more && walk.met_damage).then_some(domain);
        if !more {
            walk.next_domain();
        }
        parts.retain(|part| {
            let is_whole = records.discard_unreadable_members(part);
            if !is_whole {
                damage.in_doubt.push((part.domain, part.meeting));
            }
            is_whole
        });
        if compares {
            records.with(operations, |store| {
                for part in parts {
                    if !store.write_what_is_not_kept(&part) {
                        unfinished.note(part.domain, part.meeting);
                    }
                }
            });
        }
        damage
    }
}
