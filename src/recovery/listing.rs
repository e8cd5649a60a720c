//! What of a listing came.
//!
//! A listing comes by ascending id, in transactions of as many pages as the autonomous server
//! likes. After a whole transaction the next asks from behind its highest id, until one is empty;
//! when a page is lost, the next asks from behind the pages that came without a gap. A page that
//! comes twice counts once. A record that cannot be is dropped and passed over by its number, and
//! so is one of a number that was not asked for: the rest counts.

use crate::limits;
use crate::wire::{MeetingId, MeetingSummary, Page};

/// Where the listing stands.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The lowest id that the autonomous server has not told of yet.
    first: MeetingId,
    /// The pages of the transaction that came, each with its highest id; one without records has
    /// none.
    pages: Vec<Option<Option<MeetingId>>>,
    is_complete: bool,
    /// Records so far.
    listed: u32,
}

/// What a page says.
#[derive(Default)]
pub(super) struct Taken {
    /// What counts of it, ascending.
    pub summaries: Vec<MeetingSummary>,
    /// The meetings of records that were dropped.
    pub dropped: Vec<MeetingId>,
}

impl Listing {
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    pub fn first(&self) -> MeetingId {
        self.first
    }

    /// Whether it went on beyond every bound.
    pub fn is_endless(&self) -> bool {
        self.listed > limits::LISTED_MAX
    }

    /// Nothing more is listed.
    pub fn complete(&mut self) {
        self.is_complete = true;
    }

    /// Notes a page; gives what it says, or none where it came before or is none of this
    /// transaction.
    pub fn take(&mut self, page: &Page<'_>) -> Option<Taken> {
        if self.pages.len() != usize::from(page.pages) {
            if self.pages.iter().any(Option::is_some) {
                return None;
            }
            self.pages = vec![None; page.pages.into()];
        }
        if self.pages[usize::from(page.page)].is_some() {
            return None;
        }
        let mut taken = Taken::default();
        let mut last = None;
        match page.records::<MeetingSummary>() {
            Ok(mut records) => {
                while let Some((number, _)) = records.numbers() {
                    let Some(record) = records.next() else { break };
                    let meeting = MeetingId(number);
                    // The listing ends because each transaction begins behind the last: an id
                    // before the one asked for would let it go round for ever.
                    let is_asked = meeting >= self.first && meeting != MeetingId::NONE;
                    last = last.max(is_asked.then_some(meeting));
                    match record {
                        Ok(summary) if is_asked => taken.summaries.push(summary),
                        _ => taken.dropped.push(meeting),
                    }
                }
            }
            Err(_) => taken.dropped.push(MeetingId::NONE),
        }
        taken.summaries.sort_by_key(|summary| summary.meeting);
        taken.summaries.dedup_by(|later, first| {
            let is_twice = later.meeting == first.meeting;
            taken.dropped.extend(is_twice.then_some(first.meeting));
            is_twice
        });
        self.listed = self.listed.saturating_add(taken.summaries.len() as u32);
        self.pages[usize::from(page.page)] = Some(last);
        Some(taken)
    }

    /// Whether every page of the transaction came.
    pub fn is_whole(&self) -> bool {
        !self.pages.is_empty() && self.pages.iter().all(Option::is_some)
    }

    /// Moves behind the pages that came without a gap; gives whether they had any record.
    pub fn advance(&mut self) -> bool {
        let last = self.pages.iter().map_while(|page| *page).flatten().max();
        self.pages.clear();
        let Some(last) = last else { return false };
        // Behind the highest id there is nothing: the listing is complete, as if it had answered
        // that.
        match last.0.checked_add(1) {
            Some(next) => self.first = MeetingId(next),
            None => self.is_complete = true,
        }
        true
    }

    /// The transaction is whole: goes on behind it, or ends.
    pub fn next_transaction(&mut self) {
        self.is_complete = !self.advance() || self.is_complete || self.is_endless();
    }
}
