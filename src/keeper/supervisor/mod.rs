//! The keeper's loop: one engine controls, a standby waits for its locks, and whoever dies is
//! replaced.
//!
//! ```text
//!  controls ──dies──► the standby has its locks already, controls, and says so ──► the next standby is started
//!     └─────dies, and there is no standby──► once its pidfd says so, a new engine is handed the resources
//! ```
//!
//! The keeper does not decide that a standby takes over: the kernel does, by the locks
//! (`sys::succession`). It only keeps up with it; and it sees to it that whoever hangs dies
//! (`watch`).
//!
//! Engines that come to nothing one after the other may do so because of what one of them left in
//! what they are all handed. After [`RENEW_AFTER`] in a row that is made anew
//! ([`Resources::renew`]), and the table looked at as at a start.

mod failures;
mod standby;
mod upgrade;
mod watch;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::failures::is_its_own;
use self::standby::Followed;
use self::upgrade::Upgrades;
use self::watch::Watch;
use super::backoff::Backoff;
use super::engine::Engine;
use super::error::KeeperError;
use super::hearing::Known;
use super::resources::Resources;
use super::spawner::{StartError, Starter};
use crate::handover::protocol::{Death, Notice, Order, Role};
use crate::limits::{RENEW_AFTER, STEERED_INTERVAL};
use crate::sys::clock;
use crate::sys::process::describe;
use crate::sys::sd_notify::ServiceManager;
use crate::sys::signals::StopSignals;
use crate::wire::Epoch;

/// How long after an engine has come to control the next standby is started: recovering needs the
/// processors first.
const STANDBY_AFTER: Duration = Duration::from_millis(100);

pub(super) struct Supervisor {
    resources: Resources,
    starter: Starter,
    manager: ServiceManager,
    stop: StopSignals,
    /// Controls, or is about to.
    engine: Option<Engine>,
    /// Waits for the locks of the one that controls.
    standby: Option<Engine>,
    /// Those that their standbys have followed already; their ends are still to be seen.
    followed: Vec<Followed>,
    /// When there is to be an engine again, if there is none; when there is to be a standby.
    due: Instant,
    standby_due: Instant,
    /// Until when a standby whose engine is dead may take to say that it controls.
    successor_due: Option<Instant>,
    upgrades: Upgrades,
    /// Of the pulses of the one that controls.
    watch: Watch,
    /// What engines may speak of.
    known: Rc<Known>,
    restarts: Backoff,
    /// Engines in a row that came to nothing, and that nobody else had killed.
    failures: u32,
    /// Standbys that ended of themselves, one after the other.
    standby_failures: Backoff,
    /// What the one that controls was told last of the frames that steering saw, and when to look
    /// again.
    steered: BTreeMap<String, u64>,
    steered_due: Instant,
    incarnation: u32,
    predecessor: Option<Death>,
    /// An engine has controlled at some time: what stops the next one is not what the operator just
    /// configured.
    has_controlled: bool,
    fenced: Option<Epoch>,
    /// Until when an engine that was ordered to stop may take.
    stopping: Option<Instant>,
}

impl Supervisor {
    /// `program` is where the keeper's own was found.
    pub(super) fn new(
        resources: Resources,
        (starter, program): (Starter, PathBuf),
        stop: StopSignals,
        manager: ServiceManager,
    ) -> Self {
        let now = Instant::now();
        let (watch, known) = (Watch::new(resources.config().runtime.hang, now), Rc::new(resources.known()));
        Self {
            watch,
            known,
            failures: 0,
            resources,
            starter,
            manager,
            stop,
            engine: None,
            standby: None,
            followed: Vec::new(),
            due: now,
            standby_due: now,
            successor_due: None,
            upgrades: Upgrades::new(program),
            restarts: Backoff::default(),
            standby_failures: Backoff::default(),
            steered: BTreeMap::new(),
            steered_due: now,
            incarnation: 0,
            predecessor: None,
            has_controlled: false,
            fenced: None,
            stopping: None,
        }
    }

    /// Keeps an engine running until it is asked to stop and none is left, or there can be none.
    pub(super) fn run(mut self) -> Result<(), KeeperError> {
        tracing::info!("{}", self.resources.describe());
        let result = self.keep();
        // All are gone before what they use is; the standby first, or it would follow.
        self.standby = None;
        self.upgrades.stop();
        drop((self.engine.take(), std::mem::take(&mut self.followed)));
        self.resources.clear_away();
        if result.is_ok() {
            tracing::info!("stopped");
        }
        result
    }

    fn keep(&mut self) -> Result<(), KeeperError> {
        while self.stopping.is_none() || self.engine.is_some() {
            self.start_what_is_due()?;
            // After that and before anything is waited for: whoever could not be asked is not asked
            // again.
            self.starter.check().map_err(|lost| KeeperError::System { doing: "go on", error: lost.into() })?;
            self.manager.beat();
            self.wait()?;
            self.heed_signals()?;
            self.resources.check_interfaces()?;
            self.heed_engine()?;
            self.heed_standby()?;
            self.heed_followed()?;
            self.heed_upgrade()?;
            self.heed_hangs();
            self.tell_steered();
        }
        Ok(())
    }

    /// Tells the one that controls what became of the frames that steering saw: to read the maps
    /// takes privileges that it has not.
    fn tell_steered(&mut self) {
        let now = Instant::now();
        if now < self.steered_due || self.engine.as_ref().is_none_or(|engine| engine.ready.is_none()) {
            return;
        }
        self.steered_due = now + STEERED_INTERVAL;
        match self.resources.steered() {
            Ok(frames) if frames != self.steered => {
                self.tell(&Order::Steered { frames: frames.clone() });
                self.steered = frames;
            }
            Ok(_) => {}
            Err(error) => tracing::debug!("what became of the frames cannot be read: {error}"),
        }
    }

    fn start_what_is_due(&mut self) -> Result<(), KeeperError> {
        if self.stopping.is_some() {
            return Ok(());
        }
        let now = Instant::now();
        if self.engine.is_none() && now >= self.due {
            // Whoever had the locks of before is proven dead, or has given them back.
            self.resources.renew_locks()?;
            self.start_engine()?;
        }
        if self.wants_standby() && now >= self.standby_due {
            self.start_standby();
        }
        Ok(())
    }

    fn start_engine(&mut self) -> Result<(), KeeperError> {
        self.incarnation += 1;
        self.watch.begin(Instant::now());
        self.resources.succession().reopen();
        let started = self.start_process(Role::Active).and_then(|successor| {
            successor.inherit(&self.resources, self.incarnation, self.predecessor.clone())?;
            Ok(successor)
        });
        match started {
            Ok(engine) => self.engine = Some(engine),
            // The loop sees to what is lost, and ends.
            Err(StartError::Line(_)) => {}
            Err(StartError::Refused(error) | StartError::Program(error)) if !self.has_controlled => {
                return Err(KeeperError::System { doing: "start an engine", error });
            }
            Err(StartError::Refused(error) | StartError::Program(error)) => {
                let pause = self.restarts.failed(None);
                tracing::error!("cannot start an engine: {error}; trying again in {pause:?}");
                self.due = Instant::now() + pause;
            }
        }
        Ok(())
    }

    fn start_process(&mut self, role: Role) -> Result<Engine, StartError> {
        let started = Engine::start(&self.starter, self.upgrades.program(), role, Rc::clone(&self.known));
        match started {
            Err(StartError::Program(error)) if self.upgrades.program().is_some() => {
                self.upgrades.fall_back(&format!("cannot be started ({error})"));
                Engine::start(&self.starter, None, role, Rc::clone(&self.known))
            }
            started => started,
        }
    }

    /// Sleeps until a signal, a death, a notice, or something that is due.
    fn wait(&self) -> Result<(), KeeperError> {
        let until = match (&self.engine, self.stopping) {
            (_, Some(end)) => self.hang_due().into_iter().chain([end]).min(),
            (None, None) => Some(self.due),
            (Some(_), None) => {
                let standby_due = self.wants_standby().then_some(self.standby_due);
                let followed = self.followed.iter().filter_map(|followed| followed.due);
                let dues = standby_due.into_iter().chain(self.successor_due).chain(self.standing_due());
                let dues = dues.chain(self.hang_due()).chain(self.upgrades.due());
                dues.chain(followed).chain([self.steered_due]).min()
            }
        };
        // The bound on what a clock set wrongly, or a wake-up lost, could cost.
        let longest = self.manager.longest_wait(Duration::from_secs(60));
        let time = until.map_or(longest, |until| until.saturating_duration_since(Instant::now()).min(longest));
        let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) };
        let mut watched = vec![
            PollFd::from_borrowed_fd(self.stop.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.starter.as_fd(), PollFlags::IN),
        ];
        let candidate = self.upgrades.candidate();
        let followed = self.followed.iter().map(|followed| &followed.engine);
        for engine in self.engine.iter().chain(&self.standby).chain(followed).chain(candidate) {
            watched.push(PollFd::from_borrowed_fd(engine.process.as_fd(), PollFlags::IN));
        }
        for line in self.engine.iter().chain(&self.standby).chain(candidate).filter_map(Engine::line) {
            watched.push(PollFd::from_borrowed_fd(line, PollFlags::IN));
        }
        match poll(&mut watched, Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(KeeperError::System { doing: "wait for the engine", error: error.into() }),
        }
    }

    fn heed_signals(&mut self) -> Result<(), KeeperError> {
        let came = self.stop.take();
        let now = Instant::now();
        if came > 0 && self.stopping.is_none() {
            // It may control already, and has said so; then it is to be stopped and not to be let
            // go.
            self.heed_standby()?;
            // It would take the end of the one that controls for its death.
            self.standby = None;
            self.upgrades.stop();
        }
        match (self.stopping, &mut self.engine) {
            (None, engine) if came > 0 => {
                let end = now + self.resources.config().runtime.stop;
                self.stopping = Some(end);
                if let Some(engine) = engine
                    && engine.order(&Order::Stop).is_err()
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
        Ok(())
    }

    fn heed_engine(&mut self) -> Result<(), KeeperError> {
        let Some(engine) = &mut self.engine else { return Ok(()) };
        // First whether it has ended, then what it said: then nothing that it said last is missed.
        let ended = engine.process.ended().map_err(looking)?;
        let noticed_ns = clock::now().0;
        engine.turn(ended.is_some());
        while let Some(notice) = self.engine.as_mut().and_then(Engine::notice) {
            self.heed_notice(notice);
        }
        let (Some(status), Some(engine)) = (ended, self.engine.take_if(|_| ended.is_some())) else {
            self.hurry_successor();
            return Ok(());
        };
        let how = ending(&engine, status);
        let noticed_ns = engine.hung_since.map_or(noticed_ns, |since| since.0);
        self.bury(engine, status, how, noticed_ns)
    }

    /// What the one that controls says.
    fn heed_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Ready => self.controls(),
            Notice::Standing { .. } => {}
            Notice::Upgrade { form } => self.upgrade(form),
            Notice::Complete => self.resources.complete(),
            Notice::NextHop { domain, hop } => {
                self.resources.learned(domain, hop);
                for standby in self.standby.iter().chain(self.upgrades.candidate()) {
                    let _ = standby.order(&Order::NextHop { domain, hop });
                }
            }
            Notice::Failed { why } => {
                if let Some(engine) = &mut self.engine {
                    engine.failed = Some(why);
                }
                self.let_nobody_follow();
            }
            Notice::Fenced { epoch } => {
                self.fenced = Some(Epoch(epoch));
                self.let_nobody_follow();
            }
        }
    }

    /// The engine has said that it controls.
    fn controls(&mut self) {
        let Some(engine) = &mut self.engine else { return };
        let now = Instant::now();
        engine.ready = Some(now);
        self.watch.begin(now);
        self.successor_due = None;
        self.steered.clear();
        self.has_controlled = true;
        self.standby_due = self.standby_due.max(now + STANDBY_AFTER);
        let said = format!("engine {} controls", engine.process.id());
        tracing::info!("{said}");
        let pid = engine.process.id();
        self.manager.ready(&said);
        self.note_control(pid);
    }

    /// Sees to what follows from an engine's end.
    fn bury(&mut self, engine: Engine, status: ExitStatus, how: String, noticed_ns: u64) -> Result<(), KeeperError> {
        let pid = engine.process.id();
        if self.stopping.is_some() {
            return Ok(());
        }
        if let Some(epoch) = self.fenced {
            return Err(KeeperError::Fenced(epoch));
        }
        // It may stand by or control since it was last listened to.
        self.heed_standby()?;
        if self.engine.is_some() {
            self.count_death(&engine);
            self.has_followed(&engine, self.pid(), &how);
            return self.judge_table_after(status);
        }
        self.predecessor = Some(Death { pid, noticed_ns, how: how.clone() });
        self.successor_due = None;
        self.dismiss_candidate("the engine that was to yield has died; ask again");
        if engine.failed.is_none()
            && let Some(successor) = self.standby.take_if(|standby| standby.stands)
        {
            // It has the locks, or will have them in a moment.
            self.successor_due = Some(Instant::now() + self.resources.config().runtime.hang);
            self.engine = Some(successor);
            self.count_death(&engine);
            self.has_followed(&engine, self.pid(), &how);
            return self.judge_table_after(status);
        }
        // One that does not stand by yet would keep its successors waiting: whoever is started has
        // the locks as soon as it is dead.
        let mut late = self.standby.take();
        if let Some(standby) = &mut late {
            standby.process.kill();
            self.ended_on_trial(standby.process.id(), "was let go with the engine before it");
        }
        if engine.failed.is_some() {
            // What stopped this one, by its own word, would stop its standby too, and must not:
            // nobody is started before that is gone, for then the locks are handed on again.
            late = None;
        }
        let controlled = engine.controlled(self.resources.config().runtime.hang);
        let on_trial = self.ended_on_trial(pid, engine.failed.as_ref().unwrap_or(&how));
        let pause = match &engine.failed {
            // What stopped it need not stop the program of before.
            _ if on_trial => Duration::ZERO,
            // Rings of an earlier keeper's engines may be what is wrong.
            Some(why) if !self.has_controlled && !self.resources.is_taken_up() => {
                return Err(KeeperError::Engine(why.clone()));
            }
            Some(_) if !self.has_controlled => {
                self.failures = RENEW_AFTER - 1;
                self.restarts.died(None)
            }
            Some(_) => self.restarts.failed(controlled),
            None => self.restarts.died(controlled),
        };
        self.due = Instant::now() + pause;
        if !pause.is_zero() && is_its_own(&engine, status) {
            self.upgrades.fall_back("comes to nothing");
        }
        let renewed = self.count_failure(&engine, status, &mut late)?;
        if pause.is_zero() {
            // The successor first, the log line after.
            if late.is_none() && !renewed {
                self.resources.renew_locks()?;
            }
            self.start_engine()?;
        }
        drop(late);
        let why = engine.failed.map(|why| format!(": {why}")).unwrap_or_default();
        if pause.is_zero() {
            tracing::warn!(
                "engine {pid} {how}{why}; there was no standby, and a new engine has been handed everything"
            );
        } else {
            let consecutive_failures = self.restarts.consecutive_failures();
            tracing::error!(
                "engine {pid} {how}{why}; {consecutive_failures} in a row came to nothing: the next starts in {pause:?}"
            );
        }
        Ok(())
    }
}

/// How an engine ended, in words.
fn ending(engine: &Engine, status: ExitStatus) -> String {
    if let Some(why) = &engine.condemned {
        return format!("{why}, and was killed");
    }
    match engine.yields {
        true if status.success() => "handed over".into(),
        true => format!("{} as it handed over", describe(status)),
        false => describe(status),
    }
}

fn looking(error: io::Error) -> KeeperError {
    KeeperError::System { doing: "look after an engine", error }
}
