//! What a part's record means for the columns, and count and digest of what is held.
//!
//! Count and digest of each domain are kept in the writer's own memory, by the steps that keep the
//! columns. They need not outlive it: an epoch begins with every engine, and under a new one
//! nothing is held.

use std::sync::atomic::Ordering;

use super::columns::{entry_at, held_under, hold, is_settled_at, let_go, set_entry, set_settled, vacate_columns};
use super::layout::Words;
use super::meetings::Part;
use crate::wire::{Domain, Epoch, MeetingId, MeetingState, TakeoverEntry, digest_of};

/// Whether an acknowledgement has nothing to change in its record.
const fn is_settled(part: &Part) -> bool {
    matches!(part.state, MeetingState::InMeeting) && !part.in_doubt && !part.is_unlisted
}

/// Whether it counts in the digest of this epoch (wire.md, rule 6).
pub(super) fn is_held_under(part: &Part, epoch: Epoch) -> bool {
    let is_over = matches!(part.state, MeetingState::Ended | MeetingState::Missing);
    part.epoch == epoch && epoch != Epoch::NONE && !part.is_unlisted && !is_over
}

const fn entry_of(part: &Part) -> TakeoverEntry {
    TakeoverEntry { meeting: part.meeting, version: part.version }
}

/// Makes what is said of a slot fit its record; none where it is free.
pub(super) fn fit_columns(words: Words<'_>, slot: u32, record: Option<&Part>) {
    match record {
        Some(part) => {
            set_entry(words, slot, entry_of(part));
            set_settled(words, slot, is_settled(part));
        }
        None => vacate_columns(words, slot),
    }
}

/// Whether what is said of a slot fits its record, but for the epoch.
pub(super) fn fits_columns(words: Words<'_>, slot: u32, record: Option<&Part>) -> bool {
    let says = (is_settled_at(words, slot), held_under(words, slot));
    match record {
        Some(part) => {
            let is_entry = entry_at(words, slot) == Some(entry_of(part));
            let may_be_held = says.1.is_none_or(|epoch| is_held_under(part, epoch));
            is_entry && says.0 == is_settled(part) && may_be_held
        }
        None => says == (false, None),
    }
}

/// Count and digest of the parts of a domain that are held.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Sum {
    count: u32,
    digest: u64,
}

impl Sum {
    fn add(&mut self, entry: TakeoverEntry) {
        self.count = self.count.wrapping_add(1);
        self.digest = self.digest.wrapping_add(digest_of(entry.meeting, entry.version));
    }

    fn remove(&mut self, entry: TakeoverEntry) {
        self.count = self.count.wrapping_sub(1);
        self.digest = self.digest.wrapping_sub(digest_of(entry.meeting, entry.version));
    }
}

/// What is held under the epoch of the engine that writes.
#[derive(Debug, Default)]
pub(super) struct Sums {
    epoch: Epoch,
    /// By domain, in no order: the one that is asked for next is mostly the one asked for last.
    domains: Vec<(Domain, Sum)>,
    last: usize,
}

impl Sums {
    /// An epoch begins, under which nothing is held.
    pub fn begin(&mut self, epoch: Epoch) {
        *self = Self { epoch, ..Self::default() };
    }

    /// Count and digest of a domain; none for another epoch than the one that has begun.
    pub fn of(&self, domain: Domain, epoch: Epoch) -> Option<(u32, u64)> {
        let found = || self.domains.iter().find(|(of, _)| *of == domain);
        (epoch == self.epoch && epoch != Epoch::NONE)
            .then(|| found().map_or((0, 0), |(_, sum)| (sum.count, sum.digest)))
    }

    /// A part's record is about to become `part`. Its slot is claimed. What it is now, `before`,
    /// is from its record: the columns have no checksum.
    pub fn prepare(&mut self, words: Words<'_>, slot: u32, before: Option<&Part>, part: &Part) {
        if let Some(before) = before {
            self.leave(before);
        }
        if !is_settled(part) {
            set_settled(words, slot, false);
        }
        if !is_held_under(part, self.epoch) {
            let_go(words, slot);
        }
    }

    /// A part's record has become `part`. Its slot is still claimed.
    pub fn follow(&mut self, words: Words<'_>, slot: u32, part: &Part) {
        set_entry(words, slot, entry_of(part));
        if is_settled(part) {
            set_settled(words, slot, true);
        }
        if is_held_under(part, self.epoch) {
            hold(words, slot, self.epoch);
            self.sum(part.domain).add(entry_of(part));
        }
    }

    /// What the part in a slot counts as, if it is held under this epoch.
    pub fn held(&self, words: Words<'_>, slot: u32) -> Option<TakeoverEntry> {
        let is_held = self.epoch != Epoch::NONE && held_under(words, slot) == Some(self.epoch);
        if is_held { entry_at(words, slot) } else { None }
    }

    /// A part no longer counts.
    pub fn leave(&mut self, part: &Part) {
        if is_held_under(part, self.epoch) {
            self.sum(part.domain).remove(entry_of(part));
        }
    }

    /// Counts a domain's parts anew, of which these are all that can be read, and makes what is
    /// said of them fit their records.
    pub fn recount(&mut self, words: Words<'_>, domain: Domain, parts: impl Iterator<Item = (u32, Part)>) {
        *self.sum(domain) = Sum::default();
        for (slot, part) in parts {
            fit_columns(words, slot, Some(&part));
            if is_held_under(&part, self.epoch) {
                hold(words, slot, self.epoch);
                self.sum(domain).add(entry_of(&part));
            } else {
                let_go(words, slot);
            }
        }
    }

    /// A part that counted as this no longer does.
    pub fn remove(&mut self, domain: Domain, held: Option<TakeoverEntry>) {
        if let Some(entry) = held {
            self.sum(domain).remove(entry);
        }
    }

    /// Holds a part under this epoch without a look at its record: false, and nothing is changed,
    /// if that is not all there is to do.
    #[inline]
    pub fn take_over(&mut self, words: Words<'_>, slot: u32, taken: &TakenOver) -> bool {
        let Some(entry) = entry_at(words, slot).filter(|entry| entry.meeting == taken.meeting) else { return false };
        // Relaxed: this thread has changed it last.
        let domain = words.place_domain(slot).map_or(0, |word| word.load(Ordering::Relaxed));
        let is_all = taken.epoch == self.epoch
            && self.epoch != Epoch::NONE
            && is_settled_at(words, slot)
            && domain == taken.domain.number()
            && words.count_members(slot) == u32::from(taken.participants);
        if is_all && held_under(words, slot) != Some(self.epoch) {
            hold(words, slot, self.epoch);
            self.sum(taken.domain).add(entry);
        }
        is_all
    }

    fn sum(&mut self, domain: Domain) -> &mut Sum {
        if self.domains.get(self.last).is_none_or(|(of, _)| *of != domain) {
            self.last = self.domains.iter().position(|(of, _)| *of == domain).unwrap_or_else(|| {
                self.domains.push((domain, Sum::default()));
                self.domains.len() - 1
            });
        }
        &mut self.domains[self.last].1
    }
}

/// An autonomous server's word that it is controlled by us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are those of docs/wire.md's TakeoverResult")]
pub struct TakenOver {
    pub meeting: MeetingId,
    pub domain: Domain,
    /// The epoch that it was asked for under.
    pub epoch: Epoch,
    pub participants: u16,
}
