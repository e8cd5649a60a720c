//! What the lifecycle knows, and what it gives out.

use std::collections::VecDeque;
use std::time::Duration;

use super::action::{Action, End, EngineId, Outcome, Start};
use super::event::Event;
use super::process::{Followed, Process};
use super::reason::Kill;
use super::stage::Stage;
use super::watch::Watch;
use crate::handover::protocol::{Death, Order};
use crate::keeper::backoff::Backoff;
use crate::limits::{ENGINES_MAX, STANDBY_READY};
use crate::time::Nanos;
use crate::wire::Epoch;

/// As many followed engines leave room for one that controls, its standby, and the candidate of an
/// upgrade.
const FOLLOWED_MAX: usize = ENGINES_MAX - 3;

/// What does not change while a keeper lives, and what it found at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long threads of an engine may stand still.
    pub hang: Duration,
    /// How long an engine that is ordered to stop may take.
    pub stop: Duration,
    /// Worker threads of an engine.
    pub workers: usize,
    /// The table holds all that the database holds, so that the next engine goes by it.
    pub table_is_complete: bool,
    /// The rings are what an earlier keeper's engines left.
    pub rings_are_taken_up: bool,
    /// Where the keeper's own program was found at its start. By now another may lie there.
    pub program: String,
}

/// See the [module](super).
#[derive(Debug)]
pub struct Lifecycle {
    pub(super) settings: Settings,
    /// Controls, or is about to.
    pub(super) engine: Option<Process>,
    /// Waits for the locks of the one that controls.
    pub(super) standby: Option<Process>,
    pub(super) followed: Vec<Followed>,
    /// An engine that the shell is to start, and has not answered for yet.
    pub(super) pending: Option<Start>,
    /// When there is to be an engine again, if there is none.
    pub(super) due: Nanos,
    /// When there is to be a standby again, if there is none.
    pub(super) standby_due: Nanos,
    /// Until when a standby whose engine is dead may take to say that it controls.
    pub(super) successor_due: Option<Nanos>,
    pub(super) stage: Stage,
    /// What engines are told of the last upgrade.
    pub(super) outcome: Outcome,
    /// Engines are started from what an upgrade brought, not from the keeper's own program.
    pub(super) program_is_kept: bool,
    /// Of the one that controls.
    pub(super) watch: Watch,
    pub(super) restarts: Backoff,
    /// Engines in a row that came to nothing, and that nobody else had killed.
    pub(super) failures: u32,
    /// Standbys in a row that ended of themselves.
    pub(super) standby_failures: Backoff,
    /// Engines that this keeper has started, or tried to.
    pub(super) starts: u32,
    pub(super) predecessor: Option<Death>,
    /// An engine has controlled at some time: what stops the next one is not what the operator just
    /// configured.
    pub(super) has_controlled: bool,
    /// Nobody is to succeed by the locks alone, as the locks themselves say. An engine closes them
    /// too.
    pub(super) locks_are_closed: bool,
    pub(super) fenced: Option<Epoch>,
    /// A stop was asked for: until when the engine that was ordered to may take.
    pub(super) stopping: Option<Nanos>,
    has_ended: bool,
    pub(super) actions: Actions,
}

impl Lifecycle {
    /// No engine runs yet: the first is started by [`Self::handle_timeout`].
    pub fn new(settings: Settings, now: Nanos) -> Self {
        Self {
            watch: Watch::new(settings.hang, now),
            settings,
            engine: None,
            standby: None,
            followed: Vec::new(),
            pending: None,
            due: now,
            standby_due: now,
            successor_due: None,
            stage: Stage::Idle,
            outcome: Outcome::None,
            program_is_kept: false,
            restarts: Backoff::default(),
            failures: 0,
            standby_failures: Backoff::default(),
            starts: 0,
            predecessor: None,
            has_controlled: false,
            locks_are_closed: false,
            fenced: None,
            stopping: None,
            has_ended: false,
            actions: Actions::default(),
        }
    }

    /// What is to be done next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.0.pop_front()
    }

    /// When [`Self::handle_timeout`] is to be called at the latest.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        let starts = (self.engine.is_none() && self.stopping.is_none()).then_some(self.due);
        let standby_starts = self.wants_standby().then_some(self.standby_due);
        let successor = self.successor_due.filter(|_| self.stopping.is_none());
        let looks = self.watched().map(|_| self.watch.due());
        let alive = self.engine.iter().chain(&self.standby).filter(|process| process.killed.is_none());
        let ends = alive.filter_map(|process| process.ends_by);
        let followed = self.followed.iter().filter_map(|followed| followed.due);
        let dues = [starts, standby_starts, self.stopping, successor, looks, self.standing_due(), self.upgrade_due()];
        dues.into_iter().flatten().chain(ends).chain(followed).min()
    }

    /// Engines that are not known to have ended, in the order in which they are to be looked at.
    /// The standby comes last: it may say that it controls between an engine's end and its own
    /// turn. Let go from the last to the first none of them follows another.
    pub fn engines(&self) -> impl DoubleEndedIterator<Item = EngineId> {
        let followed = self.followed.iter().map(|followed| &followed.engine);
        let ahead = self.engine.iter().chain(followed).chain(self.candidate());
        ahead.chain(&self.standby).map(|process| process.id)
    }

    /// The engine that controls, by its own word.
    pub fn controller(&self) -> Option<EngineId> {
        self.engine.as_ref().filter(|engine| engine.controls()).map(|engine| engine.id)
    }

    /// No upgrade is under way.
    #[cfg(test)]
    pub fn is_at_rest(&self) -> bool {
        matches!(self.stage, Stage::Idle) && self.pending.is_none()
    }

    pub(super) const fn has_ended(&self) -> bool {
        self.has_ended
    }

    pub(super) fn end(&mut self, why: End) {
        self.has_ended = true;
        self.actions.push(Action::End(why));
    }

    /// The process that controls, or is about to.
    pub(super) fn active_pid(&self) -> u32 {
        self.engine.as_ref().map_or(0, |engine| engine.pid)
    }

    pub fn is_engine(&self, id: EngineId) -> bool {
        self.engine.as_ref().is_some_and(|engine| engine.id == id)
    }

    pub(super) fn is_standby(&self, id: EngineId) -> bool {
        self.standby.as_ref().is_some_and(|standby| standby.id == id)
    }

    /// The engine that is started to become the standby.
    pub(super) fn candidate(&self) -> Option<&Process> {
        match &self.stage {
            Stage::Awaited { candidate, .. } => Some(candidate),
            Stage::Idle | Stage::Trial { .. } => None,
        }
    }

    pub(super) fn process_mut(&mut self, id: EngineId) -> Option<&mut Process> {
        let candidate = match &mut self.stage {
            Stage::Awaited { candidate, .. } => Some(&mut **candidate),
            Stage::Idle | Stage::Trial { .. } => None,
        };
        let followed = self.followed.iter_mut().map(|followed| &mut followed.engine);
        let mut all = self.engine.iter_mut().chain(&mut self.standby).chain(candidate).chain(followed);
        all.find(|process| process.id == id)
    }

    /// Whether there should be a standby that is not: once an engine controls, and the table holds
    /// everything, so that the next engine goes by it.
    pub(super) fn wants_standby(&self) -> bool {
        let none = self.standby.is_none() && self.candidate().is_none() && self.pending.is_none();
        // The dead are not waited for, unless there are so many that the starter would refuse.
        // Where nobody is to succeed, a standby would only end.
        let may = !self.locks_are_closed && self.stopping.is_none() && self.followed.len() < FOLLOWED_MAX;
        self.controller().is_some() && none && may && self.settings.table_is_complete
    }

    /// Until when the standby may take to stand by, if it does not yet and has not failed to.
    pub(super) fn standing_due(&self) -> Option<Nanos> {
        let standby = self.standby.as_ref().filter(|standby| !standby.stands_by() && standby.failed.is_none());
        standby.filter(|standby| standby.killed.is_none()).map(|standby| standby.started + STANDBY_READY)
    }

    /// The engine whose pulses are looked at: one that is neither killed nor about to end.
    pub(super) fn watched(&self) -> Option<&Process> {
        if self.stopping.is_some() || self.successor_due.is_some() {
            return None;
        }
        self.engine.as_ref().filter(|engine| engine.killed.is_none() && engine.ends_by.is_none() && !engine.yields)
    }

    /// What the engine that controls is to hear. One that is gone needs no telling.
    pub(super) fn tell(&mut self, order: Order) {
        if let Some(engine) = &self.engine {
            self.actions.push(Action::Order { engine: engine.id, order });
        }
    }

    /// What the status shows of the standby.
    pub(super) fn tell_of_standby(&mut self, state: &str) {
        self.tell(Order::Standby { state: state.to_owned().into() });
    }

    /// How the last upgrade does, for the status.
    pub(super) fn tell_of_upgrade(&mut self) {
        if let Some(engine) = &self.engine
            && self.outcome != Outcome::None
        {
            let outcome = self.outcome.clone();
            self.actions.push(Action::ReportUpgrade { engine: engine.id, outcome });
        }
    }
}

/// Actions that the shell has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Actions(VecDeque<Action>);

impl Actions {
    pub fn push(&mut self, action: Action) {
        self.0.push_back(action);
    }

    pub fn log(&mut self, event: Event) {
        self.push(Action::Log(event));
    }

    pub fn kill(&mut self, process: &Process, why: Kill) {
        self.push(Action::Kill { engine: process.id, pid: process.pid, why });
    }

    /// Has it killed, once, for a reason by which its end is told. Who follows is decided when it
    /// has ended.
    pub fn condemn(&mut self, process: &mut Process, why: Kill) {
        if process.killed.is_none() {
            process.killed = Some(why);
            self.kill(process, why);
        }
    }

    pub fn discard(&mut self, engine: Option<EngineId>) {
        if let Some(engine) = engine {
            self.push(Action::Discard { engine });
        }
    }
}
