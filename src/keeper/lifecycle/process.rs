//! An engine as the lifecycle knows it.

use std::time::Duration;

use super::action::EngineId;
use super::exit::ExitStatus;
use super::reason::Kill;
use crate::time::Nanos;

/// A started engine that is not known to have ended.
#[derive(Debug)]
pub struct Process {
    pub id: EngineId,
    pub pid: u32,
    pub started: Nanos,
    pub phase: Phase,
    /// What it said when it gave up.
    pub failed: Option<String>,
    /// It was ordered to hand over to its standby.
    pub yields: bool,
    /// It says nothing more.
    pub silent: bool,
    /// By when it is to have ended: it said that it ends, or says nothing more.
    pub ends_by: Option<Nanos>,
    /// Why it was killed, if its end is to be told by that.
    pub killed: Option<Kill>,
    /// Since when it hung, if that is why.
    pub hung_since: Option<Nanos>,
}

/// How far it has come, by its own word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    Starting,
    /// Everything is mapped and touched, and it waits for the locks.
    StandsBy,
    Controls {
        since: Nanos,
    },
}

impl Process {
    pub const fn new(id: EngineId, pid: u32, now: Nanos) -> Self {
        Self {
            id,
            pid,
            started: now,
            phase: Phase::Starting,
            failed: None,
            yields: false,
            silent: false,
            ends_by: None,
            killed: None,
            hung_since: None,
        }
    }

    pub fn stands_by(&self) -> bool {
        self.phase == Phase::StandsBy
    }

    pub const fn controls(&self) -> bool {
        matches!(self.phase, Phase::Controls { .. })
    }

    /// It is to have ended then, if not earlier.
    pub fn ends_within(&mut self, time: Duration, now: Nanos) {
        self.ends_by.get_or_insert(now + time);
    }

    /// For how long it controlled, of which it does not count that it hung. None: it never did.
    pub fn controlled(&self, hang: Duration, now: Nanos) -> Option<Duration> {
        let Phase::Controls { since } = self.phase else { return None };
        let controlled = now.since(since);
        Some(if self.hung_since.is_some() { controlled.saturating_sub(hang) } else { controlled })
    }

    /// Whether its end says anything of its program: one that somebody else killed (an operator,
    /// the system for want of memory) did nothing wrong.
    pub fn is_to_blame(&self, status: ExitStatus) -> bool {
        self.killed.is_some() || status != ExitStatus::Kill
    }

    /// How it ended, behind its name.
    pub fn ending(&self, status: ExitStatus) -> String {
        match self.killed {
            Some(why) => format!("{why}, and was killed"),
            None if self.yields && status == ExitStatus::SUCCESS => "handed over".into(),
            None if self.yields => format!("{status} as it handed over"),
            None => status.to_string(),
        }
    }
}

/// An engine that its standby has followed already; its end is still to be seen.
#[derive(Debug)]
pub struct Followed {
    pub engine: Process,
    /// The process that followed it.
    pub successor: u32,
    /// When it is killed, if it has not ended by then.
    pub due: Option<Nanos>,
}
