//! Step 1, lookup: learn which meetings the autonomous server holds, and look each up in the cache
//! or the database.
//!
//! On the database path everything begins with the listing. A living cache knows what it holds, and
//! asks for a listing only once its takeovers are answered and only if the autonomous server said
//! in CONNECT_ACK that it holds another number of meetings than it was found to hold. That is how
//! what nobody here knows is found; a differing audit is the other reason.
//!
//! The listing comes by ascending id, in transactions of as many pages as the autonomous server
//! likes. After a whole transaction the next asks from behind its highest id, until one is empty;
//! when a page is lost, the next asks from behind the pages that came without a gap. A page that
//! comes twice counts once.
//!
//! A record that cannot be is dropped, told, and passed over by its number, and so is one of a
//! number that was not asked for: the rest counts, and the listing goes on. What cannot be looked
//! up for want of a database is kept until it can, and holds nothing up.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ask::Ask;
use super::server::Step;
use super::takeover::Wanted;
use super::{Cursor, Lookup, Orphans, Request, ServerRecovery, Store, Unreadable};
use crate::limits;
use crate::time::Nanos;
use crate::wire::{MeetingId, MeetingState, MeetingSummary, Message, Opcode, Page, Record, TakeoverEntry};

/// Where the listing stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Listing {
    /// The lowest id that the autonomous server has not told of yet.
    first: MeetingId,
    ask: Option<Ask>,
    /// The pages of the transaction that came, each with its highest id; one without records has
    /// none.
    pages: Vec<Option<Option<MeetingId>>>,
    complete: bool,
    /// Records so far.
    listed: u32,
    /// Orphans that are not noted, because there are too many.
    pub beyond: u32,
}

/// What a page says.
#[derive(Default)]
struct Taken {
    /// What counts of it, ascending.
    summaries: Vec<MeetingSummary>,
    /// The meetings of records that were dropped.
    dropped: Vec<MeetingId>,
}

impl Listing {
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    pub fn ask_mut(&mut self) -> Option<&mut Ask> {
        self.ask.as_mut()
    }

    pub fn due(&self) -> Option<Nanos> {
        self.ask.as_ref().map(|ask| ask.due)
    }

    /// Gives up what is not listed yet: it is asked for by name, where we hold it.
    pub fn give_up(&mut self) {
        (self.ask, self.complete) = (None, true);
    }

    /// Notes a page; gives what it says, or none where it came before or is none of this
    /// transaction.
    fn take(&mut self, page: &Page<'_>) -> Option<Taken> {
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
    fn is_whole(&self) -> bool {
        !self.pages.is_empty() && self.pages.iter().all(Option::is_some)
    }

    /// Moves behind the pages that came without a gap; gives whether they had any record.
    fn advance(&mut self) -> bool {
        let last = self.pages.iter().map_while(|page| *page).flatten().max();
        self.pages.clear();
        let Some(last) = last else { return false };
        // Behind the highest id there is nothing: the listing is complete, as if it had answered
        // that.
        match last.0.checked_add(1) {
            Some(next) => self.first = MeetingId(next),
            None => self.complete = true,
        }
        true
    }

    /// The transaction is whole: goes on behind it, or ends.
    fn next_transaction(&mut self) {
        self.ask = None;
        self.complete = !self.advance() || self.complete || self.listed > limits::LISTED_MAX;
    }
}

/// Listed meetings that cannot be looked up yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Undecided {
    summaries: BTreeMap<MeetingId, MeetingSummary>,
    /// There were more.
    more: bool,
    due: Nanos,
    pause: Duration,
}

impl Undecided {
    pub fn due(&self) -> Option<Nanos> {
        (!self.summaries.is_empty()).then_some(self.due)
    }
}

impl ServerRecovery {
    pub(super) fn poll_listing(&mut self, now: Nanos, holdings: &mut dyn Store) -> Option<Request> {
        let listing = &mut self.listing;
        match &mut listing.ask {
            Some(ask) if ask.due > now => return None,
            // What came without a gap is not asked for again; the rest under a new transaction, so
            // that pages of two answers never mix.
            Some(ask) => {
                ask.renew();
                ask.again(now, &self.round_trip, &self.transactions);
                let attempts = ask.attempts();
                listing.advance();
                if listing.complete {
                    listing.ask = None;
                    self.end_listing(holdings);
                    return None;
                }
                self.note_attempts(attempts, Opcode::InfoQuery, MeetingId::NONE);
            }
            None => {
                if listing.complete || !self.connect.is_connected() {
                    return None;
                }
                if self.overlaps && listing.first == MeetingId::NONE {
                    // A living cache held all that there is, if the autonomous server holds no more
                    // than was asked for.
                    if !(self.swept && self.takeovers.is_idle()) {
                        return None;
                    }
                    if self.progress.held == Some(self.swept_held) {
                        listing.complete = true;
                        self.end_listing(holdings);
                        return None;
                    }
                }
                listing.ask = Some(Ask::first(self.transactions.next_of_recovery(), now, &self.round_trip));
            }
        }
        let transaction = self.listing.ask.as_ref()?.transaction;
        let message = Message::InfoQuery { first: self.listing.first };
        Some(self.request(transaction, MeetingId::NONE, message))
    }

    pub(super) fn handle_info(&mut self, now: Nanos, page: &Page<'_>, holdings: &mut dyn Store) {
        let Some(taken) = self.listing.take(page) else { return };
        // A page that says nothing new does not put off asking for those that are lost.
        if let Some(ask) = &mut self.listing.ask {
            ask.answered(now, &mut self.round_trip);
        }
        self.note_answered(Opcode::InfoQuery);
        for summary in &taken.summaries {
            self.handle_summary(summary, holdings);
        }
        for meeting in taken.dropped {
            self.note_bad(Opcode::Info, meeting);
        }
        if self.listing.is_whole() {
            self.listing.next_transaction();
            if self.listing.complete {
                self.timeline.listed.get_or_insert(now);
                self.end_listing(holdings);
            }
        }
    }

    /// Nothing more is listed: what was noted of orphans and is not listed any more is forgotten.
    pub(super) fn end_listing(&mut self, holdings: &mut dyn Store) {
        if self.listing.listed > limits::LISTED_MAX {
            self.tell_endless();
        }
        let round = self.round;
        self.meetings.retain(|_, known| !known.step.is_orphan() || known.round == round);
        let Self { meetings, told, .. } = self;
        let is_left = |meeting| meetings.get(&meeting).is_some_and(|known| known.step == Step::Orphan);
        told.orphans.retain(|&meeting| meetings.contains_key(&meeting));
        holdings.keep_orphans(self.domain, &is_left);
    }

    /// Looks up once more what could not be looked up.
    pub(super) fn poll_undecided(&mut self, now: Nanos, holdings: &mut dyn Store) {
        if !self.listing.complete || self.undecided.due().is_none_or(|due| due > now) {
            return;
        }
        for summary in std::mem::take(&mut self.undecided.summaries).into_values() {
            self.handle_summary(&summary, holdings);
        }
        let undecided = &mut self.undecided;
        if undecided.summaries.is_empty() {
            undecided.pause = Duration::ZERO;
            if std::mem::take(&mut undecided.more) {
                // As a round of its own, for what was noted of the others is still so.
                self.begin_round();
            }
        } else {
            self.put_off_undecided(now);
        }
    }

    fn put_off_undecided(&mut self, now: Nanos) {
        let undecided = &mut self.undecided;
        undecided.pause = (undecided.pause * 2).clamp(self.settings.rto_min, self.settings.rto_max);
        undecided.due = now + undecided.pause;
    }

    fn handle_summary(&mut self, summary: &MeetingSummary, holdings: &mut dyn Store) {
        let (meeting, round) = (summary.meeting, self.round);
        if matches!(self.meetings.get(&meeting), Some(known) if matches!(known.step, Step::Taken | Step::Untold | Step::Updated))
            && !holdings.holds(self.domain, summary)
        {
            // It ended meanwhile, or its record cannot be read: what is listed is looked up as if
            // it had not been known.
            self.forget(meeting);
        }
        match self.meetings.get_mut(&meeting) {
            // Its information is written back when the takeover is answered, for that is the
            // method's order.
            Some(known) if known.step == Step::Asked => {
                known.round = round;
                known.summary = Some(Box::new(*summary));
            }
            Some(known) if matches!(known.step, Step::Taken | Step::Untold | Step::Updated) => {
                known.round = round;
                // The first round's takeovers may have been answered after a page was written. A
                // later one that still names another controller means that ours was lost with the
                // autonomous server's memory.
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
            _ => self.look_up(summary, holdings),
        }
    }

    /// Writes a meeting's information back; gives whether its members are to be asked for. From the
    /// second round on an audit has differed, and what is listed counts though it is older.
    pub(super) fn update_meeting(&self, summary: &MeetingSummary, holdings: &mut dyn Store) -> bool {
        holdings.update_meeting(self.domain, summary, self.round > 1)
    }

    fn look_up(&mut self, summary: &MeetingSummary, holdings: &mut dyn Store) {
        let meeting = summary.meeting;
        match holdings.look_up(self.domain, summary) {
            // It was started under this epoch, or the takeover was answered before the machine
            // began again.
            Lookup::Found { epoch, .. } if epoch == self.epoch && summary.controller == self.epoch => {
                self.named.insert(meeting);
                if self.update_meeting(summary, holdings) {
                    self.set_step(meeting, Step::Asked);
                    self.enqueue_update(meeting);
                }
            }
            Lookup::Found { version, .. } => self.enqueue_takeover(meeting, version, Some(summary)),
            _ if matches!(summary.state, MeetingState::None | MeetingState::Ended) => {}
            Lookup::Unknown => self.handle_orphan(summary, self.settings.orphans, holdings),
            // Nobody can say any more whether it is ours: it is left alone, whatever is set.
            Lookup::Unknowable => self.handle_orphan(summary, Orphans::Leave, holdings),
            // Ours is not there any more: another conference has its number, and that one is an
            // orphan.
            Lookup::Another => {
                self.handle_absence(meeting, holdings);
                if self.meetings.get(&meeting).is_some_and(|known| known.step == Step::Missing) {
                    self.set_step(meeting, Step::Replaced);
                }
                self.tell_orphan(summary);
            }
            // Somebody was told that it has ended: that is made true, whatever is set for orphans.
            Lookup::Ended => self.end_remnant(meeting),
            Lookup::Full => {
                self.set_step(meeting, Step::Refused);
                self.tell_full(meeting);
            }
            Lookup::NotYet => {
                let undecided = &mut self.undecided;
                if undecided.summaries.is_empty() && undecided.pause == Duration::ZERO {
                    self.put_off_undecided(self.now);
                }
                let undecided = &mut self.undecided;
                if undecided.summaries.len() < limits::UNDECIDED_MAX {
                    undecided.summaries.insert(meeting, *summary);
                } else {
                    undecided.more = true;
                }
            }
        }
    }

    /// Fills a page with the next parts that we hold and this round's listing did not name: they
    /// are asked for by name, because absence proves nothing. Where a living cache is swept before
    /// any listing, those are simply the next parts.
    pub(super) fn take_held(&mut self, page: &mut Vec<Wanted>, holdings: &mut dyn Store) {
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
            // A part that cannot be read is met by no walk. The database may know it, and then it
            // is asked for too.
            if self.swept && !self.swept_damaged && holdings.has_damaged(self.domain) {
                (self.swept_damaged, self.sweeps_database, self.swept) = (true, true, false);
                self.cursor = Cursor::default();
            }
        }
        if !self.trusts_cache() {
            page[before..].iter().for_each(|(entry, _)| self.set_step(entry.meeting, Step::Asked));
        }
    }

    fn sweep_database(&mut self, page: &mut Vec<Wanted>, holdings: &mut dyn Store) {
        while !self.swept && self.sweep_resume <= self.now && page.len() < TakeoverEntry::PER_PAGE {
            match holdings.next_in_database(self.domain, &mut self.cursor) {
                Ok(Some(entry)) if self.is_listed(entry.meeting) => {}
                Ok(Some(entry)) => page.push((entry, None)),
                Ok(None) => self.swept = true,
                Err(Unreadable) if holdings.is_database_lost() => self.swept = true,
                Err(Unreadable) => self.sweep_resume = self.now + self.settings.rto_max,
            }
        }
    }

    /// Whether this round's listing named it.
    fn is_listed(&self, meeting: MeetingId) -> bool {
        self.meetings.get(&meeting).is_some_and(|known| known.round == self.round) || self.named.contains(&meeting)
    }
}
