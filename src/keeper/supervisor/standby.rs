//! The standby as its keeper sees it: started beside the engine that controls, and followed when it has taken that one's place.

use std::time::Instant;

use super::super::engine::Engine;
use super::super::estate::KeeperError;
use super::super::handover::{Notice, Order};
use super::super::program::Identity;
use super::super::restarts::Restarts;
use super::super::starter::StartError;
use super::{STANDBY_AFTER, Supervisor, ending, is_its_own, looking};
use crate::sys::process::describe;

impl Supervisor {
    /// Whether there should be a standby that is not: once an engine controls, and the table holds everything, so that whoever
    /// follows goes by it.
    pub(super) fn wants_standby(&self) -> bool {
        let controls = self.engine.as_ref().is_some_and(|engine| engine.ready.is_some());
        let none = self.standby.is_none() && self.followed.is_none() && self.upgrades.candidate().is_none();
        controls && none && self.estate.is_complete()
    }

    pub(super) fn start_standby(&mut self) {
        let Some(engine) = &self.engine else { return };
        self.incarnation += 1;
        let active = engine.process.id();
        let started = self.start_process().and_then(|standby| {
            standby.stand_by(&self.estate, self.incarnation, active)?;
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
        self.tell(&Order::Standby { state: state.into() });
    }

    /// A standby whose engine is dead and that does not come to control is ended; a new engine takes its place.
    pub(super) fn hurry_heir(&mut self) {
        if self.heir_due.is_some_and(|due| Instant::now() >= due)
            && let Some(engine) = &mut self.engine
        {
            tracing::error!("the standby, engine {}, has not taken over in time: it is killed", engine.process.id());
            engine.process.kill();
            self.heir_due = None;
        }
    }

    pub(super) fn heed_standby(&mut self) -> Result<(), KeeperError> {
        let Some(standby) = &mut self.standby else { return Ok(()) };
        let ended = standby.process.ended().map_err(looking)?;
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
                    self.standby_failures = Restarts::default();
                    self.tell_engine("ready");
                }
                Notice::Ready => {
                    // It has the locks: the one before is dead, though the kernel may still be taking it apart.
                    self.followed = self.engine.take();
                    self.engine = self.standby.take();
                    self.controls();
                    break;
                }
                Notice::Failed { why } => {
                    if let Some(standby) = &mut self.standby {
                        standby.failed = Some(why);
                    }
                }
                _ => {}
            }
        }
        let (Some(status), Some(standby)) = (ended, self.standby.take_if(|_| ended.is_some())) else { return Ok(()) };
        let why = standby.failed.map(|why| format!(": {why}")).unwrap_or_default();
        let how = describe(status);
        self.ended_on_trial(standby.process.id(), &how);
        if !standby.stands && is_its_own(status) {
            self.upgrades.fall_back(&format!("{how}{why} before it stood by"));
        }
        self.lack_standby(&format!("(engine {}) {how}{why}", standby.process.id()));
        Ok(())
    }

    /// Sees the end of an engine that its standby has followed already.
    pub(super) fn heed_followed(&mut self) -> Result<(), KeeperError> {
        let Some(followed) = &mut self.followed else { return Ok(()) };
        let Some(status) = followed.process.ended().map_err(looking)? else { return Ok(()) };
        if let Some(followed) = self.followed.take() {
            let how = ending(&followed, status);
            self.has_followed(&followed, &how);
        }
        Ok(())
    }

    /// Says who followed whom; a standby that follows too often gets a successor later and later.
    pub(super) fn has_followed(&mut self, dead: &Engine, how: &str) {
        let (pid, heir) = (dead.process.id(), self.engine.as_ref().map_or(0, |engine| engine.process.id()));
        if dead.yields {
            self.standby_due = self.standby_due.max(Instant::now() + STANDBY_AFTER);
            tracing::info!("engine {pid} {how} to engine {heir}");
            return;
        }
        self.ended_on_trial(pid, how);
        let pause = self.restarts.died(dead.ready.map(|since| since.elapsed()));
        self.standby_due = self.standby_due.max(Instant::now() + pause.max(STANDBY_AFTER));
        tracing::warn!("engine {pid} {how}; its standby, engine {heir}, took over");
        if !pause.is_zero() {
            let in_vain = self.restarts.in_vain();
            tracing::error!("{in_vain} engines in a row came to nothing: the next standby starts in {pause:?}");
        }
    }
}
