//! The standby as its keeper sees it: started beside the engine that controls, and followed when it
//! has taken that one's place.

use std::time::{Duration, Instant};

use super::super::engine::Engine;
use super::super::error::KeeperError;
use super::failures::is_its_own;
use super::{STANDBY_AFTER, Supervisor, ending, looking};
use crate::handover::compat::Identity;
use crate::handover::protocol::{Notice, Order, Role};
use crate::keeper::backoff::Backoff;
use crate::keeper::spawner::StartError;
use crate::limits::{ENGINES_MAX, STANDBY_READY};

/// How long an engine may take to end that has been followed: it lets database and clients go, or
/// the kernel takes it apart.
const FOLLOWED_PATIENCE: Duration = Duration::from_secs(5);
/// As many of them leave room for one that controls, its standby, and the candidate of an upgrade.
const FOLLOWED_MAX: usize = ENGINES_MAX - 3;

/// An engine that its standby has followed.
pub(super) struct Followed {
    pub engine: Engine,
    /// The process that followed it.
    pub successor: u32,
    /// When it is killed, if it has not ended by then.
    pub due: Option<Instant>,
}

impl Supervisor {
    /// The process that controls, or is about to.
    pub(super) fn pid(&self) -> u32 {
        self.engine.as_ref().map_or(0, |engine| engine.process.id())
    }

    /// Whether there should be a standby that is not: once an engine controls, and the table holds
    /// everything, so that whoever follows goes by it.
    pub(super) fn wants_standby(&self) -> bool {
        let controls = self.engine.as_ref().is_some_and(|engine| engine.ready.is_some());
        let none = self.standby.is_none() && self.upgrades.candidate().is_none();
        // The dead are not waited for, unless there are so many that the starter would refuse.
        // Where nobody is to succeed, it would only end.
        let may = !self.resources.succession().is_closed();
        controls && none && may && self.followed.len() < FOLLOWED_MAX && self.resources.is_complete()
    }

    pub(super) fn start_standby(&mut self) {
        let Some(engine) = &self.engine else { return };
        self.incarnation += 1;
        let active = engine.process.id();
        let started = self.start_process(Role::Standby).and_then(|standby| {
            standby.stand_by(&self.resources, self.incarnation, active)?;
            Ok(standby)
        });
        match started {
            Ok(standby) => {
                self.tell_engine("starting");
                self.standby = Some(standby);
            }
            // The loop sees to what is lost, and ends.
            Err(StartError::Line(_)) => {}
            Err(StartError::Refused(error) | StartError::Program(error)) => {
                self.lack_standby(&format!("cannot be started: {error}"))
            }
        }
    }

    /// The engine goes on without a standby for a while.
    pub(super) fn lack_standby(&mut self, why: &str) {
        let pause = self.standby_failures.failed(None);
        tracing::error!("the standby {why}; the engine goes on without one, and the next is tried in {pause:?}");
        self.tell_engine(&format!("none: it {why}"));
        self.standby_due = Instant::now() + pause;
    }

    /// What the status shows of the standby.
    pub(super) fn tell_engine(&self, state: &str) {
        self.tell(&Order::Standby { state: state.to_owned().into() });
    }

    /// A standby whose engine is dead and that does not come to control is ended; a new engine
    /// takes its place.
    pub(super) fn hurry_successor(&mut self) {
        if self.stopping.is_none()
            && self.successor_due.is_some_and(|due| Instant::now() >= due)
            && let Some(engine) = &mut self.engine
        {
            engine.condemn("is the standby of the dead and has not taken over in time".into());
            self.successor_due = None;
        }
    }

    /// A standby that does not come to stand by keeps the next from being tried: it is killed, and
    /// its end is heeded as any other.
    fn hurry_standby(&mut self) {
        if self.standing_due().is_some_and(|due| Instant::now() >= due)
            && let Some(standby) = &mut self.standby
        {
            let why = format!("did not stand by within {} s", STANDBY_READY.as_secs());
            let said = format!("none: engine {} {why}", standby.process.id());
            standby.condemn(why);
            self.tell_engine(&said);
        }
    }

    pub(super) fn heed_standby(&mut self) -> Result<(), KeeperError> {
        let Some(standby) = &mut self.standby else { return Ok(()) };
        let ended = standby.process.ended().map_err(looking)?;
        standby.turn(ended.is_some());
        while let Some(notice) = self.standby.as_mut().and_then(Engine::notice) {
            match notice {
                Notice::Standing { program } => {
                    if let Err(why) = Identity::ours().admit(&program) {
                        self.standby = None;
                        self.upgrades.fall_back(&why);
                        self.lack_standby(&format!("may not take over: {why}"));
                        return Ok(());
                    }
                    if let Some(standby) = &mut self.standby {
                        standby.stands = true;
                        tracing::info!("engine {} stands by", standby.process.id());
                    }
                    self.standby_failures = Backoff::default();
                    self.tell_engine("ready");
                }
                Notice::Ready => {
                    if let Some(epoch) = self.fenced {
                        return Err(KeeperError::Fenced(epoch));
                    }
                    // It has the locks: the one before is dead, though the kernel may still be
                    // taking it apart.
                    let due = Some(Instant::now() + FOLLOWED_PATIENCE);
                    let successor = self.standby.take();
                    if let (Some(engine), Some(successor)) = (self.engine.take(), &successor) {
                        self.count_death(&engine);
                        self.followed.push(Followed { engine, successor: successor.process.id(), due });
                    }
                    self.engine = successor;
                    self.controls();
                    break;
                }
                Notice::Failed { why } => {
                    let hang = self.resources.config().runtime.hang;
                    if let Some(standby) = &mut self.standby {
                        standby.failed = Some(why);
                        standby.ends_within(hang);
                    }
                }
                _ => {}
            }
        }
        let (Some(status), Some(standby)) = (ended, self.standby.take_if(|_| ended.is_some())) else {
            self.hurry_standby();
            return Ok(());
        };
        let why = standby.failed.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let how = ending(&standby, status);
        self.ended_on_trial(standby.process.id(), &how);
        if status.success() && self.resources.succession().is_closed() {
            // The one that controls ends in a way in which nobody is to follow, and this one has
            // heeded that.
            tracing::debug!("the standby, engine {}, ends with the one that controls", standby.process.id());
            return Ok(());
        }
        self.judge_table_after(status)?;
        if !standby.stands && is_its_own(&standby, status) {
            self.upgrades.fall_back(&format!("{how}{why} before it stood by"));
        }
        self.lack_standby(&format!("(engine {}) {how}{why}", standby.process.id()));
        Ok(())
    }

    /// Sees the ends of engines that their standbys have followed already, and sees to it that they
    /// come.
    pub(super) fn heed_followed(&mut self) -> Result<(), KeeperError> {
        let now = Instant::now();
        for mut followed in std::mem::take(&mut self.followed) {
            let Followed { engine, successor, due } = &mut followed;
            if let Some(status) = engine.process.ended().map_err(looking)? {
                let how = ending(engine, status);
                self.has_followed(engine, *successor, &how);
                self.judge_table_after(status)?;
                continue;
            }
            if due.take_if(|due| now >= *due).is_some() {
                engine.condemn("was followed and does not end".into());
            }
            self.followed.push(followed);
        }
        Ok(())
    }

    /// Counts a death that a standby follows, when it follows: the kernel may take the dead apart
    /// for long. A standby that follows too often gets a successor later and later.
    pub(super) fn count_death(&mut self, dead: &Engine) {
        let controlled = dead.controlled(self.resources.config().runtime.hang);
        let pause = if dead.yields { Duration::ZERO } else { self.restarts.died(controlled) };
        self.standby_due = self.standby_due.max(Instant::now() + pause.max(STANDBY_AFTER));
        if !pause.is_zero() {
            let consecutive_failures = self.restarts.consecutive_failures();
            tracing::error!(
                "{consecutive_failures} engines in a row came to nothing: the next standby starts in {pause:?}"
            );
        }
    }

    /// Says who followed whom.
    pub(super) fn has_followed(&mut self, dead: &Engine, successor: u32, how: &str) {
        let pid = dead.process.id();
        if dead.yields {
            tracing::info!("engine {pid} {how} to engine {successor}");
            return;
        }
        self.ended_on_trial(pid, how);
        tracing::warn!("engine {pid} {how}; its standby, engine {successor}, took over");
    }
}
