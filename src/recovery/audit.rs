//! The proof: count and digest of what each side believes that we control.
//!
//! A difference is an alarm and starts a round anew: a listing from 0, then a takeover by name of
//! what it lacked, and STATE of what has another version. The rounds of a round have no overlap, so
//! that the listing is younger than everything it is held against.
//!
//! What was proven is proven again, every so often: an autonomous server may lose its memory, or be
//! given to somebody else, without a word. Where nothing of the domain has changed here since, that
//! costs no look at its parts.

use std::time::Duration;

use super::ask::Ask;
use super::{Cursor, Event, Request, ServerRecovery, Store};
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
    /// When both sides agreed last.
    agreed_at: Nanos,
    /// The next REPLAY_DONE is not sent before: agreement is young, or what it is about is
    /// changing.
    not_before: Nanos,
    /// How often it was asked anew because we had changed meanwhile.
    chases: u32,
    /// Differences since both sides agreed.
    rounds: u32,
    /// Count and digest of ours, and how often the domain's parts had been changed when they were
    /// that.
    kept: Option<(u64, (u32, u64))>,
}

impl Audit {
    pub fn has_agreed(&self) -> bool {
        self.agreed
    }

    /// What was agreed counts for nothing more, nor does an answer on its way: it may be older than
    /// what is to be proven.
    pub fn doubt(&mut self) {
        *self = Self { resume: self.resume, rounds: self.rounds, kept: self.kept, ..Self::default() };
    }

    /// Agreement is to be proven again now rather than later, if it is not younger than that.
    pub fn hasten(&mut self, age: Duration) {
        self.not_before = self.not_before.min(self.agreed_at + age);
    }

    pub fn ask_mut(&mut self) -> Option<&mut Ask> {
        self.ask.as_mut()
    }

    pub fn due(&self) -> Option<Nanos> {
        self.ask.as_ref().map(|ask| ask.due).or(self.resume)
    }

    /// When the next REPLAY_DONE may be sent, where none is on its way.
    pub fn next(&self) -> Option<Nanos> {
        (self.ask.is_none() && self.resume.is_none()).then_some(self.not_before)
    }
}

impl ServerRecovery {
    pub(super) fn poll_audit(&mut self, now: Nanos, holdings: &mut dyn Store) -> Option<Request> {
        if self.audit.resume.is_some() || !self.is_updated() {
            return None;
        }
        match &mut self.audit.ask {
            Some(ask) if ask.due > now => return None,
            Some(ask) => {
                let is_refused = ask.is_refused();
                ask.again(now, &self.round_trip, &self.transactions);
                let attempts = ask.attempts();
                self.progress.repeated += 1;
                if is_refused {
                    self.audit.ours = self.our_word(holdings);
                }
                if attempts > limits::AUDIT_SILENCE_ATTEMPTS && !std::mem::replace(&mut self.audit.told_silent, true) {
                    self.events.push_back(Event::Silent { domain: self.domain });
                }
            }
            None if now < self.audit.not_before => return None,
            None => {
                self.audit.ours = self.our_word(holdings);
                self.audit.ask = Some(Ask::first(self.transactions.next_of_recovery(), now, &self.round_trip));
            }
        }
        let transaction = self.audit.ask.as_ref()?.transaction;
        let (count, digest) = self.audit.ours;
        Some(self.request(transaction, MeetingId::NONE, Message::ReplayDone { count, digest }))
    }

    pub(super) fn handle_audit(&mut self, now: Nanos, theirs: (u32, u64), holdings: &mut dyn Store) {
        let Some(mut ask) = self.audit.ask.take() else { return };
        ask.answered(now, &mut self.round_trip);
        self.audit.told_silent = false;
        let asked = self.audit.ours;
        if theirs == asked {
            return self.agree(now);
        }
        let ours = self.our_word(holdings);
        if ours != asked && self.audit.chases < limits::AUDIT_CHASES_MAX {
            // An operation that was done between question and answer changed both sides, or is
            // about to. The autonomous server compared with the question, so it is asked anew: both
            // shall have seen that they agree. Under operations that follow each other, not as fast
            // as they do.
            self.audit.not_before = now + self.settings.rto_min * ((1 << self.audit.chases) - 1);
            self.audit.chases += 1;
            return;
        }
        if theirs == ours {
            return self.agree(now);
        }
        self.progress.differing += 1;
        self.audit.rounds += 1;
        (self.audit.agreed, self.audit.chases) = (false, 0);
        self.events.push_back(Event::Differing { domain: self.domain, ours, theirs });
        if self.audit.rounds < self.settings.audit_rounds {
            self.begin_round();
        } else {
            self.audit.resume = Some(now + self.settings.audit_pause);
        }
    }

    fn agree(&mut self, now: Nanos) {
        (self.audit.chases, self.audit.rounds) = (0, 0);
        self.audit.agreed_at = now;
        self.audit.not_before = now + self.settings.prove_every;
        if !std::mem::replace(&mut self.audit.agreed, true) {
            self.timeline.reconciled.get_or_insert(now);
            self.events.push_back(Event::Reconciled { domain: self.domain });
        }
    }

    /// Count and digest of what we hold.
    fn our_word(&mut self, holdings: &dyn Store) -> (u32, u64) {
        let word = || holdings.audit(self.domain, self.epoch);
        let Some(changes) = holdings.changes(self.domain) else { return word() };
        match self.audit.kept {
            Some((then, kept)) if then == changes => kept,
            _ => {
                let word = word();
                self.audit.kept = Some((changes, word));
                word
            }
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
        self.audit.hasten(Duration::ZERO);
    }
}
