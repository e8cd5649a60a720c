//! A table as typed, and who has it.

use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::columns::is_watched;
use crate::cli::{FAILED, WRONG};
use crate::config::{Config, ConfigError, DEFAULT_FILE, Overrides};
use crate::sys::process;
use crate::table::Table;
use crate::table::file::{Inspection, OpenError};

/// Which table is meant.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// The table's file, instead of the configured one
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    pub table: Option<PathBuf>,
    /// The configuration that names it
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    pub config: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Place {
    pub fn path(&self) -> Result<PathBuf, Failure> {
        match &self.table {
            Some(path) => Ok(path.clone()),
            None => Ok(Config::read(&self.config, &Overrides::default())?.table.path),
        }
    }
}

/// Why it was not done, and the exit code that says so.
#[derive(Debug)]
pub(super) struct Failure {
    pub error: Box<dyn std::error::Error>,
    pub exit: u8,
}

impl Failure {
    pub fn of(error: impl std::error::Error + 'static) -> Self {
        Self { error: Box::new(error), exit: FAILED }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self { error: Box::new(error), exit: WRONG }
    }
}

/// A table that cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[error("{}", error.at(path))]
struct Unopened {
    path: PathBuf,
    error: OpenError,
}

/// A question that the system does not answer.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}: {error}")]
pub(super) struct System {
    pub doing: &'static str,
    pub error: std::io::Error,
}

pub(super) fn inspect_at(path: PathBuf) -> Result<Inspection, Failure> {
    Table::inspect(&path).map_err(|error| Failure::of(Unopened { path, error }))
}

/// Who has a table's lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Holder {
    Nobody,
    /// This process took it.
    Process(u32),
    /// This process took it and has ended; another has it from there.
    SuccessorOf(u32),
}

impl Holder {
    pub fn of(table: &Inspection) -> Result<Self, Failure> {
        let taker = table.holder().map_err(|error| Failure::of(System { doing: "see who has the table", error }))?;
        Ok(match taker {
            None => Self::Nobody,
            Some(pid) if process::lives(pid) => Self::Process(pid),
            Some(pid) => Self::SuccessorOf(pid),
        })
    }

    pub fn is_live(self) -> bool {
        self != Self::Nobody
    }

    pub fn pid(self) -> Option<u32> {
        match self {
            Self::Nobody => None,
            Self::Process(pid) | Self::SuccessorOf(pid) => Some(pid),
        }
    }

    pub fn describe(self) -> String {
        match self {
            Self::Nobody => "nobody has it: at rest".into(),
            Self::Process(pid) => format!("process {pid} has it: live"),
            Self::SuccessorOf(pid) => format!("a successor of process {pid}, which has ended, has it: live"),
        }
    }
}

/// A bar, where somebody watches.
pub(super) fn bar(what: &'static str) -> ProgressBar {
    let bar = if is_watched() { ProgressBar::new(1) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{bar:40} {percent} % {msg}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.with_message(what)
}

pub(super) fn advance(bar: &ProgressBar, done: u64, of: u64) {
    bar.set_length(of);
    bar.set_position(done);
}
