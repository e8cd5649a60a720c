//! Settle what is wanted of a conference: what a death cut short is finished, what failed in the
//! midst is undone. What cannot be done yet stays wanted, and the errand is tried again.
//!
//! Every command of it is idempotent, so that it need not be known how far the last attempt came.

use std::collections::BTreeSet;

use super::chair::in_chair;
use super::context::Context;
use super::joining::Joining;
use super::lanes::Answered;
use super::layout::layout_set;
use super::operation::Step;
use super::refusals::{NotNow, Waiting, nothing_left};
use super::remove::removed;
use super::role::{role_set, send_roles};
use super::table_access::place;
use super::verb::Verb;
use crate::cms::{Refusal, RefusalKind};
use crate::database::{Change, Member, Wanted};
use crate::table::{Part, Table};
use crate::wire::{Address, Domain, Flags, MeetingState, Message, Role, Status, WINDOW_NONE};

#[derive(Debug, Default)]
pub(super) struct Settle {
    joining: Joining,
    /// Parts that have not taken the layout.
    layouts: BTreeSet<Domain>,
    /// A domain that something waits for.
    later: Option<Domain>,
}

/// What can be done about one thing that is wanted.
enum Can {
    /// It can be commanded there.
    Command(Domain),
    /// It waits for this domain.
    Later(Domain),
    /// There is nothing to be done any more.
    Nothing,
}

impl Verb for Settle {
    fn commands(&self, parts: usize, wanted: Option<&Wanted>) -> usize {
        wanted.map_or(0, |wanted| wanted.commands(parts))
    }

    fn begin(&mut self, context: &mut Context<'_>) -> Result<(), NotNow> {
        let meeting = context.operation.meeting;
        *self = Self::default();
        let parts: Vec<_> = context.table().parts_of(meeting).collect();
        let Some(wanted) = context.wanted_in_database().filter(|_| !parts.is_empty()) else {
            // Where there are no parts it has ended, and what the database kept of it with it.
            context.shared.wanted.remove(&meeting);
            context.shared.unsaid.remove(&meeting);
            context.operation.finish(Ok(nothing_left(meeting)));
            return Ok(());
        };
        let wanted = with_one_chairman(context.table(), &parts, wanted);
        context.operation.wants = wanted.clone();
        context.operation.promotes = wanted.names_chairman();
        self.send_members(context, &parts, &wanted)?;
        if wanted.layout.is_some() {
            self.plan_layouts(context, &parts);
        }
        self.plan_roles(context, &parts, &wanted);
        self.send(context)?;
        if let Some(domain) = self.later {
            let waiting = Waiting::TakeOver(domain);
            if context.operation.outstanding.is_empty() && context.operation.wants == wanted {
                return Err(NotNow::Wait(waiting));
            }
            context.operation.fail(waiting.refusal());
        }
        // Where nothing was to be sent, it is concluded at once.
        context.operation.step = Step::Commanding;
        Ok(())
    }

    /// Layouts and roles; what is wanted of members was sent when it was planned.
    fn send(&mut self, context: &mut Context<'_>) -> Result<(), Refusal> {
        if let Some(layout) = context.operation.wants.layout {
            self.layouts.iter().try_for_each(|&domain| context.send(domain, Message::LayoutSet { layout }))?;
        }
        send_roles(context)
    }

    fn answered(&mut self, context: &mut Context<'_>, answered: &Answered) {
        // A terminal that is gone wants nothing any more.
        let is_gone = answered.result == Err(Status::UnknownTerminal);
        let is_over = answered.result.is_ok() || is_gone;
        let wants = &mut context.operation.wants;
        match answered.asked {
            Message::MemberAdd { terminal, .. } => {
                wants.members.remove(&terminal);
                self.joining.answered(context, answered);
            }
            Message::MemberRemove { terminal } => {
                if is_over {
                    wants.members.remove(&terminal);
                }
                removed(context, answered, terminal);
            }
            Message::RoleSet { terminal, .. } => {
                if is_over {
                    wants.roles.remove(&terminal);
                }
                if !is_gone {
                    role_set(context, answered);
                }
            }
            Message::LayoutSet { layout } => {
                if is_over {
                    self.layouts.remove(&answered.domain);
                }
                if !is_gone {
                    layout_set(context, answered, layout);
                }
            }
            _ => {}
        }
    }

    fn conclude(&mut self, context: &mut Context<'_>) {
        let meeting = context.operation.meeting;
        if self.layouts.is_empty()
            && context.operation.failure.is_none()
            && let Some(layout) = context.operation.wants.layout.take()
        {
            context.operation.changes.push(Change::Layout(meeting, layout));
        }
        // A terminal that was entered and not taken is not in it.
        let not_taken: Vec<_> = context.operation.wants.members.keys().copied().collect();
        for terminal in not_taken {
            if context.operation.joined.remove(&terminal) {
                context.write(|writer| writer.leave(meeting, terminal));
            }
        }
        let mut changes = context.acknowledged();
        let left = context.operation.wants.clone();
        if !left.is_empty() {
            let what = "not all of what the conference is to come to could be done";
            context.operation.fail(Refusal::new(RefusalKind::Busy, what, "see `baton status`"));
        }
        changes.push(context.want(left));
        context.commit(changes);
    }

    /// What is done is done, and what is left is tried again.
    fn undo(&mut self, context: &mut Context<'_>) {
        self.conclude(context);
    }
}

impl Settle {
    fn send_members(&mut self, context: &mut Context<'_>, parts: &[Part], wanted: &Wanted) -> Result<(), Refusal> {
        let meeting = context.operation.meeting;
        for (&terminal, &role) in &wanted.members {
            let home = place(context.table(), meeting, terminal).filter(|_| role.is_none());
            let can = can(context, parts, home.map(|(_, domain)| domain), terminal);
            match (can, role) {
                (Can::Command(domain), None) => context.send(domain, Message::MemberRemove { terminal })?,
                (Can::Command(domain), Some(role)) => {
                    let member = Member { terminal, role, flags: Flags::default(), window: WINDOW_NONE };
                    match context.join(domain, &member) {
                        Ok(()) => context.send(domain, Message::MemberAdd { terminal, role })?,
                        // It is in another conference since.
                        Err(refusal) => {
                            context.shared.warn(meeting, format!("{terminal} is not added after all: {refusal}"));
                            context.operation.changes.push(Change::RemoveMember(meeting, terminal));
                            context.operation.wants.members.remove(&terminal);
                        }
                    }
                }
                (Can::Later(domain), _) => self.later = Some(domain),
                (Can::Nothing, _) => drop(context.operation.wants.members.remove(&terminal)),
            }
        }
        Ok(())
    }

    fn plan_layouts(&mut self, context: &Context<'_>, parts: &[Part]) {
        for part in parts {
            match can_command(context, part) {
                Can::Command(domain) => drop(self.layouts.insert(domain)),
                Can::Later(domain) => self.later = Some(domain),
                Can::Nothing => {}
            }
        }
    }

    fn plan_roles(&mut self, context: &mut Context<'_>, parts: &[Part], wanted: &Wanted) {
        for &terminal in wanted.roles.keys() {
            let found = place(context.table(), context.operation.meeting, terminal);
            let can = found.as_ref().map_or(Can::Nothing, |&(_, domain)| can(context, parts, Some(domain), terminal));
            match (can, found) {
                (Can::Command(domain), Some((state, _))) => {
                    context.operation.homes.insert(terminal, domain);
                    context.operation.seen.insert(terminal, state.version);
                }
                (Can::Later(domain), _) => self.later = Some(domain),
                _ => drop(context.operation.wants.roles.remove(&terminal)),
            }
        }
    }
}

/// Has the chairman of now give the chair up where somebody else is to be chairman. Whose wish
/// it was may not have known of that one.
fn with_one_chairman(table: &Table, parts: &[Part], mut wanted: Wanted) -> Wanted {
    if wanted.names_chairman() {
        let others = in_chair(table, parts).into_iter().filter(|other| !wanted.members.contains_key(other));
        let others: Vec<_> = others.collect();
        for other in others {
            wanted.roles.entry(other).or_insert(Role::Participant);
        }
    }
    wanted
}

/// What can be done about a terminal, at the part that it is a member of, or else at that of its
/// address's domain.
fn can(context: &Context<'_>, parts: &[Part], home: Option<Domain>, terminal: Address) -> Can {
    let home = home.or(terminal.domain());
    let part = parts.iter().find(|part| Some(part.domain) == home);
    part.map_or(Can::Nothing, |part| can_command(context, part))
}

fn can_command(context: &Context<'_>, part: &Part) -> Can {
    let lanes = &context.shared.lanes;
    match part.state {
        // What is ended, or not held any more, comes to nothing; nor does what cannot be reached.
        MeetingState::Ending | MeetingState::Ended | MeetingState::Missing => Can::Nothing,
        _ if !lanes.has(part.domain) || lanes.fenced_by(part.domain).is_some() => Can::Nothing,
        _ => match context.controlled(part) {
            Ok(()) => Can::Command(part.domain),
            Err(_) => Can::Later(part.domain),
        },
    }
}
