//! One operation, and where it is.

use std::collections::{BTreeMap, BTreeSet};

use super::ReplyId;
use super::enter::Joined;
use crate::cms::ConferenceReply;
use crate::cms::{Refusal, RefusalKind, Refused};
use crate::database::{Change, KeyParameters, Member, Wanted};
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
    /// What the conference is to come to yet: see [`Wanted`].
    Settle,
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

/// What is to be done without a client, but for how: of each there is one in the backlog.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Errand {
    Resume,
    Settle,
    End(Scope),
}

impl Task {
    /// Which errand it is; none where only a client asks for it.
    pub fn errand(&self) -> Option<Errand> {
        match self {
            Self::Resume(_) => Some(Errand::Resume),
            Self::Settle => Some(Errand::Settle),
            Self::End(scope) => Some(Errand::End(*scope)),
            _ => None,
        }
    }
}

/// How much of a conference is ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
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
    Done(Option<ConferenceReply>),
}

/// What an operation that has not begun waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Waiting {
    Turn,
    Database,
    TakeOver(Domain),
    Room,
}

impl Waiting {
    /// What a client is told whose request waited for this till its deadline.
    pub fn refusal(self) -> Refusal {
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

    /// How far the table's version may go: it stands for every change up to it, so it does not go
    /// past one that nobody here has heard of.
    pub fn reach(&self, mut version: u64) -> u64 {
        while version.checked_add(1).is_some_and(|next| self.made.contains(&next)) {
            version += 1;
        }
        version
    }

    /// Whether the autonomous server has another version of the part than this one: newer, by a
    /// change that nobody here has heard of, or older, for its memory went back.
    pub fn differs_from(&self, version: u64) -> bool {
        self.highest != version
    }
}

#[derive(Debug)]
pub(super) struct Operation {
    pub meeting: MeetingId,
    pub task: Task,
    /// Who is told; none once told, or where nobody asked.
    pub reply: Option<ReplyId>,
    /// Whether nobody waits for it.
    pub is_background: bool,
    /// Whether nobody asked: it comes from the backlog, where it goes back to until it is done.
    pub is_errand: bool,
    /// How often it was tried before.
    pub tries: u32,
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
    /// Terminals that it entered into the table.
    pub joined: BTreeSet<Address>,
    /// Commands that are not answered.
    pub outstanding: BTreeMap<Domain, usize>,
    /// Domains whose commands were given up.
    pub given_up: BTreeSet<Domain>,
    /// Parts that acknowledged something, and with which versions.
    pub versions: BTreeMap<Domain, Acknowledged>,
    /// The domains of the parts that terminals are members of.
    pub homes: BTreeMap<Address, Domain>,
    /// The version of a terminal's state when a command about it was sent.
    pub seen: BTreeMap<Address, u32>,
    /// What the last commit is to write besides the parts.
    pub changes: Vec<Change>,
    pub refused: Vec<Refused>,
    /// Members that were taken.
    pub accepted: Vec<Address>,
    /// Whether it makes somebody chairman: who was it gives the chair up for that one then, and not
    /// for nobody.
    pub promotes: bool,
    /// What it makes so, where several commands do; what of it is left, where it settles what
    /// others left.
    pub wants: Wanted,
    /// What is to be so again where it fails.
    pub undo: Wanted,
    /// Parts that have not taken the layout that is to be settled.
    pub layouts: BTreeSet<Domain>,
    /// Commands that it was begun with room for.
    pub commands: usize,
    /// The first thing that failed.
    pub failure: Option<Refusal>,
    /// Parts that their autonomous server would not start: it has none of it.
    pub declined: BTreeSet<Domain>,
    /// Whether all of the conference is written for it, because the database lacked it.
    pub is_rewritten: bool,
    /// Whether another conference has its number.
    pub is_taken: bool,
    /// What is left to be done when it is over.
    pub leaves: Vec<Task>,
}

impl Operation {
    pub fn new(meeting: MeetingId, task: Task, reply: Option<ReplyId>, deadline: Nanos) -> Self {
        Self {
            meeting,
            task,
            reply,
            is_background: reply.is_none(),
            is_errand: reply.is_none(),
            tries: 0,
            chose_id: meeting == MeetingId::NONE,
            deadline,
            step: Step::Waiting,
            waits_for: Waiting::Turn,
            head: None,
            starting: Vec::new(),
            adding: BTreeMap::new(),
            joined: BTreeSet::new(),
            outstanding: BTreeMap::new(),
            given_up: BTreeSet::new(),
            versions: BTreeMap::new(),
            homes: BTreeMap::new(),
            seen: BTreeMap::new(),
            changes: Vec::new(),
            refused: Vec::new(),
            accepted: Vec::new(),
            promotes: false,
            wants: Wanted::default(),
            undo: Wanted::default(),
            layouts: BTreeSet::new(),
            commands: 0,
            failure: None,
            declined: BTreeSet::new(),
            is_rewritten: false,
            is_taken: false,
            leaves: Vec::new(),
        }
    }

    /// It begins anew: what was planned when it could not begin does not count.
    pub fn forget_plan(&mut self) {
        self.starting.clear();
        self.adding.clear();
        self.seen.clear();
        self.homes.clear();
        self.layouts.clear();
        (self.wants, self.undo, self.promotes) = (Wanted::default(), Wanted::default(), false);
    }

    /// Remembers since when a member is in the table.
    pub fn note_joined(&mut self, terminal: Address, joined: Joined) {
        let version = match joined {
            Joined::Now => {
                self.joined.insert(terminal);
                0
            }
            Joined::Before(version) => version,
        };
        self.seen.insert(terminal, version);
    }

    /// It begins anew under another id: what came of the one before does not count.
    pub fn begin_anew(&mut self) {
        self.forget_plan();
        self.joined.clear();
        self.given_up.clear();
        self.versions.clear();
        self.changes.clear();
        self.refused.clear();
        self.accepted.clear();
        self.declined.clear();
        (self.failure, self.is_taken) = (None, false);
        (self.meeting, self.step) = (MeetingId::NONE, Step::Waiting);
    }

    /// It is over, and this is what the client is told.
    pub fn finish(&mut self, reply: ConferenceReply) {
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
