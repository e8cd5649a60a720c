//! What follows from what recovery and operations say.

use super::event::{End, Event, WorkerChange};
use super::{Dispatcher, troubles};
use crate::cms::OperationsEvent;
use crate::handover::protocol::Notice;
use crate::limits::CONTROL_BATCH;
use crate::recovery;
use crate::time::Nanos;
use crate::wire::{Domain, Epoch};

impl Dispatcher {
    pub(super) fn take_recovery_events(&mut self, now: Nanos) {
        for _ in 0..CONTROL_BATCH {
            let Some(event) = self.recovery.poll_event() else { return };
            self.handle_recovery_event(now, event);
            self.output.event(Event::Recovery(event));
        }
        self.is_due = true;
    }

    fn handle_recovery_event(&mut self, now: Nanos, event: recovery::Event) {
        let Self { records, operations, output, .. } = self;
        match event {
            recovery::Event::Stale { domain, highest } => self.give_up(now, domain, highest),
            recovery::Event::Orphan { summary, .. } => operations.handle_orphan(summary.meeting),
            recovery::Event::Unfinished { domain, meeting } => self.unfinished.note(domain, meeting),
            recovery::Event::AllAcknowledged { .. } => operations.handle_taken_over(now, &mut records.writer),
            recovery::Event::Reconciled { domain } => {
                output.changes.push_back(WorkerChange::Settle(domain));
                troubles::heal_parts(domain, records, &mut self.recovery, output);
                operations.handle_taken_over(now, &mut records.writer);
            }
            _ => {}
        }
    }

    /// Gives a domain up for good. Every part that hears of a fence tells recovery, which says so
    /// once ([`recovery::Recovery::fence`]). Where it was the last domain, the server ends.
    fn give_up(&mut self, now: Nanos, domain: Domain, by: Epoch) {
        self.terms.write_fence(domain, by, &mut self.records, &mut self.output);
        self.operations.handle_fence(now, domain, by, &mut self.records.writer);
        if self.recovery.fenced().count() == self.recovery.servers().count() {
            self.fence(by);
        }
    }

    /// Stops controlling anything at once.
    fn fence(&mut self, by: Epoch) {
        if matches!(self.end, Some(End::Fenced(_))) {
            return;
        }
        self.end = Some(End::Fenced(by));
        self.terms.leave_fences(&mut self.records, &self.recovery);
        self.output.notices.push_back(Notice::Fenced { epoch: by.0 });
    }

    pub(super) fn take_operations_events(&mut self) {
        while let Some(event) = self.operations.poll_event() {
            match event {
                OperationsEvent::Stale { highest } => self.fence(highest),
                OperationsEvent::Fenced { domain, by } => {
                    self.recovery.fence(domain, by);
                    self.is_due = true;
                }
                OperationsEvent::Unanswered { domain } => self.recovery.doubt(domain),
                OperationsEvent::Warning { meeting, what } => self.output.event(Event::Warning { meeting, what }),
                OperationsEvent::Unfinished { meeting, why, pause } => {
                    self.output.event(Event::Unfinished { meeting, why, pause });
                }
            }
        }
    }
}
