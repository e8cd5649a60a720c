//! Remove a member: one command to the autonomous server of the part that it is a member of.

use super::chair::leaves_chair;
use super::context::Context;
use super::lanes::Answered;
use super::refusals::{NotNow, declined};
use super::verb::Verb;
use crate::database::Change;
use crate::wire::{Address, Message, Status};

#[derive(Debug)]
pub(super) struct Remove {
    pub terminal: Address,
}

impl Verb for Remove {
    fn begin(&mut self, context: &mut Context<'_>) -> Result<(), NotNow> {
        let domain = context.member(self.terminal)?;
        // In place of what was wanted of this terminal before.
        context.operation.wants.members.insert(self.terminal, None);
        Ok(context.send(domain, Message::MemberRemove { terminal: self.terminal })?)
    }

    fn answered(&mut self, context: &mut Context<'_>, answered: &Answered) {
        removed(context, answered, self.terminal);
    }
}

/// The answer to the removal of a terminal.
pub(super) fn removed(context: &mut Context<'_>, answered: &Answered, terminal: Address) {
    let meeting = context.operation.meeting;
    match answered.result {
        // One that the autonomous server does not know, or has in no meeting of this id, is out.
        Ok(_) | Err(Status::UnknownTerminal) => {
            context.write(|writer| writer.leave(meeting, terminal));
            leaves_chair(context, answered.domain, terminal);
            context.operation.changes.push(Change::RemoveMember(meeting, terminal));
        }
        Err(status) => context.operation.fail(declined(answered.domain, "the removal of a member", status)),
    }
}
