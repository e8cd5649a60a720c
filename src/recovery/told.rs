//! What was told already. Each alarm is told once, however often the machine begins again, so that
//! a peer that repeats itself, or comes and goes, fills no log. What has become good in between is
//! told anew.

use std::collections::BTreeSet;

use super::{Event, ServerRecovery};
use crate::limits;
use crate::wire::{Address, MeetingId, MeetingSummary, Opcode, Status};

/// Alarms that were given. By meeting are those about meetings of ours, and about orphans, whose
/// number has a bound.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub missing: BTreeSet<MeetingId>,
    pub orphans: BTreeSet<MeetingId>,
    full: BTreeSet<MeetingId>,
    refused: BTreeSet<(MeetingId, u8, Status)>,
    pub unfinished: BTreeSet<MeetingId>,
    /// Opcodes of pages that had records which cannot be.
    bad: BTreeSet<u8>,
    /// Opcodes of requests that are not answered.
    unanswered: BTreeSet<u8>,
    foreign: bool,
    beyond: bool,
    endless: bool,
}

impl ServerRecovery {
    pub(super) fn tell_full(&mut self, meeting: MeetingId) {
        if self.told.full.insert(meeting) {
            self.events.push_back(Event::Full { domain: self.domain, meeting });
        }
    }

    pub(super) fn tell_unfinished(&mut self, meeting: MeetingId) {
        if self.told.unfinished.insert(meeting) {
            self.events.push_back(Event::Unfinished { domain: self.domain, meeting });
        }
    }

    pub(super) fn tell_missing(&mut self, meeting: MeetingId) {
        if self.told.missing.insert(meeting) {
            self.events.push_back(Event::Missing { domain: self.domain, meeting });
        }
    }

    pub(super) fn tell_orphan(&mut self, summary: &MeetingSummary) {
        if self.told.orphans.insert(summary.meeting) {
            self.events.push_back(Event::Orphan { domain: self.domain, summary: *summary });
        }
    }

    /// It is held after all.
    pub(super) fn note_held(&mut self, meeting: MeetingId) {
        if !self.told.missing.is_empty() {
            self.told.missing.remove(&meeting);
        }
    }

    /// There are more orphans than are noted.
    pub(super) fn tell_beyond(&mut self) {
        if !std::mem::replace(&mut self.told.beyond, true) {
            self.events.push_back(Event::ManyOrphans { domain: self.domain });
        }
    }

    pub(super) fn tell_endless(&mut self) {
        if !std::mem::replace(&mut self.told.endless, true) {
            self.events.push_back(Event::Endless { domain: self.domain });
        }
    }

    pub(super) fn tell_refused(&mut self, meeting: MeetingId, opcode: u8, status: Status) {
        if self.told.refused.insert((meeting, opcode, status)) {
            self.events.push_back(Event::Refused { domain: self.domain, meeting, opcode, status });
        }
    }

    /// A page had a record that cannot be; it was dropped.
    pub(super) fn note_bad(&mut self, opcode: Opcode, meeting: MeetingId) {
        self.progress.malformed += 1;
        if self.told.bad.insert(opcode.wire()) {
            self.events.push_back(Event::BadRecord { domain: self.domain, opcode, meeting });
        }
    }

    /// A list had a terminal that is another domain's, or none; it was dropped.
    pub(super) fn note_foreign(&mut self, terminal: Address) {
        self.progress.foreign += 1;
        if !std::mem::replace(&mut self.told.foreign, true) {
            self.events.push_back(Event::Foreign { domain: self.domain, terminal });
        }
    }

    /// A request went out so many times.
    pub(super) fn note_attempts(&mut self, attempts: u32, opcode: Opcode, meeting: MeetingId) {
        self.progress.repeated += 1;
        if attempts > limits::ATTEMPTS_SAID_AFTER && self.told.unanswered.insert(opcode.wire()) {
            self.events.push_back(Event::Unanswered { domain: self.domain, opcode, meeting });
        }
    }

    /// One of this kind was answered: should the next ones not be, that is told anew.
    pub(super) fn note_answered(&mut self, opcode: Opcode) {
        if !self.told.unanswered.is_empty() {
            self.told.unanswered.remove(&opcode.wire());
        }
    }
}
