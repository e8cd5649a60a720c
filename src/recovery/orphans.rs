//! What the autonomous server holds and we do not know: listed, alarmed, and left, adopted or ended
//! by the operator's setting.

use std::collections::VecDeque;

use super::ask::Ask;
use super::server::Step;
use super::{Event, Orphans, Request, ServerRecovery, Store};
use crate::limits;
use crate::time::Nanos;
use crate::wire::{MeetingId, MeetingSummary, Message, Opcode, Transaction};

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

    /// The orphan whose end a transaction asks for; it is asked for no more.
    pub fn give_up(&mut self, transaction: Transaction) -> Option<MeetingId> {
        let index = self.flights.iter().position(|(ask, _)| ask.transaction == transaction)?;
        Some(self.flights.swap_remove(index).1)
    }

    pub fn due(&self) -> Option<Nanos> {
        self.flights.iter().map(|(ask, _)| ask.due).min()
    }
}

impl ServerRecovery {
    pub(super) fn handle_orphan(&mut self, summary: &MeetingSummary, become_of: Orphans, holdings: &mut dyn Store) {
        let meeting = summary.meeting;
        let known = self.meetings.get(&meeting).map(|known| known.step);
        if known == Some(Step::OrphanEnding) {
            return;
        }
        if become_of == Orphans::Adopt && holdings.adopt(self.domain, summary) {
            self.tell_orphan(summary);
            return self.enqueue_takeover(meeting, summary.version, Some(summary));
        }
        // How many there are is the autonomous server's to say, and how many of them are noted is
        // ours.
        if !self.told.orphans.contains(&meeting) && self.told.orphans.len() >= limits::ORPHANS_MAX {
            self.listing.beyond += 1;
            return self.tell_beyond();
        }
        self.tell_orphan(summary);
        match become_of {
            Orphans::Leave | Orphans::Adopt => {
                self.set_step(meeting, Step::Orphan);
                // For an operator who decides later.
                if let Some(known) = self.meetings.get_mut(&meeting) {
                    known.summary = Some(Box::new(*summary));
                }
                holdings.orphan(self.domain, summary);
            }
            Orphans::End => {
                self.set_step(meeting, Step::OrphanEnding);
                self.ends.queue.push_back(meeting);
            }
        }
    }

    /// Makes of one orphan what an operator says, whatever is set for all. False where none is held
    /// under that number that was listed, or the number is one of ours, or there is no room to
    /// adopt it.
    pub fn decide_orphan(&mut self, meeting: MeetingId, become_of: Orphans, holdings: &mut dyn Store) -> bool {
        let known = self.meetings.get(&meeting).filter(|known| known.step == Step::Orphan);
        let Some(summary) = known.and_then(|known| known.summary.clone()) else { return false };
        if holdings.version(self.domain, meeting).is_some() {
            return false;
        }
        self.handle_orphan(&summary, become_of, holdings);
        self.meetings.get(&meeting).is_none_or(|known| known.step != Step::Orphan)
    }

    /// A meeting that the database knows to have ended lives on at the autonomous server, whose
    /// memory went back.
    pub(super) fn end_remnant(&mut self, meeting: MeetingId) {
        if self.meetings.get(&meeting).is_none_or(|known| known.step != Step::OrphanEnding) {
            self.events.push_back(Event::Remnant { domain: self.domain, meeting });
            self.set_step(meeting, Step::OrphanEnding);
            self.ends.queue.push_back(meeting);
        }
    }

    pub(super) fn poll_end(&mut self, now: Nanos, holdings: &dyn Store) -> Option<Request> {
        // What a client has started meanwhile under the same id is not the orphan any more. That is
        // asked of what is about to be sent alone: a queue may be long.
        let domain = self.domain;
        let is_orphan = |meeting: MeetingId| holdings.version(domain, meeting).is_none();
        let message = Message::MeetingEnd { reason: REASON_ORPHAN };
        while let Some(index) = self.ends.flights.iter().position(|(ask, _)| ask.due <= now) {
            let (ask, meeting) = &mut self.ends.flights[index];
            if !is_orphan(*meeting) {
                self.ends.flights.swap_remove(index);
                continue;
            }
            ask.again(now, &self.round_trip, &self.transactions);
            let (transaction, attempts, meeting) = (ask.transaction, ask.attempts(), *meeting);
            self.note_attempts(attempts, Opcode::MeetingEnd, meeting);
            return Some(self.request(transaction, meeting, message));
        }
        if self.ends.flights.len() >= self.settings.queries.into() {
            return None;
        }
        while let Some(meeting) = self.ends.queue.pop_front() {
            if !is_orphan(meeting) {
                continue;
            }
            let ask = Ask::first(self.transactions.next_of_recovery(), now, &self.round_trip);
            let transaction = ask.transaction;
            self.ends.flights.push((ask, meeting));
            return Some(self.request(transaction, meeting, message));
        }
        None
    }

    /// It is ended, or was before.
    pub(super) fn handle_end_ack(&mut self, transaction: Transaction) {
        let Some(index) = self.ends.flights.iter().position(|(ask, _)| ask.transaction == transaction) else { return };
        let (_, meeting) = self.ends.flights.swap_remove(index);
        self.note_answered(Opcode::MeetingEnd);
        self.set_step(meeting, Step::OrphanEnded);
    }
}
