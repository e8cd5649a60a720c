//! Give a member another role. A new chairman takes the chair from the present one, which becomes a
//! participant: two commands, and therefore written ahead.

use super::chair::{leaves_chair, plan_chairman, takes_chair};
use super::context::Context;
use super::lanes::Answered;
use super::refusals::{NotNow, declined};
use super::verb::Verb;
use crate::cms::Refusal;
use crate::database::Wanted;
use crate::wire::{Address, Message, Role, Status};

#[derive(Debug)]
pub(super) struct SetRole {
    pub terminal: Address,
    pub role: Role,
}

impl Verb for SetRole {
    fn commands(&self, parts: usize, _wanted: Option<&Wanted>) -> usize {
        parts + 1
    }

    fn begin(&mut self, context: &mut Context<'_>) -> Result<(), NotNow> {
        let Self { terminal, role } = *self;
        context.member(terminal)?;
        if role == Role::Chairman {
            plan_chairman(context, terminal)?;
        }
        let was = context.table().terminal(terminal).map_or(Role::Participant, |state| state.role);
        context.operation.wants.roles.insert(terminal, role);
        context.operation.undo.roles.insert(terminal, was);
        let commands = context.operation.wants.roles.len();
        self.log_or_send(context, commands, Vec::new())
    }

    fn send(&mut self, context: &mut Context<'_>) -> Result<(), Refusal> {
        send_roles(context)
    }

    fn answered(&mut self, context: &mut Context<'_>, answered: &Answered) {
        role_set(context, answered);
    }
}

/// Commands the roles that the operation wants.
pub(super) fn send_roles(context: &mut Context<'_>) -> Result<(), Refusal> {
    let mut roles: Vec<_> = context.operation.wants.roles.iter().map(|(&terminal, &role)| (terminal, role)).collect();
    // The chair is never empty for longer than need be.
    roles.sort_by_key(|&(_, role)| role != Role::Chairman);
    for (terminal, role) in roles {
        if let Some(&domain) = context.operation.homes.get(&terminal) {
            context.send(domain, Message::RoleSet { terminal, role })?;
        }
    }
    Ok(())
}

/// The answer to a command about a role; to other commands none.
pub(super) fn role_set(context: &mut Context<'_>, answered: &Answered) {
    let Message::RoleSet { terminal, role } = answered.asked else { return };
    match answered.result {
        Ok(_) => {
            context.note_member(terminal, |member| member.role = role);
            if role == Role::Chairman {
                takes_chair(context, answered.domain, terminal);
            } else {
                leaves_chair(context, answered.domain, terminal);
            }
        }
        // One that is no member any more has no chair to give up.
        Err(Status::UnknownTerminal) if role != Role::Chairman && context.operation.promotes => {}
        Err(status) => context.operation.fail(declined(answered.domain, "another role", status)),
    }
}
