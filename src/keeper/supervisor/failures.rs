//! Engines that fail: whom nobody is to follow, and what is made anew because of them.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Instant;

use rustix::process::Signal;

use super::super::engine::Engine;
use super::super::error::KeeperError;
use super::Supervisor;
use crate::handover::protocol::Death;
use crate::limits::RENEW_AFTER;
use crate::sys::clock;

impl Supervisor {
    /// Counts an engine that came to nothing, if nobody else had it killed. After some of them all
    /// that they can have damaged is made anew, before the next is started: gives whether it was.
    pub(super) fn count_failure(
        &mut self,
        dead: &Engine,
        status: ExitStatus,
        late: &mut Option<Engine>,
    ) -> Result<bool, KeeperError> {
        if self.restarts.consecutive_failures() == 0 {
            self.failures = 0;
        }
        if !is_its_own(dead, status) {
            self.judge_table_after(status)?;
            return Ok(false);
        }
        self.failures += u32::from(self.restarts.consecutive_failures() > 0);
        if self.failures < RENEW_AFTER {
            self.judge_table_after(status)?;
            return Ok(false);
        }
        self.failures = 0;
        // Nobody has any of it any more when it is let go.
        *late = None;
        self.dismiss_candidate("engines come to nothing, and what they work with is made anew");
        self.followed.clear();
        tracing::warn!(
            "{RENEW_AFTER} engines in a row came to nothing: sockets, frames' memory and locks are made anew"
        );
        self.resources.judge_table()?;
        self.resources.renew(&self.manager)?;
        Ok(true)
    }

    /// A process that died of SIGBUS may have had a table that was cut while it was in use. Whoever
    /// has that is ended, and what the configuration says of a bad table is done.
    pub(super) fn judge_table_after(&mut self, status: ExitStatus) -> Result<(), KeeperError> {
        if status.signal() != Some(Signal::BUS.as_raw()) || self.stopping.is_some() || !self.resources.has_bad_table() {
            return Ok(());
        }
        // Dropped, each is ended and waited for. The standby first, or it would follow.
        self.standby = None;
        self.dismiss_candidate("the table was cut while it was in use");
        self.followed.clear();
        if let Some(engine) = self.engine.take() {
            let pid = engine.process.id();
            drop(engine);
            let how = "was ended, for the table was cut while it was in use".to_owned();
            self.predecessor = Some(Death { pid, noticed_ns: clock::now().0, how });
        }
        self.successor_due = None;
        self.resources.judge_table()?;
        self.due = Instant::now();
        Ok(())
    }

    /// The one that controls ends, by its own word, for a reason that its standby would end for as
    /// well. It has said so to that already, if it is what it should be, and it ends soon, or is
    /// killed.
    pub(super) fn let_nobody_follow(&mut self) {
        self.resources.succession().close();
        let hang = self.resources.config().runtime.hang;
        if let Some(engine) = &mut self.engine {
            engine.ends_within(hang);
        }
    }
}

/// Whether an end says anything of the program that ended: who is killed (by an operator, for want
/// of memory) did nothing, but for one that its keeper had to kill.
pub(super) fn is_its_own(engine: &Engine, status: ExitStatus) -> bool {
    engine.condemned.is_some() || status.signal().is_none_or(|signal| signal != Signal::KILL.as_raw())
}
