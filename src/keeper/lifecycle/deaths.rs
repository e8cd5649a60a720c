//! Ends of engines: who follows, what is counted, and what is made anew because of them.

use std::time::Duration;

use super::action::{Action, End, EngineId};
use super::event::Event;
use super::exit::{Exit, ExitStatus};
use super::inputs::STANDBY_AFTER;
use super::process::{Followed, Process};
use super::reason::Kill;
use super::state::Lifecycle;
use crate::handover::protocol::Death;
use crate::limits::RENEW_AFTER;
use crate::time::Nanos;

impl Lifecycle {
    pub(super) fn handle_engine_exit(&mut self, exit: Exit, now: Nanos) {
        let Some(dead) = self.engine.take() else { return };
        if self.stopping.is_some() {
            return self.end(End::Stopped);
        }
        if let Some(epoch) = self.fenced {
            return self.end(End::Fenced(epoch));
        }
        let how = dead.ending(exit.status);
        let noticed_ns = dead.hung_since.unwrap_or(exit.noticed).0;
        self.predecessor = Some(Death { pid: dead.pid, noticed_ns, how: how.clone() });
        self.successor_due = None;
        self.dismiss_candidate("the engine that was to yield has died; ask again");
        if dead.failed.is_none()
            && let Some(successor) = self.standby.take_if(|standby| standby.stands_by())
        {
            // It has the locks, or will have them in a moment.
            self.successor_due = Some(now + self.settings.hang);
            let pid = successor.pid;
            self.engine = Some(successor);
            self.count_death(&dead, now);
            self.tell_who_followed(&dead, pid, how);
            return self.judge_table_after(exit, &mut None, now);
        }
        self.replace(dead, how, exit, now);
    }

    /// An engine has ended that nobody follows by its locks: a new one is started.
    fn replace(&mut self, dead: Process, how: String, exit: Exit, now: Nanos) {
        // A standby that does not stand by yet would keep a successor of its own waiting: a new
        // engine has the locks as soon as this one is dead.
        let mut late = self.standby.take().map(|standby| {
            self.actions.kill(&standby, Kill::Late);
            self.end_trial(standby.id, standby.pid, "was let go with the engine before it");
            standby.id
        });
        if dead.failed.is_some() {
            // What stopped this one, by its own word, would stop its standby too, and must not:
            // nobody is started before that is gone, for then the locks are handed on again.
            self.actions.discard(late.take());
        }
        let controlled = dead.controlled(self.settings.hang, now);
        let is_of_trial = self.end_trial(dead.id, dead.pid, dead.failed.as_ref().unwrap_or(&how));
        let pause = match &dead.failed {
            // What stopped it need not stop the program of before.
            _ if is_of_trial => Duration::ZERO,
            // Rings of an earlier keeper's engines may be what is wrong.
            Some(_) if !self.has_controlled && self.settings.rings_are_taken_up => {
                self.failures = RENEW_AFTER - 1;
                self.restarts.died(None)
            }
            Some(why) if !self.has_controlled => return self.end(End::Failed(why.clone())),
            Some(_) => self.restarts.failed(controlled),
            None => self.restarts.died(controlled),
        };
        self.due = now + pause;
        if !pause.is_zero() && dead.is_to_blame(exit.status) {
            self.fall_back("comes to nothing");
        }
        let renewed = self.count_failure(&dead, exit, &mut late, now);
        let pid = dead.pid;
        let why = dead.failed;
        if pause.is_zero() {
            // The successor first, the log line after.
            if late.is_none() && !renewed {
                self.renew_locks();
            }
            self.start_engine(now);
            self.actions.discard(late);
            self.actions.log(Event::Replaced { pid, how, why });
        } else {
            self.actions.discard(late);
            let failures = self.restarts.consecutive_failures();
            self.actions.log(Event::Paused { pid, how, why, failures, pause });
        }
    }

    pub(super) fn handle_standby_exit(&mut self, exit: Exit, now: Nanos) {
        let Some(standby) = self.standby.take() else { return };
        let pid = standby.pid;
        let how = standby.ending(exit.status);
        self.end_trial(standby.id, pid, &how);
        if exit.status == ExitStatus::SUCCESS && self.locks_are_closed {
            // The one that controls ends in a way in which nobody is to follow, and this one knows.
            self.actions.log(Event::StandbyEndsToo { pid });
            return;
        }
        self.judge_table_after(exit, &mut None, now);
        let why = standby.failed.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        if !standby.stands_by() && standby.is_to_blame(exit.status) {
            self.fall_back(&format!("{how}{why} before it stood by"));
        }
        self.lack_standby(format!("(engine {pid}) {how}{why}"), now);
    }

    pub(super) fn handle_followed_exit(&mut self, id: EngineId, exit: Exit, now: Nanos) {
        let Some(at) = self.followed.iter().position(|followed| followed.engine.id == id) else { return };
        let Followed { engine, successor, .. } = self.followed.remove(at);
        self.tell_who_followed(&engine, successor, engine.ending(exit.status));
        self.judge_table_after(exit, &mut None, now);
    }

    /// Counts a death that a standby follows, when it follows: the kernel may take the dead apart
    /// for long. A standby that follows too often gets a standby of its own later and later.
    pub(super) fn count_death(&mut self, dead: &Process, now: Nanos) {
        let controlled = dead.controlled(self.settings.hang, now);
        let pause = if dead.yields { Duration::ZERO } else { self.restarts.died(controlled) };
        self.standby_due = self.standby_due.max(now + pause.max(STANDBY_AFTER));
        if !pause.is_zero() {
            let failures = self.restarts.consecutive_failures();
            self.actions.log(Event::StandbysSlowDown { failures, pause });
        }
    }

    fn tell_who_followed(&mut self, dead: &Process, successor: u32, how: String) {
        let pid = dead.pid;
        if dead.yields {
            self.actions.log(Event::HandedOver { pid, how, successor });
            return;
        }
        self.end_trial(dead.id, pid, &how);
        self.actions.log(Event::Followed { pid, how, successor });
    }

    /// Counts an engine that came to nothing, if nobody else had it killed. After some of them all
    /// that they can have damaged is made anew, before the next is started: gives whether it was.
    fn count_failure(&mut self, dead: &Process, exit: Exit, late: &mut Option<EngineId>, now: Nanos) -> bool {
        let counts = self.restarts.consecutive_failures() > 0;
        if !counts {
            self.failures = 0;
        }
        if counts && dead.is_to_blame(exit.status) {
            self.failures += 1;
        }
        if self.failures < RENEW_AFTER || !dead.is_to_blame(exit.status) {
            self.judge_table_after(exit, late, now);
            return false;
        }
        self.failures = 0;
        // Nobody has any of it any more when it is let go.
        self.actions.discard(late.take());
        self.dismiss_candidate("engines come to nothing, and what they work with is made anew");
        self.discard_followed();
        self.actions.log(Event::Renewed);
        self.actions.push(Action::JudgeTable);
        self.actions.push(Action::RenewResources);
        self.settings.rings_are_taken_up = false;
        true
    }

    /// A process that died of SIGBUS may have had a table that was cut while it was in use. Every
    /// engine that has that table is ended, `late` too, and what the configuration says of a bad
    /// table is done.
    fn judge_table_after(&mut self, exit: Exit, late: &mut Option<EngineId>, now: Nanos) {
        if exit.status != ExitStatus::Bus || !exit.table_is_bad || self.stopping.is_some() {
            return;
        }
        let how = "was ended, for the table was cut while it was in use";
        // The standby first, or it would follow.
        if let Some(standby) = self.standby.take() {
            self.actions.discard(Some(standby.id));
            self.end_trial(standby.id, standby.pid, how);
        }
        self.actions.discard(late.take());
        self.dismiss_candidate("the table was cut while it was in use");
        self.discard_followed();
        if let Some(engine) = self.engine.take() {
            self.actions.discard(Some(engine.id));
            self.end_trial(engine.id, engine.pid, how);
            self.predecessor = Some(Death { pid: engine.pid, noticed_ns: now.0, how: how.into() });
        }
        self.successor_due = None;
        self.actions.push(Action::JudgeTable);
        self.due = now;
    }

    fn discard_followed(&mut self) {
        for Followed { engine, .. } in std::mem::take(&mut self.followed) {
            self.actions.discard(Some(engine.id));
            // Its end would have told how.
            self.end_trial(engine.id, engine.pid, "died");
        }
    }
}
