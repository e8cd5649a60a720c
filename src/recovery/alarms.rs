//! What the engine is told. Each alarm is raised once, however often the machine begins again, so
//! that a peer that repeats itself, or comes and goes, fills no log. What has become good in
//! between is told anew.

use std::collections::{BTreeSet, VecDeque};

use super::event::Event;
use crate::limits;
use crate::wire::{Address, Domain, MeetingId, MeetingSummary, Opcode, Status};

/// Events to be fetched, and alarms that were raised. By meeting are those about meetings of ours,
/// and about orphans, whose number has a bound.
#[derive(Debug)]
pub(super) struct Alarms {
    domain: Domain,
    events: VecDeque<Event>,
    missing: BTreeSet<MeetingId>,
    orphans: BTreeSet<MeetingId>,
    full: BTreeSet<MeetingId>,
    refused: BTreeSet<(MeetingId, u8, Status)>,
    unfinished: BTreeSet<MeetingId>,
    /// Opcodes of pages that had records which cannot be.
    bad: BTreeSet<u8>,
    /// Opcodes of requests that are not answered.
    unanswered: BTreeSet<u8>,
    foreign: bool,
    many_orphans: bool,
    endless: bool,
}

impl Alarms {
    pub fn new(domain: Domain) -> Self {
        Self {
            domain,
            events: VecDeque::new(),
            missing: BTreeSet::new(),
            orphans: BTreeSet::new(),
            full: BTreeSet::new(),
            refused: BTreeSet::new(),
            unfinished: BTreeSet::new(),
            bad: BTreeSet::new(),
            unanswered: BTreeSet::new(),
            foreign: false,
            many_orphans: false,
            endless: false,
        }
    }

    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Tells the engine something, however often.
    pub fn tell(&mut self, event: Event) {
        self.events.push_back(event);
    }

    pub fn full(&mut self, meeting: MeetingId) {
        if self.full.insert(meeting) {
            self.events.push_back(Event::Full { domain: self.domain, meeting });
        }
    }

    /// Told each time: the engine forgets it when it is finished, and by then the same number may
    /// be another conference's, whose start a round has met.
    pub fn unfinished(&mut self, meeting: MeetingId) {
        self.unfinished.insert(meeting);
        self.tell(Event::Unfinished { domain: self.domain, meeting });
    }

    pub fn unfinished_meetings(&self) -> u32 {
        self.unfinished.len() as u32
    }

    pub fn missing(&mut self, meeting: MeetingId) {
        if self.missing.insert(meeting) {
            self.events.push_back(Event::Missing { domain: self.domain, meeting });
        }
    }

    /// It is held after all.
    pub fn held(&mut self, meeting: MeetingId) {
        if !self.missing.is_empty() {
            self.missing.remove(&meeting);
        }
    }

    /// Whether neither a missing meeting nor an orphan is known.
    pub fn has_no_stranger(&self) -> bool {
        self.missing.is_empty() && self.orphans.is_empty()
    }

    /// False where this orphan is one more than are noted.
    pub fn has_room_for_orphan(&self, meeting: MeetingId) -> bool {
        self.orphans.contains(&meeting) || self.orphans.len() < limits::ORPHANS_MAX
    }

    pub fn orphan(&mut self, summary: &MeetingSummary) {
        if self.orphans.insert(summary.meeting) {
            self.events.push_back(Event::Orphan { domain: self.domain, summary: *summary });
        }
    }

    /// Of the orphans these are left: any other one would be told anew.
    pub fn keep_orphans(&mut self, is_known: impl Fn(MeetingId) -> bool) {
        self.orphans.retain(|&meeting| is_known(meeting));
    }

    pub fn many_orphans(&mut self) {
        if !std::mem::replace(&mut self.many_orphans, true) {
            self.events.push_back(Event::ManyOrphans { domain: self.domain });
        }
    }

    pub fn endless(&mut self) {
        if !std::mem::replace(&mut self.endless, true) {
            self.events.push_back(Event::Endless { domain: self.domain });
        }
    }

    pub fn refused(&mut self, meeting: MeetingId, opcode: u8, status: Status) {
        if self.refused.insert((meeting, opcode, status)) {
            self.events.push_back(Event::Refused { domain: self.domain, meeting, opcode, status });
        }
    }

    pub fn bad_record(&mut self, opcode: Opcode, meeting: MeetingId) {
        if self.bad.insert(opcode.wire()) {
            self.events.push_back(Event::BadRecord { domain: self.domain, opcode, meeting });
        }
    }

    pub fn foreign(&mut self, terminal: Address) {
        if !std::mem::replace(&mut self.foreign, true) {
            self.events.push_back(Event::Foreign { domain: self.domain, terminal });
        }
    }

    pub fn unanswered(&mut self, opcode: Opcode, meeting: MeetingId) {
        if self.unanswered.insert(opcode.wire()) {
            self.events.push_back(Event::Unanswered { domain: self.domain, opcode, meeting });
        }
    }

    /// One of this kind was answered: should the next ones not be, that is told anew.
    pub fn answered(&mut self, opcode: Opcode) {
        if !self.unanswered.is_empty() {
            self.unanswered.remove(&opcode.wire());
        }
    }
}
