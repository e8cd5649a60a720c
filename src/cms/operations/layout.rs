//! Give a conference another layout: a command to every domain, written ahead where there are
//! several, so that no death leaves it with two.

use super::context::Context;
use super::lanes::Answered;
use super::operation::PartChange;
use super::refusals::{NotNow, declined};
use super::verb::Verb;
use crate::cms::Refusal;
use crate::database::{Change, Wanted};
use crate::wire::{Domain, Layout, Message};

#[derive(Debug)]
pub(super) struct SetLayout {
    layout: Layout,
    domains: Vec<Domain>,
}

impl SetLayout {
    pub fn new(layout: Layout) -> Self {
        Self { layout, domains: Vec::new() }
    }
}

impl Verb for SetLayout {
    fn commands(&self, parts: usize, _wanted: Option<&Wanted>) -> usize {
        parts + 1
    }

    fn begin(&mut self, context: &mut Context<'_>) -> Result<(), NotNow> {
        let parts = context.parts()?;
        parts.iter().try_for_each(|part| context.controlled(part))?;
        self.domains = parts.iter().map(|part| part.domain).collect();
        context.operation.wants.layout = Some(self.layout);
        context.operation.undo.layout = parts.first().map(|part| part.layout);
        self.log_or_send(context, self.domains.len(), Vec::new())
    }

    fn send(&mut self, context: &mut Context<'_>) -> Result<(), Refusal> {
        self.domains.iter().try_for_each(|&domain| context.send(domain, Message::LayoutSet { layout: self.layout }))
    }

    fn answered(&mut self, context: &mut Context<'_>, answered: &Answered) {
        layout_set(context, answered, self.layout);
    }

    fn conclude(&mut self, context: &mut Context<'_>) {
        context.operation.changes.push(Change::Layout(context.operation.meeting, self.layout));
        context.commit_done();
    }
}

/// The answer to a command about the layout.
pub(super) fn layout_set(context: &mut Context<'_>, answered: &Answered, layout: Layout) {
    match answered.result {
        Ok(_) => context.note(answered.domain, Some(PartChange::Layout(layout))),
        Err(status) => context.operation.fail(declined(answered.domain, "another layout", status)),
    }
}
