//! Add members: all of them that their autonomous servers take, or, where a domain does not answer,
//! none.
//!
//! A domain that has no part of the conference yet gets one, as in a start. A new chairman takes
//! the chair from the present one. One terminal that is added to a part is one command; anything
//! more is written ahead.

use std::collections::BTreeMap;

use super::chair::plan_chairman;
use super::context::Context;
use super::joining::Joining;
use super::lanes::Answered;
use super::operation::{Errand, Scope};
use super::refusals::{NotNow, bad, declined};
use super::role::{role_set, send_roles};
use super::table_access::chairmen;
use super::verb::Verb;
use crate::cms::{ConferenceReply, NewMember, Refusal, RefusalKind};
use crate::database::{Change, KeyParameters, Member, PartParameters, Wanted};
use crate::limits::{MEMBERS_MAX, PARTS_MAX};
use crate::table::Part;
use crate::wire::{Domain, Flags, MeetingState, Message, Role, WINDOW_NONE};

#[derive(Debug)]
pub(super) struct Add {
    members: Vec<Member>,
    joining: Joining,
}

impl Add {
    /// What a client asked for, made into what can be done.
    pub fn check(asked: &[NewMember], has_domain: impl Fn(Domain) -> bool) -> Result<Self, Refusal> {
        Ok(Self { members: members(asked, has_domain)?, joining: Joining::default() })
    }
}

/// The members asked for, by ascending address.
pub(super) fn members(asked: &[NewMember], has_domain: impl Fn(Domain) -> bool) -> Result<Vec<Member>, Refusal> {
    if asked.is_empty() {
        return Err(bad("no member is named", "name at least one terminal, as domain/device"));
    }
    if asked.len() > MEMBERS_MAX {
        let what = format!("{} members are named, and a conference has at most {MEMBERS_MAX}", asked.len());
        return Err(bad(what, "start several conferences"));
    }
    let mut members = BTreeMap::new();
    for &NewMember { terminal, role } in asked {
        let domain = terminal.domain().filter(|_| terminal.device() != 0).ok_or_else(|| {
            bad(format!("{terminal} is not a terminal"), "name domain and device, both from 1: 366/1001")
        })?;
        if !has_domain(domain) {
            let what = format!("domain {domain} of {terminal} is not in the configuration");
            let remedy = "add the domain to the configuration, or leave the terminal out";
            return Err(Refusal::new(RefusalKind::NotFound, what, remedy));
        }
        let member = Member { terminal, role, flags: Flags::default(), window: WINDOW_NONE };
        if members.insert(terminal, member).is_some() {
            return Err(bad(format!("{terminal} is named twice"), "name each terminal once"));
        }
    }
    let mut chairmen = members.values().filter(|member| member.role == Role::Chairman);
    if let (Some(first), Some(second)) = (chairmen.next(), chairmen.next()) {
        let what = format!("{} and {} are both named chairman", first.terminal, second.terminal);
        return Err(bad(what, "name one chairman"));
    }
    Ok(members.into_values().collect())
}

impl Verb for Add {
    fn commands(&self, parts: usize, _wanted: Option<&Wanted>) -> usize {
        2 * self.members.len() + parts
    }

    fn begin(&mut self, context: &mut Context<'_>) -> Result<(), NotNow> {
        self.joining = Joining::default();
        let new = self.plan(context)?;
        context.refuse_fenced(new.parts.iter().map(|part| part.domain))?;
        self.joining.plan(context, &new);
        self.joining.enter(context, &new)?;
        self.plan_undo(context);
        let meeting = context.operation.meeting;
        let mut changes: Vec<_> = new.parts.iter().map(|part| Change::Part(meeting, *part)).collect();
        for domain in &self.joining.starting {
            changes.extend(self.joining.adding[domain].iter().map(|member| Change::Member(meeting, *member)));
        }
        let members: usize = self.joining.adding.values().map(Vec::len).sum();
        let commands = members + context.operation.wants.roles.len();
        self.log_or_send(context, commands, changes)
    }

    fn send(&mut self, context: &mut Context<'_>) -> Result<(), Refusal> {
        self.joining.send(context);
        send_roles(context)
    }

    fn take_back(&mut self, context: &mut Context<'_>) {
        self.joining.take_back(context);
    }

    fn answered(&mut self, context: &mut Context<'_>, answered: &Answered) {
        self.joining.answered(context, answered);
        role_set(context, answered);
        if let (Message::MemberAdd { terminal, role }, Err(why)) = (answered.asked, answered.result) {
            let operation = &mut *context.operation;
            // What it was before, it is.
            operation.undo.members.remove(&terminal);
            operation.undo.roles.remove(&terminal);
            if role == Role::Chairman && !operation.wants.roles.is_empty() {
                // The present chairman gave the chair up for it.
                operation.fail(declined(answered.domain, "another chairman", why));
            }
        }
    }

    fn conclude(&mut self, context: &mut Context<'_>) {
        if !self.joining.conclude(context) {
            self.undo(context);
        }
    }

    /// The members that it added leave, the parts that it started are ended, and the chair goes
    /// back.
    fn undo(&mut self, context: &mut Context<'_>) {
        let (changes, ending) = self.joining.undo(context);
        for domain in ending {
            context.operation.leave(Errand::End(Scope::Part(domain)));
        }
        context.commit_undone(changes);
    }

    fn answer(&mut self, context: &mut Context<'_>, result: Result<(), Refusal>) -> ConferenceReply {
        result.map(|()| context.changed(std::mem::take(&mut self.joining.refused)))
    }
}

impl Add {
    /// Who is added to which part, and a new chairman; gives the parts that are new, with all
    /// members.
    fn plan(&mut self, context: &mut Context<'_>) -> Result<KeyParameters, NotNow> {
        let parts = context.parts()?;
        let there: usize = parts.iter().map(|part| usize::from(part.participants)).sum();
        if there + self.members.len() > MEMBERS_MAX {
            let what = format!("{there} terminals are in it already, and a conference has at most {MEMBERS_MAX}");
            return Err(Refusal::new(RefusalKind::Capacity, what, "start another conference").into());
        }
        let is_ending = |part: &&Part| matches!(part.state, MeetingState::Ending | MeetingState::Ended);
        if let Some(part) = parts.iter().find(is_ending) {
            context.controlled(part)?;
        }
        let first = &parts[0];
        let mut new = KeyParameters {
            meeting: first.meeting,
            run: first.run,
            name: String::new(),
            level: first.level,
            layout: first.layout,
            chairman: chairmen(context.table(), &parts).first().copied().unwrap_or_default(),
            created_ms: 0,
            parts: Vec::new(),
            members: self.members.clone(),
        };
        for member in &self.members {
            let Some(domain) = member.terminal.domain() else { continue };
            match parts.iter().find(|part| part.domain == domain) {
                Some(part) => {
                    context.controlled(part)?;
                    self.joining.adding.entry(domain).or_default().push(*member);
                }
                None if new.part(domain).is_none() => {
                    new.parts.push(PartParameters { domain, version: 0, state: MeetingState::Starting });
                }
                None => {}
            }
            if member.role == Role::Chairman {
                plan_chairman(context, member.terminal)?;
            }
        }
        if parts.len() + new.parts.len() > PARTS_MAX {
            let what = format!("it would span more than {PARTS_MAX} domains");
            return Err(Refusal::new(RefusalKind::Capacity, what, "start another conference").into());
        }
        Ok(new)
    }

    /// What is wanted, and what is to be so again: terminals that are entered by now were in no
    /// conference, and the others get another role by the same command.
    fn plan_undo(&self, context: &mut Context<'_>) {
        for &Member { terminal, role, .. } in &self.members {
            context.operation.wants.members.insert(terminal, Some(role));
            if context.operation.joined.contains(&terminal) {
                context.operation.undo.members.insert(terminal, None);
                continue;
            }
            let was = context.table().terminal(terminal).map(|state| state.role).filter(|&was| was != role);
            context.operation.undo.roles.extend(was.map(|was| (terminal, was)));
        }
    }
}
