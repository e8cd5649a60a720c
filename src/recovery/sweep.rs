//! Step 1, the other half: a walk over what we hold, so that what no listing named is asked for by
//! name, because absence proves nothing. Where a living cache is swept before any listing, that is
//! simply all there is; and where a snapshot warms the cache, that is what the snapshot and then
//! the database know.

use super::database::Unreadable;
use super::path::Path;
use super::request::Wanted;
use super::shared::Shared;
use super::step::Step;
use super::store::{Cursor, Store};
use crate::limits::SWEEP_LOOKS;
use crate::time::Nanos;
use crate::wire::{Record, TakeoverEntry};

use std::time::Duration;

/// So soon a walk goes on that has looked at a bounded number of parts and found none.
pub(super) const AT_ONCE: Duration = Duration::from_micros(1);

/// Where the walk is, and what it walks.
#[derive(Debug)]
pub(super) struct Sweep {
    cursor: Cursor,
    walks: Walks,
    is_done: bool,
    /// The database could not be read: the walk goes on then.
    resume: Nanos,
    /// Whether the database was walked because of parts that cannot be read.
    has_walked_damaged: bool,
    /// The cache may not hold all yet: [`Walks::Rest`] follows it.
    has_rest: bool,
}

/// What is walked over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Walks {
    Cache,
    Database,
    Snapshot,
    /// What the cache holds and the snapshot did not have, once it holds all.
    Rest,
}

impl Sweep {
    pub fn new(path: Path) -> Self {
        Self {
            cursor: Cursor::default(),
            walks: match path {
                Path::Cache => Walks::Cache,
                Path::Snapshot => Walks::Snapshot,
                Path::Database => Walks::Database,
            },
            is_done: false,
            resume: Nanos(0),
            has_walked_damaged: false,
            has_rest: false,
        }
    }

    /// The walk of a recovery that begins anew. Where snapshot or database were to be walked and
    /// have not been, they still are; else the cache holds everything by now, or will, and what of
    /// it was not updated yet is in doubt there.
    pub fn anew(&self) -> (Path, Self) {
        let path = match self.walks {
            Walks::Database if !self.is_done => Path::Database,
            Walks::Snapshot if !self.is_done => Path::Snapshot,
            _ => Path::Cache,
        };
        let has_rest = self.has_rest || (self.walks == Walks::Rest && !self.is_done);
        (path, Self { has_rest, ..Self::new(path) })
    }

    pub fn is_done(&self) -> bool {
        self.is_done
    }

    pub fn resume(&self) -> Nanos {
        self.resume
    }

    /// Begins anew, over the cache.
    pub fn begin_round(&mut self) {
        self.cursor = Cursor::default();
        self.walks = Walks::Cache;
        self.is_done = false;
    }

    /// Parts cannot be read: the database is walked for them, after the cache. False if it has
    /// been.
    pub fn mend(&mut self) -> bool {
        if self.has_walked_damaged {
            return false;
        }
        if self.is_done {
            self.walk_damaged();
        }
        true
    }

    /// Nothing is damaged any more: what is found next is walked for anew.
    pub fn is_mended(&mut self) {
        self.has_walked_damaged = false;
    }

    fn walk_damaged(&mut self) {
        self.has_walked_damaged = true;
        self.walks = Walks::Database;
        self.is_done = false;
        self.cursor = Cursor::default();
    }

    /// Fills a page with the next parts that we hold and this round's listing did not name.
    /// `is_idle` where no takeover is wanted or on its way.
    pub fn fill(&mut self, shared: &mut Shared, page: &mut Vec<Wanted>, is_idle: bool, holdings: &mut dyn Store) {
        let before = page.len();
        if !self.is_done {
            match self.walks {
                Walks::Cache => self.walk_cache(shared, page, holdings),
                Walks::Database => self.walk_database(shared, page, holdings),
                Walks::Snapshot => self.walk_snapshot(shared, page, holdings),
                Walks::Rest => self.walk_rest(shared, page, is_idle, holdings),
            }
        }
        if !shared.trusts_cache() {
            page[before..].iter().for_each(|(entry, _)| shared.meetings.set_step(entry.meeting, Step::Asked));
        }
    }

    fn walk_cache(&mut self, shared: &Shared, page: &mut Vec<Wanted>, holdings: &mut dyn Store) {
        self.is_done = !holdings.walk_cache(shared.domain, &mut self.cursor, &mut |entry, at| {
            if !shared.meetings.is_listed(entry.meeting) {
                page.push((entry, Some(at)));
            }
            page.len() < TakeoverEntry::PER_PAGE
        });
        if self.is_done && std::mem::take(&mut self.has_rest) {
            (self.walks, self.cursor, self.is_done) = (Walks::Rest, Cursor::default(), false);
            return;
        }
        // A part that cannot be read is met by no walk. The database may know it, and then it is
        // asked for too.
        if self.is_done && !self.has_walked_damaged && holdings.has_damaged(shared.domain) {
            self.walk_damaged();
        }
    }

    fn walk_database(&mut self, shared: &mut Shared, page: &mut Vec<Wanted>, holdings: &mut dyn Store) {
        let mut looks = 0;
        while !self.is_done && self.resume <= shared.now && page.len() < TakeoverEntry::PER_PAGE {
            if looks == SWEEP_LOOKS {
                return self.go_on(shared, page);
            }
            looks += 1;
            match holdings.next_in_database(shared.domain, &mut self.cursor) {
                Ok(Some(entry)) if shared.meetings.is_listed(entry.meeting) => {}
                Ok(Some(entry)) => page.push((entry, None)),
                Ok(None) => self.is_done = true,
                Err(Unreadable) if holdings.is_database_lost() => self.is_done = true,
                Err(Unreadable) => self.resume = shared.now + shared.settings.rto_max,
            }
        }
    }

    fn walk_snapshot(&mut self, shared: &Shared, page: &mut Vec<Wanted>, holdings: &mut dyn Store) {
        if self.resume > shared.now {
            return;
        }
        let walked = holdings.walk_snapshot(shared.domain, &mut self.cursor, &mut |entry, _| {
            page.push((entry, None));
            page.len() < TakeoverEntry::PER_PAGE
        });
        match walked {
            Ok(true) => {}
            Ok(false) => (self.walks, self.cursor) = (Walks::Rest, Cursor::default()),
            Err(Unreadable) => {
                self.resume = shared.now + shared.settings.rto_max;
                return;
            }
        }
        self.go_on(shared, page);
    }

    /// The walk goes on at once where it has found nothing so far.
    fn go_on(&mut self, shared: &Shared, page: &[Wanted]) {
        if page.is_empty() && !self.is_done {
            self.resume = shared.now + AT_ONCE;
        }
    }

    /// A part that is asked for bears another epoch until the answer comes, so all answers have to
    /// be here. What is not under our epoch then and was asked for is remembered.
    fn walk_rest(&mut self, shared: &Shared, page: &mut Vec<Wanted>, is_idle: bool, holdings: &mut dyn Store) {
        if self.cursor == Cursor::default() && !(is_idle && holdings.is_whole()) {
            return;
        }
        self.is_done = !holdings.walk_untaken(shared.domain, shared.epoch, &mut self.cursor, &mut |entry, at| {
            if shared.meetings.step(entry.meeting).is_none() {
                page.push((entry, Some(at)));
            }
            page.len() < TakeoverEntry::PER_PAGE
        });
        self.go_on(shared, page);
    }
}
