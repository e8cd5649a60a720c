//! Upgrades: table and rings handed to the program as it is on disk now, and back if it fails.
//!
//! ```text
//!   asked ──► the new program stands by ──► the old engine yields ──► on trial ──► kept: the new program stands by as well
//!                 │ fails, or does not match        the old program stands by ─┘ dies: it has the locks, and is returned to
//!                 └──► refused, all as before
//! ```
//!
//! A new program is a standby as any other, so what an upgrade relies on is what is relied on
//! whenever an engine dies. The keeper holds the file that an upgrade was made to: what is put on
//! disk later starts nothing before it is asked for.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};

use super::super::engine::Engine;
use super::super::error::KeeperError;
use super::{Supervisor, looking};
use crate::handover::compat::Identity;
use crate::handover::protocol::{Notice, Order, Role};
use crate::handover::{UpgradeForm, UpgradeState, Upgrading};
use crate::keeper::spawner::StartError;
use crate::limits::{UPGRADE_READY, UPGRADE_YIELD};
use crate::sys::process::describe;

/// Which program engines are started from, and how an upgrade does.
#[derive(Debug)]
pub(super) struct Upgrades {
    /// The keeper's own, as it was found at its start. By now there may be another.
    path: PathBuf,
    /// What engines are started from; none is the keeper's own.
    program: Option<OwnedFd>,
    stage: Stage,
    /// What the status shows.
    state: UpgradeState,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Idle,
    /// An engine is started that shall stand by in place of the present standby.
    Awaited { candidate: Box<Engine>, due: Instant, then: Then },
    /// The one that controlled has been ordered to yield, or has yielded.
    Trial {
        program: OwnedFd,
        /// The engine of the new program.
        engine: u32,
        time: Duration,
        /// Its end, once that engine controls.
        until: Option<Instant>,
        /// Until when the one that controlled may take to yield.
        yield_due: Option<Instant>,
    },
}

/// What follows once it stands by.
#[derive(Debug)]
enum Then {
    HandOver {
        program: OwnedFd,
        time: Duration,
    },
    /// Nothing: it is the kept program's.
    StandBy,
}

impl Upgrades {
    pub fn new(path: PathBuf) -> Self {
        Self { path, program: None, stage: Stage::Idle, state: UpgradeState::None }
    }

    /// What engines are started from; none is the keeper's own.
    pub fn program(&self) -> Option<BorrowedFd<'_>> {
        self.program.as_ref().map(AsFd::as_fd)
    }

    /// The engine that is started to become the standby.
    pub fn candidate(&self) -> Option<&Engine> {
        match &self.stage {
            Stage::Awaited { candidate, .. } => Some(candidate),
            _ => None,
        }
    }

    /// When to look again.
    pub fn due(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Idle => None,
            Stage::Awaited { due, .. } => Some(*due),
            Stage::Trial { until, yield_due, .. } => until.or(*yield_due),
        }
    }

    /// Nothing is to come of what is under way: the server stops.
    pub fn stop(&mut self) {
        self.stage = Stage::Idle;
    }

    /// Engines of the program that an upgrade was made to come to nothing: the next are of the
    /// keeper's own.
    pub fn fall_back(&mut self, why: &str) {
        if self.program.take().is_some() {
            tracing::error!("{} {why}: engines are started from the keeper's own program again", self.path.display());
            if matches!(self.stage, Stage::Idle) {
                self.state = UpgradeState::Returned { why: why.into() };
            }
        }
    }

    fn tries(&self, engine: u32) -> bool {
        matches!(self.stage, Stage::Trial { engine: on_trial, .. } if on_trial == engine)
    }
}

impl Supervisor {
    /// A client asks for an upgrade.
    pub(super) fn upgrade(&mut self, form: UpgradeForm) {
        if let Err(why) = self.begin_upgrade(form) {
            self.refuse_upgrade(&why);
        }
    }

    fn begin_upgrade(&mut self, form: UpgradeForm) -> Result<(), String> {
        match self.upgrades.stage {
            Stage::Idle => {}
            Stage::Awaited { .. } => return Err("an upgrade is under way; wait for its end".into()),
            Stage::Trial { .. } => return Err("the last upgrade is on trial; wait for its end".into()),
        }
        if !self.resources.is_complete() {
            return Err("nobody could stand by yet, for the last recovery is under way; ask again in a second".into());
        }
        let time = form.trial().map_err(|error| error.to_string())?;
        let path = self.upgrades.path.clone();
        let failed = |error: &dyn std::fmt::Display| format!("{} cannot be started: {error}", path.display());
        // By its path alone: whether it may be executed is for those to find out who execute it.
        let program = open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|error| failed(&error))?;
        let candidate = self
            .start_candidate(Some(program.as_fd()))
            .map_err(|error| format!("{} (it runs as the engines' user)", failed(&error)))?;
        tracing::info!(
            "an upgrade was asked for: engine {} is started from {}",
            candidate.process.id(),
            path.display()
        );
        self.await_candidate(candidate, Then::HandOver { program, time });
        Ok(())
    }

    fn start_candidate(&mut self, program: Option<BorrowedFd<'_>>) -> Result<Engine, StartError> {
        self.incarnation += 1;
        let active = self.engine.as_ref().map_or(0, |engine| engine.process.id());
        let candidate = Engine::start(&self.starter, program, Role::Standby, Rc::clone(&self.known))?;
        match candidate.stand_by(&self.resources, self.incarnation, active) {
            // It is gone already, and how it ended says more.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(candidate),
            stands => Ok(stands.map(|()| candidate)?),
        }
    }

    fn await_candidate(&mut self, candidate: Engine, then: Then) {
        let due = Instant::now() + UPGRADE_READY;
        self.upgrades.stage = Stage::Awaited { candidate: Box::new(candidate), due, then };
    }

    fn refuse_upgrade(&self, why: &str) {
        tracing::warn!("no upgrade: {why}");
        self.tell(&Order::Stay { why: why.into() });
    }

    /// What the engine that controls is to hear. One that is gone needs no telling.
    pub(super) fn tell(&self, order: &Order) {
        if let Some(engine) = &self.engine {
            let _ = engine.order(order);
        }
    }

    /// Sees to an upgrade: to the engine that is to stand by, and to the times that are set.
    pub(super) fn heed_upgrade(&mut self) -> Result<(), KeeperError> {
        let now = Instant::now();
        match &mut self.upgrades.stage {
            Stage::Idle => {}
            Stage::Awaited { .. } => self.heed_candidate(now)?,
            Stage::Trial { yield_due, .. } if yield_due.is_some_and(|due| now >= due) => {
                *yield_due = None;
                if let Some(engine) = self.engine.as_mut().filter(|engine| engine.yields) {
                    tracing::error!("engine {} does not hand over in time: it is killed", engine.process.id());
                    engine.process.kill();
                }
            }
            Stage::Trial { until: Some(until), .. } if now >= *until => self.keep_program(),
            Stage::Trial { .. } => {}
        }
        Ok(())
    }

    fn heed_candidate(&mut self, now: Instant) -> Result<(), KeeperError> {
        let Stage::Awaited { candidate, due, .. } = &mut self.upgrades.stage else { return Ok(()) };
        let pid = candidate.process.id();
        // First whether it has ended, then what it said: then nothing that it said last is missed.
        let ended = candidate.process.ended().map_err(looking)?;
        candidate.turn(ended.is_some());
        while let Some(notice) = candidate.notice() {
            match notice {
                Notice::Standing { program } => {
                    match Identity::ours().admit(&program) {
                        Ok(()) => self.let_stand_by(program.version)?,
                        Err(why) => self.dismiss_candidate(&why),
                    }
                    return Ok(());
                }
                Notice::Failed { why } => candidate.failed = Some(why),
                _ => {}
            }
        }
        if let Some(status) = ended {
            let why = candidate.failed.take().map(|why| format!(": {why}")).unwrap_or_default();
            self.dismiss_candidate(&format!("the new program (engine {pid}) {}{why}", describe(status)));
        } else if now >= *due {
            let seconds = UPGRADE_READY.as_secs();
            self.dismiss_candidate(&format!("the new program (engine {pid}) does not stand by within {seconds} s"));
        }
        Ok(())
    }

    /// The engine that was started to stand by is let go. Whoever controls and stands by goes on.
    pub(super) fn dismiss_candidate(&mut self, why: &str) {
        match std::mem::take(&mut self.upgrades.stage) {
            Stage::Awaited { then: Then::HandOver { .. }, .. } => self.refuse_upgrade(why),
            Stage::Awaited { then: Then::StandBy, .. } => {
                tracing::warn!("the standby stays one of the program of before: {why}");
            }
            stage => self.upgrades.stage = stage,
        }
    }

    /// It stands by, and is what it should be: the present standby is let go, and what was planned
    /// follows.
    fn let_stand_by(&mut self, version: String) -> Result<(), KeeperError> {
        // Unless that controls already, and has said so: then the candidate has been let go.
        self.heed_standby()?;
        let (mut candidate, then) = match std::mem::take(&mut self.upgrades.stage) {
            Stage::Awaited { candidate, then, .. } => (candidate, then),
            stage => {
                self.upgrades.stage = stage;
                return Ok(());
            }
        };
        let successor = candidate.process.id();
        candidate.stands = true;
        tracing::info!("engine {successor} stands by");
        // Whoever it replaces is gone before the locks are free.
        self.standby = Some(*candidate);
        let Then::HandOver { program, time } = then else {
            self.tell_engine("ready");
            return Ok(());
        };
        let upgrading = Upgrading { successor, version, within: time.as_secs() };
        if let Some(engine) = &mut self.engine {
            engine.yields = true;
        }
        self.tell(&Order::Yield { upgrading });
        let yield_due = Some(Instant::now() + UPGRADE_YIELD);
        self.upgrades.stage = Stage::Trial { program, engine: successor, time, until: None, yield_due };
        Ok(())
    }

    /// An engine has come to control.
    pub(super) fn note_control(&mut self, engine: u32) {
        self.dismiss_candidate("the engine that was to yield has died; ask again");
        if self.upgrades.tries(engine)
            && let Stage::Trial { time, until, yield_due, .. } = &mut self.upgrades.stage
        {
            *until = Some(Instant::now() + *time);
            *yield_due = None;
            self.upgrades.state = UpgradeState::trial(*time);
            tracing::info!("engine {engine} is of the new program, on trial for {time:?}");
        }
        self.tell_upgrade();
    }

    fn tell_upgrade(&self) {
        if self.upgrades.state != UpgradeState::None {
            self.tell(&Order::Upgraded { state: self.upgrades.state.clone() });
        }
    }

    /// An engine has ended. If it was on trial, the program of before is returned to: gives whether
    /// it was.
    pub(super) fn ended_on_trial(&mut self, engine: u32, how: &str) -> bool {
        if !self.upgrades.tries(engine) {
            return false;
        }
        self.upgrades.stage = Stage::Idle;
        self.upgrades.state = UpgradeState::Returned { why: format!("engine {engine} {how}") };
        tracing::error!("the new program failed in its trial: engine {engine} {how}; the one before is returned to");
        if let Some(yielding) =
            self.engine.as_mut().filter(|yielding| yielding.yields && yielding.process.id() != engine)
        {
            // It was to make room for the one that is dead.
            yielding.yields = false;
            self.refuse_upgrade(&format!("engine {engine} {how}"));
        }
        self.tell_upgrade();
        true
    }

    /// The new program has stood its trial: engines are started from it.
    fn keep_program(&mut self) {
        let Stage::Trial { program, engine, .. } = std::mem::take(&mut self.upgrades.stage) else { return };
        tracing::info!("engine {engine} has stood its trial: its program is kept");
        self.upgrades.program = Some(program);
        self.upgrades.state = UpgradeState::Kept;
        self.tell_upgrade();
        if self.standby.is_none() {
            return;
        }
        let started = self.upgrades.program().map(|program| program.try_clone_to_owned());
        let started = started.transpose().map_err(StartError::from);
        let started = started.and_then(|program| self.start_candidate(program.as_ref().map(AsFd::as_fd)));
        match started {
            Ok(candidate) => self.await_candidate(candidate, Then::StandBy),
            Err(error) => tracing::warn!("the standby stays one of the program of before: {error}"),
        }
    }
}
