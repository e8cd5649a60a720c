//! Step 1, the other half: a walk over what we hold, so that what no listing named is asked for by
//! name, because absence proves nothing. Where a living cache is swept before any listing, that is
//! simply all there is.

use super::database::Unreadable;
use super::path::Path;
use super::request::Wanted;
use super::shared::Shared;
use super::step::Step;
use super::store::{Cursor, Store};
use crate::time::Nanos;
use crate::wire::{Record, TakeoverEntry};

/// Where the walk is, and what it walks.
#[derive(Debug)]
pub(super) struct Sweep {
    cursor: Cursor,
    walks_database: bool,
    is_done: bool,
    /// The database could not be read: the walk goes on then.
    resume: Nanos,
    /// Whether the database was walked because of parts that cannot be read.
    has_walked_damaged: bool,
}

impl Sweep {
    pub fn new(path: Path) -> Self {
        Self {
            cursor: Cursor::default(),
            walks_database: path == Path::Database,
            is_done: false,
            resume: Nanos(0),
            has_walked_damaged: false,
        }
    }

    /// Where the database was to be walked and has not been, it still is; else the cache holds
    /// everything by now, and what of it was not updated yet is in doubt there.
    pub fn path_anew(&self) -> Path {
        if self.walks_database && !self.is_done { Path::Database } else { Path::Cache }
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
        self.walks_database = false;
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
        self.walks_database = true;
        self.is_done = false;
        self.cursor = Cursor::default();
    }

    /// Fills a page with the next parts that we hold and this round's listing did not name.
    pub fn fill(&mut self, shared: &mut Shared, page: &mut Vec<Wanted>, holdings: &mut dyn Store) {
        let before = page.len();
        if self.walks_database {
            self.walk_database(shared, page, holdings);
        } else if !self.is_done {
            self.walk_cache(shared, page, holdings);
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
        // A part that cannot be read is met by no walk. The database may know it, and then it is
        // asked for too.
        if self.is_done && !self.has_walked_damaged && holdings.has_damaged(shared.domain) {
            self.walk_damaged();
        }
    }

    fn walk_database(&mut self, shared: &Shared, page: &mut Vec<Wanted>, holdings: &mut dyn Store) {
        while !self.is_done && self.resume <= shared.now && page.len() < TakeoverEntry::PER_PAGE {
            match holdings.next_in_database(shared.domain, &mut self.cursor) {
                Ok(Some(entry)) if shared.meetings.is_listed(entry.meeting) => {}
                Ok(Some(entry)) => page.push((entry, None)),
                Ok(None) => self.is_done = true,
                Err(Unreadable) if holdings.is_database_lost() => self.is_done = true,
                Err(Unreadable) => self.resume = shared.now + shared.settings.rto_max,
            }
        }
    }
}
