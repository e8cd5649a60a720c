//! Why an engine is killed, and why one could not be started.

use std::fmt;
use std::time::Duration;

use crate::limits::STANDBY_READY;

/// Why an engine is killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kill {
    /// It controls, and this thread, 0 being the control thread, stands still for longer than it
    /// may.
    Hangs { thread: usize, limit: Duration },
    /// It is to come to control, and this thread stands still for longer than it may.
    NoControl { thread: usize, limit: Duration },
    /// It said that it ends, or says nothing more, and lives.
    DoesNotEnd,
    /// The engine before it is dead, and it has not come to control in time.
    NotTakenOver,
    /// [`STANDBY_READY`] is over, and it does not stand by.
    NotStanding,
    /// Its standby controls, and it lives.
    Followed,
    /// It says what no engine says.
    Distrusted(&'static str),
    /// It was ordered to hand over, and has not in time.
    DoesNotYield,
    /// It does not stand by yet, and the engine that it was to follow is dead.
    Late,
    /// The order to stop does not reach it.
    StopUnheard,
    /// The keeper was asked to stop more than once.
    StopAgain,
    /// It was ordered to stop, and has not in time.
    StopOverdue,
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut stands_still = |what, thread, limit: Duration| {
            let limit_ms = limit.as_millis();
            let thread = Thread(thread);
            write!(f, "{what}: its {thread} has stood still for {limit_ms} ms (`hang_ms` in [runtime])")
        };
        match *self {
            Self::Hangs { thread, limit } => stands_still("hangs", thread, limit),
            Self::NoControl { thread, limit } => stands_still("does not come to control", thread, limit),
            Self::DoesNotEnd => f.write_str("does not end"),
            Self::NotTakenOver => f.write_str("was to follow a dead engine and has not taken over in time"),
            Self::NotStanding => write!(f, "did not stand by within {} s", STANDBY_READY.as_secs()),
            Self::Followed => f.write_str("was followed and does not end"),
            Self::Distrusted(what) => f.write_str(what),
            Self::DoesNotYield => f.write_str("does not hand over in time"),
            Self::Late => f.write_str("does not stand by yet, and its engine is dead"),
            Self::StopUnheard => f.write_str("cannot be told to stop"),
            Self::StopAgain | Self::StopOverdue => f.write_str("has not stopped"),
        }
    }
}

/// Why no engine was started, with the system's words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StartFailure {
    /// The program on disk cannot be opened.
    NoFile(String),
    /// The program cannot be executed: another may do.
    Program(String),
    /// It may be tried again: the system could not just then.
    Refused(String),
}

impl fmt::Display for StartFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::NoFile(why) | Self::Program(why) | Self::Refused(why)) = self;
        f.write_str(why)
    }
}

/// Thread 0 is the control thread, the others are workers, counted from 0.
struct Thread(usize);

impl fmt::Display for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.checked_sub(1) {
            None => f.write_str("control thread"),
            Some(worker) => write!(f, "worker {worker}"),
        }
    }
}
