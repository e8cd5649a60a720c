//! One engine, as far as a keeper and its kernel see it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::handover::compat::Identity;
use crate::handover::protocol::Role;
use crate::keeper::lifecycle::{ExitStatus, Input};
use crate::lab::sim::Random;
use crate::time::Nanos;

/// A time from now on, within this.
pub fn random_time(random: &mut Random, now: Nanos, within: Duration) -> Nanos {
    now + Duration::from_nanos(random.below(within.as_nanos() as u64))
}

/// What becomes of an engine that does not do as it should.
#[derive(Clone, Copy, Debug)]
pub enum Ill {
    Dies(ExitStatus, bool),
    Hangs,
    /// It says that it cannot go on; whether it then ends.
    Fails(bool),
    Fenced(bool),
    Babbles,
    Closes,
}

impl Ill {
    fn draw(random: &mut Random) -> Self {
        let ends = random.chance(700_000);
        match random.below(20) {
            0..8 => Self::Dies(ExitStatus::Kill, false),
            8 => Self::Dies(ExitStatus::Segv, false),
            9 => Self::Dies(ExitStatus::Code(1), false),
            10 => Self::Dies(ExitStatus::Bus, random.chance(500_000)),
            11 => Self::Dies(ExitStatus::SUCCESS, false),
            12..15 => Self::Hangs,
            15 => Self::Fails(ends),
            16 => Self::Babbles,
            17 => Self::Closes,
            18 if random.chance(300_000) => Self::Fenced(ends),
            _ => Self::Dies(ExitStatus::Abrt, false),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum State {
    Starting(Nanos),
    /// It has asked for the locks.
    Waits,
    /// It has the locks.
    TakesOver(Nanos),
    Controls,
    /// It has given the locks back and will end.
    Leaves(Nanos, ExitStatus),
    /// The kernel takes it apart: its threads run no more, and the locks are handed on.
    Dying(Nanos, ExitStatus),
    Ended(ExitStatus),
}

#[derive(Debug)]
pub struct Engine {
    pub pid: u32,
    pub role: Role,
    /// Which locks it was handed: the first of this keeper, the second, and so on.
    pub locks: usize,
    pub state: State,
    pub says: VecDeque<Input>,
    pub ill: Option<(Nanos, Ill)>,
    /// Since when its threads stand still.
    pub still: Option<Nanos>,
    pub kill: Option<Nanos>,
    pub leave: Option<Nanos>,
    pub complete: Option<Nanos>,
    pub table_is_bad: bool,
    /// What it says it is.
    pub identity: Identity,
    /// It does not do what it is ordered to.
    pub deaf: bool,
    /// It does, or did, what it should not.
    pub is_ill: bool,
    /// Nothing that it says is heard any longer.
    pub is_mute: bool,
}

impl Engine {
    /// One that does as it should.
    pub fn new(pid: u32, role: Role, locks: usize, now: Nanos, random: &mut Random) -> Self {
        Self {
            pid,
            role,
            locks,
            state: State::Starting(random_time(random, now, Duration::from_millis(300))),
            says: VecDeque::new(),
            ill: None,
            still: None,
            kill: None,
            leave: None,
            complete: None,
            table_is_bad: false,
            identity: Identity::ours(),
            deaf: false,
            is_ill: false,
            is_mute: false,
        }
    }

    /// It may not do as it should, from the beginning or from some time on.
    pub fn may_be_ill(&mut self, now: Nanos, random: &mut Random) {
        if self.role == Role::Standby && random.chance(50_000) {
            self.identity.wire += 1;
            self.is_ill = true;
        }
        self.deaf = random.chance(100_000);
        let lingers = random.chance(100_000);
        self.is_ill |= self.deaf || lingers;
        if random.chance(30_000) {
            // It never gets there: it stands still, or is busy for ever. One that is to control and
            // counts on waits for what it needs, such as a database that somebody has.
            self.state = State::Starting(Nanos(u64::MAX));
            self.still = (self.role == Role::Active || random.chance(500_000)).then_some(now);
            self.is_ill = true;
        }
        if random.chance(600_000) {
            let span = [10, 500, 5_000, 40_000][random.below(4) as usize];
            self.ill = Some((random_time(random, now, Duration::from_millis(span)), Ill::draw(random)));
        }
    }

    pub fn runs(&self) -> bool {
        !matches!(self.state, State::Dying(..) | State::Ended(_))
    }

    /// It has the locks or may get them.
    pub fn works(&self) -> bool {
        self.runs() && !matches!(self.state, State::Leaves(..))
    }

    pub fn has_locks(&self) -> bool {
        matches!(self.state, State::TakesOver(_) | State::Controls)
    }

    /// When something happens to it next by itself.
    pub fn next(&self) -> Option<Nanos> {
        let moves = match self.state {
            State::Starting(at) | State::TakesOver(at) | State::Leaves(at, _) if self.still.is_none() => Some(at),
            State::Dying(at, _) => Some(at),
            _ => None,
        };
        let wills = [self.ill.map(|(at, _)| at), self.leave, self.complete].into_iter().flatten();
        let wills = wills.filter(|_| self.works() && self.still.is_none());
        moves.into_iter().chain(wills).chain(self.kill.filter(|_| self.runs())).min()
    }
}
