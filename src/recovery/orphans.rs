//! What the autonomous server holds and we do not know: listed, alarmed, and left, adopted or ended by the operator's
//! setting.

use std::collections::VecDeque;

use super::ask::Ask;
use super::server::Step;
use super::{Event, Holdings, Orphans, Request, ServerRecovery};
use crate::time::Nanos;
use crate::wire::{MeetingId, MeetingSummary, Message, Transaction};

/// The reason that a MEETING_END of an orphan bears: ended by recovery.
const REASON_ORPHAN: u8 = 1;

/// Orphans to be ended, and ends on their way.
#[derive(Clone, Debug, Default)]
pub(super) struct Ends {
    queue: VecDeque<MeetingId>,
    flights: Vec<(Ask, MeetingId)>,
}

impl Ends {
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.flights.is_empty()
    }

    pub fn find_mut(&mut self, transaction: Transaction) -> Option<&mut Ask> {
        self.flights.iter_mut().map(|(ask, _)| ask).find(|ask| ask.transaction == transaction)
    }

    pub fn due(&self) -> Option<Nanos> {
        self.flights.iter().map(|(ask, _)| ask.due).min()
    }
}

impl ServerRecovery {
    pub(super) fn handle_orphan(&mut self, summary: &MeetingSummary, holdings: &mut dyn Holdings) {
        let meeting = summary.meeting;
        if self.meetings.get(&meeting).is_some_and(|known| known.step == Step::OrphanEnding) {
            return;
        }
        if self.told_orphan.insert(meeting) {
            self.events.push_back(Event::Orphan { domain: self.domain, summary: *summary });
        }
        match self.settings.orphans {
            Orphans::Adopt if holdings.adopt(self.domain, summary) => {
                self.enqueue_takeover(meeting, summary.version, Some(summary));
            }
            Orphans::Leave | Orphans::Adopt => {
                self.set_step(meeting, Step::Orphan);
                holdings.orphan(self.domain, summary);
            }
            Orphans::End => {
                self.set_step(meeting, Step::OrphanEnding);
                self.ends.queue.push_back(meeting);
            }
        }
    }

    /// A meeting that the database knows to have ended lives on at the autonomous server, whose memory went back.
    pub(super) fn end_remnant(&mut self, meeting: MeetingId) {
        if self.meetings.get(&meeting).is_none_or(|known| known.step != Step::OrphanEnding) {
            self.events.push_back(Event::Remnant { domain: self.domain, meeting });
            self.set_step(meeting, Step::OrphanEnding);
            self.ends.queue.push_back(meeting);
        }
    }

    pub(super) fn poll_end(&mut self, now: Nanos, holdings: &dyn Holdings) -> Option<Request> {
        // What a client has started meanwhile under the same id is not the orphan any more.
        let domain = self.domain;
        let is_orphan = |meeting: MeetingId| holdings.version(domain, meeting).is_none();
        self.ends.flights.retain(|&(_, meeting)| is_orphan(meeting));
        self.ends.queue.retain(|&meeting| is_orphan(meeting));
        let message = Message::MeetingEnd { reason: REASON_ORPHAN };
        if let Some((ask, meeting)) = self.ends.flights.iter_mut().find(|(ask, _)| ask.due <= now) {
            ask.again(now, &self.round_trip, &self.transactions);
            self.progress.repeated += 1;
            let (transaction, meeting) = (ask.transaction, *meeting);
            return Some(self.request(transaction, meeting, message));
        }
        if self.ends.flights.len() >= self.settings.queries.into() {
            return None;
        }
        let meeting = self.ends.queue.pop_front()?;
        let ask = Ask::first(self.transactions.next_of_recovery(), now, &self.round_trip);
        let transaction = ask.transaction;
        self.ends.flights.push((ask, meeting));
        Some(self.request(transaction, meeting, message))
    }

    /// It is ended, or was before.
    pub(super) fn handle_end_ack(&mut self, transaction: Transaction) {
        let Some(index) = self.ends.flights.iter().position(|(ask, _)| ask.transaction == transaction) else { return };
        let (_, meeting) = self.ends.flights.swap_remove(index);
        self.set_step(meeting, Step::OrphanEnded);
    }
}
