//! How an operation begins: what it needs, what it writes ahead, and its first commands.

use super::operation::{Operation, OperationId, Scope, Step, Task, Waiting};
use super::{Operations, check};
use crate::cms::{Change, JobId, KeyParameters, Member, PartParameters, Refusal, RefusalKind};
use crate::limits::{COMMANDS_WAITING_MAX, MEMBERS_MAX, PARTS_MAX};
use crate::table::{Part, TableError, Terminal, Writer};
use crate::time::Nanos;
use crate::wire::{Address, Domain, Epoch, MeetingId, MeetingState, Message, Role, Run, mix};

/// The ids that are tried for a conference without one.
const CHOICES_MAX: usize = 1024;

/// How often a change of the table is tried while another writer holds the record.
const TRIES: usize = 1000;

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
        let commands = commands_of(operation, writer);
        let begun = if self.next_meeting.is_none() {
            Err(NotNow::Wait(Waiting::Database))
        } else if self.commands_promised + commands > COMMANDS_WAITING_MAX {
            Err(NotNow::Wait(Waiting::Room))
        } else {
            operation.forget_plan();
            self.begin_task(id, operation, writer)
        };
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
                self.member(operation, terminal, writer)?;
                operation.was_chairman = chairmen(&self.parts(operation.meeting, writer)?).any(|it| it == terminal);
                self.command(id, operation, terminal, Message::MemberRemove { terminal })
            }
            Task::SetRole(terminal, role) => self.begin_role(id, operation, terminal, role, writer),
            Task::SetFlags { terminal, mask, value } => {
                self.member(operation, terminal, writer)?;
                self.command(id, operation, terminal, Message::FlagsSet { terminal, mask, value })
            }
            Task::SetLayout(layout) => {
                let parts = self.parts(operation.meeting, writer)?;
                parts.iter().try_for_each(|part| self.controlled(part))?;
                for part in parts {
                    self.send(id, operation, part.domain, Message::LayoutSet { layout });
                }
                Ok(())
            }
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
        self.plan(operation, &parameters);
        self.enter_into_table(operation, &parameters, writer)?;
        self.log(id, operation, vec![Change::Create(parameters.clone())]);
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
            let choice = self.next_meeting.unwrap_or(MeetingId(1));
            self.next_meeting = Some(MeetingId(choice.0.saturating_add(1)));
            if !self.turns.contains_key(&choice) && writer.table().parts_of(choice).next().is_none() {
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
        self.enter_into_table(operation, parameters, writer)?;
        self.send_starts(id, operation);
        Ok(())
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

    /// Enters the parts that are started and everybody who is added; all of it or nothing.
    fn enter_into_table(
        &self,
        operation: &mut Operation,
        parameters: &KeyParameters,
        writer: &mut Writer,
    ) -> Result<(), Refusal> {
        let meeting = operation.meeting;
        let mut entered = Vec::new();
        let mut enter = || {
            for &domain in &operation.starting {
                let part = part_of(parameters, domain, MeetingState::Starting);
                match insist(|| writer.insert_part(&part)) {
                    Ok(()) => entered.push(domain),
                    Err(TableError::Exists) => {}
                    Err(error) => return Err(refused_by_table(error)),
                }
            }
            for (&domain, members) in &operation.adding {
                for member in members {
                    if join(writer, meeting, domain, member)? {
                        operation.joined.insert(member.terminal);
                    }
                }
            }
            Ok(())
        };
        let result = enter();
        if result.is_err() {
            operation.starting = entered;
            take_back(operation, writer);
        }
        result
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
        let first = parts[0];
        let mut parameters = KeyParameters {
            meeting,
            run: first.run,
            name: String::new(),
            level: first.level,
            layout: first.layout,
            chairman: chairmen(&parts).next().unwrap_or_default(),
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
        }
        if parts.len() + parameters.parts.len() > PARTS_MAX {
            let what = format!("it would span more than {PARTS_MAX} domains");
            return Err(Refusal::new(RefusalKind::Capacity, what, "start another conference").into());
        }
        self.plan(operation, &parameters);
        self.enter_into_table(operation, &parameters, writer)?;
        if parameters.parts.is_empty() {
            self.send_starts(id, operation);
            return Ok(());
        }
        let mut changes: Vec<_> = parameters.parts.iter().map(|part| Change::Part(meeting, *part)).collect();
        for domain in &operation.starting {
            changes.extend(operation.adding[domain].iter().map(|member| Change::Member(meeting, *member)));
        }
        self.log(id, operation, changes);
        Ok(())
    }

    fn begin_role(
        &mut self,
        id: OperationId,
        operation: &mut Operation,
        terminal: Address,
        role: Role,
        writer: &mut Writer,
    ) -> Result<(), NotNow> {
        self.member(operation, terminal, writer)?;
        let chairmen: Vec<_> = chairmen(&self.parts(operation.meeting, writer)?).collect();
        operation.was_chairman = chairmen.contains(&terminal);
        let mut asked = vec![(terminal, role)];
        if role == Role::Chairman {
            for other in chairmen.into_iter().filter(|&other| other != terminal) {
                match self.member(operation, other, writer) {
                    Ok(()) => asked.push((other, Role::Participant)),
                    // Who is no member any more cannot be asked to give the chair up, and need not.
                    Err(NotNow::Refuse(_)) => {}
                    Err(wait) => return Err(wait),
                }
            }
        }
        for (terminal, role) in asked {
            self.command(id, operation, terminal, Message::RoleSet { terminal, role })?;
        }
        Ok(())
    }

    fn begin_end(
        &mut self,
        id: OperationId,
        operation: &mut Operation,
        scope: Scope,
        writer: &mut Writer,
    ) -> Result<(), NotNow> {
        let mut parts = self.parts(operation.meeting, writer)?;
        if let Scope::Part(domain) = scope {
            parts.retain(|part| part.domain == domain);
        }
        if let Some(part) = parts.iter().find(|part| !self.lanes.has(part.domain)) {
            let what = format!("it has a part in domain {}, which is not in the configuration", part.domain);
            return Err(Refusal::new(RefusalKind::NotFound, what, "add the domain to the configuration").into());
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

    /// The parts of a conference by domain; refused where there are none.
    fn parts(&self, meeting: MeetingId, writer: &Writer) -> Result<Vec<Part>, NotNow> {
        let mut parts: Vec<_> = writer.table().parts_of(meeting).collect();
        parts.sort_by_key(|part| part.domain);
        if parts.is_empty() {
            let what = format!("there is no meeting {meeting}");
            return Err(Refusal::new(RefusalKind::NotFound, what, "see `baton meeting list`").into());
        }
        Ok(parts)
    }

    /// Whether a part may be commanded: taken over under this epoch, and in meeting.
    fn controlled(&self, part: &Part) -> Result<(), NotNow> {
        let domain = part.domain;
        let refuse = |kind, what, remedy: &str| Err(NotNow::Refuse(Refusal::new(kind, what, remedy)));
        match part.state {
            _ if !self.lanes.has(domain) => {
                let what = format!("domain {domain} is not in the configuration");
                refuse(RefusalKind::NotFound, what, "add the domain to the configuration")
            }
            MeetingState::Ending | MeetingState::Ended => {
                refuse(RefusalKind::Conflict, "the conference is being ended".to_owned(), "start another one")
            }
            MeetingState::Missing => {
                let what = format!("the autonomous server of domain {domain} does not hold the conference any more");
                refuse(RefusalKind::Declined, what, "end it and start it again, or bring that autonomous server back")
            }
            MeetingState::InMeeting if part.epoch == self.epoch => Ok(()),
            _ => Err(NotNow::Wait(Waiting::TakeOver(domain))),
        }
    }

    /// Whether a terminal is a member whose part may be commanded. Remembers the version of its state.
    fn member(&self, operation: &mut Operation, terminal: Address, writer: &Writer) -> Result<(), NotNow> {
        let parts = self.parts(operation.meeting, writer)?;
        let part = parts.iter().find(|part| Some(part.domain) == terminal.domain());
        if let Some(part) = part {
            self.controlled(part)?;
        }
        let state = writer.table().terminal(terminal).filter(|state| state.meeting == operation.meeting);
        let Some(state) = state else {
            let what = format!("{terminal} is not in meeting {}", operation.meeting);
            let remedy = format!("see `baton meeting show {}`", operation.meeting);
            return Err(Refusal::new(RefusalKind::NotFound, what, remedy).into());
        };
        operation.seen.insert(terminal, state.version);
        Ok(())
    }

    fn log(&mut self, id: OperationId, operation: &mut Operation, changes: Vec<Change>) {
        operation.step = Step::Logging;
        self.commits.push_back((JobId(id.0), changes));
    }

    fn command(
        &mut self,
        id: OperationId,
        operation: &mut Operation,
        terminal: Address,
        message: Message,
    ) -> Result<(), NotNow> {
        let domain = terminal.domain().ok_or_else(|| check::bad("0 is no domain", "name domain/device"))?;
        self.send(id, operation, domain, message);
        Ok(())
    }

    pub(super) fn send(&mut self, id: OperationId, operation: &mut Operation, domain: Domain, message: Message) {
        operation.step = Step::Commanding;
        *operation.outstanding.entry(domain).or_default() += 1;
        self.lanes.push(domain, id, operation.meeting, message);
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
                    self.send(id, operation, domain, message);
                }
                None => self.send_adds(id, operation, domain),
            }
        }
    }

    pub(super) fn send_adds(&mut self, id: OperationId, operation: &mut Operation, domain: Domain) {
        for Member { terminal, role, .. } in operation.adding.remove(&domain).unwrap_or_default() {
            self.send(id, operation, domain, Message::MemberAdd { terminal, role });
        }
    }
}

/// Who is chairman, by the part of its own domain: the others are not told of a change, and keep whom they were started
/// with. More than one only between two commands.
fn chairmen(parts: &[Part]) -> impl Iterator<Item = Address> {
    parts.iter().filter(|part| part.chairman.domain() == Some(part.domain)).map(|part| part.chairman)
}

/// How many commands an operation has, roughly from above.
fn commands_of(operation: &Operation, writer: &Writer) -> usize {
    match &operation.task {
        Task::Start(parameters) | Task::Resume(parameters) => parameters.members.len() + parameters.parts.len(),
        Task::Add(members) => 2 * members.len(),
        Task::SetLayout(_) | Task::SetRole(..) | Task::End(_) => writer.table().parts_of(operation.meeting).count() + 1,
        Task::Remove(_) | Task::SetFlags { .. } => 1,
    }
}

/// A part as it is before its autonomous server has answered: under no epoch, so that no audit counts it.
pub(super) fn part_of(parameters: &KeyParameters, domain: Domain, state: MeetingState) -> Part {
    Part {
        meeting: parameters.meeting,
        domain,
        version: parameters.part(domain).map_or(0, |part| part.version),
        epoch: Epoch::NONE,
        state,
        level: parameters.level,
        layout: parameters.layout,
        participants: 0,
        chairman: parameters.chairman,
        in_doubt: false,
        run: parameters.run,
    }
}

/// Enters a member; false where it is in that meeting already.
pub(super) fn join(writer: &mut Writer, meeting: MeetingId, domain: Domain, member: &Member) -> Result<bool, Refusal> {
    let terminal = member.terminal;
    if writer.table().terminal(terminal).is_some_and(|state| state.meeting == meeting) {
        return Ok(false);
    }
    let mut state = Terminal::new(terminal, meeting, member.role);
    state.flags = member.flags;
    state.window = member.window;
    match insist(|| writer.join(meeting, domain, &state)) {
        Ok(()) => Ok(true),
        Err(TableError::Exists) => Ok(false),
        Err(TableError::Conflict(other)) => {
            let what = format!("{terminal} is in meeting {other}");
            let remedy = format!("take it out there first: baton meeting remove {other} {terminal}");
            Err(Refusal::new(RefusalKind::Conflict, what, remedy))
        }
        Err(error) => Err(refused_by_table(error)),
    }
}

/// Takes out of the table again whom and what an operation has entered.
pub(super) fn take_back(operation: &mut Operation, writer: &mut Writer) {
    let meeting = operation.meeting;
    for terminal in std::mem::take(&mut operation.joined) {
        warn(|| writer.leave(meeting, terminal));
    }
    for domain in std::mem::take(&mut operation.starting) {
        warn(|| writer.remove_part(meeting, domain));
    }
}

/// Tries a change again while another writer holds the record: a worker holds it for the writing of some words.
pub(super) fn insist<T>(mut attempt: impl FnMut() -> Result<T, TableError>) -> Result<T, TableError> {
    for _ in 1..TRIES {
        match attempt() {
            Err(TableError::Contended) => std::thread::yield_now(),
            done => return done,
        }
    }
    attempt()
}

/// What cannot be entered into the table though it is so: the update of the next recovery brings it.
pub(super) fn warn<T>(attempt: impl FnMut() -> Result<T, TableError>) {
    if let Err(error) = insist(attempt) {
        tracing::warn!(%error, "the table could not be changed");
    }
}

pub(super) fn exists(meeting: MeetingId) -> Refusal {
    let what = format!("meeting {meeting} exists already");
    Refusal::new(RefusalKind::Conflict, what, "choose another id, or none for the next free one")
}

fn refused_by_table(error: TableError) -> Refusal {
    match error {
        TableError::Full(_) => {
            let remedy = "end conferences, or create a larger table: `baton run --meetings … --terminals …`";
            Refusal::new(RefusalKind::Capacity, error.to_string(), remedy)
        }
        TableError::Contended => Refusal::new(RefusalKind::Busy, error.to_string(), "ask again"),
        _ => Refusal::new(RefusalKind::Internal, error.to_string(), "report it, with the log"),
    }
}
