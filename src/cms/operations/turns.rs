//! Whose turn it is: what begins, what waits, what ends, and what is left to be done without a
//! client.

use std::time::Duration;

use super::operation::{Operation, OperationId, Step, Task};
use super::{Operations, not_in_control};
use crate::limits::OPERATIONS_BACKGROUND_MAX;
use crate::table::Writer;
use crate::time::Nanos;
use crate::wire::MeetingId;
use std::cmp::Reverse;

/// How often requests that cannot begin yet are looked at again.
const RECHECK: Duration = Duration::from_millis(5);
/// How long an errand is tried before others of its kind get their turn.
const ERRAND_TURN: Duration = Duration::from_secs(30);
/// The same of one that the conference goes on without: clients of it wait for no longer than that.
const SETTLE_TURN: Duration = Duration::from_secs(2);
/// After how long an errand is tried again the first time; then twice as long each time, to the
/// longest.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(64);
impl Operations {
    pub(super) fn enter(&mut self, meeting: MeetingId, operation: Operation) {
        let id = OperationId(self.next_operation);
        self.next_operation += 1;
        self.deadlines.push(Reverse((operation.deadline, id)));
        self.background += usize::from(operation.reply.is_none());
        self.operations.insert(id, operation);
        self.take_turn(meeting, id);
    }

    /// Puts an operation into its conference's turn. One that is to choose its id has no turn
    /// before it has one. What nobody asked for goes first: it finishes what was begun, and what
    /// was asked for later is to find it finished.
    fn take_turn(&mut self, meeting: MeetingId, id: OperationId) {
        if meeting == MeetingId::NONE {
            self.ready.push_back(id);
            return;
        }
        let goes_first = self.operations.get(&id).is_some_and(|operation| operation.is_background);
        let turn = self.turns.entry(meeting).or_default();
        let first = turn.front().and_then(|first| self.operations.get(first));
        if goes_first && first.is_some_and(|first| first.step == Step::Waiting) {
            turn.push_front(id);
        } else {
            turn.push_back(id);
        }
        if turn.front() == Some(&id) {
            self.ready.push_back(id);
        }
    }

    /// Whether an operation is the one of its conference that may begin.
    fn has_turn(&self, meeting: MeetingId, id: OperationId) -> bool {
        meeting == MeetingId::NONE || self.turns.get(&meeting).is_some_and(|turn| turn.front() == Some(&id))
    }

    /// Begins whatever may begin. Each round either begins an operation, ends one, or lets one
    /// wait.
    pub(super) fn run(&mut self, now: Nanos, writer: &mut Writer) {
        loop {
            self.take_from_backlog(now);
            let Some(id) = self.ready.pop_front() else { return };
            let may_begin = |operation: &Operation| self.has_turn(operation.meeting, id);
            if !self.operations.get(&id).is_some_and(may_begin) {
                continue;
            }
            let Some(mut operation) = self.operations.remove(&id) else { continue };
            if let Some(highest) = self.stale {
                operation.finish(Err(not_in_control(highest)));
            } else if operation.step == Step::Waiting {
                self.begin(now, id, &mut operation, writer);
            }
            if let Step::Waiting = operation.step {
                self.waiting.push_back(id);
                self.recheck.get_or_insert(now + RECHECK);
                self.operations.insert(id, operation);
                continue;
            }
            self.proceed(now, id, operation, writer);
        }
    }

    fn take_from_backlog(&mut self, now: Nanos) {
        while self.background < OPERATIONS_BACKGROUND_MAX
            && let Some(entry) = self.backlog.first_entry()
            && entry.key().0 <= now
        {
            let (meeting, task, tries) = entry.remove();
            let turn = if let Task::Settle = task { SETTLE_TURN } else { ERRAND_TURN };
            if let Some(errand) = task.errand() {
                self.errands.remove(&(meeting, errand));
            }
            let operation = Operation { tries, ..Operation::new(meeting, task, None, now + turn) };
            self.enter(meeting, operation);
        }
    }

    /// Leaves an errand, unless it is there already.
    pub(super) fn leave(&mut self, not_before: Nanos, meeting: MeetingId, task: Task, tries: u32) {
        if self.stale.is_some() || task.errand().is_some_and(|errand| !self.errands.insert((meeting, errand))) {
            return;
        }
        self.backlog.insert((not_before, self.next_operation), (meeting, task, tries));
        self.next_operation += 1;
    }

    /// Takes an operation on as far as it goes without waiting, and files it again, or ends it.
    pub(super) fn proceed(&mut self, now: Nanos, id: OperationId, mut operation: Operation, writer: &mut Writer) {
        if operation.step == Step::Commanding && operation.outstanding.is_empty() {
            self.conclude(id, &mut operation, writer);
        }
        let Step::Done(result) = &mut operation.step else {
            self.operations.insert(id, operation);
            return;
        };
        match (operation.reply, result.take()) {
            (Some(reply), Some(result)) => self.replies.push_back((reply, result)),
            // Nobody waits for it, and it must come to be all the same.
            (None, Some(Err(why))) if operation.is_errand => {
                let pause = PAUSE.saturating_mul(1 << operation.tries.min(6)).min(PAUSE_MAX);
                let tries = operation.tries.saturating_add(1);
                self.leave(now + pause, operation.meeting, operation.task.clone(), tries);
                self.unfinished.push_back((operation.meeting, why, pause));
            }
            _ => {}
        }
        self.background -= usize::from(operation.is_background);
        self.commands_promised -= operation.commands;
        // An end that was not answered, or declined, was tried just now.
        let pause = if let Task::End(_) = operation.task { PAUSE } else { Duration::ZERO };
        for task in operation.leaves {
            self.leave(now + pause, operation.meeting, task, 0);
        }
        self.leave_turn(id, operation.meeting);
    }

    pub(super) fn leave_turn(&mut self, id: OperationId, meeting: MeetingId) {
        let Some(turn) = self.turns.get_mut(&meeting) else { return };
        if turn.front() == Some(&id) {
            turn.pop_front();
            self.ready.extend(turn.front());
        } else {
            turn.retain(|&other| other != id);
        }
        if turn.is_empty() {
            self.turns.remove(&meeting);
        }
    }
}
