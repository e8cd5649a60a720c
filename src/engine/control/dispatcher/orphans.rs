//! Meetings that autonomous servers hold and we do not know: listed for operators, who adopt or end
//! them.

use std::collections::BTreeMap;

use super::records::Records;
use crate::api::{Answer, Orphan, OrphanFate, Reply};
use crate::cms::{Operations, Refusal, RefusalKind};
use crate::recovery::{OrphanList, Orphans, Recovery};
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

    /// Adopts or ends one orphan, in every domain where it is held.
    pub fn decide(
        records: &mut Records,
        recovery: &mut Recovery,
        operations: &Operations,
        meeting: MeetingId,
        become_of: OrphanFate,
    ) -> Reply {
        let become_of = match become_of {
            OrphanFate::Adopted => Orphans::Adopt,
            OrphanFate::Ended => Orphans::End,
        };
        let held: Vec<_> = records.orphans.0.values().filter(|orphan| orphan.meeting == meeting).copied().collect();
        if held.is_empty() {
            let what = format!("no autonomous server was heard to hold an orphan {meeting}");
            return Err(Refusal::new(RefusalKind::NotFound, what, "see `baton recovery orphans`"));
        }
        let mut decided = Vec::with_capacity(held.len());
        for orphan in held {
            let is_decided =
                records.with(operations, |store| recovery.decide_orphan(orphan.domain, meeting, become_of, store));
            if is_decided {
                records.orphans.0.remove(&(orphan.domain, meeting));
                decided.push(orphan);
            }
        }
        if decided.is_empty() {
            let what =
                format!("orphan {meeting} cannot be had: its number is a conference's of ours, or there is no room");
            return Err(Refusal::new(RefusalKind::Conflict, what, "see `baton meeting show` and the log"));
        }
        Ok(Answer::Orphans(decided))
    }
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
