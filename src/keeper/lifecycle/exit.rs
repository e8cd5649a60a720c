//! How a process ended, told apart as far as it decides anything or is worth a word.

use std::fmt;

use crate::time::Nanos;

/// The status that a process ended with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExitStatus {
    Code(i32),
    Abrt,
    Bus,
    Kill,
    Segv,
    Sys,
    Term,
    /// Another signal, by its number.
    Signal(i32),
    /// Neither a code nor a signal, which wait(2) does not give.
    Unknown,
}

impl ExitStatus {
    /// It exited with success.
    pub const SUCCESS: Self = Self::Code(0);
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill => f.write_str("killed (SIGKILL)"),
            Self::Abrt => f.write_str("aborted (SIGABRT)"),
            Self::Segv => f.write_str("crashed (SIGSEGV)"),
            Self::Bus => f.write_str("crashed (SIGBUS)"),
            Self::Sys => f.write_str("killed for a system call that engines do not make (SIGSYS)"),
            Self::Term => f.write_str("terminated (SIGTERM)"),
            Self::Signal(signal) => write!(f, "ended by signal {signal}"),
            Self::Code(0) => f.write_str("exited with success, without having been asked to"),
            Self::Code(code) => write!(f, "exited with status {code}"),
            Self::Unknown => f.write_str("ended"),
        }
    }
}

/// An end, with what was found when it was noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exit {
    pub status: ExitStatus,
    /// When there was proof of it.
    pub noticed: Nanos,
    /// The table could not be used if it were opened now. Looked at where the status is
    /// [`ExitStatus::Bus`], which a table that was cut while it was in use leads to.
    pub table_is_bad: bool,
}
