//! How far a machine is, for the engine, for people, and for its own steps.

use super::event::Event;
use super::orphans;
use super::phase::Phase;
use super::report::{Progress, ServerReport, Timeline};
use super::server::ServerRecovery;
use super::step::Step;
use crate::limits;
use crate::time::Nanos;
use crate::wire::MeetingId;

impl ServerRecovery {
    /// What it is doing: of what overlaps, the first that is not done.
    pub fn phase(&self) -> Phase {
        if self.fenced.is_some() {
            Phase::Stale
        } else if self.audit.has_agreed() {
            Phase::Reconciled
        } else if self.audit.resume().is_some() {
            Phase::Differing
        } else if !self.connect.is_connected() {
            Phase::Connecting
        } else if !self.is_acknowledged() {
            Phase::TakingOver
        } else if !self.is_updated() {
            Phase::Updating
        } else {
            Phase::Auditing
        }
    }

    /// Whether both sides agree, proven by the audit.
    pub fn is_reconciled(&self) -> bool {
        self.phase() == Phase::Reconciled
    }

    /// How far it is. Walks over its meetings.
    pub fn progress(&self) -> Progress {
        let unfinished = self.shared.alarms.unfinished_meetings();
        let mut progress = Progress { unfinished, ..self.shared.progress };
        progress.orphans += self.lookups.beyond();
        for (_, step) in self.shared.meetings.steps() {
            let (asked, other) = match step {
                Step::Asked => (1, None),
                Step::Taken | Step::Untold => (1, Some(&mut progress.taken_over)),
                Step::Updated => {
                    progress.taken_over += 1;
                    (1, Some(&mut progress.updated))
                }
                Step::Missing | Step::Replaced => (1, Some(&mut progress.missing)),
                Step::Refused => (1, Some(&mut progress.refused)),
                Step::Orphan | Step::OrphanEnding | Step::OrphanEnded => (0, Some(&mut progress.orphans)),
                // Counted when it was taken over.
                Step::Unfinished | Step::Refreshing => (0, None),
            };
            if let Some(count) = other {
                *count += 1;
            }
            progress.asked += asked;
        }
        progress
    }

    /// When each phase was done.
    pub fn timeline(&self) -> Timeline {
        self.shared.timeline
    }

    /// All of it for people. Walks over its meetings.
    pub fn report(&self) -> ServerReport {
        let since = |time: Option<Nanos>| time.map(|time| time.0.saturating_sub(self.shared.timeline.began.0));
        let named = |steps: &[Step]| {
            let of = self.shared.meetings.steps().filter(|(_, step)| steps.contains(step));
            of.map(|(meeting, _)| meeting).take(limits::REPORT_NAMES_MAX).collect()
        };
        ServerReport {
            domain: self.shared.domain,
            phase: self.phase(),
            fenced_by: self.fenced,
            connected_ns: since(self.shared.timeline.connected),
            listed_ns: since(self.shared.timeline.listed),
            first_takeover_ns: since(self.shared.timeline.first_takeover),
            all_acknowledged_ns: since(self.shared.timeline.all_acknowledged),
            updated_ns: since(self.shared.timeline.updated),
            reconciled_ns: since(self.shared.timeline.reconciled),
            refreshed_ns: since(self.shared.timeline.refreshed),
            progress: self.progress(),
            missing_meetings: named(&[Step::Missing, Step::Replaced]),
            orphan_meetings: named(&[Step::Orphan, Step::OrphanEnding, Step::OrphanEnded]),
        }
    }

    /// Whether all that is held here was asked for, and answered.
    pub(super) fn is_swept(&self) -> bool {
        self.sweep.is_done() && self.takeovers.is_idle(&self.shared)
    }

    /// Whether every takeover that is known to be wanted was answered.
    pub(super) fn is_acknowledged(&self) -> bool {
        self.is_swept() && (self.shared.overlaps || self.lookups.is_complete())
    }

    /// Whether nothing that came from a snapshot is to be asked about any more.
    pub fn is_refreshed(&self) -> bool {
        !self.shared.refreshes || self.fenced.is_some()
    }

    /// Whether nothing is left but the proof.
    pub(super) fn is_updated(&self) -> bool {
        self.connect.is_connected()
            && self.lookups.is_complete()
            && self.is_acknowledged()
            && self.updates.is_idle(&self.shared)
            && orphans::is_idle(&self.shared)
    }

    pub(super) fn note_progress(&mut self, now: Nanos) {
        if self.shared.timeline.all_acknowledged.is_none() && self.is_acknowledged() {
            self.shared.timeline.all_acknowledged = Some(now);
            self.shared.alarms.tell(Event::AllAcknowledged { domain: self.shared.domain });
        }
        if self.shared.timeline.updated.is_none() && self.is_updated() {
            self.shared.timeline.updated = Some(now);
        }
    }

    /// How many meetings of ours its autonomous server does not hold, and how many it holds that
    /// are not ours. One that took the place of ours is neither. Walks over its meetings.
    pub(super) fn absent_and_unknown(&self) -> (u32, u32) {
        self.shared.meetings.steps().fold((0, 0), |(missing, orphans), (_, step)| match step {
            Step::Missing => (missing + 1, orphans),
            Step::Orphan | Step::OrphanEnding => (missing, orphans + 1),
            _ => (missing, orphans),
        })
    }

    /// Whether nothing is noted of a meeting: neither ours nor an orphan.
    pub(super) fn is_unheard_of(&self, meeting: MeetingId) -> bool {
        self.shared.meetings.step(meeting).is_none() && self.lookups.beyond() == 0
    }
}
