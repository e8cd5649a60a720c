//! Operations on conferences, sans I/O: a request in, commands to autonomous servers and commits to
//! the database out, a reply when both are done.
//!
//! ```text
//! start, end         commit `starting`/`ending` ──► commands ──► acknowledgements → table ──► commit ──► reply
//! several commands   commit what is wanted      ──► commands ──► acknowledgements → table ──► commit ──► reply
//! one command                                       command  ──► acknowledgement  → table ──► commit ──► reply
//! ```
//!
//! What always holds here:
//! - The autonomous server is the truth: the table says that something is so after its
//!   acknowledgement. Only joining is entered ahead, for a new member's first report may overtake
//!   the acknowledgement. Its version of a part stands for every change up to it: past a change
//!   that was not acknowledged it does not go.
//! - Whatever takes more than one command is written ahead, so that a death in the midst leaves
//!   `starting`, `ending` or what was wanted ([`Wanted`]) behind in the database, and the next
//!   engine finishes it ([`Operations::handle_opened`]).
//! - What fails in the midst is undone, and a client is told of its refusal after that is durable.
//!   Undoing, as finishing, is an errand: it belongs to no client, and is tried with growing pauses
//!   until it is done.
//! - A member is commanded by way of the part that it is a member of, whatever its address says; a
//!   domain that is not in the configuration is a refusal. No request reaches a panic.
//! - A conference has one operation at a time, in the order of the requests; conferences do not
//!   wait for each other. All commands of an operation that do not depend on one another are
//!   outstanding at once.
//! - A part is commanded after it was taken over under the current epoch; until then, and until the
//!   database is open, a request waits, at most to its deadline.
//!
//! The order of calls: any `handle_*`, then `poll_transmit`, `poll_commit`, `poll_reply` and
//! `poll_event` until each gives none, then `poll_timeout` says when [`Operations::handle_timeout`]
//! is due.

mod begin;
mod check;
mod conclude;
mod enter;
mod follow;
mod lanes;
mod operation;
mod resume;
mod route;
mod settle;
#[cfg(test)]
mod tests;
mod turns;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

pub use lanes::{Command, CommandSettings};
pub use operation::OperationId;

use self::lanes::{Heard, Lanes};
use self::operation::{Errand, Operation, Scope, Step, Task};
use super::{ConferenceRequest, Refusal, RefusalKind};
use crate::cascade::Exchanges;
use crate::cms::ConferenceReply;
use crate::database::{Change, CommitError, JobId, Wanted};
use crate::limits::{OPERATIONS_BACKGROUND_MAX, OPERATIONS_MAX, TAKEN_IDS_MAX};
use crate::table::Writer;
use crate::time::Nanos;
use crate::wire::{Domain, Epoch, Header, MeetingId, Message};

/// Round trips that are kept until somebody takes them.
const ROUND_TRIPS_MAX: usize = 4096;

/// Which client waits; chosen by whoever hands the request in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ReplyId(pub u64);

/// What the engine should know of at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OperationsEvent {
    /// Commands to this domain were given up unanswered, and nobody knows whether they were carried
    /// out; or they were after all; or an answer named a version that tells of a change which
    /// nobody here has heard of, or of a memory that went back.
    Unanswered {
        /// Whose autonomous server.
        domain: Domain,
    },
    /// What must come to be, and no client waits for, could not be done, and is tried again.
    Unfinished {
        /// Of which conference.
        meeting: MeetingId,
        /// Why not.
        why: Refusal,
        /// When it is tried again.
        pause: Duration,
    },
    /// Another dispatch server controls this domain. Nothing more is sent there.
    Fenced {
        /// Whose autonomous server said so.
        domain: Domain,
        /// Under which epoch.
        by: Epoch,
    },
    /// A newer dispatch server has written to the database. Nothing more is sent, and every request
    /// is refused.
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
    /// What a death, a failure or a server that did not answer has left to be done, not before
    /// when, and how often it was tried.
    backlog: BTreeMap<(Nanos, u64), (MeetingId, Task, u32)>,
    /// What is in the backlog: each errand of a conference once.
    errands: BTreeSet<(MeetingId, Errand)>,
    /// What conferences are to come to yet, as the database has it or is about to.
    wanted: HashMap<MeetingId, Wanted>,
    background: usize,
    /// Commands that the operations under way may still send.
    commands_promised: usize,
    commits: VecDeque<(JobId, Vec<Change>)>,
    replies: VecDeque<(ReplyId, ConferenceReply)>,
    round_trips: Vec<Duration>,
    /// None while the database is not open.
    next_meeting: Option<MeetingId>,
    /// Ids that autonomous servers were seen to use for conferences of others: none of them is
    /// chosen.
    taken: BTreeSet<MeetingId>,
    next_operation: u64,
    /// Runs drawn so far, and what they are drawn from.
    runs: (u64, u64),
    unanswered: BTreeSet<Domain>,
    unfinished: VecDeque<(MeetingId, Refusal, Duration)>,
    fenced: VecDeque<(Domain, Epoch)>,
    stale: Option<Epoch>,
    stale_said: bool,
}

impl Operations {
    /// No operation yet. `domains` are those of the configuration.
    pub fn new(epoch: Epoch, domains: impl IntoIterator<Item = Domain>, settings: CommandSettings) -> Self {
        Self {
            epoch,
            runs: (0, settings.runs),
            lanes: Lanes::new(epoch, domains),
            operations: HashMap::new(),
            turns: HashMap::new(),
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            recheck: None,
            deadlines: BinaryHeap::new(),
            backlog: BTreeMap::new(),
            errands: BTreeSet::new(),
            wanted: HashMap::new(),
            background: 0,
            commands_promised: 0,
            commits: VecDeque::new(),
            replies: VecDeque::new(),
            round_trips: Vec::new(),
            next_meeting: None,
            taken: BTreeSet::new(),
            next_operation: 0,
            unanswered: BTreeSet::new(),
            unfinished: VecDeque::new(),
            fenced: VecDeque::new(),
            stale: None,
            stale_said: false,
        }
    }

    /// Takes a client's request. It is answered by [`Self::poll_reply`], at `deadline` at the
    /// latest.
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

    /// Takes an authentic message of this domain's autonomous server; gives whether it answered a
    /// command of ours.
    pub fn handle_message(
        &mut self,
        now: Nanos,
        domain: Domain,
        header: &Header,
        message: &Message,
        exchanges: &mut dyn Exchanges,
        writer: &mut Writer,
    ) -> bool {
        match self.lanes.handle_message(now, domain, header, message, exchanges) {
            Heard::NotOurs => return false,
            Heard::Later => {}
            Heard::Late => drop(self.unanswered.insert(domain)),
            Heard::Stale(highest) => {
                self.fenced.push_back((domain, highest));
                self.handle_fence(now, domain, highest, writer);
            }
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

    /// Another dispatch server controls a domain: nothing is sent there any more, and what waits
    /// for an answer of it is refused.
    pub fn handle_fence(&mut self, now: Nanos, domain: Domain, by: Epoch, writer: &mut Writer) {
        for id in self.lanes.fence(domain, by) {
            let Some(mut operation) = self.operations.remove(&id) else { continue };
            operation.fail(route::given_up(domain, by));
            operation.outstanding.remove(&domain);
            operation.given_up.insert(domain);
            self.proceed(now, id, operation, writer);
        }
        self.run(now, writer);
    }

    /// Takes what became of a commit of [`Self::poll_commit`].
    pub fn handle_committed(&mut self, now: Nanos, job: JobId, result: Result<(), CommitError>, writer: &mut Writer) {
        if let Err(CommitError::StaleEpoch { highest }) = result {
            self.handle_stale(highest);
            return;
        }
        let id = OperationId(job.0);
        if let Some(mut operation) = self.operations.remove(&id) {
            self.committed(id, &mut operation, result, writer);
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
        self.errands.clear();
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

    /// An autonomous server holds a conference of this id that is not ours: no new one is given it.
    /// Where nobody knew, the autonomous server refuses the start.
    pub fn handle_orphan(&mut self, meeting: MeetingId) {
        if self.taken.len() < TAKEN_IDS_MAX {
            self.taken.insert(meeting);
        }
    }

    /// A part was taken over: whoever waits for it may begin. Without this call they begin some
    /// milliseconds later.
    pub fn handle_taken_over(&mut self, now: Nanos, writer: &mut Writer) {
        self.ready.append(&mut self.waiting);
        self.run(now, writer);
    }

    /// Does what is due: deadlines, another look at who waits.
    pub fn handle_timeout(&mut self, now: Nanos, writer: &mut Writer) {
        while let Some(&Reverse((at, id))) = self.deadlines.peek()
            && at <= now
        {
            self.deadlines.pop();
            if let Some(mut operation) = self.operations.remove(&id) {
                self.expired(id, &mut operation);
                self.proceed(now, id, operation, writer);
            }
        }
        if self.recheck.is_some_and(|at| at <= now) {
            self.recheck = None;
            self.ready.append(&mut self.waiting);
        }
        self.run(now, writer);
    }

    /// The next command to send. When to look for repeats, the exchanges say.
    pub fn poll_transmit(&mut self, now: Nanos, exchanges: &mut dyn Exchanges) -> Option<Command> {
        self.lanes.poll_transmit(now, exchanges)
    }

    /// The next commit to hand to the database, under the epoch of these operations. Ids have their
    /// top bit clear; whoever else hands commits in uses the others. At most one is out per
    /// operation.
    pub fn poll_commit(&mut self) -> Option<(JobId, Vec<Change>)> {
        self.commits.pop_front()
    }

    /// The next answer to a client.
    pub fn poll_reply(&mut self) -> Option<(ReplyId, ConferenceReply)> {
        self.replies.pop_front()
    }

    /// The next thing that the engine should know.
    pub fn poll_event(&mut self) -> Option<OperationsEvent> {
        if let Some(domain) = self.unanswered.pop_first() {
            return Some(OperationsEvent::Unanswered { domain });
        }
        if let Some((meeting, why, pause)) = self.unfinished.pop_front() {
            return Some(OperationsEvent::Unfinished { meeting, why, pause });
        }
        if let Some((domain, by)) = self.fenced.pop_front() {
            return Some(OperationsEvent::Fenced { domain, by });
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
        [deadline, self.recheck, backlog].into_iter().flatten().min()
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
}

fn not_in_control(highest: Epoch) -> Refusal {
    let what = format!("another dispatch server controls, under epoch {highest}");
    Refusal::new(RefusalKind::NotInControl, what, "ask that one")
}
