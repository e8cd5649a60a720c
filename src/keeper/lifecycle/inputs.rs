//! What is seen is given in here, and goes where it belongs.

use std::time::Duration;

use super::action::{Action, End, EngineId, Input};
use super::event::Event;
use super::process::{Followed, Phase};
use super::reason::Kill;
use super::state::Lifecycle;
use crate::handover::compat::Identity;
use crate::handover::protocol::{Notice, Order};
use crate::keeper::backoff::Backoff;
use crate::limits::{START_PATIENCE, START_PATIENCE_MAX};
use crate::time::Nanos;
use crate::wire::Epoch;

/// How long after an engine has come to control the next standby is started: recovering needs the
/// processors first.
pub(super) const STANDBY_AFTER: Duration = Duration::from_millis(100);
/// How long an engine may take to end that has been followed: it lets database and clients go, or
/// the kernel takes it apart.
const FOLLOWED_PATIENCE: Duration = Duration::from_secs(5);
/// How long an engine that was killed as it stopped may take until that is tried again. The kernel
/// may take its time, and there is nothing else to do.
const STOP_AGAIN: Duration = Duration::from_secs(60);

impl Lifecycle {
    /// Puts what was seen at one time in the order in which it is to be judged.
    ///
    /// - Before an engine's end comes what its standby did: it may stand by or control, or have
    ///   ended, since it was last looked at.
    /// - Before a stop too: a standby that controls already is stopped and not let go. And after a
    ///   stop no engine's end leads to a start.
    /// - What a candidate says comes last: where the standby controls, it has been let go.
    pub fn arrange(&self, inputs: &mut [Input]) {
        inputs.sort_by_key(|input| match (input, input.engine()) {
            (Input::Exited(id, _), _) if self.is_engine(*id) => 3,
            (_, Some(id)) if self.is_engine(id) => 0,
            (_, Some(id)) if self.is_standby(id) => 1,
            (Input::Stop, _) => 2,
            (_, Some(id)) if self.candidate().is_some_and(|candidate| candidate.id == id) => 5,
            _ => 4,
        });
    }

    /// Something was seen.
    pub fn handle(&mut self, input: Input, now: Nanos) {
        if self.has_ended() {
            return;
        }
        match input {
            Input::Stop => self.handle_stop(now),
            Input::Notice(id, notice) if self.is_engine(id) => self.handle_engine_notice(notice, now),
            Input::Notice(id, notice) if self.is_standby(id) => self.handle_standby_notice(notice, now),
            Input::Notice(id, notice) => self.handle_candidate_notice(id, notice, now),
            Input::Distrusted(id, why) => {
                self.handle_silence(id, now);
                self.condemn(id, Kill::Distrusted(why));
            }
            Input::Silent(id) => self.handle_silence(id, now),
            Input::Exited(id, exit) if self.is_engine(id) => self.handle_engine_exit(exit, now),
            Input::Exited(id, exit) if self.is_standby(id) => self.handle_standby_exit(exit, now),
            Input::Exited(id, exit) => {
                self.handle_followed_exit(id, exit, now);
                self.handle_candidate_exit(id, exit.status);
            }
        }
    }

    /// Whether nobody is to succeed by the locks alone: an engine says so there before it says so
    /// to its keeper. To be asked after it was asked who has ended, and before that is given in.
    pub const fn handle_closed_locks(&mut self, closed: bool) {
        self.locks_are_closed = closed;
    }

    /// What came of [`Action::JudgeTable`]: whether the table, now, holds all that the database
    /// holds.
    pub const fn handle_table(&mut self, complete: bool) {
        self.settings.table_is_complete = complete;
    }

    /// [`Order::Stop`] could not be sent.
    pub fn handle_unheard_stop(&mut self) {
        if let Some(engine) = &self.engine {
            self.actions.kill(engine, Kill::StopUnheard);
        }
    }

    fn handle_stop(&mut self, now: Nanos) {
        if self.stopping.is_some() {
            if let Some(engine) = &self.engine {
                self.actions.kill(engine, Kill::StopAgain);
            }
            return;
        }
        // The standby would take the end of the one that controls for its death.
        let standby = self.standby.take().map(|standby| standby.id);
        self.actions.discard(standby);
        self.abandon_upgrade();
        self.stopping = Some(now + self.settings.stop);
        self.tell(Order::Stop);
        self.actions.push(Action::AnnounceStop);
        self.actions.log(Event::Stopping);
        if self.engine.is_none() {
            self.end(End::Stopped);
        }
    }

    /// What the one that controls says, or is about to.
    fn handle_engine_notice(&mut self, notice: Notice, now: Nanos) {
        match notice {
            Notice::Ready => self.handle_control(now),
            Notice::Standing { .. } => {}
            Notice::Upgrade { form } => self.upgrade(form),
            Notice::Complete => {
                self.settings.table_is_complete = true;
                self.actions.push(Action::CompleteTable);
            }
            Notice::NextHop { domain, hop } => {
                self.actions.push(Action::LearnHop { domain, hop });
                let others = self.standby.iter().chain(self.candidate()).map(|process| process.id);
                for engine in others.collect::<Vec<_>>() {
                    self.actions.push(Action::Order { engine, order: Order::NextHop { domain, hop } });
                }
            }
            Notice::Failed { why } => {
                if let Some(engine) = &mut self.engine {
                    engine.failed = Some(why);
                }
                self.let_nobody_follow(now);
            }
            Notice::Fenced { epoch } => {
                self.fenced = Some(Epoch(epoch));
                self.let_nobody_follow(now);
            }
        }
    }

    /// The engine ends, by its own word, for a reason that its standby would end for as well. It
    /// has said so to that already, if it is what it should be, and it ends soon, or is killed.
    fn let_nobody_follow(&mut self, now: Nanos) {
        self.actions.push(Action::CloseLocks);
        self.locks_are_closed = true;
        if let Some(engine) = &mut self.engine {
            engine.ends_within(self.settings.hang, now);
        }
    }

    fn handle_standby_notice(&mut self, notice: Notice, now: Nanos) {
        let Some(standby) = &mut self.standby else { return };
        match notice {
            Notice::Standing { program } => {
                let pid = standby.pid;
                if let Err(why) = Identity::ours().admit(&program) {
                    let id = self.standby.take().map(|standby| standby.id);
                    self.actions.discard(id);
                    self.fall_back(&why);
                    return self.lack_standby(format!("may not take over: {why}"), now);
                }
                standby.phase = Phase::StandsBy;
                self.actions.log(Event::StandsBy { pid });
                self.standby_failures = Backoff::default();
                self.tell_of_standby("ready");
            }
            // It has the locks: the one before is dead, though the kernel may still be taking it
            // apart.
            Notice::Ready if standby.stands_by() => match self.fenced {
                Some(epoch) => self.end(End::Fenced(epoch)),
                None => self.follow(now),
            },
            Notice::Failed { why } => {
                standby.failed = Some(why);
                standby.ends_within(self.settings.hang, now);
            }
            _ => {}
        }
    }

    /// The standby controls.
    fn follow(&mut self, now: Nanos) {
        let dead = self.engine.take();
        self.engine = self.standby.take();
        if let Some(engine) = dead {
            self.count_death(&engine, now);
            let due = Some(now + FOLLOWED_PATIENCE);
            self.followed.push(Followed { engine, successor: self.active_pid(), due });
        }
        self.handle_control(now);
    }

    /// The engine has said that it controls.
    fn handle_control(&mut self, now: Nanos) {
        let Some(engine) = &mut self.engine else { return };
        engine.phase = Phase::Controls { since: now };
        let id = engine.id;
        let pid = engine.pid;
        self.watch.begin(now);
        self.successor_due = None;
        self.has_controlled = true;
        self.standby_due = self.standby_due.max(now + STANDBY_AFTER);
        self.actions.log(Event::Controls { pid });
        self.actions.push(Action::AnnounceControl { pid });
        self.begin_trial(id, pid, now);
    }

    /// It ends, and the kernel takes it apart, or it is none that can be spoken with.
    fn handle_silence(&mut self, id: EngineId, now: Nanos) {
        let serves = self.is_engine(id) || self.is_standby(id);
        let hang = self.settings.hang;
        if let Some(process) = self.process_mut(id) {
            process.silent = true;
            if serves {
                process.ends_within(hang, now);
            }
        }
    }

    fn condemn(&mut self, id: EngineId, why: Kill) {
        if let Some(process) = self.process_mut(id)
            && process.killed.is_none()
        {
            process.killed = Some(why);
            let pid = process.pid;
            self.actions.push(Action::Kill { engine: id, pid, why });
        }
    }

    /// It is as late as this.
    pub fn handle_timeout(&mut self, now: Nanos) {
        if self.has_ended() {
            return;
        }
        self.kill_overdue(now);
        self.handle_upgrade_timeout(now);
        if self.watched().is_some() && now >= self.watch.due() {
            let threads = if self.controller().is_some() { 1 + self.settings.workers } else { 1 };
            self.actions.push(Action::ReadPulses { threads });
        }
        self.start_what_is_due(now);
    }

    /// Kills engines that do not begin or end in time.
    fn kill_overdue(&mut self, now: Nanos) {
        let is_over = |due: Option<Nanos>| due.is_some_and(|due| now >= due);
        let standing_due = self.standing_due();
        if let Some(engine) = &mut self.engine {
            if is_over(self.stopping) {
                self.actions.kill(engine, Kill::StopOverdue);
                self.stopping = Some(now + STOP_AGAIN);
            }
            // A new engine takes its place.
            if self.stopping.is_none() && self.successor_due.take_if(|due| now >= *due).is_some() {
                self.actions.condemn(engine, Kill::NotTakenOver);
            }
        }
        // It would keep the next standby from being tried.
        if is_over(standing_due)
            && let Some(standby) = &mut self.standby
        {
            let why = Kill::NotStanding;
            self.actions.condemn(standby, why);
            let state = format!("none: engine {} {why}", standby.pid);
            self.tell_of_standby(&state);
        }
        for Followed { engine, due, .. } in &mut self.followed {
            if due.take_if(|due| now >= *due).is_some() {
                self.actions.condemn(engine, Kill::Followed);
            }
        }
        for process in self.engine.iter_mut().chain(&mut self.standby) {
            if is_over(process.ends_by) {
                self.actions.condemn(process, Kill::DoesNotEnd);
            }
        }
    }

    /// What [`Action::ReadPulses`] gave: rounds of the control thread, and of each worker.
    pub fn handle_pulses(&mut self, pulses: impl Iterator<Item = u64>, now: Nanos) {
        if self.watched().is_none() {
            return;
        }
        let Some(engine) = &mut self.engine else { return };
        let hang = self.settings.hang;
        let controls = engine.controls();
        let starts = START_PATIENCE.saturating_mul(1 << self.restarts.consecutive_failures().min(8));
        let limit = if controls { hang } else { (hang * starts).min(START_PATIENCE_MAX.max(hang)) };
        let Some((thread, still)) = self.watch.look(pulses, limit, now) else { return };
        let why = if controls { Kill::Hangs { thread, limit } } else { Kill::NoControl { thread, limit } };
        if controls {
            let since = now - still;
            engine.hung_since = Some(since);
            self.actions.push(Action::NoteHang { since });
        }
        self.actions.condemn(engine, why);
    }
}
