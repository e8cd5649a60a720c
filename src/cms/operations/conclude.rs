//! What follows when every command of an operation is answered, or given up.

use super::Operations;
use super::enter::warn;
use super::operation::{Operation, OperationId, Scope, Step, Task};
use super::route::chairmen;
use crate::cms::ConferenceAnswer;
use crate::cms::{Changed, Refusal, RefusalKind, Refused, Started};
use crate::database::{Change, JobId, Member, PartParameters, Wanted};
use crate::table::{Terminal, Writer};
use crate::wire::{MeetingId, MeetingState};

impl Operations {
    pub(super) fn conclude(&mut self, id: OperationId, operation: &mut Operation, writer: &mut Writer) {
        let meeting = operation.meeting;
        match operation.task {
            Task::End(_) => return self.conclude_end(id, operation, writer),
            Task::Settle => return self.conclude_settle(id, operation, writer),
            Task::Resume(_) => return self.conclude_resume(id, operation, writer),
            Task::Start(_) | Task::Add(_) if operation.failure.is_none() && operation.accepted.is_empty() => {
                operation.fail(nobody(&operation.refused));
            }
            Task::SetLayout(layout) if operation.failure.is_none() => {
                operation.changes.push(Change::Layout(meeting, layout));
            }
            _ => {}
        }
        if operation.failure.is_some() {
            return self.undo(id, operation, writer);
        }
        for &domain in &operation.starting {
            warn(|| writer.update_part(meeting, domain, |part| part.state = MeetingState::InMeeting));
        }
        self.look_for_gaps(operation, writer);
        let mut changes = self.parts_now(operation, writer);
        changes.append(&mut operation.changes);
        if let Some(wanted) = self.wanted.get(&meeting) {
            let left = wanted.clone().without(&operation.wants);
            changes.push(self.want(meeting, left));
        }
        self.commit(id, operation, changes);
    }

    fn conclude_end(&mut self, id: OperationId, operation: &mut Operation, writer: &Writer) {
        if let Some(refusal) = operation.failure.take() {
            self.leave_undone(operation);
            operation.finish(Err(refusal));
            return;
        }
        let (meeting, ended) = (operation.meeting, &operation.starting);
        let others = writer.table().parts_of(meeting).any(|part| !ended.contains(&part.domain));
        let changes = if others {
            ended.iter().map(|&domain| Change::RemovePart(meeting, domain)).collect()
        } else {
            self.wanted.remove(&meeting);
            vec![Change::End(meeting)]
        };
        self.commit(id, operation, changes);
    }

    /// What a death cut short goes on with the parts that were started and the members that were
    /// taken; parts that were not are ended.
    fn conclude_resume(&mut self, id: OperationId, operation: &mut Operation, writer: &mut Writer) {
        let meeting = operation.meeting;
        if let Some(refusal) = operation.failure.take() {
            tracing::warn!(%meeting, %refusal, "a start that was cut short goes on without some of it");
        }
        let fails = operation.accepted.is_empty();
        let (mut changes, mut ended) = (Vec::new(), Vec::new());
        for domain in std::mem::take(&mut operation.starting) {
            if operation.declined.contains(&domain) {
                warn(|| writer.remove_part(meeting, domain));
                ended.push(Change::RemovePart(meeting, domain));
            } else if fails {
                operation.leaves.push(Task::End(Scope::Part(domain)));
            } else {
                warn(|| writer.update_part(meeting, domain, |part| part.state = MeetingState::InMeeting));
            }
        }
        self.look_for_gaps(operation, writer);
        changes.append(&mut self.parts_now(operation, writer));
        changes.append(&mut operation.changes);
        changes.append(&mut ended);
        if writer.table().parts_of(meeting).next().is_none() {
            changes = vec![Change::Forget(meeting)];
        }
        self.commit(id, operation, changes);
    }

    /// What failed in the midst is undone: what it started is ended, whom it added leaves, and what
    /// it changed becomes as it was. The client is told why it failed when that is durable; an
    /// errand does it.
    fn undo(&mut self, id: OperationId, operation: &mut Operation, writer: &mut Writer) {
        let meeting = operation.meeting;
        let is_start = matches!(operation.task, Task::Start(_));
        let touched = !operation.versions.is_empty() || !operation.given_up.is_empty();
        let undo = if touched { std::mem::take(&mut operation.undo) } else { Wanted::default() };
        let started = std::mem::take(&mut operation.starting);
        for terminal in std::mem::take(&mut operation.joined) {
            // At once: it is free for other conferences, and need not wait for a domain that may be
            // silent for long.
            warn(|| writer.leave(meeting, terminal));
            let of_it = |change: &Change| matches!(change, Change::Member(_, it) if it.terminal == terminal);
            operation.changes.retain(|change| !of_it(change));
            operation.changes.push(Change::RemoveMember(meeting, terminal));
        }
        self.look_for_gaps(operation, writer);
        let mut changes = self.parts_now(operation, writer);
        changes.retain(|change| !matches!(change, Change::Part(_, part) if started.contains(&part.domain)));
        changes.append(&mut operation.changes);
        for domain in started {
            // Its members go with it.
            changes.push(Change::RemovePart(meeting, domain));
            if operation.declined.contains(&domain) {
                warn(|| writer.remove_part(meeting, domain));
                continue;
            }
            warn(|| writer.update_part(meeting, domain, |part| part.state = MeetingState::Ending));
            let version = writer.table().part(meeting, domain).map_or(0, |part| part.version);
            changes.push(Change::Part(meeting, PartParameters { domain, version, state: MeetingState::Ending }));
            if !is_start {
                operation.leaves.push(Task::End(Scope::Part(domain)));
            }
        }
        if is_start && writer.table().parts_of(meeting).next().is_none() {
            changes = vec![Change::Forget(meeting)];
        } else if is_start {
            operation.leaves.push(Task::End(Scope::All));
        }
        let wanted = self.wanted.get(&meeting);
        if !undo.is_empty() || wanted.is_some() {
            let left = wanted.cloned().unwrap_or_default().without(&operation.wants).with(&undo);
            if !left.is_empty() {
                operation.leaves.push(Task::Settle);
            }
            changes.push(self.want(meeting, left));
        }
        if changes.is_empty() {
            let refusal = operation.failure.take().unwrap_or_else(|| nobody(&operation.refused));
            operation.finish(Err(refusal));
            return;
        }
        self.commit(id, operation, changes);
    }

    /// Notes what a conference is to come to yet, and gives the change that says so.
    pub(super) fn want(&mut self, meeting: MeetingId, wanted: Wanted) -> Change {
        if wanted.is_empty() {
            self.wanted.remove(&meeting);
        } else {
            self.wanted.insert(meeting, wanted.clone());
        }
        Change::Want(meeting, wanted)
    }

    /// What a client asked for and was not done goes on without it.
    pub(super) fn leave_undone(&self, operation: &mut Operation) {
        if !operation.is_errand {
            operation.leaves.push(operation.task.clone());
        }
    }

    /// The parts that changed, as the table has them now.
    pub(super) fn parts_now(&self, operation: &Operation, writer: &Writer) -> Vec<Change> {
        let parts = operation.versions.keys().filter_map(|&domain| writer.table().part(operation.meeting, domain));
        let parts = parts.map(|part| PartParameters { domain: part.domain, version: part.version, state: part.state });
        parts.map(|part| Change::Part(operation.meeting, part)).collect()
    }

    /// All that the table holds of a conference, and what is wanted of it.
    pub(super) fn whole(&self, meeting: MeetingId, writer: &Writer) -> Vec<Change> {
        let table = writer.table();
        let mut parts: Vec<_> = table.parts_of(meeting).collect();
        parts.sort_by_key(|part| part.domain);
        let mut changes = Vec::new();
        for part in &parts {
            let domain = part.domain;
            changes.push(Change::Known(meeting, part.level, part.run));
            changes.push(Change::RemoveMembers(meeting, domain));
            changes.push(Change::Part(meeting, PartParameters { domain, version: part.version, state: part.state }));
            changes.extend(table.members(meeting, domain).map(|state| {
                let Terminal { terminal, role, flags, window, .. } = state;
                Change::Member(meeting, Member { terminal, role, flags, window })
            }));
        }
        changes.extend(parts.first().map(|part| Change::Layout(meeting, part.layout)));
        if let Some(&chairman) = chairmen(table, &parts).first() {
            changes.push(Change::Chairman(meeting, chairman));
        }
        changes.extend(self.wanted.get(&meeting).map(|wanted| Change::Want(meeting, wanted.clone())));
        changes
    }

    pub(super) fn commit(&mut self, id: OperationId, operation: &mut Operation, changes: Vec<Change>) {
        operation.step = Step::Committing;
        self.commits.push_back((JobId(id.0), changes));
    }

    pub(super) fn answer(&self, operation: &mut Operation, writer: &Writer) -> ConferenceAnswer {
        let meeting = operation.meeting;
        let parts = self.parts_now(operation, writer).into_iter();
        let parts = parts.filter_map(|change| if let Change::Part(_, part) = change { Some(part) } else { None });
        let refused = std::mem::take(&mut operation.refused);
        match operation.task {
            Task::Start(_) => ConferenceAnswer::Started(Started {
                meeting,
                parts: parts.collect(),
                members: operation.accepted.len(),
                refused,
            }),
            Task::End(_) => ConferenceAnswer::Changed(Changed { meeting, parts: Vec::new(), refused }),
            _ => ConferenceAnswer::Changed(Changed { meeting, parts: parts.collect(), refused }),
        }
    }
}

fn nobody(refused: &[Refused]) -> Refusal {
    let why = refused.first().map_or("it was given none".to_owned(), |Refused { terminal, why }| {
        format!("of {terminal} its autonomous server said \"{why}\"")
    });
    let what = format!("no member could be added: {why}");
    Refusal::new(RefusalKind::Declined, what, "see that the terminals are known to their autonomous servers")
}
