//! Step 3, take over: ask for control; on the answer, the meeting is *in meeting*.
//!
//! A page of entries is a transaction of its own, and as many are outstanding as the autonomous
//! server said that it takes. From a living cache the first page goes out before CONNECT. Of what
//! the autonomous server then gives, with as many members as the cache has, nothing is asked and
//! nothing remembered here but a count: the audit proves the rest.

use std::sync::Arc;

use super::report::Progress;
use super::request::{Body, Request, Wanted};
use super::retry::Retries;
use super::shared::Shared;
use super::step::Step;
use super::store::{Standing, Store};
use super::sweep::Sweep;
use crate::cascade::Purpose;
use crate::limits;
use crate::time::Nanos;
use crate::wire::{Header, MeetingId, Opcode, Page, Record, Status, TakeoverEntry, TakeoverResult, Transaction};

/// Takeovers on their way, and those that were refused.
#[derive(Debug)]
pub(super) struct Takeovers {
    pages: Vec<Asked>,
    /// Meetings that were refused. They hold nothing up.
    refused: Retries,
    /// Meetings that the sweep over the cache asked for and the autonomous server holds, without
    /// those that a client has started since: they would make up for orphans.
    found: u32,
    /// One of those that were taken over is in doubt here.
    has_doubts: bool,
}

/// One page on its way.
#[derive(Clone, Debug)]
struct Asked {
    transaction: Transaction,
    wanted: Arc<[Wanted]>,
    /// Answers that spoke of nothing that was asked.
    nonsense: u32,
}

impl Default for Takeovers {
    fn default() -> Self {
        // What leaves before the first answer needs no memory then.
        let pages = Vec::with_capacity(limits::TAKEOVER_WINDOW_FIRST.into());
        Self { pages, refused: Retries::default(), found: 0, has_doubts: false }
    }
}

impl Takeovers {
    /// Whether none is wanted or on its way.
    pub fn is_idle(&self, shared: &Shared) -> bool {
        shared.meetings.takeovers.is_empty() && self.pages.is_empty()
    }

    pub fn found(&self) -> u32 {
        self.found
    }

    pub fn has_doubts(&self) -> bool {
        self.has_doubts
    }

    /// When a meeting that was refused is asked for again.
    pub fn due(&self) -> Option<Nanos> {
        self.refused.due()
    }

    /// The next page: a repeat that is due, else what is wanted and what the sweep finds, if it is
    /// time for new ones.
    pub fn poll(
        &mut self,
        shared: &mut Shared,
        now: Nanos,
        sweep: &mut Sweep,
        is_time: bool,
        holdings: &mut dyn Store,
    ) -> Option<Request> {
        if let Some(due) = shared.exchange.poll_due(now, Purpose::Takeover) {
            shared.note_repeat(&due);
            let asked = self.pages.iter_mut().find(|asked| asked.transaction == due.before)?;
            asked.transaction = due.transaction;
            return Some(request(shared, due.transaction, Arc::clone(&asked.wanted)));
        }
        if !is_time || !shared.exchange.has_room(Purpose::Takeover) {
            return None;
        }
        self.poll_refused(shared, now, holdings);
        let mut page = Vec::with_capacity(TakeoverEntry::PER_PAGE);
        let queue = &mut shared.meetings.takeovers;
        page.extend(queue.drain(..queue.len().min(TakeoverEntry::PER_PAGE)));
        if page.len() < TakeoverEntry::PER_PAGE {
            let is_idle = page.is_empty() && self.pages.is_empty();
            sweep.fill(shared, &mut page, is_idle, holdings);
        }
        if page.is_empty() {
            return None;
        }
        let wanted: Arc<[_]> = page.into();
        let transaction = shared.exchange.ask(now, Purpose::Takeover, Opcode::TakeoverBatch, MeetingId::NONE)?;
        self.pages.push(Asked { transaction, wanted: Arc::clone(&wanted), nonsense: 0 });
        shared.timeline.first_takeover.get_or_insert(now);
        Some(request(shared, transaction, wanted))
    }

    fn poll_refused(&mut self, shared: &mut Shared, now: Nanos, holdings: &dyn Store) {
        while let Some(meeting) = self.refused.pop_due(now) {
            match holdings.version(shared.domain, meeting) {
                Some(version) => shared.meetings.take_over(meeting, version, None),
                None => {
                    self.refused.settle(meeting);
                    shared.meetings.forget(meeting);
                }
            }
        }
    }

    pub fn handle_ack(
        &mut self,
        shared: &mut Shared,
        now: Nanos,
        transaction: Transaction,
        page: &Page<'_>,
        holdings: &mut dyn Store,
    ) {
        let Some(index) = self.pages.iter().position(|asked| asked.transaction == transaction) else { return };
        let Ok(results) = page.records::<TakeoverResult>() else { return };
        let wanted = Arc::clone(&self.pages[index].wanted);
        // Answered in the order asked, each result is found where it is looked for first.
        let place = |at: usize, result: &TakeoverResult| match wanted.get(at) {
            Some((entry, _)) if entry.meeting == result.meeting => Some(at),
            _ => wanted.iter().position(|(entry, _)| entry.meeting == result.meeting),
        };
        let mut answered = [false; TakeoverEntry::PER_PAGE];
        let mut is_answer = false;
        for (at, result) in results.enumerate() {
            let (place, meeting) = match result {
                Ok(result) => (place(at, &result), result.meeting),
                // Of whom it speaks its place says.
                Err(_) => (Some(at), wanted.get(at).map_or(MeetingId::NONE, |(entry, _)| entry.meeting)),
            };
            if result.is_err() {
                shared.note_bad(Opcode::TakeoverBatchAck, meeting);
            }
            let Some(place) = place.filter(|&place| answered.get(place) == Some(&false) && place < wanted.len()) else {
                continue;
            };
            is_answer = true;
            answered[place] = true;
            match result {
                Ok(result) => self.handle_result(shared, now, &result, &wanted[place], holdings),
                Err(_) => self.refuse(shared, now, meeting, Status::Malformed),
            }
        }
        if is_answer {
            self.pages.swap_remove(index);
            shared.exchange.answered(now, transaction);
            shared.alarms.answered(Opcode::TakeoverBatch);
            let unanswered = wanted.iter().zip(answered).filter(|(_, answered)| !answered);
            shared.meetings.takeovers.extend(unanswered.map(|((entry, _), _)| (*entry, None)));
            return;
        }
        // An answer about nothing that was asked is none: the page is repeated when it is due.
        self.pages[index].nonsense += 1;
        if self.pages[index].nonsense >= limits::NONSENSE_MAX {
            self.pages.swap_remove(index);
            shared.exchange.close(transaction);
            wanted.iter().for_each(|(entry, _)| self.refuse(shared, now, entry.meeting, Status::Malformed));
        }
    }

    /// A meeting is not given to us: an alarm, and it is asked for again later.
    fn refuse(&mut self, shared: &mut Shared, now: Nanos, meeting: MeetingId, status: Status) {
        shared.meetings.set_step(meeting, Step::Refused);
        shared.alarms.refused(meeting, Opcode::TakeoverBatchAck.wire(), status);
        self.refused.postpone(meeting, now, (shared.settings.rto_max, limits::REFUSED_PAUSE_MAX));
    }

    fn handle_result(
        &mut self,
        shared: &mut Shared,
        now: Nanos,
        result: &TakeoverResult,
        wanted: &Wanted,
        holdings: &mut dyn Store,
    ) {
        let meeting = result.meeting;
        let is_ours = result.status == Status::Already && !shared.began_again;
        // Refused before, it was counted then.
        let is_counted = self.refused.contains(meeting);
        self.found += u32::from(result.status != Status::UnknownMeeting && !is_ours && !is_counted);
        match result.status {
            Status::Ok | Status::Already => {
                self.refused.settle(meeting);
                shared.alarms.held(meeting);
                let (epoch, participants) = (shared.epoch, result.participants);
                let standing = holdings.taken_over(shared.domain, meeting, wanted.1, epoch, participants);
                if let Some(summary) = shared.meetings.take_summary(meeting) {
                    shared.update_meeting(&summary, holdings);
                }
                match standing {
                    // Nobody looked it up anew, and nothing of it is in doubt before the audit says
                    // so: what the cache says of its terminals needs no asking.
                    // Nor do those that are asked about later.
                    Standing::InMeeting | Standing::InDoubt
                        if shared.trusts_cache()
                            && shared.meetings.step(meeting).is_none()
                            && (standing == Standing::InMeeting || shared.refreshes) =>
                    {
                        let Progress { asked, taken_over, updated, .. } = &mut shared.progress;
                        [asked, taken_over, updated].into_iter().for_each(|count| *count += 1);
                    }
                    Standing::InMeeting | Standing::Differing => shared.meetings.update(meeting),
                    Standing::InDoubt | Standing::Unlisted => {
                        self.has_doubts = true;
                        shared.meetings.update(meeting);
                    }
                    // Its members are what its start or end is still about: the autonomous server's
                    // list would undo them.
                    Standing::Unfinished => {
                        shared.meetings.set_step(meeting, Step::Unfinished);
                        shared.alarms.unfinished(meeting);
                    }
                }
            }
            Status::UnknownMeeting => {
                self.refused.settle(meeting);
                shared.handle_absence(meeting, holdings);
            }
            Status::Busy | Status::Capacity => {
                shared.note_busy(now + shared.settings.rto_max);
                self.found = self.found.saturating_sub(u32::from(!is_counted));
                shared.meetings.takeovers.push_back(*wanted);
            }
            status => self.refuse(shared, now, meeting, status),
        }
    }
}

fn request(shared: &Shared, transaction: Transaction, wanted: Arc<[Wanted]>) -> Request {
    let header = Header::request(transaction, shared.epoch, MeetingId::NONE);
    Request { domain: shared.domain, header, body: Body::Takeover(wanted) }
}
