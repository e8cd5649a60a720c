//! Set and clear flags of a member: one command to the autonomous server of the part that it is a
//! member of.

use super::context::Context;
use super::lanes::Answered;
use super::refusals::{NotNow, declined};
use super::verb::Verb;
use crate::wire::{Address, Flags, Message};

#[derive(Debug)]
pub(super) struct SetFlags {
    pub terminal: Address,
    pub mask: Flags,
    pub value: Flags,
}

impl Verb for SetFlags {
    fn begin(&mut self, context: &mut Context<'_>) -> Result<(), NotNow> {
        let Self { terminal, mask, value } = *self;
        let domain = context.member(terminal)?;
        Ok(context.send(domain, Message::FlagsSet { terminal, mask, value })?)
    }

    fn answered(&mut self, context: &mut Context<'_>, answered: &Answered) {
        let Self { terminal, mask, value } = *self;
        match answered.result {
            Ok(_) => {
                context.note_member(terminal, |member| member.flags = member.flags.with(mask, value));
                context.note(answered.domain, None);
            }
            Err(status) => context.operation.fail(declined(answered.domain, "other flags", status)),
        }
    }
}
