//! The keeper's loop: one engine controls, the next waits, and the death of the first makes the second its heir.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::engine::Engine;
use super::estate::{Estate, KeeperError};
use super::handover::{Death, Notice};
use super::restarts::Restarts;
use super::starter::Starter;
use crate::sys::clock;
use crate::sys::notify::ServiceManager;
use crate::sys::process::describe;
use crate::sys::signals::StopSignals;

/// How long after a handover the next engine is started though the heir has not said that it controls. Starting a
/// program takes a millisecond of a CPU that the heir needs first.
const NEXT_AFTER: Duration = Duration::from_millis(100);
/// The pause before another is started ahead, if one that was started ahead has died of itself.
const NEXT_AGAIN: Duration = Duration::from_secs(1);

pub(super) struct Supervisor {
    estate: Estate,
    starter: Starter,
    manager: ServiceManager,
    stop: StopSignals,
    /// Has the estate.
    engine: Option<Engine>,
    /// Has been started, and waits for its inheritance.
    next: Option<Engine>,
    /// When there is to be an engine again, if there is none; when there is to be a next one.
    due: Instant,
    next_due: Instant,
    restarts: Restarts,
    incarnation: u32,
    predecessor: Option<Death>,
    /// An engine has controlled at some time: what stops the next one is not what the operator just configured.
    has_controlled: bool,
    fenced: Option<u64>,
    /// Until when an engine that was ordered to stop may take.
    stopping: Option<Instant>,
}

impl Supervisor {
    pub(super) fn new(estate: Estate, starter: Starter, stop: StopSignals, manager: ServiceManager) -> Self {
        let now = Instant::now();
        Self {
            estate,
            starter,
            manager,
            stop,
            engine: None,
            next: None,
            due: now,
            next_due: now + NEXT_AFTER,
            restarts: Restarts::default(),
            incarnation: 0,
            predecessor: None,
            has_controlled: false,
            fenced: None,
            stopping: None,
        }
    }

    /// Keeps an engine running until it is asked to stop and none is left, or there can be none.
    pub(super) fn run(mut self) -> Result<(), KeeperError> {
        tracing::info!("{}", self.estate.describe());
        let result = self.keep();
        // Both are gone before what they use is: closing its line lets the one that waits go.
        drop((self.engine.take(), self.next.take()));
        self.estate.clear_away();
        if result.is_ok() {
            tracing::info!("stopped");
        }
        result
    }

    fn keep(&mut self) -> Result<(), KeeperError> {
        while self.stopping.is_none() || self.engine.is_some() {
            self.start_what_is_due()?;
            self.manager.beat();
            self.wait()?;
            self.heed_signals();
            self.heed_next()?;
            self.estate.check_interface()?;
            self.heed_engine()?;
        }
        Ok(())
    }

    fn start_what_is_due(&mut self) -> Result<(), KeeperError> {
        if self.stopping.is_some() {
            return Ok(());
        }
        let now = Instant::now();
        if self.engine.is_none() && now >= self.due {
            self.succeed()?;
        }
        if self.engine.is_some() && self.next.is_none() && now >= self.next_due {
            match Engine::start(&self.starter) {
                Ok(next) => self.next = Some(next),
                Err(error) => {
                    tracing::warn!("cannot start the next engine ahead: {error}");
                    self.next_due = now + NEXT_AGAIN;
                }
            }
        }
        Ok(())
    }

    /// Hands the estate to an engine: the one that waits, or a new one.
    fn succeed(&mut self) -> Result<(), KeeperError> {
        self.incarnation += 1;
        if let Some(next) = self.next.take() {
            match self.bequeath(next) {
                Ok(()) => return Ok(()),
                // It has died while it waited, perhaps a moment ago.
                Err(error) => tracing::debug!("the engine that waited cannot inherit: {error}"),
            }
        }
        match Engine::start(&self.starter).and_then(|heir| self.bequeath(heir)) {
            Ok(()) => Ok(()),
            Err(error) if !self.has_controlled => Err(KeeperError::System { doing: "start an engine", error }),
            Err(error) => {
                let pause = self.restarts.failed(None);
                tracing::error!("cannot start an engine: {error}; trying again in {pause:?}");
                self.due = Instant::now() + pause;
                Ok(())
            }
        }
    }

    fn bequeath(&mut self, heir: Engine) -> io::Result<()> {
        heir.inherit(&self.estate, self.incarnation, self.predecessor.clone())?;
        self.next_due = Instant::now() + NEXT_AFTER;
        self.engine = Some(heir);
        Ok(())
    }

    /// Sleeps until a signal, a death, a notice, or something that is due.
    fn wait(&self) -> Result<(), KeeperError> {
        let until = match (&self.engine, self.stopping) {
            (_, Some(end)) => Some(end),
            (None, None) => Some(self.due),
            (Some(_), None) => self.next.is_none().then_some(self.next_due),
        };
        // The bound on what a clock set wrongly, or a wake-up lost, could cost.
        let longest = self.manager.longest_wait(Duration::from_secs(60));
        let time = until.map_or(longest, |until| until.saturating_duration_since(Instant::now()).min(longest));
        let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) };
        let mut watched = vec![PollFd::from_borrowed_fd(self.stop.as_fd(), PollFlags::IN)];
        for engine in self.engine.iter().chain(&self.next) {
            watched.push(PollFd::from_borrowed_fd(engine.process.as_fd(), PollFlags::IN));
        }
        if let Some(line) = self.engine.as_ref().and_then(Engine::line) {
            watched.push(PollFd::from_borrowed_fd(line, PollFlags::IN));
        }
        match poll(&mut watched, Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(KeeperError::System { doing: "wait for the engine", error: error.into() }),
        }
    }

    fn heed_signals(&mut self) {
        let came = self.stop.take();
        let now = Instant::now();
        match (self.stopping, &mut self.engine) {
            (None, engine) if came > 0 => {
                let end = now + self.estate.config().runtime.stop;
                self.stopping = Some(end);
                if let Some(engine) = engine
                    && engine.order_stop().is_err()
                {
                    engine.process.kill();
                }
                self.manager.stopping();
                tracing::info!("stopping");
            }
            (Some(_), Some(engine)) if came > 0 => {
                tracing::warn!("asked again to stop: the engine is killed, without a snapshot");
                engine.process.kill();
            }
            (Some(end), Some(engine)) if now >= end => {
                tracing::warn!("the engine has not stopped in time: it is killed, without a snapshot");
                engine.process.kill();
                // It dies; the kernel may take its time, and there is nothing else to do.
                self.stopping = Some(now + Duration::from_secs(60));
            }
            _ => {}
        }
    }

    fn heed_next(&mut self) -> Result<(), KeeperError> {
        let Some(next) = &mut self.next else { return Ok(()) };
        let ended =
            next.process.ended().map_err(|error| KeeperError::System { doing: "look after an engine", error })?;
        if let Some(status) = ended {
            tracing::warn!("engine {}, which was started ahead, {}", next.process.id(), describe(status));
            self.next = None;
            self.next_due = Instant::now() + NEXT_AGAIN;
        }
        Ok(())
    }

    fn heed_engine(&mut self) -> Result<(), KeeperError> {
        let Some(engine) = &mut self.engine else { return Ok(()) };
        // First whether it has ended, then what it said: then nothing that it said last is missed.
        let ended =
            engine.process.ended().map_err(|error| KeeperError::System { doing: "look after an engine", error })?;
        let noticed_ns = clock::now().0;
        while let Some(notice) = engine.notice() {
            match notice {
                Notice::Ready => {
                    let now = Instant::now();
                    engine.ready = Some(now);
                    self.has_controlled = true;
                    self.next_due = now;
                    tracing::info!("engine {} controls", engine.process.id());
                    self.manager.ready(&format!("engine {} controls", engine.process.id()));
                }
                Notice::Complete => self.estate.complete(),
                Notice::NextHop { domain, mac } => self.estate.learned(domain, mac),
                Notice::Failed { why } => engine.failed = Some(why),
                Notice::Fenced { epoch } => {
                    tracing::error!("{}", KeeperError::Fenced(epoch));
                    self.fenced = Some(epoch);
                }
            }
        }
        let (Some(status), Some(engine)) = (ended, self.engine.take_if(|_| ended.is_some())) else { return Ok(()) };
        self.bury(engine, describe(status), noticed_ns)
    }

    /// Sees to what follows from an engine's end.
    fn bury(&mut self, engine: Engine, how: String, noticed_ns: u64) -> Result<(), KeeperError> {
        let pid = engine.process.id();
        if self.stopping.is_some() {
            return Ok(());
        }
        if let Some(epoch) = self.fenced {
            return Err(KeeperError::Fenced(epoch));
        }
        let controlled = engine.ready.map(|since| since.elapsed());
        self.predecessor = Some(Death { pid, noticed_ns, how: how.clone() });
        let pause = match &engine.failed {
            Some(why) if !self.has_controlled => return Err(KeeperError::Engine(why.clone())),
            Some(_) => self.restarts.failed(controlled),
            None => self.restarts.died(controlled),
        };
        self.due = Instant::now() + pause;
        if pause.is_zero() {
            // The heir first, the log line after.
            self.succeed()?;
        }
        let why = engine.failed.map(|why| format!(": {why}")).unwrap_or_default();
        if pause.is_zero() {
            tracing::warn!("engine {pid} {how}{why}; the next has been handed everything");
        } else {
            let in_vain = self.restarts.in_vain();
            tracing::error!(
                "engine {pid} {how}{why}; {in_vain} in a row came to nothing: the next starts in {pause:?}"
            );
        }
        Ok(())
    }
}
