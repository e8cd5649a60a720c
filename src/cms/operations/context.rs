//! What a verb works with: the state that all operations share, and the steps that verbs have in
//! common.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::event::OperationsEvent;
use super::lanes::Lanes;
use super::operation::{Errand, Operation, OperationId, PartChange, Step};
use super::refusals::{NotNow, Waiting, controlled_elsewhere, unconfigured, undurable};
use super::table_access::{Joined, chairmen, insist, join, place};
use crate::cms::{Changed, ConferenceAnswer, Refusal, RefusalKind, Refused};
use crate::database::{Change, CommitError, JobId, Member, PartParameters, Wanted};
use crate::table::{Part, Table, TableError, Terminal, Writer};
use crate::wire::{Address, Domain, Epoch, MeetingId, MeetingState, Message};

/// After how long what could not be written is written again.
const PAUSE: Duration = Duration::from_secs(1);
/// A warning is dropped while this many events wait to be taken.
const EVENTS_MAX: usize = 1024;

/// What all operations share.
#[derive(Debug)]
pub(super) struct Shared {
    pub epoch: Epoch,
    pub lanes: Lanes,
    /// The operations of each conference, in the order of the requests; the first one is under way
    /// or waits to begin.
    pub turns: HashMap<MeetingId, VecDeque<OperationId>>,
    /// What is still to be made so in conferences, as the database has it or is about to.
    pub wanted: HashMap<MeetingId, Wanted>,
    /// Conferences of which the database may want something else: a commit that said what is wanted
    /// failed. Every later commit of theirs says it, for what the database still wants would undo
    /// it after a death.
    pub unsaid: BTreeSet<MeetingId>,
    pub commits: VecDeque<(JobId, Vec<Change>)>,
    /// Domains that [`OperationsEvent::Unanswered`] is to be said of.
    pub unanswered: BTreeSet<Domain>,
    pub events: VecDeque<OperationsEvent>,
    /// None while the database is not open.
    pub next_meeting: Option<MeetingId>,
    /// Ids that autonomous servers were seen to use for conferences of others: none of them is
    /// chosen.
    pub taken: BTreeSet<MeetingId>,
    /// The random number of this engine that runs are drawn from, and how many were drawn.
    pub runs_from: u64,
    pub runs_drawn: u64,
}

impl Shared {
    /// Says, for the log, that something is missing.
    pub fn warn(&mut self, meeting: MeetingId, what: String) {
        if self.events.len() < EVENTS_MAX {
            self.events.push_back(OperationsEvent::Warning { meeting, what });
        }
    }

    /// Changes the table. What cannot be entered though it is so, the update of the next recovery
    /// brings.
    pub fn write<T>(
        &mut self,
        writer: &mut Writer,
        meeting: MeetingId,
        mut change: impl FnMut(&mut Writer) -> Result<T, TableError>,
    ) {
        if let Err(error) = insist(|| change(writer)) {
            self.warn(meeting, format!("the table could not be changed: {error}"));
        }
    }

    /// Notes what is still to be made so in a conference.
    fn note_wanted(&mut self, meeting: MeetingId, wanted: Wanted) {
        if wanted.is_empty() {
            self.wanted.remove(&meeting);
        } else {
            self.wanted.insert(meeting, wanted);
        }
    }
}

/// One operation, and all that its verb may touch.
pub(super) struct Context<'a> {
    pub shared: &'a mut Shared,
    pub id: OperationId,
    pub operation: &'a mut Operation,
    pub writer: &'a mut Writer,
}

/// What may be commanded, and the commands.
impl Context<'_> {
    pub fn table(&self) -> &Table {
        self.writer.table()
    }

    /// The parts of the conference by domain; refused where there are none.
    pub fn parts(&self) -> Result<Vec<Part>, NotNow> {
        let meeting = self.operation.meeting;
        let mut parts: Vec<_> = self.table().parts_of(meeting).collect();
        parts.sort_by_key(|part| part.domain);
        if parts.is_empty() {
            let what = format!("there is no meeting {meeting}");
            return Err(Refusal::new(RefusalKind::NotFound, what, "see `baton meeting list`").into());
        }
        Ok(parts)
    }

    /// Refused where another dispatch server controls one of these domains.
    pub fn refuse_fenced(&self, domains: impl IntoIterator<Item = Domain>) -> Result<(), Refusal> {
        let refusal = |domain| self.shared.lanes.fenced_by(domain).map(|by| controlled_elsewhere(domain, by));
        domains.into_iter().find_map(refusal).map_or(Ok(()), Err)
    }

    /// Whether a part may be commanded: taken over under this epoch, and in meeting.
    pub fn controlled(&self, part: &Part) -> Result<(), NotNow> {
        let domain = part.domain;
        let refuse = |kind, what, remedy: &str| Err(NotNow::Refuse(Refusal::new(kind, what, remedy)));
        self.refuse_fenced([domain])?;
        match part.state {
            _ if !self.shared.lanes.has(domain) => Err(unconfigured(domain).into()),
            MeetingState::Ending | MeetingState::Ended => {
                refuse(RefusalKind::Conflict, "the conference is being ended".to_owned(), "start another one")
            }
            MeetingState::Missing => {
                let what = format!("the autonomous server of domain {domain} does not hold the conference any more");
                refuse(RefusalKind::Declined, what, "end it and start it again, or bring that autonomous server back")
            }
            MeetingState::InMeeting if part.epoch == self.shared.epoch => Ok(()),
            _ => Err(NotNow::Wait(Waiting::TakeOver(domain))),
        }
    }

    /// The domain of the part that a terminal is a member of, and which may be commanded; its
    /// address may name another domain. Remembers it, and the version of the terminal's state.
    pub fn member(&mut self, terminal: Address) -> Result<Domain, NotNow> {
        let meeting = self.operation.meeting;
        let parts = self.parts()?;
        let place = place(self.table(), meeting, terminal);
        let home = place.as_ref().map(|&(_, domain)| domain).or(terminal.domain());
        if let Some(part) = parts.iter().find(|part| Some(part.domain) == home) {
            self.controlled(part)?;
        }
        let Some((state, domain)) = place else {
            let what = format!("{terminal} is not in meeting {meeting}");
            let remedy = format!("see `baton meeting show {meeting}`");
            return Err(Refusal::new(RefusalKind::NotFound, what, remedy).into());
        };
        self.operation.seen.insert(terminal, state.version);
        self.operation.homes.insert(terminal, domain);
        Ok(domain)
    }

    /// Enters a member into the table. Remembers whether it is new there, and the version of its
    /// state.
    pub fn join(&mut self, domain: Domain, member: &Member) -> Result<(), Refusal> {
        let version = match join(self.writer, self.operation.meeting, domain, member)? {
            Joined::Now => {
                self.operation.joined.insert(member.terminal);
                0
            }
            Joined::Before(version) => version,
        };
        self.operation.seen.insert(member.terminal, version);
        Ok(())
    }

    /// Commands an autonomous server; refused where none can be reached.
    pub fn send(&mut self, domain: Domain, message: Message) -> Result<(), Refusal> {
        if !self.shared.lanes.push(domain, self.id, self.operation.meeting, message) {
            self.refuse_fenced([domain])?;
            return Err(unconfigured(domain));
        }
        self.operation.step = Step::Commanding;
        *self.operation.outstanding.entry(domain).or_default() += 1;
        Ok(())
    }

    /// As [`Self::send`], where other commands are on their way already.
    pub fn send_or_fail(&mut self, domain: Domain, message: Message) {
        if let Err(refusal) = self.send(domain, message) {
            self.operation.fail(refusal);
        }
    }
}

/// What was acknowledged, entered into the table.
impl Context<'_> {
    /// Changes the table; see [`Shared::write`].
    pub fn write<T>(&mut self, change: impl FnMut(&mut Writer) -> Result<T, TableError>) {
        self.shared.write(self.writer, self.operation.meeting, change);
    }

    /// Changes a part in the table.
    pub fn write_part(&mut self, domain: Domain, change: impl Fn(&mut Part)) {
        let meeting = self.operation.meeting;
        self.write(|writer| writer.update_part(meeting, domain, &change));
    }

    /// Enters what an autonomous server has acknowledged of a part. Where a command before this one
    /// is not acknowledged the version stays behind, and goes on when it is. What belongs to a
    /// member is entered before this: a version stands for what is in the table before it.
    pub fn note(&mut self, domain: Domain, change: Option<PartChange>) {
        let meeting = self.operation.meeting;
        let acknowledged = self.operation.versions.entry(domain).or_default();
        self.shared.write(self.writer, meeting, |writer| {
            writer.update_part(meeting, domain, |part| acknowledged.enter(part, change))
        });
    }

    /// Enters what an autonomous server has acknowledged of a member, and marks it for the
    /// database. A terminal that has reported since the command was sent said it itself, and
    /// perhaps something newer.
    pub fn note_member(&mut self, terminal: Address, change: impl FnOnce(&mut Member)) {
        let meeting = self.operation.meeting;
        let Some((state, _)) = place(self.table(), meeting, terminal) else { return };
        let mut member = Member { terminal, role: state.role, flags: state.flags, window: state.window };
        change(&mut member);
        let seen = self.operation.seen.get(&terminal).copied();
        self.write(|writer| {
            writer.update_terminal(terminal, |state| {
                let untouched = Some(state.version) == seen;
                if untouched {
                    state.role = member.role;
                    state.flags = member.flags;
                }
                untouched
            })
        });
        self.operation.changes.push(Change::Member(meeting, member));
    }

    /// Asks for a comparison of both sides where an autonomous server named another version than
    /// the table has come to. A higher one: a change was made there that is unknown here, by a
    /// command of this or of an earlier dispatch server whose acknowledgement was lost. A lower
    /// one: its memory went back. The audit finds it by the version of the table, which stays as it
    /// is.
    fn look_for_gaps(&mut self) {
        let domains: Vec<_> = self.operation.versions.keys().copied().collect();
        for domain in domains {
            self.note(domain, None);
            let part = self.table().part(self.operation.meeting, domain);
            if part.is_some_and(|part| self.operation.versions[&domain].differs_from(part.version)) {
                self.shared.unanswered.insert(domain);
            }
        }
    }
}

/// What goes into the database, and what the client is told.
impl Context<'_> {
    /// Writes ahead; the first command goes out when it is durable.
    pub fn log(&mut self, changes: Vec<Change>) {
        self.operation.step = Step::Logging;
        self.shared.commits.push_back((JobId(self.id.0), changes));
    }

    /// Writes ahead `changes` and what the operation wants.
    pub fn log_wanted(&mut self, mut changes: Vec<Change>) {
        let meeting = self.operation.meeting;
        let wanted = self.shared.wanted.get(&meeting).cloned().unwrap_or_default().with(&self.operation.wants);
        changes.push(Change::Want(meeting, wanted));
        self.operation.says_wanted = true;
        self.log(changes);
    }

    /// What was written ahead is wanted from now on.
    pub fn note_wanted(&mut self) {
        let meeting = self.operation.meeting;
        let wanted = self.shared.wanted.remove(&meeting).unwrap_or_default().with(&self.operation.wants);
        self.shared.note_wanted(meeting, wanted);
    }

    /// Notes what is still to be made so in the conference, and gives the change that says so.
    pub fn want(&mut self, wanted: Wanted) -> Change {
        let meeting = self.operation.meeting;
        self.operation.says_wanted = true;
        self.shared.note_wanted(meeting, wanted.clone());
        Change::Want(meeting, wanted)
    }

    /// What the database wants of the conference, as far as that is known; none where it wants
    /// nothing for sure.
    pub fn wanted_in_database(&self) -> Option<Wanted> {
        let meeting = self.operation.meeting;
        let wanted = self.shared.wanted.get(&meeting).cloned();
        wanted.or_else(|| self.shared.unsaid.contains(&meeting).then(Wanted::default))
    }

    /// Takes what became of a commit that said what is wanted.
    pub fn note_said(&mut self, result: &Result<(), CommitError>) {
        let meeting = self.operation.meeting;
        match result {
            _ if !std::mem::take(&mut self.operation.says_wanted) => {}
            Ok(()) => drop(self.shared.unsaid.remove(&meeting)),
            Err(CommitError::Storage(_)) => {
                self.shared.unsaid.insert(meeting);
                self.operation.leaves.push((PAUSE, Errand::Settle));
            }
            // It wants nothing of a conference that it does not have.
            Err(_) => {}
        }
    }

    /// Whether the database lacks the conference, and all of it is written now, once. The table is
    /// right, and the database an older one, or a new one in place of one that was lost.
    pub fn is_rewritten_for(&mut self, error: &CommitError) -> bool {
        matches!(error, CommitError::Unknown(_)) && !std::mem::replace(&mut self.operation.is_rewritten, true)
    }

    pub fn commit(&mut self, changes: Vec<Change>) {
        self.operation.step = Step::Committing;
        self.shared.commits.push_back((JobId(self.id.0), changes));
    }

    /// Commits what was acknowledged. What the operation wants is so, and not wanted any more.
    pub fn commit_done(&mut self) {
        let mut changes = self.acknowledged();
        if let Some(wanted) = self.wanted_in_database() {
            let left = wanted.without(&self.operation.wants);
            changes.push(self.want(left));
        }
        self.commit(changes);
    }

    /// Commits `changes`, and that everything is to be so again as it was; an errand sees to that.
    /// The client is told why the operation failed when this is durable.
    pub fn commit_undone(&mut self, mut changes: Vec<Change>) {
        let operation = &mut *self.operation;
        let touched = !operation.versions.is_empty() || !operation.given_up.is_empty();
        let undo = if touched { std::mem::take(&mut operation.undo) } else { Wanted::default() };
        let done = std::mem::take(&mut operation.wants);
        let wanted = self.wanted_in_database();
        if !undo.is_empty() || wanted.is_some() {
            let left = wanted.unwrap_or_default().without(&done).with(&undo);
            if !left.is_empty() {
                self.operation.leave(Errand::Settle);
            }
            changes.push(self.want(left));
        }
        if changes.is_empty() { self.operation.finish_failed() } else { self.commit(changes) }
    }

    /// What autonomous servers have acknowledged: the parts that changed, as the table has them
    /// now, and the rest.
    pub fn acknowledged(&mut self) -> Vec<Change> {
        self.look_for_gaps();
        let meeting = self.operation.meeting;
        let mut changes: Vec<_> = self.parts_now().map(|part| Change::Part(meeting, part)).collect();
        changes.append(&mut self.operation.changes);
        changes
    }

    fn parts_now(&self) -> impl Iterator<Item = PartParameters> {
        let parts = self.operation.versions.keys();
        let parts = parts.filter_map(|&domain| self.table().part(self.operation.meeting, domain));
        parts.map(|part| PartParameters { domain: part.domain, version: part.version, state: part.state })
    }

    /// All that the table holds of the conference, and what is wanted of it.
    pub fn whole(&self) -> Vec<Change> {
        let meeting = self.operation.meeting;
        let table = self.table();
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
        changes.extend(self.shared.wanted.get(&meeting).map(|wanted| Change::Want(meeting, wanted.clone())));
        changes
    }

    /// Whether all of the operation came to be, by what became of its last commit.
    pub fn outcome(&mut self, result: Result<(), CommitError>) -> Result<(), Refusal> {
        match (result, self.operation.failure.take()) {
            (Err(error), _) => Err(undurable(&error)),
            (Ok(()), Some(refusal)) => Err(refusal),
            (Ok(()), None) => Ok(()),
        }
    }

    /// The parts of the answer to a client.
    pub fn changed_parts(&self) -> Vec<PartParameters> {
        self.parts_now().collect()
    }

    pub fn changed(&self, refused: Vec<Refused>) -> ConferenceAnswer {
        ConferenceAnswer::Changed(Changed { meeting: self.operation.meeting, parts: self.changed_parts(), refused })
    }
}
