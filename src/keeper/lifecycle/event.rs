//! What the lifecycle has to say to readers of the log.

use std::fmt;
use std::time::Duration;

use super::reason::{Kill, StartFailure};
use crate::limits::RENEW_AFTER;

/// How much it matters, by the names of log levels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    Debug,
    Info,
    Warn,
    Error,
}

/// Something that happened. Engines are named by their process ids; `how` says how one ended,
/// behind its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    Controls {
        pid: u32,
    },
    StandsBy {
        pid: u32,
    },
    Stopping,
    Kill {
        pid: u32,
        why: Kill,
    },
    CannotStart {
        failure: StartFailure,
        pause: Duration,
    },
    /// `why` goes on from "the standby".
    NoStandby {
        why: String,
        pause: Duration,
    },
    StandbyEndsToo {
        pid: u32,
    },
    StandbysSlowDown {
        failures: u32,
        pause: Duration,
    },
    HandedOver {
        pid: u32,
        how: String,
        successor: u32,
    },
    Followed {
        pid: u32,
        how: String,
        successor: u32,
    },
    Replaced {
        pid: u32,
        how: String,
        why: Option<String>,
    },
    Paused {
        pid: u32,
        how: String,
        why: Option<String>,
        failures: u32,
        pause: Duration,
    },
    Renewed,
    UpgradeAsked {
        pid: u32,
        path: String,
    },
    UpgradeRefused {
        why: String,
    },
    OldStandbyStays {
        why: String,
    },
    OnTrial {
        pid: u32,
        time: Duration,
    },
    TrialFailed {
        pid: u32,
        how: String,
    },
    ProgramKept {
        pid: u32,
    },
    /// `why` goes on from the program's path.
    FellBack {
        path: String,
        why: String,
    },
}

impl Event {
    pub const fn severity(&self) -> Severity {
        match self {
            Self::StandbyEndsToo { .. } => Severity::Debug,
            Self::Kill { why: Kill::Late | Kill::StopUnheard, .. } => Severity::Debug,
            Self::Controls { .. } | Self::StandsBy { .. } | Self::Stopping | Self::HandedOver { .. } => Severity::Info,
            Self::UpgradeAsked { .. } | Self::OnTrial { .. } | Self::ProgramKept { .. } => Severity::Info,
            Self::Kill { why: Kill::StopAgain | Kill::StopOverdue, .. } => Severity::Warn,
            Self::Followed { .. } | Self::Replaced { .. } | Self::Renewed => Severity::Warn,
            Self::UpgradeRefused { .. } | Self::OldStandbyStays { .. } => Severity::Warn,
            Self::Kill { .. } | Self::CannotStart { .. } | Self::NoStandby { .. } => Severity::Error,
            Self::StandbysSlowDown { .. } | Self::Paused { .. } => Severity::Error,
            Self::TrialFailed { .. } | Self::FellBack { .. } => Severity::Error,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controls { pid } => write!(f, "engine {pid} controls"),
            Self::StandsBy { pid } => write!(f, "engine {pid} stands by"),
            Self::Stopping => f.write_str("stopping"),
            Self::Kill { why: Kill::StopAgain, .. } => {
                f.write_str("asked again to stop: the engine is killed, without a snapshot")
            }
            Self::Kill { why: Kill::StopOverdue, .. } => {
                f.write_str("the engine has not stopped in time: it is killed, without a snapshot")
            }
            Self::Kill { pid, why } => write!(f, "engine {pid} {why}: it is killed"),
            Self::CannotStart { failure, pause } => {
                write!(f, "cannot start an engine: {failure}; trying again in {pause:?}")
            }
            Self::NoStandby { why, pause } => {
                write!(f, "the standby {why}; the engine goes on without one, and the next is tried in {pause:?}")
            }
            Self::StandbyEndsToo { pid } => write!(f, "the standby, engine {pid}, ends with the one that controls"),
            Self::StandbysSlowDown { failures, pause } => {
                write!(f, "{failures} engines in a row came to nothing: the next standby starts in {pause:?}")
            }
            Self::HandedOver { pid, how, successor } => write!(f, "engine {pid} {how} to engine {successor}"),
            Self::Followed { pid, how, successor } => {
                write!(f, "engine {pid} {how}; its standby, engine {successor}, took over")
            }
            Self::Replaced { pid, how, why } => write!(
                f,
                "engine {pid} {how}{}; there was no standby, and a new engine has been handed everything",
                Because(why)
            ),
            Self::Paused { pid, how, why, failures, pause } => write!(
                f,
                "engine {pid} {how}{}; {failures} in a row came to nothing: the next starts in {pause:?}",
                Because(why)
            ),
            Self::Renewed => write!(
                f,
                "{RENEW_AFTER} engines in a row came to nothing: sockets, frames' memory and locks are made anew"
            ),
            Self::UpgradeAsked { pid, path } => {
                write!(f, "an upgrade was asked for: engine {pid} is started from {path}")
            }
            Self::UpgradeRefused { why } => write!(f, "no upgrade: {why}"),
            Self::OldStandbyStays { why } => write!(f, "the standby stays one of the program of before: {why}"),
            Self::OnTrial { pid, time } => write!(f, "engine {pid} is of the new program, on trial for {time:?}"),
            Self::TrialFailed { pid, how } => {
                write!(f, "the new program failed in its trial: engine {pid} {how}; the one before is returned to")
            }
            Self::ProgramKept { pid } => write!(f, "engine {pid} has stood its trial: its program is kept"),
            Self::FellBack { path, why } => {
                write!(f, "{path} {why}: engines are started from the keeper's own program again")
            }
        }
    }
}

/// What an engine said of its end, behind a colon, if it said anything.
struct Because<'a>(&'a Option<String>);

impl fmt::Display for Because<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |why| write!(f, ": {why}"))
    }
}
