//! Operations on conferences, sans I/O: a request in, commands to autonomous servers and commits to
//! the database out, a reply when both are done.
//!
//! ```text
//! start, end         commit `starting`/`ending` ──► commands ──► acknowledgements → table ──► commit ──► reply
//! several commands   commit what is wanted      ──► commands ──► acknowledgements → table ──► commit ──► reply
//! one command                                       command  ──► acknowledgement  → table ──► commit ──► reply
//! ```
//!
//! Each verb has a file: `start`, `add`, `remove`, `role`, `flags`, `layout` and `end`, which
//! clients ask for, and `resume` and `settle`, which finish or undo what a death or a failure left.
//! What they have in common: the course of an operation ([`verb`]), what a verb works with
//! ([`context`]), parts and members that come into a conference ([`joining`]), and the chair
//! ([`chair`]). Whose turn it is, deadlines and errands are in [`turns`].
//!
//! What always holds here:
//! - The autonomous server has the truth: the table says that something is so after its
//!   acknowledgement. Only joining is entered ahead, for a new member's first report may overtake
//!   the acknowledgement. The table's version of a part stands for every change up to it: it does
//!   not go past a change that was not acknowledged.
//! - An operation of more than one command is written ahead, so that a death in the midst leaves
//!   `starting`, `ending` or what was wanted ([`Wanted`]) in the database, and the next engine
//!   finishes it ([`Operations::handle_opened`]).
//! - What fails in the midst is undone, and the client gets its refusal after that is durable.
//!   Undoing, like finishing, is an errand: it belongs to no client, and is tried with growing
//!   pauses until it is done.
//! - A member is commanded by way of the part that it is a member of, even where its address names
//!   another domain; a domain that is not in the configuration is refused. No request reaches a
//!   panic.
//! - A conference has one operation at a time, in the order of the requests; conferences do not
//!   wait for each other. All commands of an operation that do not depend on one another are
//!   outstanding at once.
//! - A part is commanded after it was taken over under the current epoch; until then, and until the
//!   database is open, a request waits, at most to its deadline.
//!
//! The order of calls: any `handle_*`, then `poll_transmit`, `poll_commit`, `poll_reply` and
//! `poll_event` until each gives none, then `poll_timeout` says when [`Operations::handle_timeout`]
//! is due.

mod add;
mod chair;
mod context;
mod end;
mod event;
mod flags;
mod joining;
mod lanes;
mod layout;
mod operation;
mod refusals;
mod remove;
mod resume;
mod role;
mod settle;
mod start;
mod table_access;
#[cfg(test)]
mod tests;
mod turns;
mod verb;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

pub use event::OperationsEvent;
pub use lanes::{Command, CommandSettings};
pub use operation::{OperationId, ReplyId};

use self::context::Shared;
use self::lanes::{Heard, Lanes};
use self::operation::{Errand, ErrandKind, Operation, Scope, Step};
use self::verb::Verb;
use super::{ConferenceReply, ConferenceRequest, Refusal, RefusalKind};
use crate::cascade::Exchanges;
use crate::database::{Change, CommitError, JobId, KeyParameters, Wanted};
use crate::limits::{OPERATIONS_BACKGROUND_MAX, OPERATIONS_MAX, TAKEN_IDS_MAX};
use crate::table::Writer;
use crate::time::Nanos;
use crate::wire::{Domain, Epoch, Header, MeetingId, Message};

/// Round trips that are kept until they are taken.
const ROUND_TRIPS_MAX: usize = 4096;

/// Every operation under way.
#[derive(Debug)]
pub struct Operations {
    shared: Shared,
    operations: HashMap<OperationId, (Operation, Box<dyn Verb>)>,
    /// May begin, or be looked at again, now.
    ready: VecDeque<OperationId>,
    /// First in their conference's turn; something else is missing.
    waiting: VecDeque<OperationId>,
    /// When those are looked at again.
    recheck: Option<Nanos>,
    deadlines: BinaryHeap<Reverse<(Nanos, OperationId)>>,
    /// Errands that are left to be done, by the time before which they are not, and how often each
    /// was tried.
    backlog: BTreeMap<(Nanos, u64), (MeetingId, Errand, u32)>,
    /// What is in the backlog: each errand of a conference once.
    errands: BTreeSet<(MeetingId, ErrandKind)>,
    /// Operations under way that no client waits for.
    background: usize,
    /// Commands that the operations under way may still send.
    commands_promised: usize,
    replies: VecDeque<(ReplyId, ConferenceReply)>,
    round_trips: Vec<Duration>,
    next_operation: u64,
    /// The epoch of the dispatch server that controls instead.
    stale: Option<Epoch>,
}

impl Operations {
    /// No operation yet. `domains` are those of the configuration.
    pub fn new(epoch: Epoch, domains: impl IntoIterator<Item = Domain>, settings: CommandSettings) -> Self {
        let runs_from = settings.runs;
        let shared = Shared {
            epoch,
            lanes: Lanes::new(epoch, domains),
            turns: HashMap::new(),
            wanted: HashMap::new(),
            unsaid: BTreeSet::new(),
            commits: VecDeque::new(),
            unanswered: BTreeSet::new(),
            events: VecDeque::new(),
            next_meeting: None,
            taken: BTreeSet::new(),
            runs_from,
            runs_drawn: 0,
        };
        Self {
            shared,
            operations: HashMap::new(),
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            recheck: None,
            deadlines: BinaryHeap::new(),
            backlog: BTreeMap::new(),
            errands: BTreeSet::new(),
            background: 0,
            commands_promised: 0,
            replies: VecDeque::new(),
            round_trips: Vec::new(),
            next_operation: 0,
            stale: None,
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
        match self.check(request) {
            Ok((meeting, verb)) => {
                self.enter(Operation::new(meeting, Some(reply), deadline), verb);
                self.run(now, writer);
            }
            Err(refusal) => self.replies.push_back((reply, Err(refusal))),
        }
    }

    /// What a client asked for, made into what can be done.
    fn check(&self, request: ConferenceRequest) -> Result<(MeetingId, Box<dyn Verb>), Refusal> {
        let has_domain = |domain| self.shared.lanes.has(domain);
        Ok(match request {
            ConferenceRequest::Start(asked) => {
                let start = start::Start::check(&asked, has_domain)?;
                (start.meeting(), Box::new(start))
            }
            ConferenceRequest::Add { meeting, members } => (meeting, Box::new(add::Add::check(&members, has_domain)?)),
            ConferenceRequest::Remove { meeting, terminal } => (meeting, Box::new(remove::Remove { terminal })),
            ConferenceRequest::SetRole { meeting, terminal, role } => {
                (meeting, Box::new(role::SetRole { terminal, role }))
            }
            ConferenceRequest::SetLayout { meeting, layout } => (meeting, Box::new(layout::SetLayout::new(layout))),
            ConferenceRequest::SetFlags { meeting, terminal, mask, value } => {
                (meeting, Box::new(flags::SetFlags { terminal, mask, value }))
            }
            ConferenceRequest::End { meeting } => (meeting, Box::new(end::End::new(Scope::All))),
        })
    }

    fn verb(errand: &Errand) -> Box<dyn Verb> {
        match errand {
            Errand::Resume(parameters) => Box::new(resume::Resume::new(parameters.clone())),
            Errand::Settle => Box::new(settle::Settle::default()),
            Errand::End(scope) => Box::new(end::End::new(*scope)),
        }
    }

    /// The database is open: operations that wait for it may begin, and what the last engine left
    /// unfinished is finished. `next_meeting`, `unfinished` and `wanted` are what the database
    /// says; see [`crate::database::Opened`].
    pub fn handle_opened(
        &mut self,
        now: Nanos,
        next_meeting: MeetingId,
        unfinished: Vec<KeyParameters>,
        wanted: Vec<(MeetingId, Wanted)>,
        writer: &mut Writer,
    ) {
        self.shared.next_meeting = Some(next_meeting);
        resume::take_out_unknown(&mut self.shared, &unfinished, writer);
        for parameters in unfinished {
            let meeting = parameters.meeting;
            for errand in resume::errands(&mut self.shared, parameters, writer) {
                self.leave(now, meeting, errand, 0);
            }
        }
        for (meeting, wanted) in wanted {
            self.shared.wanted.insert(meeting, wanted);
            self.leave(now, meeting, Errand::Settle, 0);
        }
        self.ready.append(&mut self.waiting);
        self.run(now, writer);
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
        match self.shared.lanes.handle_message(now, domain, header, message, exchanges) {
            Heard::NotOurs => return false,
            Heard::Later => {}
            Heard::Late => drop(self.shared.unanswered.insert(domain)),
            Heard::Stale(highest) => {
                self.shared.events.push_back(OperationsEvent::Fenced { domain, by: highest });
                self.handle_fence(now, domain, highest, writer);
            }
            Heard::Answered(answered) => {
                if self.round_trips.len() < ROUND_TRIPS_MAX {
                    self.round_trips.push(answered.round_trip);
                }
                self.answered(now, &answered, writer);
                self.run(now, writer);
            }
        }
        true
    }

    /// Another dispatch server controls a domain: nothing is sent there any more, and operations
    /// that wait for an answer of it are refused.
    pub fn handle_fence(&mut self, now: Nanos, domain: Domain, by: Epoch, writer: &mut Writer) {
        for id in self.shared.lanes.fence(domain, by) {
            self.advance(now, id, writer, |context, _| {
                context.operation.fail(refusals::controlled_elsewhere(domain, by));
                context.operation.outstanding.remove(&domain);
                context.operation.given_up.insert(domain);
            });
        }
        self.run(now, writer);
    }

    /// Takes what became of a commit of [`Self::poll_commit`].
    pub fn handle_committed(&mut self, now: Nanos, job: JobId, result: Result<(), CommitError>, writer: &mut Writer) {
        if let Err(CommitError::StaleEpoch { highest }) = result {
            self.handle_stale(highest);
            return;
        }
        self.committed(now, OperationId(job.0), result, writer);
        self.run(now, writer);
    }

    /// Stops for good: a newer dispatch server controls.
    pub fn handle_stale(&mut self, highest: Epoch) {
        if self.stale.replace(highest).is_some() {
            return;
        }
        self.shared.events.push_back(OperationsEvent::Stale { highest });
        self.shared.lanes.stop();
        self.shared.commits.clear();
        self.shared.turns.clear();
        self.backlog.clear();
        self.errands.clear();
        for (_, (operation, _)) in self.operations.drain() {
            if let Some(reply) = operation.reply {
                self.replies.push_back((reply, Err(refusals::not_in_control(highest))));
            }
        }
        self.background = 0;
        self.commands_promised = 0;
        self.recheck = None;
        self.waiting.clear();
        self.ready.clear();
        self.deadlines.clear();
    }

    /// An autonomous server holds a conference of this id that is not ours: no new one is given it.
    /// Where it is not known, the autonomous server refuses the start.
    pub fn handle_orphan(&mut self, meeting: MeetingId) {
        if self.shared.taken.len() < TAKEN_IDS_MAX {
            self.shared.taken.insert(meeting);
        }
    }

    /// A part was taken over: operations that wait for it may begin. Without this call they begin
    /// some milliseconds later.
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
            self.expire(now, id, writer);
        }
        if self.recheck.is_some_and(|at| at <= now) {
            self.recheck = None;
            self.ready.append(&mut self.waiting);
        }
        self.run(now, writer);
    }

    /// The next command to send. When to look for repeats, the exchanges say.
    pub fn poll_transmit(&mut self, now: Nanos, exchanges: &mut dyn Exchanges) -> Option<Command> {
        self.shared.lanes.poll_transmit(now, exchanges)
    }

    /// The next commit to hand to the database, under the epoch of these operations. Ids have their
    /// top bit clear; commits that are not made here use the others. At most one is out per
    /// operation.
    pub fn poll_commit(&mut self) -> Option<(JobId, Vec<Change>)> {
        self.shared.commits.pop_front()
    }

    /// The next answer to a client.
    pub fn poll_reply(&mut self) -> Option<(ReplyId, ConferenceReply)> {
        self.replies.pop_front()
    }

    /// The next thing that the engine should know.
    pub fn poll_event(&mut self) -> Option<OperationsEvent> {
        match self.shared.unanswered.pop_first() {
            Some(domain) => Some(OperationsEvent::Unanswered { domain }),
            None => self.shared.events.pop_front(),
        }
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
        let first = self.shared.turns.get(&meeting).and_then(VecDeque::front);
        first.and_then(|id| self.operations.get(id)).is_some_and(|(operation, _)| operation.step != Step::Waiting)
    }

    /// Operations under way, those without a client included.
    pub fn under_way(&self) -> usize {
        self.operations.len()
    }

    /// Errands that have not begun.
    pub fn left(&self) -> usize {
        self.backlog.len()
    }

    /// Commands that are not answered yet, sent or waiting for room in their lane.
    pub fn commands(&self) -> usize {
        self.shared.lanes.in_flight() + self.shared.lanes.waiting()
    }

    /// Round trips of commands answered since this was last called, from first sending to answer.
    pub fn take_round_trips(&mut self) -> impl Iterator<Item = Duration> + '_ {
        self.round_trips.drain(..)
    }
}
