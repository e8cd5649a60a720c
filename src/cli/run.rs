//! `baton run`: the keeper.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{FAILED, WRONG, complain, log_to_stderr};
use crate::config::{Config, DEFAULT_FILE, OnBadTable, Overrides};
use crate::keeper::{self, KeeperError};
use crate::sys::{sigbus, stderr};

/// Run a dispatch server.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
    /// What serves if the table of an earlier run cannot be used: `database` moves it aside and goes on
    #[arg(long, value_name = "PATH", value_parser = ["database"])]
    path: Option<String>,
    /// Give rings and sockets to the service manager to keep, so that the next start finds them as they are
    #[arg(long)]
    store: bool,
    /// The folder of the pinned XDP program and maps
    #[arg(long, value_name = "FOLDER")]
    pin: Option<PathBuf>,
}

/// Runs it.
pub fn run(args: &Args) -> ExitCode {
    stderr::never_wait();
    log_to_stderr();
    let mut config = match Config::read(&args.config, &args.overrides) {
        Ok(config) => config,
        Err(error) => {
            complain(&error);
            return ExitCode::from(WRONG);
        }
    };
    if args.path.is_some() {
        config.recovery.on_bad_table = OnBadTable::Database;
    }
    if let Some(pin) = &args.pin {
        config.runtime.pin = Some(pin.clone());
    }
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    if let Err(error) = sigbus::explain() {
        complain(&error);
        return ExitCode::from(FAILED);
    }
    match keeper::run(config, args.store) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(if matches!(error, KeeperError::Config(_)) { WRONG } else { FAILED })
        }
    }
}
