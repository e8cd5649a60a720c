//! What makes us doubt that both sides agree, though they did: what heartbeats say, what terminals
//! report, and what others of the engine have seen.
//!
//! Each sign leads to the least that settles it: a proof, STATE of a meeting, a listing, or, where
//! the autonomous server has restarted, a recovery from the beginning. What does not settle comes
//! again with growing pauses, for a sign may be wrong for good.

use super::connect::Connect;
use super::event::Event;
use super::lookup::Lookups;
use super::path::Path;
use super::pulse::Heard;
use super::refresh::Refresh;
use super::server::ServerRecovery;
use super::store::Store;
use super::takeover::Takeovers;
use super::update::Updates;
use crate::time::Nanos;
use crate::wire::{Epoch, MeetingId};

impl ServerRecovery {
    /// Begins again: the autonomous server restarted, or its link came back after it was thought
    /// down. Where snapshot or database were to be walked and have not been, they still are; else
    /// the cache holds everything by now, and what of it was not updated yet is in doubt there. A
    /// machine that stopped stays so.
    pub fn restart(&mut self, now: Nanos) {
        let (path, sweep) = self.sweep.anew();
        self.shared.is_forgetful &= !self.audit.has_agreed();
        self.shared.restart(path != Path::Database, now);
        self.connect = Connect::default();
        self.lookups = Lookups::default();
        self.sweep = sweep;
        self.takeovers = Takeovers::default();
        self.updates = Updates::default();
        self.audit = Default::default();
        self.refresh = Refresh::default();
        self.pulse.begin_again();
    }

    /// As [`Self::restart`], of an autonomous server that has restarted: what its terminals were
    /// may have gone with its memory, so all of it is asked for.
    pub(super) fn restart_forgetful(&mut self, now: Nanos) {
        self.restart(now);
        self.shared.is_forgetful = true;
        self.shared.refreshes = false;
        self.shared.alarms.tell(Event::Restarted { domain: self.shared.domain });
    }

    /// Gives this domain up at once and for good: somebody else controls it, under this epoch.
    pub fn fence(&mut self, by: Epoch) {
        if self.fenced.is_none_or(|before| before < by) {
            self.fenced = Some(by);
            self.shared.exchange.close_all(|_| true);
            self.shared.alarms.tell(Event::Stale { domain: self.shared.domain, highest: by });
        }
    }

    /// Under which epoch somebody else controls this domain.
    pub fn fenced_by(&self) -> Option<Epoch> {
        self.fenced
    }

    /// Holds both sides against each other once more: a command was not answered in time, and
    /// nobody knows whether it was carried out. Agreeing costs a frame; differing begins a round.
    pub fn doubt(&mut self) {
        self.audit.doubt(&mut self.shared);
    }

    /// Parts of this domain cannot be read, although both sides may agree about them: a takeover
    /// does not read the records of settled parts. The database is gone through for them, and both
    /// sides are held against each other again. False, and nothing is changed, if that was done
    /// already: the database does not know them.
    pub fn mend(&mut self) -> bool {
        let begins = self.sweep.mend();
        if begins {
            self.audit.doubt(&mut self.shared);
        }
        begins
    }

    /// No part of this domain is damaged any more.
    pub fn is_mended(&mut self) {
        self.sweep.is_mended();
    }

    /// Has agreement proven again now rather than later: there is a sign against it, which may be
    /// an old one. Many signs make no more than a proof in the longest pause of a request.
    pub fn prove(&mut self) {
        self.audit.hasten(self.shared.settings.rto_max);
    }

    /// Hears what the answer to a heartbeat says. `ours` counts the parts that there are here.
    pub fn handle_heartbeat(&mut self, now: Nanos, heard: Heard, ours: impl FnOnce() -> u32) {
        self.shared.now = self.shared.now.max(now);
        if self.fenced.is_some() {
            return;
        }
        if heard.highest > self.shared.epoch {
            return self.fence(heard.highest);
        }
        if self.note_boot(heard.boot_generation) {
            return self.restart_forgetful(now);
        }
        self.handle_held(now, heard.held, ours);
    }

    /// Whether the autonomous server has restarted since it last said a boot generation.
    pub(super) fn note_boot(&mut self, boot: u16) -> bool {
        self.pulse.note_boot(boot, self.shared.now, &self.shared.settings)
    }

    /// Hears how many meetings the autonomous server holds. A change that our own starts and ends
    /// do not account for is a doubt; a number that is not that of the parts and orphans which are
    /// known is a reason to list them.
    fn handle_held(&mut self, now: Nanos, held: u32, ours: impl FnOnce() -> u32) {
        if !self.pulse.is_to_compare(held, now, &self.shared.settings) {
            return;
        }
        let ours = ours();
        if self.pulse.has_grown_otherwise(held, ours) {
            self.doubt();
        }
        if !self.is_updated() {
            self.pulse.forget_mismatch();
        } else if self.pulse.has_mismatch(held, self.expected(ours)) {
            self.list_again(now);
        }
    }

    /// How many meetings the autonomous server ought to hold, where there are so many parts here.
    fn expected(&self, ours: u32) -> u32 {
        if self.shared.alarms.has_no_stranger() {
            return ours;
        }
        let (missing, orphans) = self.absent_and_unknown();
        (ours.saturating_sub(missing)).saturating_add(orphans).saturating_add(self.lookups.beyond())
    }

    /// Lists from 0, unless that was done a short while ago.
    fn list_again(&mut self, now: Nanos) {
        if self.audit.resume().is_none() && self.pulse.may_list(now, &self.shared.settings) {
            self.begin_round();
        }
    }

    /// A meeting of ours is in doubt, and no round is to ask about it: its members are asked for,
    /// unless they are already.
    pub fn ask_about(&mut self, now: Nanos, meeting: MeetingId) {
        self.shared.now = self.shared.now.max(now);
        if self.fenced.is_none() && self.is_reconciled() && !self.updates.again.contains(meeting) {
            self.updates.ask_again(&self.shared, now, meeting);
        }
    }

    /// A terminal reports out of the first of these meetings, and the table has it in the second,
    /// or in none ([`MeetingId::NONE`]). Both are asked about, but for orphans; a meeting that is
    /// not known here at all is a reason to list.
    pub fn handle_stray(&mut self, now: Nanos, meetings: [MeetingId; 2], holdings: &mut dyn Store) {
        self.shared.now = self.shared.now.max(now);
        if self.fenced.is_some() || !self.is_reconciled() || !self.pulse.may_ask_about_strays(now) {
            return;
        }
        for meeting in meetings.into_iter().filter(|meeting| *meeting != MeetingId::NONE) {
            if holdings.version(self.shared.domain, meeting).is_some() {
                self.updates.ask_again(&self.shared, now, meeting);
            } else if self.is_unheard_of(meeting) {
                self.list_again(now);
            }
        }
    }
}
