//! Step 3, take over: ask for control; on the answer, the meeting is *in meeting*.
//!
//! A page of entries is a transaction of its own, and as many are outstanding as the autonomous
//! server said that it takes. From a living cache the first page goes out before CONNECT. Of what
//! the autonomous server then gives, with as many members as the cache has, nothing is asked and
//! nothing remembered here but a count: the audit proves the rest.

use std::collections::VecDeque;
use std::sync::Arc;

use super::ask::Ask;
use super::retry::Retries;
use super::server::Step;
use super::{Absence, Body, Cursor, Progress, Request, ServerRecovery, Standing, Store};
use crate::limits;
use crate::time::Nanos;
use crate::wire::{
    Header, MeetingId, MeetingSummary, Opcode, Page, Record, Status, TakeoverEntry, TakeoverResult, Transaction,
};

/// Takeovers wanted and on their way.
#[derive(Clone, Debug, Default)]
pub(super) struct Takeovers {
    queue: VecDeque<Wanted>,
    flights: Vec<Flight>,
    /// Meetings that were refused. They hold nothing up.
    pub refused: Retries,
}

/// One takeover, and where the walk over the cache stood when it gave it.
pub type Wanted = (TakeoverEntry, Option<Cursor>);

/// One page on its way.
#[derive(Clone, Debug)]
struct Flight {
    ask: Ask,
    wanted: Arc<[Wanted]>,
    /// Answers that spoke of nothing that was asked.
    nonsense: u32,
}

impl Takeovers {
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.flights.is_empty()
    }

    pub fn find_mut(&mut self, transaction: Transaction) -> Option<&mut Ask> {
        self.flights.iter_mut().map(|flight| &mut flight.ask).find(|ask| ask.transaction == transaction)
    }

    pub fn due(&self) -> Option<Nanos> {
        self.flights.iter().map(|flight| flight.ask.due).chain(self.refused.due()).min()
    }
}

impl ServerRecovery {
    /// Wants a meeting. Its summary is kept until the answer.
    pub(super) fn enqueue_takeover(&mut self, meeting: MeetingId, version: u64, summary: Option<&MeetingSummary>) {
        self.set_step(meeting, Step::Asked);
        if let Some(known) = self.meetings.get_mut(&meeting) {
            known.summary = summary.map(|summary| Box::new(*summary));
        }
        self.takeovers.queue.push_back((TakeoverEntry { meeting, version }, None));
    }

    pub(super) fn poll_takeover(&mut self, now: Nanos, holdings: &mut dyn Store) -> Option<Request> {
        if let Some(flight) = self.takeovers.flights.iter_mut().find(|flight| flight.ask.due <= now) {
            flight.ask.again(now, &self.round_trip, &self.transactions);
            let (attempts, transaction, wanted) =
                (flight.ask.attempts(), flight.ask.transaction, Arc::clone(&flight.wanted));
            self.note_attempts(attempts, Opcode::TakeoverBatch, MeetingId::NONE);
            return Some(self.takeover_request(transaction, wanted));
        }
        if self.takeovers.flights.len() >= self.connect.window().into() || !self.may_take_over() {
            return None;
        }
        while let Some(meeting) = self.takeovers.refused.pop_due(now) {
            match holdings.version(self.domain, meeting) {
                Some(version) => self.enqueue_takeover(meeting, version, None),
                None => {
                    self.takeovers.refused.settle(meeting);
                    self.forget(meeting);
                }
            }
        }
        let mut page = Vec::with_capacity(TakeoverEntry::PER_PAGE);
        let queued = self.takeovers.queue.len().min(TakeoverEntry::PER_PAGE);
        page.extend(self.takeovers.queue.drain(..queued));
        if page.len() < TakeoverEntry::PER_PAGE {
            self.take_held(&mut page, holdings);
        }
        if page.is_empty() {
            return None;
        }
        let wanted: Arc<[_]> = page.into();
        let ask = Ask::first(self.transactions.next_of_recovery(), now, &self.round_trip);
        let transaction = ask.transaction;
        self.takeovers.flights.push(Flight { ask, wanted: Arc::clone(&wanted), nonsense: 0 });
        self.timeline.first_takeover.get_or_insert(now);
        Some(self.takeover_request(transaction, wanted))
    }

    /// From a living cache at once; in order, when the link is up and the listing done.
    fn may_take_over(&self) -> bool {
        self.overlaps || (self.connect.is_connected() && self.listing.is_complete())
    }

    fn takeover_request(&self, transaction: Transaction, wanted: Arc<[Wanted]>) -> Request {
        let header = Header::request(transaction, self.epoch, MeetingId::NONE);
        Request { domain: self.domain, header, body: Body::Takeover(wanted) }
    }

    pub(super) fn handle_takeover_ack(
        &mut self,
        now: Nanos,
        transaction: Transaction,
        page: &Page<'_>,
        holdings: &mut dyn Store,
    ) {
        let flights = &mut self.takeovers.flights;
        let Some(index) = flights.iter().position(|flight| flight.ask.transaction == transaction) else { return };
        let Ok(results) = page.records::<TakeoverResult>() else { return };
        let wanted = Arc::clone(&flights[index].wanted);
        wanted.iter().filter_map(|(_, found)| *found).for_each(|found| holdings.expect(found));
        // Answered in the order asked, each result is found where it is looked for first.
        let place = |at: usize, result: &TakeoverResult| match wanted.get(at) {
            Some((entry, _)) if entry.meeting == result.meeting => Some(at),
            _ => wanted.iter().position(|(entry, _)| entry.meeting == result.meeting),
        };
        let mut answered = [false; TakeoverEntry::PER_PAGE];
        let mut flight = None;
        for (at, result) in results.enumerate() {
            let (place, meeting) = match result {
                Ok(result) => (place(at, &result), result.meeting),
                // Of whom it speaks its place says.
                Err(_) => (Some(at), wanted.get(at).map_or(MeetingId::NONE, |(entry, _)| entry.meeting)),
            };
            if result.is_err() {
                self.note_bad(Opcode::TakeoverBatchAck, meeting);
            }
            let Some(place) = place.filter(|&place| answered.get(place) == Some(&false) && place < wanted.len()) else {
                continue;
            };
            // An answer about nothing that was asked is none: the page is repeated when it is due.
            let flight = flight.get_or_insert_with(|| self.takeovers.flights.swap_remove(index));
            flight.ask.answered(now, &mut self.round_trip);
            answered[place] = true;
            match result {
                Ok(result) => self.handle_result(now, &result, &wanted[place], holdings),
                Err(_) => self.refuse(now, meeting, Status::Malformed),
            }
        }
        if flight.is_some() {
            self.note_answered(Opcode::TakeoverBatch);
            let unanswered = wanted.iter().zip(answered).filter(|(_, answered)| !answered);
            self.takeovers.queue.extend(unanswered.map(|((entry, _), _)| (*entry, None)));
            return;
        }
        let flight = &mut self.takeovers.flights[index];
        flight.nonsense += 1;
        if flight.nonsense >= limits::NONSENSE_MAX {
            self.takeovers.flights.swap_remove(index);
            wanted.iter().for_each(|(entry, _)| self.refuse(now, entry.meeting, Status::Malformed));
        }
    }

    /// A meeting is not given to us: an alarm, and it is asked for again later.
    fn refuse(&mut self, now: Nanos, meeting: MeetingId, status: Status) {
        self.set_step(meeting, Step::Refused);
        self.tell_refused(meeting, Opcode::TakeoverBatchAck.wire(), status);
        self.takeovers.refused.postpone(meeting, now, (self.settings.rto_max, limits::REFUSED_PAUSE_MAX));
    }

    fn handle_result(&mut self, now: Nanos, result: &TakeoverResult, wanted: &Wanted, holdings: &mut dyn Store) {
        let meeting = result.meeting;
        let is_ours = result.status == Status::Already && !self.began_again;
        // Refused before, it was counted then.
        let is_counted = self.takeovers.refused.contains(meeting);
        self.swept_held += u32::from(result.status != Status::UnknownMeeting && !is_ours && !is_counted);
        match result.status {
            Status::Ok | Status::Already => {
                self.takeovers.refused.settle(meeting);
                self.note_held(meeting);
                let (state, participants) = (result.state, result.participants);
                let standing = holdings.taken_over(self.domain, meeting, wanted.1, self.epoch, state, participants);
                if let Some(summary) = self.meetings.get_mut(&meeting).and_then(|known| known.summary.take()) {
                    self.update_meeting(&summary, holdings);
                }
                match standing {
                    // Nobody looked it up anew, and nothing of it is in doubt before the audit says
                    // so.
                    Standing::InMeeting if self.believes(meeting) => {
                        let Progress { asked, taken_over, updated, .. } = &mut self.progress;
                        [asked, taken_over, updated].into_iter().for_each(|count| *count += 1);
                    }
                    Standing::InMeeting | Standing::Differing => self.enqueue_update(meeting),
                    // Its members are what its start or end is still about: the autonomous server's
                    // list would undo them.
                    Standing::Unfinished => {
                        self.set_step(meeting, Step::Unfinished);
                        self.tell_unfinished(meeting);
                    }
                }
            }
            Status::UnknownMeeting => {
                self.takeovers.refused.settle(meeting);
                self.handle_absence(meeting, holdings);
            }
            Status::Busy | Status::Capacity => {
                self.progress.busy += 1;
                self.quiet_until = self.quiet_until.max(now + self.settings.rto_max);
                self.swept_held = self.swept_held.saturating_sub(u32::from(!is_counted));
                self.takeovers.queue.push_back(*wanted);
            }
            status => self.refuse(now, meeting, status),
        }
    }

    /// Whether what the cache says of a meeting's terminals needs no asking.
    fn believes(&self, meeting: MeetingId) -> bool {
        self.trusts_cache() && !self.meetings.contains_key(&meeting)
    }

    /// The autonomous server said itself that it has no such meeting.
    pub(super) fn handle_absence(&mut self, meeting: MeetingId, holdings: &mut dyn Store) {
        match holdings.missing(self.domain, meeting) {
            Absence::Missing => {
                self.set_step(meeting, Step::Missing);
                self.tell_missing(meeting);
            }
            Absence::Unfinished => {
                self.set_step(meeting, Step::Unfinished);
                self.tell_unfinished(meeting);
            }
            Absence::Gone => self.forget(meeting),
        }
    }
}
