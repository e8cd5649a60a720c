//! Bringing a conference to what is wanted of it: what a death cut short is finished, what failed
//! in the midst is undone.
//!
//! Every command of it is idempotent, so that nothing need be known of how far it came.

use super::Operations;
use super::begin::{NotNow, nothing_left};
use super::enter::{join, warn};
use super::operation::{Operation, OperationId, Step, Task, Waiting};
use super::route::place;
use crate::cms::{Refusal, RefusalKind};
use crate::database::{Change, Member, WINDOW_NONE};
use crate::table::{Part, Writer};
use crate::wire::{Address, Domain, Flags, MeetingState, Message, Role};

/// What can be done about one thing that is wanted.
enum Can {
    /// It can be commanded there.
    Command(Domain),
    /// It waits for this domain.
    Later(Domain),
    /// There is nothing to be done any more.
    Nothing,
}

impl Operations {
    pub(super) fn begin_settle(
        &mut self,
        id: OperationId,
        operation: &mut Operation,
        writer: &mut Writer,
    ) -> Result<(), NotNow> {
        let meeting = operation.meeting;
        let parts: Vec<_> = writer.table().parts_of(meeting).collect();
        let Some(wanted) = self.wanted.get(&meeting).cloned() else {
            operation.finish(Ok(nothing_left(meeting)));
            return Ok(());
        };
        if parts.is_empty() {
            // It has ended, and what the database kept of it with it.
            self.wanted.remove(&meeting);
            operation.finish(Ok(nothing_left(meeting)));
            return Ok(());
        }
        operation.wants = wanted.clone();
        let becomes_chairman = |role: &Role| *role == Role::Chairman;
        operation.promotes = wanted.roles.values().chain(wanted.members.values().flatten()).any(becomes_chairman);
        let mut later = None;
        for (&terminal, &role) in &wanted.members {
            let can = match role {
                None => self.can(&parts, place(writer.table(), meeting, terminal).map(|(_, domain)| domain), terminal),
                Some(_) => self.can(&parts, None, terminal),
            };
            match (can, role) {
                (Can::Command(domain), None) => self.send(id, operation, domain, Message::MemberRemove { terminal })?,
                (Can::Command(domain), Some(role)) => {
                    let member = Member { terminal, role, flags: Flags::default(), window: WINDOW_NONE };
                    match join(writer, meeting, domain, &member) {
                        Ok(joined) => {
                            operation.note_joined(terminal, joined);
                            self.send(id, operation, domain, Message::MemberAdd { terminal, role })?;
                        }
                        // It is in another conference since.
                        Err(refusal) => {
                            tracing::warn!(%meeting, %terminal, %refusal, "it is not added after all");
                            operation.changes.push(Change::RemoveMember(meeting, terminal));
                            operation.wants.members.remove(&terminal);
                        }
                    }
                }
                (Can::Later(domain), _) => later = Some(domain),
                (Can::Nothing, _) => drop(operation.wants.members.remove(&terminal)),
            }
        }
        if wanted.layout.is_some() {
            for part in &parts {
                match self.can_command(part) {
                    Can::Command(domain) => drop(operation.layouts.insert(domain)),
                    Can::Later(domain) => later = Some(domain),
                    Can::Nothing => {}
                }
            }
        }
        for &terminal in wanted.roles.keys() {
            let found = place(writer.table(), meeting, terminal);
            let can = found.as_ref().map_or(Can::Nothing, |&(_, domain)| self.can(&parts, Some(domain), terminal));
            match (can, found) {
                (Can::Command(domain), Some((state, _))) => {
                    operation.homes.insert(terminal, domain);
                    operation.seen.insert(terminal, state.version);
                }
                (Can::Later(domain), _) => later = Some(domain),
                _ => drop(operation.wants.roles.remove(&terminal)),
            }
        }
        self.send_wanted(id, operation)?;
        match later {
            Some(domain) if operation.outstanding.is_empty() && operation.wants == wanted => {
                return Err(NotNow::Wait(Waiting::TakeOver(domain)));
            }
            Some(domain) => operation.fail(Waiting::TakeOver(domain).refusal()),
            None => {}
        }
        // Where nothing was to be sent, it is concluded at once.
        operation.step = Step::Commanding;
        Ok(())
    }

    /// What can be done about a terminal, at the part that it is a member of, or else at that of
    /// its address's domain.
    fn can(&self, parts: &[Part], home: Option<Domain>, terminal: Address) -> Can {
        let home = home.or(terminal.domain());
        let part = parts.iter().find(|part| Some(part.domain) == home);
        part.map_or(Can::Nothing, |part| self.can_command(part))
    }

    fn can_command(&self, part: &Part) -> Can {
        match part.state {
            // What is ended, or not held any more, comes to nothing; nor does what no way leads to.
            MeetingState::Ending | MeetingState::Ended | MeetingState::Missing => Can::Nothing,
            _ if !self.lanes.has(part.domain) || self.lanes.fenced_by(part.domain).is_some() => Can::Nothing,
            _ => match self.controlled(part) {
                Ok(()) => Can::Command(part.domain),
                Err(_) => Can::Later(part.domain),
            },
        }
    }

    /// Hears that one thing is so, or that nothing is to be done about it.
    pub(super) fn settled(&self, operation: &mut Operation, asked: &Message, domain: Domain) {
        if !matches!(operation.task, Task::Settle) {
            return;
        }
        match *asked {
            Message::LayoutSet { .. } => drop(operation.layouts.remove(&domain)),
            Message::MemberAdd { terminal, .. } | Message::MemberRemove { terminal } => {
                operation.wants.members.remove(&terminal);
            }
            Message::RoleSet { terminal, .. } => drop(operation.wants.roles.remove(&terminal)),
            _ => {}
        }
    }

    /// Every command is answered, or given up: what is left is tried again.
    pub(super) fn conclude_settle(&mut self, id: OperationId, operation: &mut Operation, writer: &mut Writer) {
        let waits = operation.failure.is_some();
        if operation.layouts.is_empty()
            && !waits
            && let Some(layout) = operation.wants.layout.take()
        {
            operation.changes.push(Change::Layout(operation.meeting, layout));
        }
        // Who was entered and not taken is not in it.
        for &terminal in operation.wants.members.keys() {
            if operation.joined.remove(&terminal) {
                warn(|| writer.leave(operation.meeting, terminal));
            }
        }
        self.look_for_gaps(operation, writer);
        if !operation.wants.is_empty() {
            let what = "not all of what the conference is to come to could be done";
            operation.fail(Refusal::new(RefusalKind::Busy, what, "see `baton status`"));
        }
        let left = operation.wants.clone();
        let mut changes = self.parts_now(operation, writer);
        changes.append(&mut operation.changes);
        changes.push(self.want(operation.meeting, left));
        self.commit(id, operation, changes);
    }
}
