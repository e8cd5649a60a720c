//! What operations of all verbs have: who waits for it, how far it is, and what
//! autonomous servers have acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::refusals::Waiting;
use crate::cms::{ConferenceReply, Refusal};
use crate::database::{Change, KeyParameters, Wanted};
use crate::time::Nanos;
use crate::wire::{Address, Domain, MeetingId};

/// The number of an operation. Its commits have the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct OperationId(pub u64);

/// The client that waits for an answer; numbered by the caller.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ReplyId(pub u64);

/// How far an operation is.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) enum Step {
    /// It has not begun.
    #[default]
    Waiting,
    /// What it is about to do is being written ahead.
    Logging,
    /// Commands are outstanding.
    Commanding,
    /// What it did is being written.
    Committing,
    /// The number that was chosen for a new conference is another one's: it begins again under the
    /// next.
    Renumbering,
    /// It is over; what the client is told, once.
    Done(Option<ConferenceReply>),
}

/// What is to be done without a client. It is tried until it is done.
#[derive(Clone, Debug)]
pub(super) enum Errand {
    /// Finish a start, of all or some parts, that a death cut short.
    Resume(Arc<KeyParameters>),
    /// Do what is [`Wanted`] of the conference.
    Settle,
    End(Scope),
}

/// An errand without its parameters: the backlog has one of each for a conference.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum ErrandKind {
    Resume,
    Settle,
    End(Scope),
}

impl Errand {
    pub fn kind(&self) -> ErrandKind {
        match self {
            Self::Resume(_) => ErrandKind::Resume,
            Self::Settle => ErrandKind::Settle,
            Self::End(scope) => ErrandKind::End(*scope),
        }
    }
}

/// How much of a conference is ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Scope {
    All,
    Part(Domain),
}

/// The versions that an autonomous server has acknowledged commands to one part with.
#[derive(Debug, Default)]
pub(super) struct Acknowledged {
    /// The highest that it named.
    highest: u64,
    /// Those that commands of this operation made.
    made: BTreeSet<u64>,
}

impl Acknowledged {
    /// Takes the version of an answer; `already` where the command changed nothing.
    pub fn note(&mut self, version: u64, already: bool) {
        self.highest = self.highest.max(version);
        if !already {
            self.made.insert(version);
        }
    }

    /// How far the table's version may go: it stands for every change up to it, so it does not go
    /// past one that is unknown here.
    pub fn reach(&self, mut version: u64) -> u64 {
        while version.checked_add(1).is_some_and(|next| self.made.contains(&next)) {
            version += 1;
        }
        version
    }

    /// Whether the autonomous server has another version of the part than this one: newer, by a
    /// change that is unknown here, or older, for its memory went back.
    pub fn differs_from(&self, version: u64) -> bool {
        self.highest != version
    }
}

#[derive(Debug, Default)]
pub(super) struct Operation {
    pub meeting: MeetingId,
    /// The client to be answered; none once it was, or where no client asked.
    pub reply: Option<ReplyId>,
    /// What it goes back to the backlog as until it is done; none where a client asked for it.
    pub errand: Option<Errand>,
    /// How often the errand was tried before.
    pub tries: u32,
    pub deadline: Nanos,
    pub step: Step,
    pub waits_for: Waiting,
    /// How many commands of each domain are not answered.
    pub outstanding: BTreeMap<Domain, usize>,
    /// Domains whose commands were given up.
    pub given_up: BTreeSet<Domain>,
    /// The parts that acknowledged something.
    pub versions: BTreeMap<Domain, Acknowledged>,
    /// The domains of the parts that terminals are members of.
    pub homes: BTreeMap<Address, Domain>,
    /// The version of a terminal's state when a command about it was sent.
    pub seen: BTreeMap<Address, u32>,
    /// Terminals that this operation entered into the table.
    pub joined: BTreeSet<Address>,
    /// What the last commit is to write besides the parts.
    pub changes: Vec<Change>,
    /// Whether it makes somebody chairman. The old chairman gives the chair up in favour of that
    /// one then, and the conference is not without.
    pub promotes: bool,
    /// What it makes so, where several commands do; what of it is left, where it settles what
    /// others left.
    pub wants: Wanted,
    /// What is to be so again where it fails.
    pub undo: Wanted,
    /// Whether the commit that is under way says what is wanted of the conference.
    pub says_wanted: bool,
    /// Room for this many commands was reserved when it began.
    pub commands: usize,
    /// The first thing that failed.
    pub failure: Option<Refusal>,
    /// Whether all of the conference is written for it, because the database lacked it.
    pub is_rewritten: bool,
    /// What is left to be done when it is over, each after a pause.
    pub leaves: Vec<(Duration, Errand)>,
}

impl Operation {
    pub fn new(meeting: MeetingId, reply: Option<ReplyId>, deadline: Nanos) -> Self {
        Self { meeting, reply, deadline, ..Self::default() }
    }

    /// Whether no client waits for it.
    pub fn is_background(&self) -> bool {
        self.reply.is_none()
    }

    /// It begins anew: what was planned when it could not begin does not count.
    pub fn forget_plan(&mut self) {
        self.seen.clear();
        self.homes.clear();
        self.wants = Wanted::default();
        self.undo = Wanted::default();
        self.promotes = false;
    }

    /// It is over, and the client is told this.
    pub fn finish(&mut self, reply: ConferenceReply) {
        self.step = Step::Done(Some(reply));
    }

    /// Remembers what failed first: what failed after it is often its consequence.
    pub fn fail(&mut self, refusal: Refusal) {
        self.failure.get_or_insert(refusal);
    }

    /// It is over, and the client is told what failed.
    pub fn finish_failed(&mut self) {
        if let Some(refusal) = self.failure.take() {
            self.finish(Err(refusal));
        }
    }

    /// Leaves something to be done at once when it is over.
    pub fn leave(&mut self, errand: Errand) {
        self.leaves.push((Duration::ZERO, errand));
    }

    /// Counts an answer of this domain.
    pub fn answered_by(&mut self, domain: Domain) {
        if let Some(count) = self.outstanding.get_mut(&domain) {
            *count -= 1;
            if *count == 0 {
                self.outstanding.remove(&domain);
            }
        }
    }
}
