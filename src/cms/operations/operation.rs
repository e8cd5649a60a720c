//! One operation, and where it is.

use std::collections::{BTreeMap, BTreeSet};

use super::ReplyId;
use crate::cms::{Change, KeyParameters, Member, Refusal, Refused, Reply};
use crate::time::Nanos;
use crate::wire::{Address, Domain, Flags, Layout, Level, MeetingId, Role, Run};

/// Which operation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct OperationId(pub u64);

/// What is to be done.
#[derive(Clone, Debug)]
pub(super) enum Task {
    /// A new conference; id [`MeetingId::NONE`] until one is chosen.
    Start(Box<KeyParameters>),
    /// A start, of all or some parts, that a death cut short.
    Resume(Box<KeyParameters>),
    Add(Vec<Member>),
    Remove(Address),
    SetRole(Address, Role),
    SetLayout(Layout),
    SetFlags {
        terminal: Address,
        mask: Flags,
        value: Flags,
    },
    End(Scope),
}

/// How much of a conference is ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scope {
    All,
    Part(Domain),
}

/// Where an operation is.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Step {
    /// It has not begun.
    Waiting,
    /// What it is about to do is being written ahead.
    Logging,
    /// Commands are outstanding.
    Commanding,
    /// What it did is being written.
    Committing,
    /// What the client is told, once.
    Done(Option<Reply>),
}

/// What an operation that has not begun waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Waiting {
    Turn,
    Database,
    TakeOver(Domain),
    Room,
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
    /// Hears an answer; `already` where the command changed nothing.
    pub fn hear(&mut self, version: u64, already: bool) {
        self.highest = self.highest.max(version);
        if !already {
            self.made.insert(version);
        }
    }

    /// How far the table's version may go: it stands for every change up to it, so it does not go past one that nobody
    /// here has heard of.
    pub fn reach(&self, mut version: u64) -> u64 {
        while version.checked_add(1).is_some_and(|next| self.made.contains(&next)) {
            version += 1;
        }
        version
    }

    /// Whether the part had a version, at its autonomous server, that this one is behind.
    pub fn is_ahead_of(&self, version: u64) -> bool {
        self.highest > version
    }
}

#[derive(Debug)]
pub(super) struct Operation {
    pub meeting: MeetingId,
    pub task: Task,
    /// Who is told; none once told, or where nobody asked.
    pub reply: Option<ReplyId>,
    /// Whether nobody asked.
    pub is_background: bool,
    /// Whether the id was ours to choose.
    pub chose_id: bool,
    pub deadline: Nanos,
    pub step: Step,
    pub waits_for: Waiting,
    /// What a MEETING_START of this operation says.
    pub head: Option<(Level, Layout, Address, Run)>,
    /// Parts that this operation starts.
    pub starting: Vec<Domain>,
    /// Members that it adds, and has not asked for yet.
    pub adding: BTreeMap<Domain, Vec<Member>>,
    /// Terminals that it entered into the table and whose autonomous server has not taken them yet.
    pub joined: BTreeSet<Address>,
    /// Commands that are not answered.
    pub outstanding: BTreeMap<Domain, usize>,
    /// Parts that acknowledged something, and with which versions.
    pub versions: BTreeMap<Domain, Acknowledged>,
    /// The version of a terminal's state when a command about it was sent.
    pub seen: BTreeMap<Address, u32>,
    /// What the last commit is to write besides the parts.
    pub changes: Vec<Change>,
    pub refused: Vec<Refused>,
    /// Members that were taken.
    pub accepted: Vec<Address>,
    /// Whether the terminal that it is about was chairman.
    pub was_chairman: bool,
    /// Commands that it was begun with room for.
    pub commands: usize,
    /// The first thing that failed.
    pub failure: Option<Refusal>,
    /// Parts whose start failed.
    pub failed: Vec<Domain>,
    /// What is left to be done when it is over, and not before when.
    pub leaves: Vec<(Nanos, Task)>,
}

impl Operation {
    pub fn new(meeting: MeetingId, task: Task, reply: Option<ReplyId>, deadline: Nanos) -> Self {
        Self {
            meeting,
            task,
            reply,
            is_background: reply.is_none(),
            chose_id: meeting == MeetingId::NONE,
            deadline,
            step: Step::Waiting,
            waits_for: Waiting::Turn,
            head: None,
            starting: Vec::new(),
            adding: BTreeMap::new(),
            joined: BTreeSet::new(),
            outstanding: BTreeMap::new(),
            versions: BTreeMap::new(),
            seen: BTreeMap::new(),
            changes: Vec::new(),
            refused: Vec::new(),
            accepted: Vec::new(),
            was_chairman: false,
            commands: 0,
            failure: None,
            failed: Vec::new(),
            leaves: Vec::new(),
        }
    }

    /// It begins anew: what was planned when it could not begin does not count.
    pub fn forget_plan(&mut self) {
        self.starting.clear();
        self.adding.clear();
        self.seen.clear();
    }

    /// It is over, and this is what the client is told.
    pub fn finish(&mut self, reply: Reply) {
        self.step = Step::Done(Some(reply));
    }

    /// Remembers what failed first: what failed after it is often its consequence.
    pub fn fail(&mut self, refusal: Refusal) {
        self.failure.get_or_insert(refusal);
    }

    pub fn answered_by(&mut self, domain: Domain) {
        if let Some(count) = self.outstanding.get_mut(&domain) {
            *count -= 1;
            if *count == 0 {
                self.outstanding.remove(&domain);
            }
        }
    }
}
