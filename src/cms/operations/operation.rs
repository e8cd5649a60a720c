//! What operations of all verbs have: who waits for it, how far it is, and what
//! autonomous servers have acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::refusals::Waiting;
use crate::cms::{ConferenceReply, Refusal};
use crate::database::{Change, KeyParameters, Wanted};
use crate::table::Part;
use crate::time::Nanos;
use crate::wire::{Address, Domain, Layout, MeetingId};

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
    /// What commands have made of the part, and up to which version.
    entered: Vec<(u64, PartChange)>,
}

impl Acknowledged {
    /// Makes the part what its autonomous server has acknowledged so far, `change` being the last
    /// of it. Where a command before is not acknowledged, the version stays behind what the part
    /// is; then a listing that is older than the acknowledgement passes for a newer one, and takes
    /// back what is made so again here.
    pub fn enter(&mut self, part: &mut Part, change: Option<PartChange>) {
        let before = part.version;
        part.version = self.reach(before);
        self.entered.iter().filter(|(version, _)| *version > before).for_each(|(_, change)| change.apply(part));
        if let Some(change) = change {
            change.apply(part);
            self.entered.push((self.highest, change));
        }
    }

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

/// What a command has made of a part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PartChange {
    /// Another layout.
    Layout(Layout),
    /// This terminal is its chairman.
    TakesChair(Address),
    /// This one is it no more.
    LeavesChair(Address),
}

impl PartChange {
    pub fn apply(self, part: &mut Part) {
        match self {
            Self::Layout(layout) => part.layout = layout,
            Self::TakesChair(terminal) => part.chairman = terminal,
            Self::LeavesChair(terminal) if part.chairman == terminal => part.chairman = Address::default(),
            Self::LeavesChair(_) => {}
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Level, MeetingState, MeetingSummary, Run};

    fn part(version: u64, windows: u8) -> Part {
        let summary = MeetingSummary {
            meeting: MeetingId(7),
            version,
            controller: crate::wire::Epoch::new(1, 1),
            state: MeetingState::InMeeting,
            level: Level::HIGHEST,
            participants: 0,
            layout: Layout::new(windows).unwrap(),
            chairman: Address::default(),
            run: Run(1),
        };
        Part::listed(Domain::new(1).unwrap(), &summary)
    }

    /// The part came from a database that had missed version 12. The acknowledgement of 13 was here
    /// before a listing that had been written before 13: seed 18507 of the composed simulation.
    #[test]
    fn a_listing_that_is_older_than_an_acknowledgement_does_not_take_it_back() {
        let mut acknowledged = Acknowledged::default();
        let mut held = part(11, 9);
        acknowledged.note(13, false);
        acknowledged.enter(&mut held, Some(PartChange::Layout(Layout::new(7).unwrap())));
        assert_eq!((held.version, held.layout.windows()), (11, 7), "12 is unknown here");
        (held.version, held.layout) = (12, Layout::new(9).unwrap());
        acknowledged.enter(&mut held, None);
        assert_eq!((held.version, held.layout.windows()), (13, 7));
        // What the autonomous server did of itself after that counts.
        (held.version, held.layout) = (14, Layout::new(2).unwrap());
        acknowledged.enter(&mut held, None);
        assert_eq!((held.version, held.layout.windows()), (14, 2));
    }
}
