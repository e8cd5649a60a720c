//! How an operation goes on: what it hears, what it concludes from that, and what it tells.

use std::time::Duration;

use super::Operations;
use super::begin::{exists, join, take_back, warn};
use super::check::declined;
use super::lanes::Answered;
use super::operation::{Operation, OperationId, Scope, Step, Task};
use crate::cms::{
    Answer, Change, Changed, CommitError, JobId, Member, PartParameters, Refusal, RefusalKind, Refused, Reply, Started,
    WINDOW_NONE,
};
use crate::table::Writer;
use crate::time::Nanos;
use crate::wire::{Address, Domain, Epoch, Flags, MeetingId, MeetingState, Message, Role, Status};

/// After how long what must come to be is tried again.
const PAUSE: Duration = Duration::from_secs(1);

impl Operations {
    /// Hears what became of the commit of this operation.
    pub(super) fn committed(
        &mut self,
        now: Nanos,
        id: OperationId,
        operation: &mut Operation,
        result: Result<(), CommitError>,
        writer: &mut Writer,
    ) {
        match operation.step {
            Step::Logging => self.logged(id, operation, result, writer),
            Step::Committing => {
                let reply = match (result, operation.failure.take()) {
                    (Err(error), _) => Err(undurable(&error)),
                    (Ok(()), Some(refusal)) => Err(refusal),
                    (Ok(()), None) => Ok(self.answer(operation, writer)),
                };
                if let Task::End(scope) = operation.task {
                    if reply.is_ok() {
                        for &domain in &operation.starting {
                            warn(|| writer.remove_part(operation.meeting, domain));
                        }
                    } else {
                        operation.leaves.push((now + PAUSE, Task::End(scope)));
                    }
                }
                operation.finish(reply);
            }
            _ => {}
        }
    }

    /// What was written ahead is durable, so that the first command may go out; or it is not, and nothing has happened.
    fn logged(
        &mut self,
        id: OperationId,
        operation: &mut Operation,
        result: Result<(), CommitError>,
        writer: &mut Writer,
    ) {
        let is_end = matches!(operation.task, Task::End(_));
        match result {
            Ok(()) if !is_end => self.send_starts(id, operation),
            // A conference that the database never had is promised to nobody, and can be ended all the same.
            Ok(()) | Err(CommitError::Unknown(_)) if is_end => {
                for domain in operation.starting.clone() {
                    warn(|| writer.update_part(operation.meeting, domain, |part| part.state = MeetingState::Ending));
                    self.send(id, operation, domain, Message::MeetingEnd { reason: 0 });
                }
            }
            Err(CommitError::Exists(_)) if operation.chose_id => {
                take_back(operation, writer);
                self.leave_turn(id, operation.meeting);
                self.commands_promised -= std::mem::take(&mut operation.commands);
                (operation.meeting, operation.step) = (MeetingId::NONE, Step::Waiting);
                self.ready.push_back(id);
            }
            Ok(()) => {}
            Err(error) => {
                if !is_end {
                    take_back(operation, writer);
                }
                operation.finish(Err(match error {
                    CommitError::Exists(meeting) => exists(meeting),
                    error => undurable(&error),
                }));
            }
        }
    }

    /// Hears an autonomous server's answer to one command of this operation.
    pub(super) fn answered(
        &mut self,
        id: OperationId,
        operation: &mut Operation,
        heard: &Answered,
        writer: &mut Writer,
    ) {
        if operation.step != Step::Commanding {
            return;
        }
        let (meeting, domain) = (operation.meeting, heard.domain);
        operation.answered_by(domain);
        if let Ok(version) = heard.result {
            operation.versions.entry(domain).or_default().hear(version, heard.already);
        }
        match (heard.asked, heard.result) {
            (Message::MeetingStart { .. }, Ok(version)) => {
                let epoch = self.epoch;
                warn(|| {
                    writer.update_part(meeting, domain, |part| {
                        part.epoch = epoch;
                        // Nobody is in a conference that began just now, whatever its version; who is in one that was
                        // there before, its version alone does not tell.
                        if !heard.already {
                            part.version = version;
                        }
                    })
                });
                self.send_adds(id, operation, domain);
            }
            (Message::MeetingStart { .. }, Err(status)) => {
                operation.adding.remove(&domain);
                operation.failed.push(domain);
                operation.fail(declined(domain, "the start of the conference", status));
            }
            (Message::MemberAdd { terminal, role }, Ok(_)) => {
                self.note_member(operation, terminal, writer, |member| member.role = role);
                self.note(operation, domain, writer, |part| {
                    if role == Role::Chairman {
                        part.chairman = terminal;
                    }
                });
                // An update that was answered before this command may have taken the new member out again.
                let member = Member { terminal, role, flags: Flags::default(), window: WINDOW_NONE };
                if let Err(refusal) = join(writer, meeting, domain, &member) {
                    tracing::warn!(%meeting, %terminal, %refusal, "a member is missing in the table");
                }
                operation.joined.remove(&terminal);
                operation.accepted.push(terminal);
                operation.changes.push(Change::Member(meeting, member));
            }
            (Message::MemberAdd { terminal, .. }, Err(why)) => {
                warn(|| writer.leave(meeting, terminal));
                operation.joined.remove(&terminal);
                operation.refused.push(Refused { terminal, why });
                operation.changes.push(Change::RemoveMember(meeting, terminal));
            }
            // Whom the autonomous server does not know, or has in no meeting of this id, is out.
            (Message::MemberRemove { terminal }, Ok(_) | Err(Status::UnknownTerminal)) => {
                // The member first, here and below: a version stands for what is in the table before it.
                warn(|| writer.leave(meeting, terminal));
                self.note(operation, domain, writer, |part| forget_chairman(&mut part.chairman, terminal));
                operation.changes.push(Change::RemoveMember(meeting, terminal));
            }
            (Message::RoleSet { terminal, role }, Ok(_)) => {
                self.note(operation, domain, writer, |part| {
                    if role == Role::Chairman {
                        part.chairman = terminal;
                    } else {
                        forget_chairman(&mut part.chairman, terminal);
                    }
                });
            }
            (Message::FlagsSet { terminal, mask, value }, Ok(_)) => {
                self.note_member(operation, terminal, writer, |member| member.flags = member.flags.with(mask, value));
                self.note(operation, domain, writer, |_| {});
            }
            (Message::LayoutSet { layout }, Ok(_)) => {
                self.note(operation, domain, writer, |part| part.layout = layout);
            }
            // An autonomous server that does not have the conference has ended it.
            (Message::MeetingEnd { .. }, Ok(_) | Err(Status::UnknownMeeting)) => {
                warn(|| writer.update_part(meeting, domain, |part| part.epoch = Epoch::NONE));
            }
            (asked, Err(status)) => operation.fail(declined(domain, what_was_asked(&asked), status)),
            (_, Ok(_)) => {}
        }
    }

    /// Enters into the table what an autonomous server has acknowledged of a part. Where a command before this one is not
    /// acknowledged the version stays behind, and goes on when it is.
    fn note(
        &self,
        operation: &mut Operation,
        domain: Domain,
        writer: &mut Writer,
        change: impl Fn(&mut crate::table::Part),
    ) {
        let acknowledged = operation.versions.entry(domain).or_default();
        warn(|| {
            writer.update_part(operation.meeting, domain, |part| {
                part.version = acknowledged.reach(part.version);
                change(part);
            })
        });
    }

    /// Wants both sides held against each other where an autonomous server named a version that the table has not come to:
    /// a change was made there that nobody here has heard of, by a command whose acknowledgement was lost, with us or
    /// with whom we follow. The version that stayed behind is what the audit finds it by.
    fn look_for_gaps(&mut self, operation: &mut Operation, writer: &mut Writer) {
        let domains: Vec<_> = operation.versions.keys().copied().collect();
        for domain in domains {
            self.note(operation, domain, writer, |_| {});
            let part = writer.table().part(operation.meeting, domain);
            if part.is_some_and(|part| operation.versions[&domain].is_ahead_of(part.version)) {
                self.unanswered.insert(domain);
            }
        }
    }

    /// Enters into the table, and marks for the database, what an autonomous server has acknowledged of a member. A
    /// terminal that has reported since the command was sent said it itself, and perhaps something newer.
    fn note_member(
        &self,
        operation: &mut Operation,
        terminal: Address,
        writer: &mut Writer,
        change: impl FnOnce(&mut Member),
    ) {
        let meeting = operation.meeting;
        let Some(state) = writer.table().terminal(terminal).filter(|state| state.meeting == meeting) else { return };
        let mut member = Member { terminal, role: state.role, flags: state.flags, window: state.window };
        change(&mut member);
        let seen = operation.seen.get(&terminal).copied();
        warn(|| {
            writer.update_terminal(terminal, |state| {
                let untouched = Some(state.version) == seen;
                if untouched {
                    (state.role, state.flags) = (member.role, member.flags);
                }
                untouched
            })
        });
        operation.changes.push(Change::Member(meeting, member));
    }

    /// Every command is answered: what follows from it.
    pub(super) fn conclude(&mut self, now: Nanos, id: OperationId, operation: &mut Operation, writer: &mut Writer) {
        let meeting = operation.meeting;
        match operation.task {
            Task::Start(_) => {
                if operation.failure.is_none() && operation.accepted.is_empty() {
                    operation.fail(nobody(&operation.refused));
                }
                // A conference that could not be started in full is ended again, where it was started.
                if let Some(refusal) = operation.failure.take() {
                    operation.leaves.push((now, Task::End(Scope::All)));
                    operation.finish(Err(refusal));
                    return;
                }
            }
            Task::Resume(_) | Task::Add(_) => {
                let failed = operation.failed.iter();
                operation.leaves.extend(failed.map(|&domain| (now, Task::End(Scope::Part(domain)))));
                for terminal in std::mem::take(&mut operation.joined) {
                    warn(|| writer.leave(meeting, terminal));
                    operation.changes.push(Change::RemoveMember(meeting, terminal));
                }
                if operation.failure.is_none() && operation.accepted.is_empty() {
                    operation.fail(nobody(&operation.refused));
                }
            }
            Task::End(scope) => {
                if let Some(refusal) = operation.failure.take() {
                    operation.leaves.push((now + PAUSE, Task::End(scope)));
                    operation.finish(Err(refusal));
                    return;
                }
                let ended = &operation.starting;
                let others = writer.table().parts_of(meeting).any(|part| !ended.contains(&part.domain));
                let part = |&domain: &Domain| Change::RemovePart(meeting, domain);
                let changes = if others { ended.iter().map(part).collect() } else { vec![Change::End(meeting)] };
                self.commit(id, operation, changes);
                return;
            }
            Task::SetRole(terminal, role) if !operation.versions.is_empty() => {
                let chairman = if role == Role::Chairman { Some(terminal) } else { None };
                if chairman.is_some() || operation.was_chairman {
                    operation.changes.push(Change::Chairman(meeting, chairman.unwrap_or_default()));
                }
            }
            Task::Remove(_) if operation.was_chairman && !operation.versions.is_empty() => {
                operation.changes.push(Change::Chairman(meeting, Address::default()));
            }
            Task::SetLayout(layout) if operation.failure.is_none() => {
                operation.changes.push(Change::Layout(meeting, layout));
            }
            _ => {}
        }
        for &domain in operation.starting.iter().filter(|domain| !operation.failed.contains(domain)) {
            warn(|| writer.update_part(meeting, domain, |part| part.state = MeetingState::InMeeting));
        }
        self.look_for_gaps(operation, writer);
        let mut changes = self.parts_now(operation, writer);
        changes.append(&mut operation.changes);
        match operation.failure.take() {
            Some(refusal) if changes.is_empty() => operation.finish(Err(refusal)),
            failure => {
                operation.failure = failure;
                self.commit(id, operation, changes);
            }
        }
    }

    /// The parts that changed, as the table has them now.
    fn parts_now(&self, operation: &Operation, writer: &Writer) -> Vec<Change> {
        let parts = operation.versions.keys().filter_map(|&domain| writer.table().part(operation.meeting, domain));
        let parts = parts.map(|part| PartParameters { domain: part.domain, version: part.version, state: part.state });
        parts.map(|part| Change::Part(operation.meeting, part)).collect()
    }

    fn commit(&mut self, id: OperationId, operation: &mut Operation, changes: Vec<Change>) {
        operation.step = Step::Committing;
        self.commits.push_back((JobId(id.0), changes));
    }

    fn answer(&self, operation: &mut Operation, writer: &Writer) -> Answer {
        let meeting = operation.meeting;
        let parts = self.parts_now(operation, writer).into_iter();
        let parts = parts.filter_map(|change| if let Change::Part(_, part) = change { Some(part) } else { None });
        let refused = std::mem::take(&mut operation.refused);
        match operation.task {
            Task::Start(_) => {
                Answer::Started(Started { meeting, parts: parts.collect(), members: operation.accepted.len(), refused })
            }
            Task::End(_) => Answer::Changed(Changed { meeting, parts: Vec::new(), refused }),
            _ => Answer::Changed(Changed { meeting, parts: parts.collect(), refused }),
        }
    }

    /// The deadline has come.
    pub(super) fn expired(&mut self, now: Nanos, operation: &mut Operation) {
        match operation.step {
            Step::Waiting => {
                if operation.is_background {
                    operation.leaves.push((now + PAUSE, operation.task.clone()));
                }
                operation.finish(Err(operation.waits_for.refusal()));
            }
            // The database answers in the end; the client need not wait for that.
            Step::Logging | Step::Committing => {
                let what = "the database has not written it in time, and may still";
                let refusal =
                    Refusal::new(RefusalKind::Database, what, "look with `baton meeting show`, and ask again");
                self.tell_early(operation, Err(refusal));
            }
            Step::Commanding => {
                operation.fail(unreachable(operation));
                self.unanswered.extend(operation.outstanding.keys());
                match &operation.task {
                    task @ (Task::End(_) | Task::Resume(_)) => operation.leaves.push((now + PAUSE, task.clone())),
                    _ => {
                        let unstarted = operation.outstanding.keys().filter(|&domain| {
                            operation.starting.contains(domain) && operation.adding.contains_key(domain)
                        });
                        operation.failed.extend(unstarted);
                        operation.outstanding.clear();
                        return;
                    }
                }
                if let Some(refusal) = operation.failure.take() {
                    operation.finish(Err(refusal));
                }
            }
            Step::Done(_) => {}
        }
    }

    fn tell_early(&mut self, operation: &mut Operation, reply: Reply) {
        if let Some(waiting) = operation.reply.take() {
            self.replies.push_back((waiting, reply));
            operation.is_background = true;
            self.background += 1;
        }
    }
}

fn forget_chairman(chairman: &mut Address, terminal: Address) {
    if *chairman == terminal {
        *chairman = Address::default();
    }
}

fn what_was_asked(message: &Message) -> &'static str {
    match message {
        Message::MemberRemove { .. } => "the removal of a member",
        Message::RoleSet { .. } => "another role",
        Message::FlagsSet { .. } => "other flags",
        Message::LayoutSet { .. } => "another layout",
        Message::MeetingEnd { .. } => "the end of the conference",
        _ => "a command",
    }
}

fn nobody(refused: &[Refused]) -> Refusal {
    let why = refused.first().map_or("it was given none".to_owned(), |Refused { terminal, why }| {
        format!("of {terminal} its autonomous server said \"{why}\"")
    });
    let what = format!("no member could be added: {why}");
    Refusal::new(RefusalKind::Declined, what, "see that the terminals are known to their autonomous servers")
}

fn undurable(error: &CommitError) -> Refusal {
    Refusal::new(RefusalKind::Database, error.to_string(), "see `baton status` and the log for what the disk says")
}

fn unreachable(operation: &Operation) -> Refusal {
    let domains: Vec<_> = operation.outstanding.keys().map(|domain| domain.to_string()).collect();
    let (plural, verb) = if domains.len() == 1 { ("", "does") } else { ("s", "do") };
    let what = format!("the autonomous server{plural} of domain{plural} {} {verb} not answer", domains.join(", "));
    let remedy = match operation.task {
        Task::End(_) => "the conference is ended there as soon as they do: see `baton status`",
        _ => "see `baton status` for the link, and ask again",
    };
    Refusal::new(RefusalKind::Unreachable, what, remedy)
}
