//! Step 1, lookup: learn which meetings the autonomous server holds, and look each up in the cache or the database.
//!
//! On the database path everything begins with the listing. A living cache knows what it holds, and asks for a listing only
//! once its takeovers are answered and only if the autonomous server said in CONNECT_ACK that it holds another number of
//! meetings than it was found to hold. That is how what nobody here knows is found; a differing audit is the other reason.
//!
//! The listing comes by ascending id, in transactions of as many pages as the autonomous server likes. After a whole
//! transaction the next asks from behind its last id, until one is empty; when a page is lost, the next asks from behind
//! the pages that came without a gap. A page may come twice: looking up and writing back are idempotent.

use std::time::Duration;

use super::ask::Ask;
use super::server::Step;
use super::takeover::Wanted;
use super::{Event, Holdings, Lookup, Request, ServerRecovery, Unreadable};
use crate::time::Nanos;
use crate::wire::{MeetingId, MeetingState, MeetingSummary, Message, Page, Record, TakeoverEntry};

/// Where the listing stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Listing {
    /// The lowest id that the autonomous server has not told of yet.
    first: MeetingId,
    ask: Option<Ask>,
    /// The pages of the transaction that came, each with its last id; one without records has none.
    pages: Vec<Option<Option<MeetingId>>>,
    complete: bool,
    /// The lowest id that could not be looked up yet, for the database was not open.
    not_yet: Option<MeetingId>,
    not_yet_pause: Duration,
    /// Nothing is asked before.
    resume: Nanos,
}

/// What a page did to the listing.
enum Taken {
    /// It is none of this listing, or cannot be.
    No,
    /// Its records count.
    Yes,
}

impl Listing {
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    pub fn ask_mut(&mut self) -> Option<&mut Ask> {
        self.ask.as_mut()
    }

    pub fn due(&self) -> Option<Nanos> {
        match &self.ask {
            Some(ask) => Some(ask.due),
            None => Some(self.resume).filter(|_| !self.complete && self.not_yet_pause > Duration::ZERO),
        }
    }

    /// Notes a page; gives whether its records are to be believed.
    fn take(&mut self, page: &Page<'_>) -> Taken {
        if self.pages.len() != usize::from(page.pages) {
            if self.pages.iter().any(Option::is_some) {
                return Taken::No;
            }
            self.pages = vec![None; page.pages.into()];
        }
        let Ok(records) = page.records::<MeetingSummary>() else { return Taken::No };
        // The listing ends because each transaction begins behind the last: an id before the one asked for, or out of
        // order, would let it go round for ever.
        let mut least = self.first;
        let mut last = None;
        for record in records.flatten() {
            if record.meeting < least {
                return Taken::No;
            }
            last = Some(record.meeting);
            least = MeetingId(record.meeting.0.saturating_add(1));
        }
        self.pages[usize::from(page.page)] = Some(last);
        Taken::Yes
    }

    /// Whether every page of the transaction came.
    fn is_whole(&self) -> bool {
        !self.pages.is_empty() && self.pages.iter().all(Option::is_some)
    }

    /// Moves behind the pages that came without a gap; gives whether they had any record.
    fn advance(&mut self) -> bool {
        let last = self.pages.iter().map_while(|page| *page).flatten().max();
        self.pages.clear();
        let Some(last) = last else { return false };
        // Behind the highest id there is nothing: the listing is complete, as if it had answered that.
        match last.0.checked_add(1) {
            Some(next) => self.first = MeetingId(next),
            None => self.complete = true,
        }
        true
    }

    /// The transaction is whole: goes on behind it, or ends.
    fn next_transaction(&mut self, now: Nanos, pause_min: Duration, pause_max: Duration) {
        self.ask = None;
        if self.advance() && !self.complete {
            return;
        }
        self.complete = true;
        if let Some(first) = self.not_yet.take() {
            self.not_yet_pause = (self.not_yet_pause * 2).clamp(pause_min, pause_max);
            self.complete = false;
            self.first = first;
            self.resume = now + self.not_yet_pause;
        } else {
            self.not_yet_pause = Duration::ZERO;
        }
    }
}

impl ServerRecovery {
    pub(super) fn poll_listing(&mut self, now: Nanos) -> Option<Request> {
        let listing = &mut self.listing;
        match &mut listing.ask {
            Some(ask) if ask.due > now => return None,
            // What came without a gap is not asked for again; the rest under a new transaction, so that pages of two
            // answers never mix.
            Some(ask) => {
                ask.renew();
                ask.again(now, &self.round_trip, &self.transactions);
                listing.advance();
                self.progress.repeated += 1;
                if listing.complete {
                    listing.ask = None;
                    return None;
                }
            }
            None => {
                if listing.complete || now < listing.resume || !self.connect.is_connected() {
                    return None;
                }
                if self.overlaps && listing.first == MeetingId::NONE {
                    // A living cache held all that there is, if the autonomous server holds no more than was asked for.
                    if !(self.swept && self.takeovers.is_idle()) {
                        return None;
                    }
                    if self.progress.held == Some(self.swept_held) {
                        listing.complete = true;
                        return None;
                    }
                }
                listing.ask = Some(Ask::first(self.transactions.next_of_recovery(), now, &self.round_trip));
            }
        }
        let transaction = listing.ask.as_ref()?.transaction;
        let message = Message::InfoQuery { first: listing.first };
        Some(self.request(transaction, MeetingId::NONE, message))
    }

    pub(super) fn handle_info(&mut self, now: Nanos, page: &Page<'_>, holdings: &mut dyn Holdings) {
        let Some(ask) = &mut self.listing.ask else { return };
        ask.answered(now, &mut self.round_trip);
        if let Taken::No = self.listing.take(page) {
            return;
        }
        for summary in page.records::<MeetingSummary>().into_iter().flatten().flatten() {
            self.handle_summary(&summary, holdings);
        }
        if self.listing.is_whole() {
            let (min, max) = (self.settings.rto_min, self.settings.rto_max);
            self.listing.next_transaction(now, min, max);
            if self.listing.complete {
                self.timeline.listed.get_or_insert(now);
            }
        }
    }

    fn handle_summary(&mut self, summary: &MeetingSummary, holdings: &mut dyn Holdings) {
        let (meeting, round) = (summary.meeting, self.round);
        if meeting == MeetingId::NONE {
            return;
        }
        match self.meetings.get_mut(&meeting) {
            // Its information is written back when the takeover is answered, for that is the method's order.
            Some(known) if known.step == Step::Asked => {
                known.round = round;
                known.summary = Some(Box::new(*summary));
            }
            Some(known) if matches!(known.step, Step::Taken | Step::Updated) => {
                known.round = round;
                // The first round's takeovers may have been answered after a page was written. A later one that still names
                // another controller means that ours was lost with the autonomous server's memory.
                if !self.overlaps && summary.controller != self.epoch {
                    let version = holdings.version(self.domain, meeting).unwrap_or(summary.version);
                    self.enqueue_takeover(meeting, version, Some(summary));
                } else if self.update_meeting(summary, holdings) {
                    self.enqueue_update(meeting);
                }
            }
            Some(known) if known.step == Step::Unfinished && known.round == round => {
                self.update_meeting(summary, holdings);
            }
            Some(known) if known.step == Step::Refused && known.round == round => {}
            _ => {
                self.named.insert(meeting);
                self.look_up(summary, holdings);
            }
        }
    }

    /// Writes a meeting's information back; gives whether its members are to be asked for. From the second round on an
    /// audit has differed, and what is listed counts though it is older.
    pub(super) fn update_meeting(&self, summary: &MeetingSummary, holdings: &mut dyn Holdings) -> bool {
        holdings.update_meeting(self.domain, summary, self.round > 1)
    }

    fn look_up(&mut self, summary: &MeetingSummary, holdings: &mut dyn Holdings) {
        let meeting = summary.meeting;
        match holdings.look_up(self.domain, summary) {
            // It was started under this epoch, or the takeover was answered before the machine began again.
            Lookup::Found { epoch, .. } if epoch == self.epoch && summary.controller == self.epoch => {
                if self.update_meeting(summary, holdings) {
                    self.set_step(meeting, Step::Asked);
                    self.enqueue_update(meeting);
                }
            }
            Lookup::Found { version, .. } => self.enqueue_takeover(meeting, version, Some(summary)),
            _ if matches!(summary.state, MeetingState::None | MeetingState::Ended) => {}
            Lookup::Unknown => self.handle_orphan(summary, holdings),
            // Somebody was told that it has ended: that is made true, whatever is set for orphans.
            Lookup::Ended => self.end_remnant(meeting),
            Lookup::Full => {
                self.set_step(meeting, Step::Refused);
                self.tell_full(meeting);
            }
            Lookup::NotYet => {
                let first = self.listing.not_yet.map_or(meeting, |first| first.min(meeting));
                self.listing.not_yet = Some(first);
            }
        }
    }

    /// Fills a page with the next parts that we hold and this round's listing did not name: they are asked for by name, because
    /// absence proves nothing. Where a living cache is swept before any listing, those are simply the next parts.
    pub(super) fn take_held(&mut self, page: &mut Vec<Wanted>, holdings: &mut dyn Holdings) {
        let before = page.len();
        if self.sweeps_database {
            self.sweep_database(page, holdings);
        } else if !self.swept {
            let mut cursor = self.cursor;
            let more = holdings.walk_cache(self.domain, &mut cursor, &mut |entry, at| {
                if !self.is_listed(entry.meeting) {
                    page.push((entry, Some(at)));
                }
                page.len() < TakeoverEntry::PER_PAGE
            });
            (self.cursor, self.swept) = (cursor, !more);
        }
        if !self.trusts_cache() {
            page[before..].iter().for_each(|(entry, _)| self.set_step(entry.meeting, Step::Asked));
        }
    }

    fn sweep_database(&mut self, page: &mut Vec<Wanted>, holdings: &mut dyn Holdings) {
        while !self.swept && self.sweep_resume <= self.now && page.len() < TakeoverEntry::PER_PAGE {
            match holdings.next_in_database(self.domain, &mut self.cursor) {
                Ok(Some(entry)) if self.is_listed(entry.meeting) => {}
                Ok(Some(entry)) => page.push((entry, None)),
                Ok(None) => self.swept = true,
                Err(Unreadable) => self.sweep_resume = self.now + self.settings.rto_max,
            }
        }
    }

    /// Whether this round's listing named it.
    fn is_listed(&self, meeting: MeetingId) -> bool {
        self.meetings.get(&meeting).is_some_and(|known| known.round == self.round) || self.named.contains(&meeting)
    }

    pub(super) fn tell_full(&mut self, meeting: MeetingId) {
        if self.told_full.insert(meeting) {
            self.events.push_back(Event::Full { domain: self.domain, meeting });
        }
    }

    pub(super) fn tell_unfinished(&mut self, meeting: MeetingId) {
        if self.unfinished.insert(meeting) {
            self.events.push_back(Event::Unfinished { domain: self.domain, meeting });
        }
    }
}
