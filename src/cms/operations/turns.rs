//! Whose turn it is: what begins, what waits, what goes on, what ends, and what is left to be done
//! without a client.

use std::cmp::Reverse;
use std::time::Duration;

use super::Operations;
use super::context::Context;
use super::event::OperationsEvent;
use super::lanes::Answered;
use super::operation::{Errand, Operation, OperationId, Step};
use super::refusals::{NotNow, Waiting, not_in_control, unreachable};
use super::verb::Verb;
use crate::cms::{ConferenceReply, Refusal, RefusalKind};
use crate::database::CommitError;
use crate::limits::{COMMANDS_WAITING_MAX, OPERATIONS_BACKGROUND_MAX};
use crate::table::Writer;
use crate::time::Nanos;
use crate::wire::{MeetingId, Message, Status};

/// How often requests that cannot begin yet are looked at again.
const RECHECK: Duration = Duration::from_millis(5);
/// How long an errand is tried before others of its kind get their turn.
const ERRAND_TURN: Duration = Duration::from_secs(30);
/// The same of one that the conference goes on without: its clients wait for no longer than that.
const SETTLE_TURN: Duration = Duration::from_secs(2);
/// After how long an errand is tried again the first time; then twice as long each time, to the
/// longest.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(64);

impl Operations {
    pub(super) fn enter(&mut self, operation: Operation, verb: Box<dyn Verb>) {
        let id = OperationId(self.next_operation);
        self.next_operation += 1;
        self.deadlines.push(Reverse((operation.deadline, id)));
        self.background += usize::from(operation.is_background());
        let meeting = operation.meeting;
        self.operations.insert(id, (operation, verb));
        self.take_turn(meeting, id);
    }

    /// Puts an operation into its conference's turn. One that is to choose its id has no turn
    /// before it has one. Errands go first: they finish what was begun, and requests that came
    /// later are to find it finished.
    fn take_turn(&mut self, meeting: MeetingId, id: OperationId) {
        if meeting == MeetingId::NONE {
            self.ready.push_back(id);
            return;
        }
        let goes_first = self.operations.get(&id).is_some_and(|(operation, _)| operation.is_background());
        let turn = self.shared.turns.entry(meeting).or_default();
        let first = turn.front().and_then(|first| self.operations.get(first));
        if goes_first && first.is_some_and(|(first, _)| first.step == Step::Waiting) {
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
        meeting == MeetingId::NONE || self.shared.turns.get(&meeting).is_some_and(|turn| turn.front() == Some(&id))
    }

    /// Begins all that may begin. Each round either begins an operation, ends one, or lets one
    /// wait.
    pub(super) fn run(&mut self, now: Nanos, writer: &mut Writer) {
        loop {
            self.take_from_backlog(now);
            let Some(id) = self.ready.pop_front() else { return };
            if !self.operations.get(&id).is_some_and(|(operation, _)| self.has_turn(operation.meeting, id)) {
                continue;
            }
            let Some((mut operation, mut verb)) = self.operations.remove(&id) else { continue };
            if let Some(highest) = self.stale {
                operation.finish(Err(not_in_control(highest)));
            } else if operation.step == Step::Waiting {
                self.begin(now, id, &mut operation, &mut *verb, writer);
            }
            if let Step::Waiting = operation.step {
                self.waiting.push_back(id);
                self.recheck.get_or_insert(now + RECHECK);
                self.operations.insert(id, (operation, verb));
                continue;
            }
            self.proceed(now, id, operation, verb, writer);
        }
    }

    /// Begins an operation, or notes what it waits for.
    fn begin(
        &mut self,
        now: Nanos,
        id: OperationId,
        operation: &mut Operation,
        verb: &mut dyn Verb,
        writer: &mut Writer,
    ) {
        let parts = writer.table().parts_of(operation.meeting).count();
        let commands = verb.commands(parts, self.shared.wanted.get(&operation.meeting));
        let begun = if self.shared.next_meeting.is_none() {
            Err(NotNow::Wait(Waiting::Database))
        } else if self.commands_promised + commands > COMMANDS_WAITING_MAX {
            Err(NotNow::Wait(Waiting::Room))
        } else {
            operation.forget_plan();
            verb.begin(&mut Context { shared: &mut self.shared, id, operation, writer })
        };
        if begun.is_err() && !operation.outstanding.is_empty() {
            // What it had sent already when it was refused.
            self.shared.lanes.give_up(id);
            operation.outstanding.clear();
            operation.step = Step::Waiting;
        }
        match begun {
            Ok(()) => {
                operation.commands = commands;
                self.commands_promised += commands;
            }
            Err(NotNow::Wait(waits_for)) if operation.deadline > now => operation.waits_for = waits_for,
            Err(NotNow::Wait(waits_for)) => operation.finish(Err(waits_for.refusal())),
            Err(NotNow::Refuse(refusal)) => operation.finish(Err(refusal)),
        }
    }

    /// Lets `act` have an operation, if it is not over, and takes it on from there.
    pub(super) fn advance(
        &mut self,
        now: Nanos,
        id: OperationId,
        writer: &mut Writer,
        act: impl FnOnce(&mut Context<'_>, &mut dyn Verb),
    ) {
        let Some((mut operation, mut verb)) = self.operations.remove(&id) else { return };
        act(&mut Context { shared: &mut self.shared, id, operation: &mut operation, writer }, &mut *verb);
        self.proceed(now, id, operation, verb, writer);
    }

    /// An autonomous server has answered a command.
    pub(super) fn answered(&mut self, now: Nanos, answered: &Answered, writer: &mut Writer) {
        self.advance(now, answered.operation, writer, |context, verb| {
            let operation = &mut *context.operation;
            if operation.step != Step::Commanding {
                return;
            }
            operation.answered_by(answered.domain);
            match answered.result {
                Ok(version) => {
                    operation.versions.entry(answered.domain).or_default().note(version, answered.already);
                }
                // The table has it otherwise: both sides are to be compared.
                Err(Status::UnknownTerminal | Status::UnknownMeeting)
                    if !matches!(answered.asked, Message::MemberAdd { .. } | Message::MeetingEnd { .. }) =>
                {
                    context.shared.unanswered.insert(answered.domain);
                }
                Err(_) => {}
            }
            verb.answered(context, answered);
        });
    }

    /// Takes what became of the commit of an operation.
    pub(super) fn committed(
        &mut self,
        now: Nanos,
        id: OperationId,
        result: Result<(), CommitError>,
        writer: &mut Writer,
    ) {
        self.advance(now, id, writer, |context, verb| match context.operation.step {
            Step::Logging | Step::Committing => self::committed(context, verb, result),
            _ => {}
        });
    }

    /// The deadline of an operation has come.
    pub(super) fn expire(&mut self, now: Nanos, id: OperationId, writer: &mut Writer) {
        let Some((operation, _)) = self.operations.get_mut(&id) else { return };
        // The database answers in the end; the client need not wait for that.
        if let Step::Logging | Step::Committing = operation.step
            && let Some(reply) = operation.reply.take()
        {
            let what = "the database has not written it in time, and may still";
            let refusal = Refusal::new(RefusalKind::Database, what, "look with `baton meeting show`, and ask again");
            self.replies.push_back((reply, Err(refusal)));
            self.background += 1;
        }
        self.advance(now, id, writer, |context, verb| match context.operation.step {
            Step::Waiting => context.operation.finish(Err(context.operation.waits_for.refusal())),
            Step::Commanding => {
                // Before both sides are compared: what is sent later, a comparison would miss.
                context.shared.lanes.give_up(id);
                let domains: Vec<_> = context.operation.outstanding.keys().copied().collect();
                context.operation.fail(unreachable(&domains, verb.unreachable_remedy()));
                context.shared.unanswered.extend(domains);
                verb.expired(context);
            }
            Step::Logging | Step::Committing | Step::Renumbering | Step::Done(_) => {}
        });
    }

    /// Takes an operation on as far as it goes without waiting, and keeps it, or ends it.
    fn proceed(
        &mut self,
        now: Nanos,
        id: OperationId,
        mut operation: Operation,
        mut verb: Box<dyn Verb>,
        writer: &mut Writer,
    ) {
        if operation.step == Step::Commanding && operation.outstanding.is_empty() {
            let context = &mut Context { shared: &mut self.shared, id, operation: &mut operation, writer };
            if context.operation.failure.is_some() { verb.undo(context) } else { verb.conclude(context) }
        }
        match &mut operation.step {
            Step::Done(result) => {
                let result = result.take();
                self.end(now, id, operation, result);
            }
            Step::Renumbering => {
                // What was begun under the number of another conference is undone, as an errand of
                // that number.
                let anew = Operation {
                    is_rewritten: operation.is_rewritten,
                    ..Operation::new(MeetingId::NONE, operation.reply, operation.deadline)
                };
                self.release(now, id, operation);
                self.operations.insert(id, (anew, verb));
                self.ready.push_back(id);
            }
            _ => drop(self.operations.insert(id, (operation, verb))),
        }
    }

    fn end(&mut self, now: Nanos, id: OperationId, mut operation: Operation, result: Option<ConferenceReply>) {
        match (operation.reply, result, operation.errand.take()) {
            (Some(reply), Some(result), _) => self.replies.push_back((reply, result)),
            // No client waits for it, and it must come to be all the same.
            (None, Some(Err(why)), Some(errand)) => {
                let pause = PAUSE.saturating_mul(1 << operation.tries.min(6)).min(PAUSE_MAX);
                self.leave(now + pause, operation.meeting, errand, operation.tries.saturating_add(1));
                self.shared.events.push_back(OperationsEvent::Unfinished { meeting: operation.meeting, why, pause });
            }
            _ => {}
        }
        self.background -= usize::from(operation.is_background());
        self.release(now, id, operation);
    }

    /// Gives up what an operation has of a conference: room for commands, and its turn.
    fn release(&mut self, now: Nanos, id: OperationId, operation: Operation) {
        self.commands_promised -= operation.commands;
        for (pause, errand) in operation.leaves {
            self.leave(now + pause, operation.meeting, errand, 0);
        }
        let Some(turn) = self.shared.turns.get_mut(&operation.meeting) else { return };
        if turn.front() == Some(&id) {
            turn.pop_front();
            self.ready.extend(turn.front());
        } else {
            turn.retain(|&other| other != id);
        }
        if turn.is_empty() {
            self.shared.turns.remove(&operation.meeting);
        }
    }

    /// Leaves an errand, unless it is there already.
    pub(super) fn leave(&mut self, not_before: Nanos, meeting: MeetingId, errand: Errand, tries: u32) {
        if self.stale.is_some() || !self.errands.insert((meeting, errand.kind())) {
            return;
        }
        self.backlog.insert((not_before, self.next_operation), (meeting, errand, tries));
        self.next_operation += 1;
    }

    fn take_from_backlog(&mut self, now: Nanos) {
        while self.background < OPERATIONS_BACKGROUND_MAX
            && let Some(entry) = self.backlog.first_entry()
            && entry.key().0 <= now
        {
            let (meeting, errand, tries) = entry.remove();
            self.errands.remove(&(meeting, errand.kind()));
            let turn = if let Errand::Settle = errand { SETTLE_TURN } else { ERRAND_TURN };
            let verb = Self::verb(&errand);
            self.enter(Operation { errand: Some(errand), tries, ..Operation::new(meeting, None, now + turn) }, verb);
        }
    }
}

/// Takes an operation on whose commit was done, or was not.
fn committed(context: &mut Context<'_>, verb: &mut dyn Verb, result: Result<(), CommitError>) {
    context.note_said(&result);
    let is_ahead = context.operation.step == Step::Logging;
    match result {
        Ok(()) if is_ahead => verb.written_ahead(context),
        Err(error) if is_ahead => verb.not_written_ahead(context, error),
        _ if verb.is_misnumbered() && context.operation.reply.is_some() => {
            context.operation.step = Step::Renumbering;
        }
        Err(error) if context.is_rewritten_for(&error) => {
            let changes = context.whole();
            context.commit(changes);
        }
        result => {
            let outcome = context.outcome(result);
            let reply = verb.answer(context, outcome);
            context.operation.finish(reply);
        }
    }
}
