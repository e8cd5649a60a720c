//! Prefetching: the memory of records is requested before it is needed, because no processor
//! foresees where records lie, and waiting for one takes as long as all that is done with it.
//!
//! A walk requests what it comes to next ([`Ahead`]); a burst requests the memory of all its
//! terminals at once.
//!
//! In a table that is larger than the caches a report waits twice for memory, for the index and
//! then, because only that tells where, for the record. A processor can have a dozen such waits
//! under way at a time, if it knows what comes. So a worker first names the terminals of a whole
//! burst of reports: all index lines are requested, then all records, and by the time that the
//! first report is entered most have arrived.
//!
//! It changes nothing and promises nothing: a terminal that is not in the table, or comes, goes or
//! moves meanwhile, costs one useless fetch. It neither allocates nor waits, and ends after the
//! last terminal.

use super::Table;
use super::index::Index;
use super::line::{LINE_WORDS, Line};
use super::terminals::terminal_hash;
use super::version_order::is_newer;
use crate::limits::WALK_AHEAD;
use crate::sys::mapping::SharedWord;
use crate::wire::Address;

/// Where a terminal's record was a moment ago. A hint: its user checks that the record is still
/// there.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SlotHint(pub(super) Option<u32>);

/// A terminal that is looked for: its hash.
#[derive(Clone, Copy, Default, Debug)]
pub struct Sought(u64);

impl From<Address> for Sought {
    #[inline]
    fn from(terminal: Address) -> Self {
        Self(terminal_hash(terminal))
    }
}

/// Where terminals are looked for.
#[derive(Clone, Copy)]
pub struct Finder<'a> {
    index: Index<'a, SharedWord>,
    lines: &'a [[SharedWord; LINE_WORDS]],
}

impl Finder<'_> {
    /// As [`Table::prefetch_index`].
    #[inline]
    pub fn prefetch_index(&self, terminal: Address) -> Sought {
        let sought = Sought::from(terminal);
        self.index.prefetch(sought.0);
        sought
    }

    /// As [`Table::prefetch_record`].
    #[inline]
    pub fn prefetch_record(&self, sought: Sought) -> SlotHint {
        // The first entry with the hash's tag: that it is another terminal's happens once in
        // thousands of millions.
        SlotHint(self.index.find(sought.0, |slot| {
            Line::new(self.lines.get(slot as usize)?).prefetch();
            Some(slot)
        }))
    }
}

impl Table {
    /// Prefetches the records of these terminals, which are read or reported on next. Best for a
    /// burst: many more than [`BURST`](crate::limits::BURST) terminals evict each other from the
    /// nearest cache.
    ///
    /// ```
    /// # use baton::table::{Capacity, Table};
    /// # use baton::wire::Domain;
    /// # let table = Table::on_heap(Capacity { meetings: 16, terminals: 64 });
    /// # let domain = Domain::new(366).unwrap();
    /// let burst = [domain.device(1001), domain.device(1002)];
    /// table.prefetch(burst.iter().copied());
    /// // … and then `Writer::report` for each.
    /// ```
    #[inline]
    pub fn prefetch(&self, terminals: impl Iterator<Item = Address> + Clone) {
        let finder = self.finder();
        for terminal in terminals.clone() {
            finder.prefetch_index(terminal);
        }
        for terminal in terminals {
            finder.prefetch_record(Sought::from(terminal));
        }
    }

    /// The first half of [`Self::prefetch`], for one terminal: do it for a whole burst before the
    /// second.
    #[inline]
    pub fn prefetch_index(&self, terminal: Address) {
        self.finder().prefetch_index(terminal);
    }

    /// The second half of [`Self::prefetch`]; returns where the record is, for
    /// [`Writer::report_at`](super::Writer::report_at).
    #[inline]
    pub fn prefetch_record(&self, terminal: Address) -> SlotHint {
        self.finder().prefetch_record(Sought::from(terminal))
    }

    /// Both halves for a burst that takes its time between them.
    #[inline]
    pub fn finder(&self) -> Finder<'_> {
        let words = self.words();
        Finder { index: words.terminal_index(), lines: words.lines() }
    }

    /// Whether the record there is this terminal's, in this version or a later one. False if that
    /// cannot be told: only a look-up in the index tells whether the table has a terminal.
    #[inline]
    pub fn is_known_at(&self, near: SlotHint, terminal: Address, version: u32) -> bool {
        let read = near.0.and_then(|slot| self.words().read_terminal(slot).ok().flatten());
        read.is_some_and(|(_, raw)| raw.address() == terminal && !is_newer(version, raw.version()))
    }
}

/// Slots in the order in which `slots` gives them, each requested from memory some slots earlier.
pub(super) struct Ahead<I, F> {
    slots: I,
    fetch: F,
    asked: [u32; WALK_AHEAD],
    next: usize,
    count: usize,
}

impl<I: Iterator<Item = u32>, F: Fn(u32)> Ahead<I, F> {
    /// `fetch` prefetches a slot.
    pub fn of(slots: I, fetch: F) -> Self {
        Self { slots, fetch, asked: [0; WALK_AHEAD], next: 0, count: 0 }
    }
}

impl<I: Iterator<Item = u32>, F: Fn(u32)> Iterator for Ahead<I, F> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        while self.count < WALK_AHEAD {
            let Some(slot) = self.slots.next() else { break };
            (self.fetch)(slot);
            self.asked[(self.next + self.count) % WALK_AHEAD] = slot;
            self.count += 1;
        }
        self.count = self.count.checked_sub(1)?;
        let slot = self.asked[self.next];
        self.next = (self.next + 1) % WALK_AHEAD;
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn every_slot_is_given_once_in_order_and_fetched_before() {
        for length in [0, 1, WALK_AHEAD as u32 - 1, WALK_AHEAD as u32, 3 * WALK_AHEAD as u32 + 1] {
            let fetched = RefCell::new(Vec::new());
            let mut ahead = Ahead::of((0..length).map(|slot| slot * 3), |slot| fetched.borrow_mut().push(slot));
            for expected in 0..length {
                assert_eq!(ahead.next(), Some(expected * 3));
                let asked = fetched.borrow().len() as u32;
                assert_eq!(asked, length.min(expected + WALK_AHEAD as u32), "of {length}");
            }
            assert_eq!(ahead.next(), None);
        }
    }
}
