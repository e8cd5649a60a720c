//! Engines and standbys are started, and the answers of starts.

use super::action::{Action, End, EngineId, Program, Purpose, Start};
use super::event::Event;
use super::process::Process;
use super::reason::StartFailure;
use super::state::Lifecycle;
use crate::time::Nanos;

impl Lifecycle {
    /// Starts an engine, a standby or a candidate where its time has come.
    pub(super) fn start_what_is_due(&mut self, now: Nanos) {
        if self.stopping.is_some() || self.pending.is_some() {
            return;
        }
        if self.engine.is_none() && now >= self.due {
            // The owner of the locks of before is proven dead, or has given them back.
            self.renew_locks();
            self.start_engine(now);
        }
        if self.wants_standby() && now >= self.standby_due {
            let active = self.active_pid();
            self.start(self.program(), Purpose::StandBy { active });
        }
    }

    pub(super) fn renew_locks(&mut self) {
        self.actions.push(Action::RenewLocks);
        self.locks_are_closed = false;
    }

    pub(super) fn start_engine(&mut self, now: Nanos) {
        self.watch.begin(now);
        self.actions.push(Action::OpenLocks);
        self.locks_are_closed = false;
        let predecessor = self.predecessor.clone();
        self.start(self.program(), Purpose::Control { predecessor });
    }

    /// What engines are started from that are not an upgrade's.
    const fn program(&self) -> Program {
        if self.program_is_kept { Program::Kept } else { Program::Own }
    }

    pub(super) fn start(&mut self, program: Program, purpose: Purpose) {
        self.starts += 1;
        let engine = EngineId(self.starts);
        self.ask_to_start(Start { engine, program, purpose });
    }

    fn ask_to_start(&mut self, start: Start) {
        debug_assert!(self.pending.is_none(), "one start at a time");
        self.pending = Some(start.clone());
        self.actions.push(Action::Start(start));
    }

    /// What came of [`Action::Start`]: the process id.
    pub fn handle_started(&mut self, started: Result<u32, StartFailure>, now: Nanos) {
        let Some(start) = self.pending.take() else { return };
        let process = match started {
            Ok(pid) => Process::new(start.engine, pid, now),
            Err(failure) => return self.handle_not_started(start, failure, now),
        };
        match start.purpose {
            Purpose::Control { .. } => self.engine = Some(process),
            Purpose::StandBy { .. } => {
                self.tell_of_standby("starting");
                self.standby = Some(process);
            }
            Purpose::Replace { trial, .. } => self.await_candidate(process, trial, now),
        }
    }

    fn handle_not_started(&mut self, start: Start, failure: StartFailure, now: Nanos) {
        match (&start.purpose, failure) {
            (Purpose::Replace { trial, .. }, failure) => self.lack_candidate(*trial, &failure),
            (_, StartFailure::Program(why)) if start.program == Program::Kept => {
                self.fall_back(&format!("cannot be started ({why})"));
                self.ask_to_start(Start { program: Program::Own, ..start });
            }
            (Purpose::StandBy { .. }, failure) => self.lack_standby(format!("cannot be started: {failure}"), now),
            (Purpose::Control { .. }, failure) if !self.has_controlled => self.end(End::NotStarted(failure)),
            (Purpose::Control { .. }, failure) => {
                let pause = self.restarts.failed(None);
                self.due = now + pause;
                self.actions.log(Event::CannotStart { failure, pause });
            }
        }
    }

    /// The engine goes on without a standby for a while.
    pub(super) fn lack_standby(&mut self, why: String, now: Nanos) {
        let pause = self.standby_failures.failed(None);
        self.standby_due = now + pause;
        let state = format!("none: it {why}");
        self.actions.log(Event::NoStandby { why, pause });
        self.tell_of_standby(&state);
    }
}
