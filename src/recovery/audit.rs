//! The proof: count and digest of what each side believes that we control.
//!
//! A difference is an alarm and starts a round anew: a listing from 0, then a takeover by name of what it lacked, and STATE
//! of what has another version. The
//! rounds of a round have no overlap, so that the listing is younger than everything it is held against.

use super::ask::Ask;
use super::{Cursor, Event, Holdings, Request, ServerRecovery};
use crate::limits;
use crate::time::Nanos;
use crate::wire::{MeetingId, Message};

/// REPLAY_DONE and what its answers said.
#[derive(Clone, Debug, Default)]
pub(super) struct Audit {
    ask: Option<Ask>,
    /// What the REPLAY_DONE on its way said.
    ours: (u32, u64),
    agreed: bool,
    told_silent: bool,
    /// The next round begins then.
    pub resume: Option<Nanos>,
}

impl Audit {
    pub fn has_agreed(&self) -> bool {
        self.agreed
    }

    /// Gives a REPLAY_DONE on its way up: its answer may be older than what is to be proven.
    pub fn ask_anew(&mut self) {
        self.ask = None;
    }

    pub fn ask_mut(&mut self) -> Option<&mut Ask> {
        self.ask.as_mut()
    }

    pub fn due(&self) -> Option<Nanos> {
        self.ask.as_ref().map(|ask| ask.due).or(self.resume)
    }
}

impl ServerRecovery {
    pub(super) fn poll_audit(&mut self, now: Nanos, holdings: &mut dyn Holdings) -> Option<Request> {
        if self.audit.agreed || self.audit.resume.is_some() || !self.is_updated() {
            return None;
        }
        match &mut self.audit.ask {
            Some(ask) if ask.due > now => return None,
            Some(ask) => {
                if ask.is_refused() {
                    self.audit.ours = holdings.audit(self.domain, self.epoch);
                }
                ask.again(now, &self.round_trip, &self.transactions);
                self.progress.repeated += 1;
                if ask.attempts() > limits::AUDIT_SILENCE_ATTEMPTS
                    && !std::mem::replace(&mut self.audit.told_silent, true)
                {
                    self.events.push_back(Event::Silent { domain: self.domain });
                }
            }
            None => {
                self.audit.ours = holdings.audit(self.domain, self.epoch);
                self.audit.ask = Some(Ask::first(self.transactions.next_of_recovery(), now, &self.round_trip));
            }
        }
        let transaction = self.audit.ask.as_ref()?.transaction;
        let (count, digest) = self.audit.ours;
        Some(self.request(transaction, MeetingId::NONE, Message::ReplayDone { count, digest }))
    }

    pub(super) fn handle_audit(&mut self, now: Nanos, theirs: (u32, u64), holdings: &mut dyn Holdings) {
        let Some(mut ask) = self.audit.ask.take() else { return };
        ask.answered(now, &mut self.round_trip);
        if theirs == self.audit.ours {
            self.audit.agreed = true;
            self.timeline.reconciled.get_or_insert(now);
            self.events.push_back(Event::Reconciled { domain: self.domain });
            return;
        }
        let ours = holdings.audit(self.domain, self.epoch);
        if theirs == ours {
            // An operation that was done between question and answer changed both sides alike. The autonomous server
            // compared with the question, so it is asked anew: both shall have seen that they agree.
            return;
        }
        self.progress.differing += 1;
        self.events.push_back(Event::Differing { domain: self.domain, ours, theirs });
        if self.progress.differing < self.settings.audit_rounds {
            self.begin_round();
        } else {
            self.audit.resume = Some(now + self.settings.audit_pause);
        }
    }

    /// Lists from 0 again, step after step.
    pub(super) fn begin_round(&mut self) {
        self.round += 1;
        self.overlaps = false;
        self.named.clear();
        self.listing = Default::default();
        self.cursor = Cursor::default();
        self.swept = false;
        self.sweeps_database = false;
        self.audit.resume = None;
    }
}
