//! Resume what a death cut short: which errands that takes, and the one that finishes a start.
//!
//! A start goes on with the parts and members that can be had, for nobody was promised the rest:
//! parts that their autonomous servers decline are left out, and so are terminals that are in
//! another conference since.

use std::sync::Arc;

use super::context::{Context, Shared};
use super::joining::Joining;
use super::lanes::Answered;
use super::operation::{Errand, Scope};
use super::refusals::{NotNow, nothing_left};
use super::table_access::{chairmen, is_begun, part_of};
use super::verb::Verb;
use crate::database::{Change, KeyParameters, Wanted};
use crate::table::{Part, Writer};
use crate::wire::{Domain, MeetingState};

/// Takes the parts out of the table that are `starting`, `ending` or `ended` in it and not in the
/// database: a start is written ahead before anybody is told of it, so nobody was; an end is in the
/// database before the table forgets it, so it is done.
pub(super) fn take_out_unknown(shared: &mut Shared, unfinished: &[KeyParameters], writer: &mut Writer) {
    let is_known = |part: &Part| {
        let found = unfinished.binary_search_by_key(&part.meeting, |parameters| parameters.meeting).ok();
        found.and_then(|index| unfinished[index].part(part.domain)).is_some()
    };
    let is_left = |part: &Part| is_begun(part) && !is_known(part);
    let left: Vec<_> = writer.table().parts().filter(is_left).collect();
    for Part { meeting, domain, .. } in left {
        shared.write(writer, meeting, |writer| writer.remove_part(meeting, domain));
    }
}

/// Enters into the table what the database says of an unfinished conference, and gives the errands
/// that finish it. All of them are idempotent at the autonomous servers.
pub(super) fn errands(shared: &mut Shared, parameters: KeyParameters, writer: &mut Writer) -> Vec<Errand> {
    let meeting = parameters.meeting;
    let in_state = |state| parameters.parts.iter().filter(move |part| part.state == state);
    for part in in_state(MeetingState::Ending).chain(in_state(MeetingState::Starting)) {
        match writer.table().part(meeting, part.domain) {
            // The last engine died between the database and the table.
            Some(found) if found.state != part.state => shared.write(writer, meeting, |writer| {
                writer.update_part(meeting, part.domain, |found| found.state = part.state)
            }),
            Some(_) => {}
            None => {
                let entered = part_of(&parameters, part.domain, part.state);
                shared.write(writer, meeting, |writer| writer.insert_part(&entered));
            }
        }
    }
    let ending: Vec<_> = in_state(MeetingState::Ending).map(|part| part.domain).collect();
    if ending.len() == parameters.parts.len() {
        return vec![Errand::End(Scope::All)];
    }
    let mut errands: Vec<_> = ending.into_iter().map(|domain| Errand::End(Scope::Part(domain))).collect();
    if in_state(MeetingState::Starting).next().is_some() {
        errands.push(Errand::Resume(Arc::new(parameters)));
    }
    errands
}

#[derive(Debug)]
pub(super) struct Resume {
    parameters: Arc<KeyParameters>,
    joining: Joining,
}

impl Resume {
    pub fn new(parameters: Arc<KeyParameters>) -> Self {
        Self { parameters, joining: Joining::default() }
    }
}

impl Verb for Resume {
    fn commands(&self, _parts: usize, _wanted: Option<&Wanted>) -> usize {
        self.parameters.members.len() + self.parameters.parts.len()
    }

    fn begin(&mut self, context: &mut Context<'_>) -> Result<(), NotNow> {
        let meeting = context.operation.meeting;
        self.joining = Joining::default();
        let parameters = self.as_it_is(context);
        self.joining.plan(context, &parameters);
        let is_starting = |&domain: &Domain| {
            context.table().part(meeting, domain).is_some_and(|part| part.state == MeetingState::Starting)
        };
        // A client may have ended it meanwhile, and what is ended is not started again.
        self.joining.starting.retain(is_starting);
        self.joining.adding.retain(|domain, _| is_starting(domain));
        if self.joining.starting.is_empty() {
            context.operation.finish(Ok(nothing_left(meeting)));
            return Ok(());
        }
        self.enter(context);
        self.joining.send(context);
        Ok(())
    }

    fn answered(&mut self, context: &mut Context<'_>, answered: &Answered) {
        self.joining.answered(context, answered);
    }

    fn expired(&mut self, context: &mut Context<'_>) {
        context.operation.finish_failed();
    }

    /// The conference goes on with the parts that were started and the members that were taken;
    /// where there is none of these, the parts are ended.
    fn conclude(&mut self, context: &mut Context<'_>) {
        let meeting = context.operation.meeting;
        let is_empty = self.joining.accepted.is_empty();
        let mut ended = Vec::new();
        for domain in std::mem::take(&mut self.joining.starting) {
            if self.joining.declined.contains(&domain) {
                context.write(|writer| writer.remove_part(meeting, domain));
                ended.push(Change::RemovePart(meeting, domain));
            } else if is_empty {
                context.operation.leave(Errand::End(Scope::Part(domain)));
            } else {
                // Its members may have been there before, and have said what this table has not
                // heard, or has forgotten with a start that was taken back: they are asked for.
                context.write_part(domain, |part| (part.state, part.in_doubt) = (MeetingState::InMeeting, true));
            }
        }
        let mut changes = context.acknowledged();
        changes.append(&mut ended);
        if context.table().parts_of(meeting).next().is_none() {
            changes = vec![Change::Forget(meeting)];
        }
        context.commit(changes);
    }

    fn undo(&mut self, context: &mut Context<'_>) {
        if let Some(refusal) = context.operation.failure.take() {
            let what = format!("a start that was cut short goes on without some of it: {refusal}");
            context.shared.warn(context.operation.meeting, what);
        }
        self.conclude(context);
    }
}

impl Resume {
    /// The conference with the layout and the chairman that it has by now: parts that go on may
    /// have got others since the database was written, and those that are started now are to have
    /// the same.
    fn as_it_is(&self, context: &Context<'_>) -> KeyParameters {
        let mut parameters = (*self.parameters).clone();
        let table = context.table();
        let mut going_on: Vec<_> = table.parts_of(parameters.meeting).collect();
        going_on.retain(|part| !is_begun(part));
        let first = going_on.iter().min_by_key(|part| (part.state != MeetingState::InMeeting, part.domain));
        if let Some(first) = first {
            parameters.layout = first.layout;
            parameters.chairman = chairmen(table, &going_on).first().copied().unwrap_or_default();
        }
        parameters
    }

    /// Enters the members into the table, as far as that can be done.
    fn enter(&mut self, context: &mut Context<'_>) {
        let meeting = context.operation.meeting;
        for (&domain, members) in &mut self.joining.adding {
            members.retain(|member| match context.join(domain, member) {
                Ok(()) => true,
                Err(refusal) => {
                    let what = format!("a start goes on without {}: {refusal}", member.terminal);
                    context.shared.warn(meeting, what);
                    context.operation.changes.push(Change::RemoveMember(meeting, member.terminal));
                    false
                }
            });
        }
    }
}
