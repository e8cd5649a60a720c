//! Operations on conferences, sans I/O: a request in, commands to autonomous servers and commits to the database out,
//! a reply when both are done.
//!
//! ```text
//! start, end        commit `starting`/`ending` ──► commands ──► acknowledgements → table ──► commit ──► reply
//! everything else                                  commands ──► acknowledgements → table ──► commit ──► reply
//! ```
//!
//! What always holds here:
//! - The autonomous server is the truth: the table says that something is so after its acknowledgement. Only joining
//!   is entered ahead, for a new member's first report may overtake the acknowledgement. Its version of a part stands
//!   for every change up to it: past a change that was not acknowledged it does not go.
//! - Start and end are written ahead, so that a death in the midst leaves `starting` or `ending` behind in the database,
//!   and the next engine finishes it ([`Operations::handle_opened`]).
//! - A conference has one operation at a time, in the order of the requests; conferences do not wait for each other. All
//!   commands of an operation that do not depend on one another are outstanding at once.
//! - A part is commanded after it was taken over under the current epoch; until then, and until the database is open,
//!   a request waits, at most to its deadline.
//!
//! The order of calls: any `handle_*`, then `poll_transmit`, `poll_commit`, `poll_reply` and `poll_event` until each gives
//! none, then `poll_timeout` says when [`Operations::handle_timeout`] is due.

mod begin;
mod check;
mod follow;
mod lanes;
mod operation;
mod resume;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

pub use lanes::{Command, CommandSettings};
pub use operation::OperationId;

use self::lanes::{Heard, Lanes};
use self::operation::{Operation, Scope, Step, Task, Waiting};
use super::{Change, CommitError, ConferenceRequest, JobId, Refusal, RefusalKind, Reply};
use crate::limits::{OPERATIONS_BACKGROUND_MAX, OPERATIONS_MAX};
use crate::table::Writer;
use crate::time::Nanos;
use crate::wire::{Domain, Epoch, Header, MeetingId, Message};

/// How often requests that cannot begin yet are looked at again.
const RECHECK: Duration = Duration::from_millis(5);
/// How long an operation without a client is tried before others of its kind get their turn.
const BACKGROUND_TURN: Duration = Duration::from_secs(30);
/// Round trips that are kept until somebody takes them.
const ROUND_TRIPS_MAX: usize = 4096;

/// Which client waits; chosen by whoever hands the request in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ReplyId(pub u64);

/// What the engine should know of at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OperationsEvent {
    /// Commands to this domain were given up unanswered, and nobody knows whether they were carried out; or an answer
    /// named a version that tells of a change which nobody here has heard of.
    Unanswered {
        /// Whose autonomous server.
        domain: Domain,
    },
    /// A newer dispatch server controls. Nothing more is sent, and every request is refused.
    Stale {
        /// The highest epoch that was heard of.
        highest: Epoch,
    },
}

/// Every operation under way.
#[derive(Debug)]
pub struct Operations {
    epoch: Epoch,
    lanes: Lanes,
    operations: HashMap<OperationId, Operation>,
    /// Who is next, by conference; the first one is under way or waits to begin.
    turns: HashMap<MeetingId, VecDeque<OperationId>>,
    /// May begin, or be looked at again, now.
    ready: VecDeque<OperationId>,
    /// First in its conference's turn, and something else is missing.
    waiting: VecDeque<OperationId>,
    recheck: Option<Nanos>,
    deadlines: BinaryHeap<Reverse<(Nanos, OperationId)>>,
    /// What a death, or a server that did not answer, has left to be done, and not before when.
    backlog: BTreeMap<(Nanos, u64), (MeetingId, Task)>,
    background: usize,
    /// Commands that the operations under way may still send.
    commands_promised: usize,
    commits: VecDeque<(JobId, Vec<Change>)>,
    replies: VecDeque<(ReplyId, Reply)>,
    round_trips: Vec<Duration>,
    /// None while the database is not open.
    next_meeting: Option<MeetingId>,
    next_operation: u64,
    /// Runs drawn so far, and what they are drawn from.
    runs: (u64, u64),
    unanswered: BTreeSet<Domain>,
    stale: Option<Epoch>,
    stale_said: bool,
}

impl Operations {
    /// No operation yet. `domains` are those of the configuration.
    pub fn new(epoch: Epoch, domains: impl IntoIterator<Item = Domain>, settings: CommandSettings) -> Self {
        Self {
            epoch,
            runs: (0, settings.runs),
            lanes: Lanes::new(epoch, domains, settings),
            operations: HashMap::new(),
            turns: HashMap::new(),
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            recheck: None,
            deadlines: BinaryHeap::new(),
            backlog: BTreeMap::new(),
            background: 0,
            commands_promised: 0,
            commits: VecDeque::new(),
            replies: VecDeque::new(),
            round_trips: Vec::new(),
            next_meeting: None,
            next_operation: 0,
            unanswered: BTreeSet::new(),
            stale: None,
            stale_said: false,
        }
    }

    /// Takes a client's request. It is answered by [`Self::poll_reply`], at `deadline` at the latest.
    pub fn handle_request(
        &mut self,
        now: Nanos,
        reply: ReplyId,
        request: ConferenceRequest,
        deadline: Nanos,
        writer: &mut Writer,
    ) {
        if self.operations.len() - self.background >= OPERATIONS_MAX {
            let what = format!("{OPERATIONS_MAX} operations are under way");
            self.replies.push_back((reply, Err(Refusal::new(RefusalKind::Busy, what, "ask again in a second"))));
            return;
        }
        match self.understand(request) {
            Ok((meeting, task)) => {
                self.enter(meeting, Operation::new(meeting, task, Some(reply), deadline));
                self.run(now, writer);
            }
            Err(refusal) => self.replies.push_back((reply, Err(refusal))),
        }
    }

    fn understand(&self, request: ConferenceRequest) -> Result<(MeetingId, Task), Refusal> {
        let has_domain = |domain| self.lanes.has(domain);
        Ok(match request {
            ConferenceRequest::Start(asked) => {
                let parameters = check::start(&asked, has_domain)?;
                (parameters.meeting, Task::Start(Box::new(parameters)))
            }
            ConferenceRequest::Add { meeting, members } => (meeting, Task::Add(check::members(&members, has_domain)?)),
            ConferenceRequest::Remove { meeting, terminal } => (meeting, Task::Remove(terminal)),
            ConferenceRequest::SetRole { meeting, terminal, role } => (meeting, Task::SetRole(terminal, role)),
            ConferenceRequest::SetLayout { meeting, layout } => (meeting, Task::SetLayout(layout)),
            ConferenceRequest::SetFlags { meeting, terminal, mask, value } => {
                (meeting, Task::SetFlags { terminal, mask, value })
            }
            ConferenceRequest::End { meeting } => (meeting, Task::End(Scope::All)),
        })
    }

    /// Takes an authentic message of this domain's autonomous server; gives whether it answered a command of ours.
    pub fn handle_message(
        &mut self,
        now: Nanos,
        domain: Domain,
        header: &Header,
        message: &Message,
        writer: &mut Writer,
    ) -> bool {
        match self.lanes.handle_message(now, domain, header, message) {
            Heard::NotOurs => return false,
            Heard::Later => {}
            Heard::Stale(highest) => self.handle_stale(highest),
            Heard::Answered(answered) => {
                if self.round_trips.len() < ROUND_TRIPS_MAX {
                    self.round_trips.push(answered.round_trip);
                }
                if let Some(mut operation) = self.operations.remove(&answered.operation) {
                    self.answered(answered.operation, &mut operation, &answered, writer);
                    self.proceed(now, answered.operation, operation, writer);
                }
                self.run(now, writer);
            }
        }
        true
    }

    /// Takes what became of a commit of [`Self::poll_commit`].
    pub fn handle_committed(&mut self, now: Nanos, job: JobId, result: Result<(), CommitError>, writer: &mut Writer) {
        if let Err(CommitError::StaleEpoch { highest }) = result {
            self.handle_stale(highest);
            return;
        }
        let id = OperationId(job.0);
        if let Some(mut operation) = self.operations.remove(&id) {
            self.committed(now, id, &mut operation, result, writer);
            self.proceed(now, id, operation, writer);
        }
        self.run(now, writer);
    }

    /// Stops for good: a newer dispatch server controls, as somebody else of the engine has heard.
    pub fn handle_stale(&mut self, highest: Epoch) {
        if self.stale.replace(highest).is_some() {
            return;
        }
        self.lanes.stop();
        self.commits.clear();
        self.backlog.clear();
        for (_, operation) in self.operations.drain() {
            if let Some(reply) = operation.reply {
                self.replies.push_back((reply, Err(not_in_control(highest))));
            }
        }
        (self.background, self.commands_promised, self.recheck) = (0, 0, None);
        self.turns.clear();
        self.waiting.clear();
        self.ready.clear();
        self.deadlines.clear();
    }

    /// A part was taken over: whoever waits for it may begin. Without this call they begin some milliseconds later.
    pub fn handle_taken_over(&mut self, now: Nanos, writer: &mut Writer) {
        self.ready.append(&mut self.waiting);
        self.run(now, writer);
    }

    /// Does what is due: repeats, deadlines, another look at who waits.
    pub fn handle_timeout(&mut self, now: Nanos, writer: &mut Writer) {
        self.lanes.handle_timeout(now);
        while let Some(&Reverse((at, id))) = self.deadlines.peek()
            && at <= now
        {
            self.deadlines.pop();
            if let Some(mut operation) = self.operations.remove(&id) {
                self.expired(now, &mut operation);
                self.proceed(now, id, operation, writer);
            }
        }
        if self.recheck.is_some_and(|at| at <= now) {
            self.recheck = None;
            self.ready.append(&mut self.waiting);
        }
        self.run(now, writer);
    }

    /// The next command to send.
    pub fn poll_transmit(&mut self, now: Nanos) -> Option<Command> {
        let operations = &self.operations;
        self.lanes.poll_transmit(now, |id| operations.contains_key(&id))
    }

    /// The next commit to hand to the database, under the epoch of these operations. Ids have their top bit clear;
    /// whoever else hands commits in uses the others. At most one is out per operation.
    pub fn poll_commit(&mut self) -> Option<(JobId, Vec<Change>)> {
        self.commits.pop_front()
    }

    /// The next answer to a client.
    pub fn poll_reply(&mut self) -> Option<(ReplyId, Reply)> {
        self.replies.pop_front()
    }

    /// The next thing that the engine should know.
    pub fn poll_event(&mut self) -> Option<OperationsEvent> {
        if let Some(domain) = self.unanswered.pop_first() {
            return Some(OperationsEvent::Unanswered { domain });
        }
        let highest = self.stale.filter(|_| !self.stale_said)?;
        self.stale_said = true;
        Some(OperationsEvent::Stale { highest })
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&mut self) -> Option<Nanos> {
        while let Some(Reverse((_, id))) = self.deadlines.peek()
            && !self.operations.contains_key(id)
        {
            self.deadlines.pop();
        }
        let deadline = self.deadlines.peek().map(|&Reverse((at, _))| at);
        let backlog = self.backlog.first_key_value().filter(|_| self.background < OPERATIONS_BACKGROUND_MAX);
        let backlog = backlog.map(|(&(not_before, _), _)| not_before);
        [self.lanes.poll_timeout(), deadline, self.recheck, backlog].into_iter().flatten().min()
    }

    /// Whether an operation on this conference has begun and is not done.
    pub fn is_under_way(&self, meeting: MeetingId) -> bool {
        let first = self.turns.get(&meeting).and_then(VecDeque::front);
        first.and_then(|id| self.operations.get(id)).is_some_and(|operation| operation.step != Step::Waiting)
    }

    /// Operations under way, those without a client included.
    pub fn under_way(&self) -> usize {
        self.operations.len()
    }

    /// What is left to be done without a client and has not begun.
    pub fn left(&self) -> usize {
        self.backlog.len()
    }

    /// Commands that are not answered yet, sent or waiting for room in their lane.
    pub fn commands(&self) -> usize {
        self.lanes.in_flight() + self.lanes.waiting()
    }

    /// Round trips of commands answered since this was last called, from first sending to answer.
    pub fn take_round_trips(&mut self) -> impl Iterator<Item = Duration> + '_ {
        self.round_trips.drain(..)
    }

    fn enter(&mut self, meeting: MeetingId, operation: Operation) {
        let id = OperationId(self.next_operation);
        self.next_operation += 1;
        self.deadlines.push(Reverse((operation.deadline, id)));
        self.background += usize::from(operation.reply.is_none());
        self.operations.insert(id, operation);
        self.take_turn(meeting, id);
    }

    /// Puts an operation into its conference's turn. One that is to choose its id has no turn before it has one. What
    /// nobody asked for goes first: it finishes what was begun, and what was asked for later is to find it finished.
    fn take_turn(&mut self, meeting: MeetingId, id: OperationId) {
        if meeting == MeetingId::NONE {
            self.ready.push_back(id);
            return;
        }
        let goes_first = self.operations.get(&id).is_some_and(|operation| operation.is_background);
        let turn = self.turns.entry(meeting).or_default();
        let first = turn.front().and_then(|first| self.operations.get(first));
        if goes_first && first.is_some_and(|first| first.step == Step::Waiting) {
            turn.push_front(id);
        } else {
            turn.push_back(id);
        }
        if turn.front() == Some(&id) {
            self.ready.push_back(id);
        }
    }

    /// Whether an operation is the one of its conference that may begin.
    fn has_turn(&self, meeting: MeetingId, id: OperationId) -> bool {
        meeting == MeetingId::NONE || self.turns.get(&meeting).is_some_and(|turn| turn.front() == Some(&id))
    }

    /// Begins whatever may begin. Each round either begins an operation, ends one, or lets one wait.
    fn run(&mut self, now: Nanos, writer: &mut Writer) {
        loop {
            self.take_from_backlog(now);
            let Some(id) = self.ready.pop_front() else { return };
            let may_begin = |operation: &Operation| self.has_turn(operation.meeting, id);
            if !self.operations.get(&id).is_some_and(may_begin) {
                continue;
            }
            let Some(mut operation) = self.operations.remove(&id) else { continue };
            if let Some(highest) = self.stale {
                operation.finish(Err(not_in_control(highest)));
            } else if operation.step == Step::Waiting {
                self.begin(now, id, &mut operation, writer);
            }
            if let Step::Waiting = operation.step {
                self.waiting.push_back(id);
                self.recheck.get_or_insert(now + RECHECK);
                self.operations.insert(id, operation);
                continue;
            }
            self.proceed(now, id, operation, writer);
        }
    }

    fn take_from_backlog(&mut self, now: Nanos) {
        while self.background < OPERATIONS_BACKGROUND_MAX
            && let Some(entry) = self.backlog.first_entry()
            && entry.key().0 <= now
        {
            let (meeting, task) = entry.remove();
            self.enter(meeting, Operation::new(meeting, task, None, now + BACKGROUND_TURN));
        }
    }

    /// Leaves something to be done without a client.
    fn leave(&mut self, not_before: Nanos, meeting: MeetingId, task: Task) {
        self.backlog.insert((not_before, self.next_operation), (meeting, task));
        self.next_operation += 1;
    }

    /// Takes an operation on as far as it goes without waiting, and files it again, or ends it.
    fn proceed(&mut self, now: Nanos, id: OperationId, mut operation: Operation, writer: &mut Writer) {
        if operation.step == Step::Commanding && operation.outstanding.is_empty() {
            self.conclude(now, id, &mut operation, writer);
        }
        let Step::Done(result) = &mut operation.step else {
            self.operations.insert(id, operation);
            return;
        };
        if let (Some(reply), Some(result)) = (operation.reply, result.take()) {
            self.replies.push_back((reply, result));
        }
        self.background -= usize::from(operation.is_background);
        self.commands_promised -= operation.commands;
        for (not_before, task) in operation.leaves {
            self.leave(not_before, operation.meeting, task);
        }
        self.leave_turn(id, operation.meeting);
    }

    fn leave_turn(&mut self, id: OperationId, meeting: MeetingId) {
        let Some(turn) = self.turns.get_mut(&meeting) else { return };
        if turn.front() == Some(&id) {
            turn.pop_front();
            self.ready.extend(turn.front());
        } else {
            turn.retain(|&other| other != id);
        }
        if turn.is_empty() {
            self.turns.remove(&meeting);
        }
    }
}

fn not_in_control(highest: Epoch) -> Refusal {
    let what = format!("another dispatch server controls, under epoch {highest}");
    Refusal::new(RefusalKind::NotInControl, what, "ask that one")
}

impl Waiting {
    /// What a client is told whose request waited for this till its deadline.
    fn refusal(self) -> Refusal {
        let (what, remedy) = match self {
            Self::Turn => ("earlier operations on this conference took all the time".to_owned(), "ask again"),
            Self::Database => ("the database is not open yet".to_owned(), "see `baton status`, and ask again"),
            Self::TakeOver(domain) => (
                format!("the conference is not taken over in domain {domain} yet"),
                "see `baton status`, and ask again",
            ),
            Self::Room => ("too many commands are waiting".to_owned(), "ask again"),
        };
        Refusal::new(RefusalKind::Busy, what, remedy)
    }
}
