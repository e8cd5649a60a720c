//! Meetings that autonomous servers hold and we do not know: listed for operators, who adopt or end
//! them.

use std::collections::BTreeMap;

use crate::api::Orphan;
use crate::cms::{Refusal, RefusalKind};
use crate::recovery::OrphanList;
use crate::wire::{Domain, MeetingId, MeetingSummary};

/// Those that were seen and are still there. Recovery bounds how many.
#[derive(Default)]
pub(super) struct OrphanTable(BTreeMap<(Domain, MeetingId), Orphan>);

impl OrphanTable {
    /// All of them, by domain.
    pub fn all(&self) -> Vec<Orphan> {
        self.0.values().copied().collect()
    }

    /// How many there are in a domain.
    pub fn count_in(&self, domain: Domain) -> usize {
        self.0.range((domain, MeetingId(0))..=(domain, MeetingId(u64::MAX))).count()
    }

    /// Those of one number, one for each domain where it is held.
    pub fn held(&self, meeting: MeetingId) -> Vec<Orphan> {
        self.0.values().filter(|orphan| orphan.meeting == meeting).copied().collect()
    }

    pub fn remove(&mut self, domain: Domain, meeting: MeetingId) {
        self.0.remove(&(domain, meeting));
    }
}

/// What an operator is told who has decided on one that is nowhere held.
pub(super) fn not_held(meeting: MeetingId) -> Refusal {
    let what = format!("no autonomous server was heard to hold an orphan {meeting}");
    Refusal::new(RefusalKind::NotFound, what, "see `baton recovery orphans`")
}

/// The same of one that is held, and cannot be had.
pub(super) fn not_to_be_had(meeting: MeetingId) -> Refusal {
    let what = format!("orphan {meeting} cannot be had: its number is a conference's of ours, or there is no room");
    Refusal::new(RefusalKind::Conflict, what, "see `baton meeting show` and the log")
}

impl OrphanList for OrphanTable {
    fn note(&mut self, domain: Domain, summary: &MeetingSummary) {
        let orphan = Orphan {
            meeting: summary.meeting,
            domain,
            state: summary.state,
            level: summary.level,
            participants: summary.participants,
            controller: summary.controller,
        };
        self.0.insert((domain, summary.meeting), orphan);
    }

    fn keep(&mut self, domain: Domain, is_left: &dyn Fn(MeetingId) -> bool) {
        self.0.retain(|&(of, meeting), _| of != domain || is_left(meeting));
    }
}
