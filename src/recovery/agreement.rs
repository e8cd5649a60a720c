//! What makes us doubt that both sides agree, though they did: what heartbeats say, what terminals
//! report, and what others of the engine have seen.
//!
//! Each sign leads to the least that settles it: a proof, STATE of a meeting, a listing, or, where
//! the autonomous server has restarted, a recovery from the beginning. What does not settle comes
//! again with growing pauses, for a sign may be wrong for good.

use super::{Event, Path, ServerRecovery, Store};
use crate::limits;
use crate::time::Nanos;
use crate::wire::{Epoch, MeetingId};

/// What the answer to a heartbeat says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heard {
    /// Meetings that the autonomous server holds.
    pub held: u32,
    /// Of its last start: the low bits of what CONNECT_ACK says.
    pub boot_generation: u16,
    /// The highest epoch that it has seen.
    pub highest: Epoch,
}

/// What heartbeats said, and what was made of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Pulse {
    /// How many meetings the autonomous server said it holds when that last changed, and how many
    /// parts there were here.
    heard: Option<(u32, u32)>,
    /// What it holds and what it ought to, where these differed when they were last compared.
    mismatch: Option<(u32, u32)>,
    /// They are compared then, though nothing has changed.
    compared: Nanos,
    /// No listing before, and how long that was.
    listing: (Nanos, std::time::Duration),
    /// No question about strays before.
    strays: Nanos,
    boot: Option<u16>,
    /// When another one was heard last.
    rebooted: Option<Nanos>,
}

impl ServerRecovery {
    /// Begins again: the autonomous server restarted, or its link came back after it was thought
    /// down. Where the database was to be walked and has not been, it still is; else the cache
    /// holds everything by now, and what of it was not updated yet is in doubt there. A machine
    /// that stopped stays so.
    pub fn restart(&mut self, now: Nanos) {
        let path = if self.sweeps_database && !self.swept { Path::Database } else { Path::Cache };
        let fresh = Self::new(self.domain, self.epoch, path, self.settings.clone(), now);
        let transactions = self.transactions.clone();
        let (events, told) = (std::mem::take(&mut self.events), std::mem::take(&mut self.told));
        let pulse = Pulse { boot: self.pulse.boot, rebooted: self.pulse.rebooted, ..Pulse::default() };
        let (fenced, is_forgetful) = (self.fenced, self.is_forgetful && !self.audit.has_agreed());
        *self = Self { transactions, events, told, pulse, fenced, is_forgetful, began_again: true, ..fresh };
    }

    /// As [`Self::restart`], of an autonomous server that has restarted: what its terminals were
    /// may have gone with its memory, so all of it is asked for.
    pub(super) fn restart_forgetful(&mut self, now: Nanos) {
        self.restart(now);
        self.is_forgetful = true;
        self.events.push_back(Event::Restarted { domain: self.domain });
    }

    /// Gives this domain up at once and for good: somebody else controls it, under this epoch.
    pub fn fence(&mut self, by: Epoch) {
        if self.fenced.is_none_or(|before| before < by) {
            self.fenced = Some(by);
            self.events.push_back(Event::Stale { domain: self.domain, highest: by });
        }
    }

    /// Under which epoch somebody else controls this domain.
    pub fn fenced_by(&self) -> Option<Epoch> {
        self.fenced
    }

    /// Holds both sides against each other once more: a command was not answered in time, and
    /// nobody knows whether it was carried out. Agreeing costs a frame; differing begins a round.
    pub fn doubt(&mut self) {
        self.audit.doubt();
    }

    /// Has agreement proven again now rather than later: there is a sign against it, which may be
    /// an old one. Many signs make no more than a proof in the longest pause of a request.
    pub fn prove(&mut self) {
        self.audit.hasten(self.settings.rto_max);
    }

    /// Hears what the answer to a heartbeat says. `ours` counts the parts that there are here.
    pub fn handle_heartbeat(&mut self, now: Nanos, heard: Heard, ours: impl FnOnce() -> u32) {
        self.now = self.now.max(now);
        if self.fenced.is_some() {
            return;
        }
        if heard.highest > self.epoch {
            return self.fence(heard.highest);
        }
        if self.note_boot(heard.boot_generation) {
            return self.restart_forgetful(now);
        }
        self.handle_held(now, heard.held, ours);
    }

    /// Notes the autonomous server's boot generation; gives whether it has restarted since it last
    /// said one. Two that it says in turn are no more than one restart in a while.
    pub(super) fn note_boot(&mut self, boot: u16) -> bool {
        let Pulse { boot: known, rebooted, .. } = &mut self.pulse;
        if *known.get_or_insert(boot) == boot || rebooted.is_some_and(|at| self.now < at + self.settings.audit_pause) {
            return false;
        }
        (*known, *rebooted) = (Some(boot), Some(self.now));
        true
    }

    /// Hears how many meetings the autonomous server holds. A change that our own starts and ends
    /// do not account for is a doubt; a number that is not that of the parts and orphans which are
    /// known is a reason to list them.
    fn handle_held(&mut self, now: Nanos, held: u32, ours: impl FnOnce() -> u32) {
        let has_changed = self.pulse.heard.is_none_or(|(last, _)| last != held);
        if !has_changed && self.pulse.mismatch.is_none() && now < self.pulse.compared {
            return;
        }
        self.pulse.compared = now + self.settings.prove_every;
        let ours = ours();
        if has_changed {
            let before = self.pulse.heard.replace((held, ours));
            let grown = |now: u32, before: u32| i64::from(now) - i64::from(before);
            if before.is_some_and(|before| grown(held, before.0) != grown(ours, before.1)) {
                self.doubt();
            }
        }
        if !self.is_updated() {
            self.pulse.mismatch = None;
            return;
        }
        let expected = self.expected(ours);
        if held == expected {
            (self.pulse.mismatch, self.pulse.listing.1) = (None, std::time::Duration::ZERO);
            return;
        }
        // One heartbeat may have come between a command and what it does here; two of them in a row
        // with the same numbers have not.
        if self.pulse.mismatch.replace((held, expected)) == Some((held, expected)) {
            self.list_again(now);
        }
    }

    /// How many meetings the autonomous server ought to hold, where there are so many parts here.
    fn expected(&self, ours: u32) -> u32 {
        if self.told.missing.is_empty() && self.told.orphans.is_empty() {
            return ours;
        }
        let (missing, orphans) = self.absent_and_unknown();
        (ours.saturating_sub(missing)).saturating_add(orphans).saturating_add(self.listing.beyond)
    }

    /// Lists from 0, unless that was done a short while ago: after each time for twice as long,
    /// until it has helped.
    fn list_again(&mut self, now: Nanos) {
        let (not_before, pause) = &mut self.pulse.listing;
        if now < *not_before || self.audit.resume.is_some() {
            return;
        }
        *pause = (*pause * 2).clamp(self.settings.rto_max, limits::REFUSED_PAUSE_MAX);
        *not_before = now + *pause;
        self.pulse.mismatch = None;
        self.begin_round();
    }

    /// A terminal reports out of the first of these meetings, and the table has it in the second,
    /// or in none ([`MeetingId::NONE`]). Both are asked about, but for orphans; a meeting that is
    /// not known here at all is a reason to list.
    pub fn handle_stray(&mut self, now: Nanos, meetings: [MeetingId; 2], holdings: &mut dyn Store) {
        self.now = self.now.max(now);
        if self.fenced.is_some() || !self.is_reconciled() || now < self.pulse.strays {
            return;
        }
        self.pulse.strays = now + limits::STRAYS_PAUSE;
        for meeting in meetings.into_iter().filter(|meeting| *meeting != MeetingId::NONE) {
            if holdings.version(self.domain, meeting).is_some() {
                self.updates.again.postpone(meeting, now, (self.settings.rto_min, limits::REFUSED_PAUSE_MAX));
            } else if self.is_unheard_of(meeting) {
                self.list_again(now);
            }
        }
    }
}
