//! How an operation begins: what it needs, what it writes ahead, and its first commands.

use super::Operations;
use super::operation::{Operation, OperationId, Scope, Step, Task, Waiting};
use super::route::{chairmen, given_up};
use crate::cms::ConferenceAnswer;
use crate::cms::{Changed, Refusal, RefusalKind};
use crate::database::{Change, JobId, KeyParameters, Member, PartParameters, Wanted};
use crate::limits::{COMMANDS_WAITING_MAX, MEETING_ID_MAX, MEMBERS_MAX, PARTS_MAX};
use crate::table::{Part, Writer};
use crate::time::Nanos;
use crate::wire::{Address, Domain, Layout, MeetingId, MeetingState, Message, Role, Run, mix};

/// The ids that are tried for a conference without one.
const CHOICES_MAX: usize = 1024;

/// Why an operation does not begin now.
pub(super) enum NotNow {
    Wait(Waiting),
    Refuse(Refusal),
}

impl From<Refusal> for NotNow {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}

impl Operations {
    /// Begins an operation, or says what it waits for.
    pub(super) fn begin(&mut self, now: Nanos, id: OperationId, operation: &mut Operation, writer: &mut Writer) {
        let commands = commands_of(operation, self.wanted.get(&operation.meeting), writer);
        let begun = if self.next_meeting.is_none() {
            Err(NotNow::Wait(Waiting::Database))
        } else if self.commands_promised + commands > COMMANDS_WAITING_MAX {
            Err(NotNow::Wait(Waiting::Room))
        } else {
            operation.forget_plan();
            self.begin_task(id, operation, writer)
        };
        if begun.is_err() && !operation.outstanding.is_empty() {
            // What it had sent already when it was refused.
            self.lanes.give_up(id);
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

    fn begin_task(&mut self, id: OperationId, operation: &mut Operation, writer: &mut Writer) -> Result<(), NotNow> {
        match operation.task.clone() {
            Task::Start(parameters) => self.begin_start(id, operation, *parameters, writer),
            Task::Resume(parameters) => self.begin_resume(id, operation, &parameters, writer),
            Task::Add(members) => self.begin_add(id, operation, &members, writer),
            Task::Remove(terminal) => {
                let domain = self.member(operation, terminal, writer)?;
                operation.wants.members.insert(terminal, None);
                Ok(self.send(id, operation, domain, Message::MemberRemove { terminal })?)
            }
            Task::SetRole(terminal, role) => self.begin_role(id, operation, terminal, role, writer),
            Task::SetFlags { terminal, mask, value } => {
                let domain = self.member(operation, terminal, writer)?;
                Ok(self.send(id, operation, domain, Message::FlagsSet { terminal, mask, value })?)
            }
            Task::SetLayout(layout) => self.begin_layout(id, operation, layout, writer),
            Task::Settle => self.begin_settle(id, operation, writer),
            Task::End(scope) => self.begin_end(id, operation, scope, writer),
        }
    }

    fn begin_start(
        &mut self,
        id: OperationId,
        operation: &mut Operation,
        mut parameters: KeyParameters,
        writer: &mut Writer,
    ) -> Result<(), NotNow> {
        if operation.meeting == MeetingId::NONE {
            operation.meeting = self.choose_id(writer)?;
            self.turns.entry(operation.meeting).or_default().push_back(id);
        }
        (parameters.meeting, parameters.run) = (operation.meeting, self.draw_run());
        if writer.table().parts_of(operation.meeting).next().is_some() {
            return Err(NotNow::Refuse(exists(operation.meeting)));
        }
        self.are_ours(&parameters)?;
        self.plan(operation, &parameters);
        self.enter_into_table(operation, &parameters, writer)?;
        let mut changes = vec![Change::Create(parameters.clone())];
        changes.extend(operation.chose_id.then_some(Change::Chosen(operation.meeting)));
        self.log(id, operation, changes);
        operation.task = Task::Start(Box::new(parameters));
        Ok(())
    }

    /// A run that no conference has: 64 bits of what this engine's random number gives.
    fn draw_run(&mut self) -> Run {
        let (drawn, from) = &mut self.runs;
        *drawn += 1;
        Run(mix(*from ^ mix(*drawn)).max(1))
    }

    fn choose_id(&mut self, writer: &Writer) -> Result<MeetingId, Refusal> {
        for _ in 0..CHOICES_MAX {
            // Behind the highest that a client may choose they begin again: what is in use is
            // passed over.
            let choice =
                self.next_meeting.filter(|next| (1..=MEETING_ID_MAX).contains(&next.0)).unwrap_or(MeetingId(1));
            self.next_meeting = Some(MeetingId(choice.0 + 1));
            if !self.taken.contains(&choice)
                && !self.turns.contains_key(&choice)
                && writer.table().parts_of(choice).next().is_none()
            {
                return Ok(choice);
            }
        }
        let what = "no free id was found";
        Err(Refusal::new(RefusalKind::Conflict, what, "give the conference an id that was never used"))
    }

    /// What a start cut short left to be done.
    fn begin_resume(
        &mut self,
        id: OperationId,
        operation: &mut Operation,
        parameters: &KeyParameters,
        writer: &mut Writer,
    ) -> Result<(), NotNow> {
        self.plan(operation, parameters);
        let is_starting = |&domain: &Domain| {
            writer.table().part(operation.meeting, domain).is_some_and(|part| part.state == MeetingState::Starting)
        };
        // Somebody may have ended it meanwhile, and what is ended is not started again.
        operation.starting.retain(is_starting);
        operation.adding.retain(|domain, _| is_starting(domain));
        if operation.starting.is_empty() {
            operation.finish(Ok(nothing_left(operation.meeting)));
            return Ok(());
        }
        self.enter_whom_it_can(operation, writer);
        self.send_starts(id, operation);
        Ok(())
    }

    /// Whether no other dispatch server controls a domain of these parts.
    fn are_ours(&self, parameters: &KeyParameters) -> Result<(), Refusal> {
        let fenced = |domain| self.lanes.fenced_by(domain).map(|by| given_up(domain, by));
        parameters.parts.iter().find_map(|part| fenced(part.domain)).map_or(Ok(()), Err)
    }

    /// Which parts are started and who is added: those of the parts that are `starting`.
    fn plan(&self, operation: &mut Operation, parameters: &KeyParameters) {
        operation.head = Some((parameters.level, parameters.layout, parameters.chairman, parameters.run));
        for part in parameters.parts.iter().filter(|part| part.state == MeetingState::Starting) {
            if self.lanes.has(part.domain) {
                operation.starting.push(part.domain);
                operation.adding.insert(part.domain, parameters.members_in(part.domain).copied().collect());
            }
        }
    }

    fn begin_add(
        &mut self,
        id: OperationId,
        operation: &mut Operation,
        members: &[Member],
        writer: &mut Writer,
    ) -> Result<(), NotNow> {
        let meeting = operation.meeting;
        let parts = self.parts(meeting, writer)?;
        let there: usize = parts.iter().map(|part| usize::from(part.participants)).sum();
        if there + members.len() > MEMBERS_MAX {
            let what = format!("{there} terminals are in it already, and a conference has at most {MEMBERS_MAX}");
            return Err(Refusal::new(RefusalKind::Capacity, what, "start another conference").into());
        }
        if let Some(part) = parts.iter().find(|part| part.state == MeetingState::Ending) {
            self.controlled(part)?;
        }
        let Some(first) = parts.first() else { return Ok(()) };
        let chairmen = chairmen(writer.table(), &parts);
        let mut parameters = KeyParameters {
            meeting,
            run: first.run,
            name: String::new(),
            level: first.level,
            layout: first.layout,
            chairman: chairmen.first().copied().unwrap_or_default(),
            created_ms: 0,
            parts: Vec::new(),
            members: members.to_vec(),
        };
        for member in members {
            let Some(domain) = member.terminal.domain() else { continue };
            match parts.iter().find(|part| part.domain == domain) {
                Some(part) => {
                    self.controlled(part)?;
                    operation.adding.entry(domain).or_default().push(*member);
                }
                None if parameters.part(domain).is_none() => {
                    let state = MeetingState::Starting;
                    parameters.parts.push(PartParameters { domain, version: 0, state });
                }
                None => {}
            }
            if member.role == Role::Chairman {
                self.want_chairman(operation, member.terminal, &chairmen, writer)?;
            }
        }
        if parts.len() + parameters.parts.len() > PARTS_MAX {
            let what = format!("it would span more than {PARTS_MAX} domains");
            return Err(Refusal::new(RefusalKind::Capacity, what, "start another conference").into());
        }
        self.are_ours(&parameters)?;
        self.plan(operation, &parameters);
        self.enter_into_table(operation, &parameters, writer)?;
        operation.wants.members.extend(members.iter().map(|member| (member.terminal, Some(member.role))));
        operation.undo.members.extend(operation.joined.iter().map(|&terminal| (terminal, None)));
        // Who is in it already gets its role by the same command.
        for &Member { terminal, role, .. } in members.iter().filter(|it| !operation.joined.contains(&it.terminal)) {
            let was = writer.table().terminal(terminal).map(|state| state.role).filter(|&was| was != role);
            operation.undo.roles.extend(was.map(|was| (terminal, was)));
        }
        let mut changes: Vec<_> = parameters.parts.iter().map(|part| Change::Part(meeting, *part)).collect();
        for domain in &operation.starting {
            changes.extend(operation.adding[domain].iter().map(|member| Change::Member(meeting, *member)));
        }
        self.write_ahead_or_send(id, operation, changes)
    }

    fn begin_layout(
        &mut self,
        id: OperationId,
        operation: &mut Operation,
        layout: Layout,
        writer: &Writer,
    ) -> Result<(), NotNow> {
        let parts = self.parts(operation.meeting, writer)?;
        parts.iter().try_for_each(|part| self.controlled(part))?;
        operation.layouts = parts.iter().map(|part| part.domain).collect();
        operation.wants.layout = Some(layout);
        operation.undo.layout = parts.first().map(|part| part.layout);
        self.write_ahead_or_send(id, operation, Vec::new())
    }

    fn begin_role(
        &mut self,
        id: OperationId,
        operation: &mut Operation,
        terminal: Address,
        role: Role,
        writer: &Writer,
    ) -> Result<(), NotNow> {
        self.member(operation, terminal, writer)?;
        if role == Role::Chairman {
            let chairmen = chairmen(writer.table(), &self.parts(operation.meeting, writer)?);
            self.want_chairman(operation, terminal, &chairmen, writer)?;
        }
        operation.wants.roles.insert(terminal, role);
        let was = writer.table().terminal(terminal).map_or(Role::Participant, |state| state.role);
        operation.undo.roles.insert(terminal, was);
        self.write_ahead_or_send(id, operation, Vec::new())
    }

    /// Plans that somebody becomes chairman: whoever is it now gives the chair up.
    fn want_chairman(
        &self,
        operation: &mut Operation,
        terminal: Address,
        chairmen: &[Address],
        writer: &Writer,
    ) -> Result<(), NotNow> {
        operation.promotes = true;
        for &other in chairmen.iter().filter(|&&other| other != terminal) {
            match self.member(operation, other, writer) {
                Ok(_) => {
                    operation.wants.roles.insert(other, Role::Participant);
                    operation.undo.roles.insert(other, Role::Chairman);
                }
                // Who is no member any more cannot be asked to give the chair up, and need not.
                Err(NotNow::Refuse(_)) => {}
                Err(wait) => return Err(wait),
            }
        }
        Ok(())
    }

    /// Writes ahead what takes several commands, with `changes`; one command is sent at once, for
    /// it is carried out or not.
    fn write_ahead_or_send(
        &mut self,
        id: OperationId,
        operation: &mut Operation,
        mut changes: Vec<Change>,
    ) -> Result<(), NotNow> {
        let members: usize = operation.adding.values().map(Vec::len).sum();
        let commands = members + operation.wants.roles.len() + operation.layouts.len();
        if commands <= 1 && changes.is_empty() {
            return Ok(self.send_wanted(id, operation)?);
        }
        let wanted = self.wanted.get(&operation.meeting).cloned().unwrap_or_default().with(&operation.wants);
        changes.push(Change::Want(operation.meeting, wanted));
        self.log(id, operation, changes);
        Ok(())
    }

    fn begin_end(
        &mut self,
        id: OperationId,
        operation: &mut Operation,
        scope: Scope,
        writer: &mut Writer,
    ) -> Result<(), NotNow> {
        let mut parts = match self.parts(operation.meeting, writer) {
            // It is ended already, by whoever.
            Err(NotNow::Refuse(_)) if operation.is_errand => Vec::new(),
            parts => parts?,
        };
        if let Scope::Part(domain) = scope {
            parts.retain(|part| part.domain == domain);
        }
        if parts.is_empty() {
            operation.finish(Ok(nothing_left(operation.meeting)));
            return Ok(());
        }
        if !operation.is_errand {
            // Nothing is written ahead of what is somebody else's to end.
            let fenced = |part: &Part| self.lanes.fenced_by(part.domain).map(|by| given_up(part.domain, by));
            if let Some(refusal) = parts.iter().find_map(fenced) {
                return Err(refusal.into());
            }
        }
        let changes = parts.iter().map(|part| {
            let part = PartParameters { domain: part.domain, version: part.version, state: MeetingState::Ending };
            Change::Part(operation.meeting, part)
        });
        let changes = changes.collect();
        operation.starting = parts.iter().map(|part| part.domain).collect();
        self.log(id, operation, changes);
        Ok(())
    }

    pub(super) fn log(&mut self, id: OperationId, operation: &mut Operation, changes: Vec<Change>) {
        operation.step = Step::Logging;
        self.commits.push_back((JobId(id.0), changes));
    }

    /// Sends what an operation wants of members and parts.
    pub(super) fn send_wanted(&mut self, id: OperationId, operation: &mut Operation) -> Result<(), Refusal> {
        self.send_starts(id, operation);
        for domain in operation.layouts.clone() {
            let Some(layout) = operation.wants.layout else { break };
            self.send(id, operation, domain, Message::LayoutSet { layout })?;
        }
        let mut roles: Vec<_> = operation.wants.roles.iter().map(|(&terminal, &role)| (terminal, role)).collect();
        // The chair is never empty for longer than need be.
        roles.sort_by_key(|&(_, role)| role != Role::Chairman);
        for (terminal, role) in roles {
            if let Some(&domain) = operation.homes.get(&terminal) {
                self.send(id, operation, domain, Message::RoleSet { terminal, role })?;
            }
        }
        Ok(())
    }

    /// Starts the parts that are new; adds the members of those that are not.
    pub(super) fn send_starts(&mut self, id: OperationId, operation: &mut Operation) {
        operation.step = Step::Commanding;
        let domains: Vec<_> = operation.adding.keys().copied().collect();
        for domain in domains {
            match operation.head.filter(|_| operation.starting.contains(&domain)) {
                Some((level, layout, chairman, run)) => {
                    let participants = operation.adding[&domain].len() as u16;
                    let message = Message::MeetingStart { level, layout, chairman, participants, run };
                    self.send_or_fail(id, operation, domain, message);
                }
                None => self.send_adds(id, operation, domain),
            }
        }
    }

    pub(super) fn send_adds(&mut self, id: OperationId, operation: &mut Operation, domain: Domain) {
        for Member { terminal, role, .. } in operation.adding.remove(&domain).unwrap_or_default() {
            self.send_or_fail(id, operation, domain, Message::MemberAdd { terminal, role });
        }
    }

    /// As [`Self::send`], where others are on their way already.
    pub(super) fn send_or_fail(
        &mut self,
        id: OperationId,
        operation: &mut Operation,
        domain: Domain,
        message: Message,
    ) {
        if let Err(refusal) = self.send(id, operation, domain, message) {
            operation.fail(refusal);
        }
    }
}

/// What is told of an errand that somebody else has done.
pub(super) fn nothing_left(meeting: MeetingId) -> ConferenceAnswer {
    ConferenceAnswer::Changed(Changed { meeting, parts: Vec::new(), refused: Vec::new() })
}

/// How many commands an operation has, roughly from above.
fn commands_of(operation: &Operation, wanted: Option<&Wanted>, writer: &Writer) -> usize {
    match &operation.task {
        Task::Start(parameters) | Task::Resume(parameters) => parameters.members.len() + parameters.parts.len(),
        Task::Add(members) => 2 * members.len() + writer.table().parts_of(operation.meeting).count(),
        Task::SetLayout(_) | Task::SetRole(..) => writer.table().parts_of(operation.meeting).count() + 1,
        Task::End(_) => 2 * writer.table().parts_of(operation.meeting).count(),
        Task::Settle => wanted.map_or(0, |wanted| wanted.commands(writer.table().parts_of(operation.meeting).count())),
        Task::Remove(_) | Task::SetFlags { .. } => 1,
    }
}

pub(super) fn exists(meeting: MeetingId) -> Refusal {
    let what = format!("meeting {meeting} exists already");
    Refusal::new(RefusalKind::Conflict, what, "choose another id, or none for the next free one")
}
