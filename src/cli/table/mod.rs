//! `baton table`: the table looked at, verified, kept and made larger, beside the server or without
//! one.
//!
//! None of it asks a server. A table that a server has is only ever mapped for reading.

mod inspect;
mod resize;
mod snapshot;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};

use super::columns::is_watched;
use super::{FAILED, WRONG, complain};
use crate::config::{Config, ConfigError, DEFAULT_FILE, Overrides};
use crate::sys::process;
use crate::table::Table;
use crate::table::file::{Inspection, OpenError};

/// Look at the table, verify it, write a snapshot of it, resize it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 done, and no flaw; 1 it could not be done, or there are flaws; 2 typed or \
configured wrong.")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show what a table or a snapshot holds; a living server does not notice
    Inspect(inspect::Args),
    /// See whether everything in the table agrees with everything else; a living server does not
    /// notice
    Verify(verify::Args),
    /// Give the table room for more or fewer meetings and terminals, while no server runs
    Resize(resize::Args),
    /// Write a snapshot of the table as it is now
    Snapshot(snapshot::Args),
}

pub fn run(args: &Args) -> ExitCode {
    let done = match &args.command {
        Command::Inspect(args) => inspect::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Resize(args) => resize::run(args),
        Command::Snapshot(args) => snapshot::run(args),
    };
    done.unwrap_or_else(|failure| {
        complain(&*failure.error);
        ExitCode::from(failure.exit)
    })
}

/// Which table is meant.
#[derive(Debug, clap::Args)]
struct Place {
    /// The table's file, instead of the configured one
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    table: Option<PathBuf>,
    /// The configuration that names it
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Place {
    fn path(&self) -> Result<PathBuf, Failure> {
        match &self.table {
            Some(path) => Ok(path.clone()),
            None => Ok(Config::read(&self.config, &Overrides::default())?.table.path),
        }
    }
}

/// Why it was not done, and the exit code that says so.
#[derive(Debug)]
struct Failure {
    error: Box<dyn std::error::Error>,
    exit: u8,
}

impl Failure {
    fn of(error: impl std::error::Error + 'static) -> Self {
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
#[error("{}: {error}", path.display())]
struct Unopened {
    path: PathBuf,
    error: OpenError,
}

/// A question that the system does not answer.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}: {error}")]
struct System {
    doing: &'static str,
    error: std::io::Error,
}

fn inspect_at(path: PathBuf) -> Result<Inspection, Failure> {
    Table::inspect(&path).map_err(|error| match error {
        // It names the file itself.
        OpenError::Mapping(error) => Failure::of(error),
        error => Failure::of(Unopened { path, error }),
    })
}

/// Who has a table's lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Holder {
    Nobody,
    /// This process took it.
    Process(u32),
    /// This process took it and has ended; another has it from there.
    SuccessorOf(u32),
}

impl Holder {
    fn of(table: &Inspection) -> Result<Self, Failure> {
        let taker = table.holder().map_err(|error| Failure::of(System { doing: "see who has the table", error }))?;
        Ok(match taker {
            None => Self::Nobody,
            Some(pid) if process::lives(pid) => Self::Process(pid),
            Some(pid) => Self::SuccessorOf(pid),
        })
    }

    fn is_live(self) -> bool {
        self != Self::Nobody
    }

    fn pid(self) -> Option<u32> {
        match self {
            Self::Nobody => None,
            Self::Process(pid) | Self::SuccessorOf(pid) => Some(pid),
        }
    }

    fn describe(self) -> String {
        match self {
            Self::Nobody => "nobody has it: at rest".into(),
            Self::Process(pid) => format!("process {pid} has it: live"),
            Self::SuccessorOf(pid) => format!("a successor of process {pid}, which has ended, has it: live"),
        }
    }
}

/// A bar, where somebody watches.
fn bar(what: &'static str) -> ProgressBar {
    let bar = if is_watched() { ProgressBar::new(1) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{bar:40} {percent} % {msg}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.with_message(what)
}

fn advance(bar: &ProgressBar, done: u64, of: u64) {
    bar.set_length(of);
    bar.set_position(done);
}
