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

use super::event::Event;
use super::request::Request;
use super::shared::Shared;
use super::store::Store;
use crate::cascade::Purpose;
use crate::limits;
use crate::time::Nanos;
use crate::wire::{MeetingId, Message, Opcode, Transaction};

/// What REPLAY_DONE said, and what its answers said.
#[derive(Clone, Debug, Default)]
pub(super) struct Audit {
    /// What the REPLAY_DONE on its way said.
    ours: (u32, u64),
    agreed: bool,
    told_silent: bool,
    /// The next round begins then.
    resume: Option<Nanos>,
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

    /// When the next round begins, after several that differed.
    pub fn resume(&self) -> Option<Nanos> {
        self.resume
    }

    /// When the next REPLAY_DONE may be sent, where none is on its way.
    pub fn next(&self, shared: &Shared) -> Option<Nanos> {
        (shared.exchange.outstanding(Purpose::Audit) == 0 && self.resume.is_none()).then_some(self.not_before)
    }

    /// What was agreed counts for nothing more, nor does an answer on its way: it may be older than
    /// what is to be proven.
    pub fn doubt(&mut self, shared: &mut Shared) {
        shared.exchange.close_all(|purpose| purpose == Purpose::Audit);
        *self = Self { resume: self.resume, rounds: self.rounds, kept: self.kept, ..Self::default() };
    }

    /// Agreement is to be proven again now rather than later, if it is not younger than that.
    pub fn hasten(&mut self, age: Duration) {
        self.not_before = self.not_before.min(self.agreed_at + age);
    }

    /// A round begins, and a proof is due behind it.
    pub fn begin_round(&mut self) {
        self.resume = None;
        self.hasten(Duration::ZERO);
    }

    pub fn poll(&mut self, shared: &mut Shared, now: Nanos, holdings: &dyn Store) -> Option<Request> {
        if self.resume.is_some() {
            return None;
        }
        let transaction = if let Some(due) = shared.exchange.poll_due(now, Purpose::Audit) {
            shared.progress.repeated += 1;
            if due.is_anew() {
                self.ours = self.our_word(shared, holdings);
            }
            if due.attempts > limits::AUDIT_SILENCE_ATTEMPTS && !std::mem::replace(&mut self.told_silent, true) {
                shared.alarms.tell(Event::Silent { domain: shared.domain });
            }
            due.transaction
        } else {
            if now < self.not_before || !shared.exchange.has_room(Purpose::Audit) {
                return None;
            }
            self.ours = self.our_word(shared, holdings);
            shared.exchange.ask(now, Purpose::Audit, Opcode::ReplayDone, MeetingId::NONE)?
        };
        let (count, digest) = self.ours;
        Some(shared.request(transaction, MeetingId::NONE, Message::ReplayDone { count, digest }))
    }

    /// Takes what the autonomous server says. True where a round is to begin.
    pub fn handle_audit(
        &mut self,
        shared: &mut Shared,
        now: Nanos,
        transaction: Transaction,
        theirs: (u32, u64),
        holdings: &mut dyn Store,
    ) -> bool {
        shared.exchange.answered(now, transaction);
        self.told_silent = false;
        let asked = self.ours;
        if theirs == asked {
            self.agree(shared, now);
            return false;
        }
        let ours = self.our_word(shared, holdings);
        if ours != asked && self.chases < limits::AUDIT_CHASES_MAX {
            // An operation that was done between question and answer changed both sides, or is
            // about to. The autonomous server compared with the question, so it is asked anew: both
            // shall have seen that they agree. Under operations that follow each other, not as fast
            // as they do.
            self.not_before = now + shared.settings.rto_min * ((1 << self.chases) - 1);
            self.chases += 1;
            return false;
        }
        if theirs == ours {
            self.agree(shared, now);
            return false;
        }
        holdings.recount(shared.domain);
        shared.progress.differing += 1;
        self.rounds += 1;
        self.agreed = false;
        self.chases = 0;
        shared.alarms.tell(Event::Differing { domain: shared.domain, ours, theirs });
        let at_once = self.rounds < shared.settings.audit_rounds;
        if !at_once {
            self.resume = Some(now + shared.settings.audit_pause);
        }
        at_once
    }

    fn agree(&mut self, shared: &mut Shared, now: Nanos) {
        self.chases = 0;
        self.rounds = 0;
        self.agreed_at = now;
        self.not_before = now + shared.settings.prove_every;
        if !std::mem::replace(&mut self.agreed, true) {
            shared.timeline.reconciled.get_or_insert(now);
            if !shared.refreshes {
                shared.timeline.refreshed.get_or_insert(now);
            }
            shared.alarms.tell(Event::Reconciled { domain: shared.domain });
        }
    }

    /// Count and digest of what we hold.
    fn our_word(&mut self, shared: &Shared, holdings: &dyn Store) -> (u32, u64) {
        let word = || holdings.audit(shared.domain, shared.epoch);
        let Some(changes) = holdings.changes(shared.domain) else { return word() };
        match self.kept {
            Some((then, kept)) if then == changes => kept,
            _ => {
                let word = word();
                self.kept = Some((changes, word));
                word
            }
        }
    }
}
