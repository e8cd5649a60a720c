//! What is known of the meetings of one autonomous server, and what each of them needs next.

use std::collections::{BTreeMap, HashSet, VecDeque};

use super::request::Wanted;
use super::step::Step;
use crate::wire::{MeetingId, MeetingSummary, TakeoverEntry};

/// What is known of one meeting. One that a living cache held and the autonomous server gave at
/// once has no entry: of a million meetings nothing need be remembered that the table does not say.
#[derive(Debug)]
struct Known {
    step: Step,
    /// The round that it was last listed or asked for in.
    round: u32,
    /// What a listing said before the takeover was answered; of an orphan, for an operator who
    /// decides later.
    summary: Option<Box<MeetingSummary>>,
}

/// The meetings, and the queues through which one step hands them to the next.
#[derive(Debug)]
pub(super) struct Meetings {
    known: BTreeMap<MeetingId, Known>,
    /// Which listing this is, from 1.
    pub round: u32,
    /// Meetings that this round's listing named and that nothing more is to be noted of.
    named: HashSet<MeetingId>,
    /// To be taken over.
    pub takeovers: VecDeque<Wanted>,
    /// To be asked about.
    pub updates: VecDeque<MeetingId>,
    /// To be ended.
    pub ends: VecDeque<MeetingId>,
}

impl Default for Meetings {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            round: 1,
            named: HashSet::new(),
            takeovers: VecDeque::new(),
            updates: VecDeque::new(),
            ends: VecDeque::new(),
        }
    }
}

impl Meetings {
    /// None where nothing is remembered of it.
    pub fn step(&self, meeting: MeetingId) -> Option<Step> {
        self.known.get(&meeting).map(|known| known.step)
    }

    /// Ascending by meeting.
    pub fn steps(&self) -> impl Iterator<Item = (MeetingId, Step)> + '_ {
        self.known.iter().map(|(meeting, known)| (*meeting, known.step))
    }

    pub fn set_step(&mut self, meeting: MeetingId, step: Step) {
        let round = self.round;
        let known = self.known.entry(meeting).or_insert(Known { step, round, summary: None });
        known.step = step;
        known.round = round;
    }

    /// It ended meanwhile.
    pub fn forget(&mut self, meeting: MeetingId) {
        self.known.remove(&meeting);
    }

    /// Notes that this round's listing has it; gives its step before.
    pub fn list(&mut self, meeting: MeetingId, summary: &MeetingSummary) -> Option<Step> {
        let known = self.known.get_mut(&meeting)?;
        if known.step == Step::Asked {
            // Its information is written back when the takeover is answered, for that is the
            // method's order.
            known.summary = Some(Box::new(*summary));
        }
        if known.step == Step::Asked || known.step.is_taken_over() {
            known.round = self.round;
        }
        Some(known.step)
    }

    /// Notes that this round's listing named it, where nothing else is to be noted.
    pub fn name(&mut self, meeting: MeetingId) {
        self.named.insert(meeting);
    }

    /// Whether it was looked at in this round.
    pub fn is_of_this_round(&self, meeting: MeetingId) -> bool {
        self.known.get(&meeting).is_some_and(|known| known.round == self.round)
    }

    /// Whether this round's listing named it.
    pub fn is_listed(&self, meeting: MeetingId) -> bool {
        self.is_of_this_round(meeting) || self.named.contains(&meeting)
    }

    pub fn summary(&self, meeting: MeetingId) -> Option<MeetingSummary> {
        self.known.get(&meeting)?.summary.as_deref().copied()
    }

    pub fn take_summary(&mut self, meeting: MeetingId) -> Option<Box<MeetingSummary>> {
        self.known.get_mut(&meeting)?.summary.take()
    }

    fn set_summary(&mut self, summary: &MeetingSummary) {
        if let Some(known) = self.known.get_mut(&summary.meeting) {
            known.summary = Some(Box::new(*summary));
        }
    }

    /// Notes an orphan that is left.
    pub fn leave(&mut self, summary: &MeetingSummary) {
        self.set_step(summary.meeting, Step::Orphan);
        self.set_summary(summary);
    }

    /// Wants control of a meeting. Its summary is kept until the answer.
    pub fn take_over(&mut self, meeting: MeetingId, version: u64, summary: Option<&MeetingSummary>) {
        self.set_step(meeting, Step::Asked);
        self.take_summary(meeting);
        summary.into_iter().for_each(|summary| self.set_summary(summary));
        self.takeovers.push_back((TakeoverEntry { meeting, version }, None));
    }

    /// Wants a meeting's terminals. One that is wanted or asked for already needs nothing: the
    /// answer counts only if the part's version has not changed since the question.
    pub fn update(&mut self, meeting: MeetingId) {
        if self.step(meeting) != Some(Step::Taken) {
            self.set_step(meeting, Step::Taken);
            self.updates.push_back(meeting);
        }
    }

    /// Wants its terminals, where nothing else is known to be wanted of it. Gives whether it does.
    pub fn refresh(&mut self, meeting: MeetingId) -> bool {
        let is_new = self.step(meeting).is_none();
        if is_new {
            self.set_step(meeting, Step::Refreshing);
            self.updates.push_back(meeting);
        }
        is_new
    }

    /// Wants an end of it.
    pub fn end(&mut self, meeting: MeetingId) {
        self.set_step(meeting, Step::OrphanEnding);
        self.ends.push_back(meeting);
    }

    /// A listing from 0 begins.
    pub fn begin_round(&mut self) {
        self.round += 1;
        self.named.clear();
    }

    /// A listing is at its end: orphans that it has not named are forgotten.
    pub fn end_round(&mut self) {
        let round = self.round;
        self.known.retain(|_, known| !known.step.is_orphan() || known.round == round);
    }
}
