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

use std::mem::take;
use std::time::Duration;

use super::action::{Action, EngineId, Outcome, Program, Purpose};
use super::event::Event;
use super::exit::ExitStatus;
use super::process::{Phase, Process};
use super::reason::{Kill, StartFailure};
use super::stage::Stage;
use super::state::Lifecycle;
use crate::handover::compat::Identity;
use crate::handover::protocol::{Notice, Order};
use crate::handover::{UpgradeForm, Upgrading};
use crate::limits::{UPGRADE_READY, UPGRADE_YIELD};
use crate::time::Nanos;

impl Lifecycle {
    /// A client asks for an upgrade.
    pub(super) fn upgrade(&mut self, form: UpgradeForm) {
        if self.engine.as_ref().is_some_and(|engine| engine.yields) {
            // The order to hand over was on its way when this was asked, and answers it. Told that
            // there is no upgrade, the engine would stay.
            return;
        }
        match self.admit_upgrade(form) {
            Ok(trial) => {
                let active = self.active_pid();
                self.start(Program::New, Purpose::Replace { active, trial: Some(trial) });
            }
            Err(why) => self.refuse_upgrade(&why),
        }
    }

    /// Gives for how long the new program is to be on trial; or, in words, why there is no upgrade.
    fn admit_upgrade(&self, form: UpgradeForm) -> Result<Duration, String> {
        if self.stopping.is_some() {
            return Err("the server stops".into());
        }
        match self.stage {
            Stage::Idle => {}
            Stage::Awaited { .. } => return Err("an upgrade is under way; wait for its end".into()),
            Stage::Trial { .. } => return Err("the last upgrade is on trial; wait for its end".into()),
        }
        if !self.settings.table_is_complete {
            return Err("nobody could stand by yet, for the last recovery is under way; ask again in a second".into());
        }
        form.trial().map_err(|error| error.to_string())
    }

    fn refuse_upgrade(&mut self, why: &str) {
        self.actions.log(Event::UpgradeRefused { why: why.into() });
        self.tell(Order::Stay { why: why.into() });
    }

    /// The engine that is to stand by was started.
    pub(super) fn await_candidate(&mut self, candidate: Process, trial: Option<Duration>, now: Nanos) {
        if trial.is_some() {
            let path = self.settings.program.clone();
            self.actions.log(Event::UpgradeAsked { pid: candidate.pid, path });
        }
        self.stage = Stage::Awaited { candidate: Box::new(candidate), due: now + UPGRADE_READY, trial };
    }

    /// The engine that is to stand by could not be started.
    pub(super) fn lack_candidate(&mut self, trial: Option<Duration>, failure: &StartFailure) {
        if trial.is_none() {
            self.actions.log(Event::OldStandbyStays { why: failure.to_string() });
            return;
        }
        let path = &self.settings.program;
        let why = match failure {
            StartFailure::NoFile(why) => format!("{path} cannot be started: {why}"),
            failure => format!("{path} cannot be started: {failure} (it runs as the engines' user)"),
        };
        self.refuse_upgrade(&why);
        self.actions.push(Action::DropProgram(Program::New));
    }

    pub(super) fn handle_candidate_notice(&mut self, id: EngineId, notice: Notice, now: Nanos) {
        let Stage::Awaited { candidate, .. } = &mut self.stage else { return };
        if candidate.id != id {
            return;
        }
        match notice {
            Notice::Standing { program } => match Identity::ours().admit(&program) {
                Ok(()) => self.let_stand_by(program.version, now),
                Err(why) => self.dismiss_candidate(&why),
            },
            Notice::Failed { why } => candidate.failed = Some(why),
            _ => {}
        }
    }

    pub(super) fn handle_candidate_exit(&mut self, id: EngineId, status: ExitStatus) {
        let Some(candidate) = self.candidate().filter(|candidate| candidate.id == id) else { return };
        let pid = candidate.pid;
        let why = candidate.failed.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        self.dismiss_candidate(&format!("the new program (engine {pid}) {status}{why}"));
    }

    /// The engine that was started to stand by is let go. Those that control and stand by go on.
    pub(super) fn dismiss_candidate(&mut self, why: &str) {
        let Stage::Awaited { candidate, trial, .. } = &self.stage else { return };
        let id = candidate.id;
        let is_new = trial.is_some();
        self.stage = Stage::Idle;
        if is_new {
            self.refuse_upgrade(why);
            self.actions.push(Action::DropProgram(Program::New));
        } else {
            self.actions.log(Event::OldStandbyStays { why: why.into() });
        }
        self.actions.discard(Some(id));
    }

    /// Nothing is to come of what is under way: the server stops.
    pub(super) fn abandon_upgrade(&mut self) {
        let candidate = self.candidate().map(|candidate| candidate.id);
        self.actions.discard(candidate);
        self.stage = Stage::Idle;
    }

    /// The candidate stands by, and is what it should be: the present standby is let go, and what
    /// was planned follows.
    fn let_stand_by(&mut self, version: String, now: Nanos) {
        let Stage::Awaited { mut candidate, trial, .. } = take(&mut self.stage) else { return };
        candidate.phase = Phase::StandsBy;
        if candidate.silent {
            candidate.ends_within(self.settings.hang, now);
        }
        let id = candidate.id;
        let successor = candidate.pid;
        self.actions.log(Event::StandsBy { pid: successor });
        // The one that it replaces is gone before the locks are free.
        let replaced = self.standby.replace(*candidate).map(|standby| standby.id);
        self.actions.discard(replaced);
        let Some(time) = trial else { return self.tell_of_standby("ready") };
        if let Some(engine) = &mut self.engine {
            engine.yields = true;
        }
        self.tell(Order::Yield { upgrading: Upgrading { successor, version, within: time.as_secs() } });
        self.stage = Stage::Trial { engine: id, time, until: None, yield_due: Some(now + UPGRADE_YIELD) };
    }

    /// An engine has come to control: if it is of the new program, its trial begins.
    pub(super) fn begin_trial(&mut self, id: EngineId, pid: u32, now: Nanos) {
        self.dismiss_candidate("the engine that was to yield has died; ask again");
        if let Stage::Trial { engine, time, until, yield_due } = &mut self.stage
            && *engine == id
        {
            let time = *time;
            let end = now + time;
            *until = Some(end);
            *yield_due = None;
            self.outcome = Outcome::Trial { until: end };
            self.actions.log(Event::OnTrial { pid, time });
        }
        self.tell_of_upgrade();
    }

    /// An engine has ended. If it was on trial, the program of before is returned to: gives whether
    /// it was.
    pub(super) fn end_trial(&mut self, id: EngineId, pid: u32, how: &str) -> bool {
        if !matches!(self.stage, Stage::Trial { engine, .. } if engine == id) {
            return false;
        }
        let why = format!("engine {pid} {how}");
        self.stage = Stage::Idle;
        self.outcome = Outcome::Returned { why: why.clone() };
        self.actions.log(Event::TrialFailed { pid, how: how.into() });
        self.actions.push(Action::DropProgram(Program::New));
        if let Some(yielding) = self.engine.as_mut().filter(|engine| engine.yields) {
            // It was to make room for the one that is dead.
            yielding.yields = false;
            self.refuse_upgrade(&why);
        }
        self.tell_of_upgrade();
        true
    }

    /// When [`Self::handle_upgrade_timeout`] has something to do.
    pub(super) fn upgrade_due(&self) -> Option<Nanos> {
        match &self.stage {
            Stage::Idle => None,
            Stage::Awaited { due, .. } => Some(*due),
            Stage::Trial { until: Some(until), engine, .. } => self.is_well(*engine).then_some(*until),
            Stage::Trial { yield_due, .. } => *yield_due,
        }
    }

    /// Whether this engine controls and is not about to end. One that is dead, dying, or killed has
    /// not stood its trial, though the proof of its end is yet to come.
    fn is_well(&self, id: EngineId) -> bool {
        let engine = self.engine.as_ref().filter(|engine| engine.id == id);
        engine.is_some_and(|engine| engine.controls() && engine.killed.is_none() && engine.ends_by.is_none())
    }

    pub(super) fn handle_upgrade_timeout(&mut self, now: Nanos) {
        if self.upgrade_due().is_none_or(|due| now < due) {
            return;
        }
        match &mut self.stage {
            Stage::Idle => {}
            Stage::Awaited { candidate, .. } => {
                let pid = candidate.pid;
                let seconds = UPGRADE_READY.as_secs();
                self.dismiss_candidate(&format!("the new program (engine {pid}) does not stand by within {seconds} s"));
            }
            Stage::Trial { until: Some(_), .. } => self.keep_program(),
            Stage::Trial { yield_due, .. } => {
                *yield_due = None;
                if let Some(engine) = self.engine.as_ref().filter(|engine| engine.yields) {
                    self.actions.kill(engine, Kill::DoesNotYield);
                }
            }
        }
    }

    /// The new program has stood its trial: engines are started from it.
    fn keep_program(&mut self) {
        self.stage = Stage::Idle;
        self.outcome = Outcome::Kept;
        self.program_is_kept = true;
        let pid = self.active_pid();
        self.actions.log(Event::ProgramKept { pid });
        self.actions.push(Action::KeepProgram);
        self.tell_of_upgrade();
        if self.standby.is_some() {
            self.start(Program::Kept, Purpose::Replace { active: pid, trial: None });
        }
    }

    /// Engines of the program that an upgrade was made to come to nothing: the next are of the
    /// keeper's own.
    pub(super) fn fall_back(&mut self, why: &str) {
        if !take(&mut self.program_is_kept) {
            return;
        }
        let path = self.settings.program.clone();
        self.actions.log(Event::FellBack { path, why: why.into() });
        self.actions.push(Action::DropProgram(Program::Kept));
        if matches!(self.stage, Stage::Idle) {
            self.outcome = Outcome::Returned { why: why.into() };
        }
    }
}
