//! How an operation goes on: what it hears, what it concludes from that, and what it tells.

use super::Operations;
use super::begin::exists;
use super::check::declined;
use super::enter::{Joined, join, take_back, warn};
use super::lanes::Answered;
use super::operation::{Operation, OperationId, Step, Task};
use super::route::place;
use crate::cms::ConferenceReply;
use crate::cms::{Refusal, RefusalKind, Refused};
use crate::database::{Change, CommitError, Member, WINDOW_NONE};
use crate::table::{Part, Writer};
use crate::time::Nanos;
use crate::wire::{Address, Domain, Epoch, Flags, MeetingId, MeetingState, Message, Role, Run, Status};

impl Operations {
    /// Hears what became of the commit of this operation.
    pub(super) fn committed(
        &mut self,
        id: OperationId,
        operation: &mut Operation,
        result: Result<(), CommitError>,
        writer: &mut Writer,
    ) {
        match operation.step {
            Step::Logging => self.logged(id, operation, result, writer),
            // What was begun under the number of somebody else's is undone, as an errand of that
            // number.
            Step::Committing if operation.is_taken && operation.chose_id && operation.reply.is_some() => {
                for task in std::mem::take(&mut operation.leaves) {
                    self.leave(Nanos(0), operation.meeting, task, 0);
                }
                self.choose_again(id, operation);
            }
            // The table is right, and the database an older one, or a new one in place of one that
            // was lost.
            Step::Committing
                if matches!(result, Err(CommitError::Unknown(_)))
                    && !std::mem::replace(&mut operation.is_rewritten, true) =>
            {
                let changes = self.whole(operation.meeting, writer);
                self.commit(id, operation, changes);
            }
            Step::Committing => {
                let reply = match (result, operation.failure.take()) {
                    (Err(error), _) => Err(undurable(&error)),
                    (Ok(()), Some(refusal)) => Err(refusal),
                    (Ok(()), None) => Ok(self.answer(operation, writer)),
                };
                if let Task::End(_) = operation.task {
                    if reply.is_ok() {
                        for &domain in &operation.starting {
                            warn(|| writer.remove_part(operation.meeting, domain));
                        }
                    } else {
                        self.leave_undone(operation);
                    }
                }
                operation.finish(reply);
            }
            _ => {}
        }
    }

    /// What was written ahead is durable, so that the first command may go out; or it is not, and
    /// nothing has happened.
    fn logged(
        &mut self,
        id: OperationId,
        operation: &mut Operation,
        result: Result<(), CommitError>,
        writer: &mut Writer,
    ) {
        let is_end = matches!(operation.task, Task::End(_));
        match result {
            Ok(()) if !is_end => {
                if !matches!(operation.task, Task::Start(_)) {
                    let wanted = self.wanted.remove(&operation.meeting).unwrap_or_default().with(&operation.wants);
                    // In the database it is with the same commit.
                    let _ = self.want(operation.meeting, wanted);
                }
                if let Err(refusal) = self.send_wanted(id, operation) {
                    operation.fail(refusal);
                }
            }
            // A conference that the database never had is promised to nobody, and can be ended all
            // the same.
            Ok(()) | Err(CommitError::Unknown(_)) if is_end => {
                self.send_ends(id, operation, writer);
            }
            Err(CommitError::Exists(_)) if operation.chose_id => {
                take_back(operation, writer);
                self.choose_again(id, operation);
            }
            Ok(()) => {}
            Err(CommitError::Unknown(_))
                if !matches!(operation.task, Task::Start(_))
                    && !std::mem::replace(&mut operation.is_rewritten, true) =>
            {
                let mut changes = self.whole(operation.meeting, writer);
                let wanted = self.wanted.get(&operation.meeting).cloned().unwrap_or_default().with(&operation.wants);
                changes.push(Change::Want(operation.meeting, wanted));
                self.log(id, operation, changes);
            }
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

    /// Ends the parts of a conference. Of one that was not taken over under this epoch, or never
    /// was acknowledged, nobody knows here whether its autonomous server holds it, or another one
    /// of its number: starting it again tells, for that changes nothing where it is held, and is
    /// refused where another is.
    fn send_ends(&mut self, id: OperationId, operation: &mut Operation, writer: &mut Writer) {
        operation.step = Step::Commanding;
        for domain in operation.starting.clone() {
            let Some(part) = writer.table().part(operation.meeting, domain) else { continue };
            if part.state == MeetingState::Ended {
                continue;
            }
            warn(|| writer.update_part(operation.meeting, domain, |part| part.state = MeetingState::Ending));
            if !self.lanes.has(domain) {
                // Nobody reaches it from here. Its end is remembered, and made true when its domain
                // comes back.
                tracing::warn!(meeting = %operation.meeting, %domain, "ended without a domain out of the configuration");
            } else if part.epoch == self.epoch || part.run == Run::NONE {
                self.send_or_fail(id, operation, domain, Message::MeetingEnd { reason: 0 });
            } else {
                let Part { level, layout, chairman, run, .. } = part;
                let message = Message::MeetingStart { level, layout, chairman, participants: 0, run };
                self.send_or_fail(id, operation, domain, message);
            }
        }
    }

    /// The id that was chosen is another conference's: the next one is tried.
    fn choose_again(&mut self, id: OperationId, operation: &mut Operation) {
        self.leave_turn(id, operation.meeting);
        self.commands_promised -= std::mem::take(&mut operation.commands);
        operation.begin_anew();
        self.ready.push_back(id);
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
        if let Err(Status::UnknownTerminal | Status::UnknownMeeting) = heard.result
            && !matches!(heard.asked, Message::MemberAdd { .. } | Message::MeetingEnd { .. })
        {
            // The table has it otherwise: both sides are to be held against each other.
            self.unanswered.insert(domain);
        }
        if heard.result.is_ok() || heard.result == Err(Status::UnknownTerminal) {
            self.settled(operation, &heard.asked, domain);
        }
        match (heard.asked, heard.result) {
            (Message::MeetingStart { .. }, result) if matches!(operation.task, Task::End(_)) => {
                self.probed(id, operation, domain, result, writer);
            }
            (Message::MeetingStart { .. }, Ok(version)) => {
                let epoch = self.epoch;
                warn(|| {
                    writer.update_part(meeting, domain, |part| {
                        part.epoch = epoch;
                        // Nobody is in a conference that began just now, whatever its version; who
                        // is in one that was there before, its version alone does not tell.
                        if !heard.already {
                            part.version = version;
                        }
                    })
                });
                self.send_adds(id, operation, domain);
            }
            (Message::MeetingStart { .. }, Err(status)) => {
                operation.adding.remove(&domain);
                operation.declined.insert(domain);
                operation.is_taken |= status == Status::Conflict;
                operation.fail(match status {
                    Status::Conflict => held_by_others(domain, meeting),
                    status => declined(domain, "the start of the conference", status),
                });
            }
            (Message::MemberAdd { terminal, role }, Ok(_)) => self.added(operation, domain, terminal, role, writer),
            (Message::MemberAdd { terminal, role }, Err(why)) => {
                if operation.joined.remove(&terminal) {
                    warn(|| writer.leave(meeting, terminal));
                    operation.changes.push(Change::RemoveMember(meeting, terminal));
                }
                // What it was before, it is.
                operation.undo.members.remove(&terminal);
                operation.undo.roles.remove(&terminal);
                operation.refused.push(Refused { terminal, why });
                if matches!(operation.task, Task::Settle) {
                    operation.wants.members.remove(&terminal);
                } else if role == Role::Chairman && !operation.wants.roles.is_empty() {
                    // Somebody else gave the chair up for it.
                    operation.fail(declined(domain, "another chairman", why));
                }
            }
            // Whom the autonomous server does not know, or has in no meeting of this id, is out.
            (Message::MemberRemove { terminal }, Ok(_) | Err(Status::UnknownTerminal)) => {
                // The member first, here and below: a version stands for what is in the table
                // before it.
                warn(|| writer.leave(meeting, terminal));
                self.leaves_chair(operation, domain, terminal, writer);
                operation.changes.push(Change::RemoveMember(meeting, terminal));
            }
            (Message::RoleSet { terminal, role }, Ok(_)) => {
                self.note_member(operation, terminal, writer, |member| member.role = role);
                if role == Role::Chairman {
                    self.takes_chair(operation, domain, terminal, writer);
                } else {
                    self.leaves_chair(operation, domain, terminal, writer);
                }
            }
            // Who is no member any more has no chair to give up.
            (Message::RoleSet { role, .. }, Err(Status::UnknownTerminal))
                if role != Role::Chairman && operation.promotes => {}
            (Message::FlagsSet { terminal, mask, value }, Ok(_)) => {
                self.note_member(operation, terminal, writer, |member| member.flags = member.flags.with(mask, value));
                self.note(operation, domain, writer, |_| {});
            }
            (Message::LayoutSet { layout }, Ok(_)) => {
                self.note(operation, domain, writer, |part| part.layout = layout);
            }
            // An autonomous server that does not have the conference has ended it.
            (Message::MeetingEnd { .. }, Ok(_) | Err(Status::UnknownMeeting)) => {
                self.ended(operation, domain, writer);
            }
            // Settling goes on with what it can do; a terminal that is gone wants nothing any more.
            (_, Err(Status::UnknownTerminal)) if matches!(operation.task, Task::Settle) => {}
            (asked, Err(status)) => operation.fail(declined(domain, what_was_asked(&asked), status)),
            (_, Ok(_)) => {}
        }
    }

    /// An autonomous server has said whether it holds the conference that is to be ended, or only
    /// one of its number. That of somebody else is not ended.
    fn probed(
        &mut self,
        id: OperationId,
        operation: &mut Operation,
        domain: Domain,
        result: Result<u64, Status>,
        writer: &mut Writer,
    ) {
        match result {
            Ok(version) => {
                let epoch = self.epoch;
                let ours = |part: &mut Part| (part.epoch, part.version) = (epoch, version);
                warn(|| writer.update_part(operation.meeting, domain, ours));
                self.send_or_fail(id, operation, domain, Message::MeetingEnd { reason: 0 });
            }
            // One without room for it does not hold it either.
            Err(Status::Conflict | Status::Capacity) => self.ended(operation, domain, writer),
            Err(status) => operation.fail(declined(domain, what_was_asked(&Message::MeetingEnd { reason: 0 }), status)),
        }
    }

    /// A part is over. Its autonomous server is not asked again, whatever becomes of the others.
    fn ended(&self, operation: &Operation, domain: Domain, writer: &mut Writer) {
        let over = |part: &mut Part| (part.epoch, part.state) = (Epoch::NONE, MeetingState::Ended);
        warn(|| writer.update_part(operation.meeting, domain, over));
    }

    /// A member was taken, or was there before.
    fn added(&self, operation: &mut Operation, domain: Domain, terminal: Address, role: Role, writer: &mut Writer) {
        let meeting = operation.meeting;
        let is_new = operation.joined.contains(&terminal);
        // An update that was answered before this command may have taken the new member out again.
        let member = Member { terminal, role, flags: Flags::default(), window: WINDOW_NONE };
        match join(writer, meeting, domain, &member) {
            // Flags and window of one who was a member before are its own.
            Ok(Joined::Before(_)) if !is_new => {
                self.note_member(operation, terminal, writer, |member| member.role = role);
            }
            Ok(_) => operation.changes.push(Change::Member(meeting, member)),
            Err(refusal) => {
                tracing::warn!(%meeting, %terminal, %refusal, "a member is missing in the table");
                operation.changes.push(Change::Member(meeting, member));
            }
        }
        if role == Role::Chairman {
            self.takes_chair(operation, domain, terminal, writer);
        } else {
            self.note(operation, domain, writer, |_| {});
        }
        operation.accepted.push(terminal);
    }

    /// A terminal was made chairman. With [`Self::leaves_chair`] the one place that says who is, in
    /// the table and, by the acknowledgement that makes it so, for the database.
    fn takes_chair(&self, operation: &mut Operation, domain: Domain, terminal: Address, writer: &mut Writer) {
        self.note(operation, domain, writer, |part| part.chairman = terminal);
        operation.changes.push(Change::Chairman(operation.meeting, terminal));
    }

    /// A terminal is chairman no more, if it was. Where another is made chairman by the same
    /// operation, that one's own acknowledgement says who is.
    fn leaves_chair(&self, operation: &mut Operation, domain: Domain, terminal: Address, writer: &mut Writer) {
        let part = writer.table().part(operation.meeting, domain);
        if part.is_some_and(|part| part.chairman == terminal) && !operation.promotes {
            operation.changes.push(Change::Chairman(operation.meeting, Address::default()));
        }
        self.note(operation, domain, writer, |part| forget_chairman(&mut part.chairman, terminal));
    }

    /// Enters into the table what an autonomous server has acknowledged of a part. Where a command
    /// before this one is not acknowledged the version stays behind, and goes on when it is.
    fn note(&self, operation: &mut Operation, domain: Domain, writer: &mut Writer, change: impl Fn(&mut Part)) {
        let acknowledged = operation.versions.entry(domain).or_default();
        warn(|| {
            writer.update_part(operation.meeting, domain, |part| {
                part.version = acknowledged.reach(part.version);
                change(part);
            })
        });
    }

    /// Wants both sides held against each other where an autonomous server named another version
    /// than the table has come to. A higher one: a change was made there that nobody here has heard
    /// of, by a command whose acknowledgement was lost, with us or with whom we follow. A lower
    /// one: its memory went back. The version of the table, which stays as it is, is what the audit
    /// finds it by.
    pub(super) fn look_for_gaps(&mut self, operation: &mut Operation, writer: &mut Writer) {
        let domains: Vec<_> = operation.versions.keys().copied().collect();
        for domain in domains {
            self.note(operation, domain, writer, |_| {});
            let part = writer.table().part(operation.meeting, domain);
            if part.is_some_and(|part| operation.versions[&domain].differs_from(part.version)) {
                self.unanswered.insert(domain);
            }
        }
    }

    /// Enters into the table, and marks for the database, what an autonomous server has
    /// acknowledged of a member. A terminal that has reported since the command was sent said it
    /// itself, and perhaps something newer.
    fn note_member(
        &self,
        operation: &mut Operation,
        terminal: Address,
        writer: &mut Writer,
        change: impl FnOnce(&mut Member),
    ) {
        let meeting = operation.meeting;
        let Some((state, _)) = place(writer.table(), meeting, terminal) else { return };
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

    /// The deadline has come.
    pub(super) fn expired(&mut self, id: OperationId, operation: &mut Operation) {
        match operation.step {
            Step::Waiting => operation.finish(Err(operation.waits_for.refusal())),
            // The database answers in the end; the client need not wait for that.
            Step::Logging | Step::Committing => {
                let what = "the database has not written it in time, and may still";
                let refusal =
                    Refusal::new(RefusalKind::Database, what, "look with `baton meeting show`, and ask again");
                self.tell_early(operation, Err(refusal));
            }
            Step::Commanding => {
                // Before doubt is raised: what was sent after both sides are held against each
                // other, that would not find.
                self.lanes.give_up(id);
                operation.fail(unreachable(operation));
                self.unanswered.extend(operation.outstanding.keys());
                if let Task::End(_) | Task::Resume(_) = operation.task {
                    self.leave_undone(operation);
                    if let Some(refusal) = operation.failure.take() {
                        operation.finish(Err(refusal));
                    }
                } else {
                    operation.given_up.extend(std::mem::take(&mut operation.outstanding).into_keys());
                }
            }
            Step::Done(_) => {}
        }
    }

    fn tell_early(&mut self, operation: &mut Operation, reply: ConferenceReply) {
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

/// A number is taken: by another conference, that this server has not started or does not know any
/// more.
fn held_by_others(domain: Domain, meeting: MeetingId) -> Refusal {
    let what = format!("the autonomous server of domain {domain} holds another meeting {meeting}");
    let remedy = "choose another id, or none for the next free one; see `baton recovery orphans` for what that one is";
    Refusal::new(RefusalKind::Conflict, what, remedy)
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
