//! What the lifecycle is told, and what it wants done.

use std::time::Duration;

use super::event::Event;
use super::exit::Exit;
use super::reason::{Kill, StartFailure};
use crate::cascade::Hop;
use crate::handover::protocol::{Death, Notice, Order};
use crate::time::Nanos;
use crate::wire::{Domain, Epoch};

/// An engine, by its number in the order of starts. The process id, which the system gives to
/// another process once this one is reaped, is for people.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EngineId(pub u32);

/// What was seen of engines and signals.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// An engine says this, and it is what an engine can say at this time.
    Notice(EngineId, Notice),
    /// An engine says what none says: why, in words. It is not listened to any longer.
    Distrusted(EngineId, &'static str),
    /// An engine can say nothing more: it closed its end, or is not listened to any longer.
    Silent(EngineId),
    /// An engine has ended, and is reaped.
    Exited(EngineId, Exit),
    /// The keeper was asked to stop.
    Stop,
}

impl Input {
    /// Which engine it is about.
    pub const fn engine(&self) -> Option<EngineId> {
        match self {
            Self::Notice(engine, _) | Self::Distrusted(engine, _) | Self::Silent(engine) | Self::Exited(engine, _) => {
                Some(*engine)
            }
            Self::Stop => None,
        }
    }
}

/// What is to be done, in the order in which it is given out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Start an engine and hand it the resources. The answer is due before the next action:
    /// [`Lifecycle::handle_started`](super::Lifecycle::handle_started).
    Start(Start),
    /// Have it killed. Its end comes as [`Input::Exited`].
    Kill { engine: EngineId, pid: u32, why: Kill },
    /// Have it killed and wait until it is gone, if it is not already; nothing more is heard of it.
    Discard { engine: EngineId },
    /// Send it this. Whether that arrives matters for [`Order::Stop`] alone:
    /// [`Lifecycle::handle_unheard_stop`](super::Lifecycle::handle_unheard_stop).
    Order { engine: EngineId, order: Order },
    /// Tell it how the last upgrade does.
    ReportUpgrade { engine: EngineId, outcome: Outcome },
    /// New locks. The owner of those of before is dead, or has given them back and wants none.
    RenewLocks,
    /// Nobody is to succeed by the locks alone.
    CloseLocks,
    /// The next may succeed by the locks.
    OpenLocks,
    /// Note beside the locks since when their owner has hung: it is killed for that, and the
    /// process that is handed them learns that control was lost earlier than they came.
    NoteHang { since: Nanos },
    /// Read so many threads' counts and give them to
    /// [`Lifecycle::handle_pulses`](super::Lifecycle::handle_pulses).
    ReadPulses { threads: usize },
    /// From now on [`Program::Kept`] is what was [`Program::New`].
    KeepProgram,
    /// This one is not started again.
    DropProgram(Program),
    /// Look at the table as at a start, and replace one that cannot be used, or end, as the
    /// configuration says. The answer is due before the next action:
    /// [`Lifecycle::handle_table`](super::Lifecycle::handle_table).
    JudgeTable,
    /// Make anew all that engines can have damaged. Every engine is dead.
    RenewResources,
    /// The table holds all that the database holds.
    CompleteTable,
    /// Remember where frames to a domain go, for engines that are started later.
    LearnHop { domain: Domain, hop: Hop },
    /// Tell the service manager that this process controls.
    AnnounceControl { pid: u32 },
    /// Tell the service manager that the service stops.
    AnnounceStop,
    /// Write it to the log.
    Log(Event),
    /// End, with [`Lifecycle::engines`](super::Lifecycle::engines) let go from the last to the
    /// first.
    End(End),
}

/// An engine that is to be started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Start {
    pub engine: EngineId,
    pub program: Program,
    pub purpose: Purpose,
}

/// The file that an engine is started from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Program {
    /// The keeper's own, as it is running.
    Own,
    /// What lies on disk by the keeper's path now. It is opened, and stays open to be kept or
    /// dropped.
    New,
    /// What the last upgrade brought that stood its trial.
    Kept,
}

/// What an engine is started for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// To control, after this death, if there was one under this keeper.
    Control { predecessor: Option<Death> },
    /// To stand by the process that controls.
    StandBy { active: u32 },
    /// As a standby, but in place of the present one once it stands by. Where the program is new,
    /// that then has the locks given to it, and is on trial for this time.
    Replace { active: u32, trial: Option<Duration> },
}

/// What an engine does, or is, that it is killed for: behind "engine 7".
/// How the last upgrade does.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Outcome {
    /// There was none under this keeper.
    #[default]
    None,
    /// The new program controls until then, and the one before stands by.
    Trial { until: Nanos },
    /// The new program has stood its trial.
    Kept,
    /// The new program failed, and the one before controls again.
    Returned { why: String },
}

/// Why a keeper ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// It was asked to.
    Stopped,
    /// Another dispatch server controls every domain, under this epoch.
    Fenced(Epoch),
    /// The first engine said that it cannot go on, and why. What stopped it would stop the next.
    Failed(String),
    /// Not even the first engine can be started.
    NotStarted(StartFailure),
}
