//! The shell around [`Lifecycle`]: it waits for engines and signals, says what it saw, and does
//! what it is told to.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};

use super::engine::Engine;
use super::error::KeeperError;
use super::hearing::Known;
use super::lifecycle::{
    Action, End, EngineId, Event, Input, Lifecycle, Outcome, Program, Purpose, Settings, Severity, Start, StartFailure,
};
use super::resources::Resources;
use super::spawner::{Lost, StartError, Starter};
use crate::handover::UpgradeState;
use crate::handover::protocol::{Order, Role};
use crate::limits::STEERED_INTERVAL;
use crate::sys::clock;
use crate::sys::sd_notify::ServiceManager;
use crate::sys::signals::StopSignals;
use crate::time::Nanos;

/// The bound on what a clock set wrongly, or a wake-up lost, could cost.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

pub(super) struct Supervisor {
    lifecycle: Lifecycle,
    resources: Resources,
    starter: Starter,
    manager: ServiceManager,
    stop: StopSignals,
    engines: BTreeMap<EngineId, Engine>,
    programs: Programs,
    /// What notices may name.
    known: Rc<Known>,
    steered: Steered,
}

/// What engines are started from, beside the keeper's own program as it runs.
struct Programs {
    /// Where that was found at the start. By now another may lie there.
    path: PathBuf,
    new: Option<OwnedFd>,
    kept: Option<OwnedFd>,
}

/// What the engine that controls was told last of the frames that steering saw.
#[derive(Default)]
struct Steered {
    frames: BTreeMap<String, u64>,
    /// When to look again.
    due: Nanos,
}

impl Supervisor {
    /// `program` is where the keeper's own was found.
    pub fn new(
        resources: Resources,
        (starter, program): (Starter, PathBuf),
        stop: StopSignals,
        manager: ServiceManager,
    ) -> Self {
        let runtime = &resources.config().runtime;
        let settings = Settings {
            hang: runtime.hang,
            stop: runtime.stop,
            workers: resources.workers(),
            table_is_complete: resources.is_complete(),
            rings_are_taken_up: resources.is_taken_up(),
            program: program.display().to_string(),
        };
        Self {
            lifecycle: Lifecycle::new(settings, clock::now()),
            known: Rc::new(resources.known()),
            resources,
            starter,
            manager,
            stop,
            engines: BTreeMap::new(),
            programs: Programs { path: program, new: None, kept: None },
            steered: Steered::default(),
        }
    }

    /// Keeps an engine running until it is asked to stop and none is left, or there can be none.
    pub fn run(mut self) -> Result<(), KeeperError> {
        tracing::info!("{}", self.resources.describe());
        let result = self.keep();
        // All are gone before what they use is.
        for engine in self.lifecycle.engines().rev() {
            drop(self.engines.remove(&engine));
        }
        self.engines.clear();
        self.resources.clear_away();
        if result.is_ok() {
            tracing::info!("stopped");
        }
        result
    }

    fn keep(&mut self) -> Result<(), KeeperError> {
        let mut seen = Vec::new();
        loop {
            self.lifecycle.handle_timeout(clock::now());
            if let Some(end) = self.act()? {
                return said(end);
            }
            self.tell_steered();
            // After what was to be started and before anything is waited for: a starter that could
            // not be asked is not asked again.
            self.starter.check().map_err(lost)?;
            self.manager.beat();
            self.wait()?;
            self.resources.check_interfaces()?;
            self.look(&mut seen)?;
            for input in seen.drain(..) {
                let ended = matches!(input, Input::Exited(..)).then(|| input.engine()).flatten();
                self.lifecycle.handle(input, clock::now());
                if let Some(end) = self.act()? {
                    return said(end);
                }
                ended.map(|engine| self.engines.remove(&engine));
            }
        }
    }

    /// Sleeps until a signal, a death, a notice, or something that is due.
    fn wait(&self) -> Result<(), KeeperError> {
        let steered = self.lifecycle.controller().map(|_| self.steered.due);
        let due = self.lifecycle.poll_timeout().into_iter().chain(steered).min();
        let longest = self.manager.longest_wait(LONGEST_WAIT);
        let time = due.map_or(longest, |due| due.since(clock::now()).min(longest));
        let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) };
        let ours = [self.stop.as_fd(), self.starter.as_fd()];
        let all = ours.into_iter().chain(self.engines.values().flat_map(Engine::watched));
        let mut watched: Vec<_> = all.map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN)).collect();
        match poll(&mut watched, Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(KeeperError::System { doing: "wait for the engine", error: error.into() }),
        }
    }

    /// What is new of signals and engines, in the order in which it is to be judged.
    fn look(&mut self, seen: &mut Vec<Input>) -> Result<(), KeeperError> {
        if self.stop.take() > 0 {
            seen.push(Input::Stop);
        }
        for id in self.lifecycle.engines() {
            let Some(engine) = self.engines.get_mut(&id) else { continue };
            engine
                .look(seen, || self.resources.has_bad_table())
                .map_err(|error| KeeperError::System { doing: "look after an engine", error })?;
        }
        self.lifecycle.handle_closed_locks(self.resources.succession().is_closed());
        self.lifecycle.arrange(seen);
        Ok(())
    }

    /// Does what is to be done; gives why to end, if it is to.
    fn act(&mut self) -> Result<Option<End>, KeeperError> {
        while let Some(action) = self.lifecycle.poll_action() {
            match action {
                Action::Start(start) => {
                    let started = self.start(start)?;
                    self.lifecycle.handle_started(started, clock::now());
                }
                Action::Kill { engine, pid, why } => {
                    log(&Event::Kill { pid, why });
                    if let Some(engine) = self.engines.get_mut(&engine) {
                        engine.process.kill();
                    }
                }
                // Dropped, it is killed and waited for.
                Action::Discard { engine } => drop(self.engines.remove(&engine)),
                Action::Order { engine, order } => self.order(engine, &order),
                Action::ReportUpgrade { engine, outcome } => {
                    self.order(engine, &Order::Upgraded { state: state_of(outcome) });
                }
                Action::RenewLocks => self.resources.renew_locks()?,
                Action::CloseLocks => self.resources.succession().close(),
                Action::OpenLocks => self.resources.succession().reopen(),
                Action::NoteHang { since } => self.resources.succession().note_hang(since),
                Action::ReadPulses { threads } => {
                    let pulses = (0..threads).map(|thread| self.resources.succession().pulse(thread));
                    self.lifecycle.handle_pulses(pulses, clock::now());
                }
                Action::KeepProgram => self.programs.kept = self.programs.new.take(),
                Action::DropProgram(Program::New) => self.programs.new = None,
                Action::DropProgram(Program::Kept) => self.programs.kept = None,
                Action::DropProgram(Program::Own) => {}
                Action::JudgeTable => {
                    self.resources.judge_table()?;
                    self.lifecycle.handle_table(self.resources.is_complete());
                }
                Action::RenewResources => self.resources.renew(&self.manager)?,
                Action::CompleteTable => self.resources.complete(),
                Action::LearnHop { domain, hop } => self.resources.learned(domain, hop),
                Action::AnnounceControl { pid } => {
                    self.steered.frames.clear();
                    self.manager.ready(&format!("engine {pid} controls"));
                }
                Action::AnnounceStop => self.manager.stopping(),
                Action::Log(event) => log(&event),
                Action::End(end) => return Ok(Some(end)),
            }
        }
        Ok(None)
    }

    /// Starts an engine and hands it the resources; gives its process id.
    ///
    /// # Errors
    /// The process that starts engines is lost.
    fn start(&mut self, start: Start) -> Result<Result<u32, StartFailure>, KeeperError> {
        let Start { engine: id, program, purpose } = start;
        if program == Program::New {
            // By its path alone: whether it may be executed is for those to find out who execute
            // it.
            match open(&self.programs.path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
                Ok(program) => self.programs.new = Some(program),
                Err(error) => return Ok(Err(StartFailure::NoFile(error.to_string()))),
            }
        }
        let file = match program {
            Program::Own => None,
            Program::New => self.programs.new.as_ref(),
            Program::Kept => self.programs.kept.as_ref(),
        };
        let replaces = matches!(purpose, Purpose::Replace { .. });
        let (role, predecessor, active) = match purpose {
            Purpose::Control { predecessor } => (Role::Active, predecessor, None),
            Purpose::StandBy { active } | Purpose::Replace { active, .. } => (Role::Standby, None, Some(active)),
        };
        let started = Engine::start(&self.starter, file.map(AsFd::as_fd), id, role, Rc::clone(&self.known));
        let handed = started.and_then(|engine| {
            match self.resources.hand_over(engine.line(), role, id.0, predecessor, active) {
                // It is gone already, and how it ended says more.
                Err(error) if replaces && error.kind() == io::ErrorKind::BrokenPipe => Ok(engine),
                handed => Ok(handed.map(|()| engine)?),
            }
        });
        match handed {
            Ok(engine) => {
                let pid = engine.process.id();
                self.engines.insert(id, engine);
                Ok(Ok(pid))
            }
            Err(StartError::Refused(error)) => Ok(Err(StartFailure::Refused(error.to_string()))),
            Err(StartError::Program(error)) => Ok(Err(StartFailure::Program(error.to_string()))),
            Err(StartError::Line(error)) => Err(lost(error)),
        }
    }

    fn order(&mut self, engine: EngineId, order: &Order) {
        let sent = self.engines.get(&engine).is_none_or(|engine| engine.order(order).is_ok());
        if !sent && *order == Order::Stop {
            self.lifecycle.handle_unheard_stop();
        }
    }

    /// Tells the engine that controls what became of the frames that steering saw: to read the maps
    /// takes privileges that it has not.
    fn tell_steered(&mut self) {
        let now = clock::now();
        let Some(engine) = self.lifecycle.controller().filter(|_| now >= self.steered.due) else { return };
        self.steered.due = now + STEERED_INTERVAL;
        match self.resources.steered() {
            Ok(frames) if frames != self.steered.frames => {
                self.order(engine, &Order::Steered { frames: frames.clone() });
                self.steered.frames = frames;
            }
            Ok(_) => {}
            Err(error) => tracing::debug!("what became of the frames cannot be read: {error}"),
        }
    }
}

fn lost(lost: Lost) -> KeeperError {
    KeeperError::System { doing: "go on", error: lost.into() }
}

fn said(end: End) -> Result<(), KeeperError> {
    match end {
        End::Stopped => Ok(()),
        End::Fenced(epoch) => Err(KeeperError::Fenced(epoch)),
        End::Failed(why) => Err(KeeperError::Engine(why)),
        End::NotStarted(failure) => {
            Err(KeeperError::System { doing: "start an engine", error: io::Error::other(failure.to_string()) })
        }
    }
}

fn state_of(outcome: Outcome) -> UpgradeState {
    match outcome {
        Outcome::None => UpgradeState::None,
        Outcome::Trial { until } => UpgradeState::trial(until.since(clock::now())),
        Outcome::Kept => UpgradeState::Kept,
        Outcome::Returned { why } => UpgradeState::Returned { why },
    }
}

fn log(event: &Event) {
    match event.severity() {
        Severity::Debug => tracing::debug!("{event}"),
        Severity::Info => tracing::info!("{event}"),
        Severity::Warn => tracing::warn!("{event}"),
        Severity::Error => tracing::error!("{event}"),
    }
}
