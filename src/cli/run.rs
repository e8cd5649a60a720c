//! `baton run`: the keeper.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{FAILED, FENCED, WRONG, complain, log_filter, log_to_stderr};
use crate::config::{Config, DEFAULT_FILE, OnBadTable, Overrides};
use crate::keeper::{self, KeeperError};
use crate::sys::{sigbus, stderr};

/// Run a dispatch server. Exits with 3 where another one controls: started again it would not
/// control either, see `baton control`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
    /// What serves if the table of an earlier run cannot be used: `database` moves it aside and
    /// goes on
    #[arg(long, value_name = "PATH", value_parser = ["database"])]
    path: Option<String>,
    /// Give rings and sockets to the service manager to keep, so that the next start finds them as
    /// they are
    #[arg(long)]
    store: bool,
    /// The folder of the pinned XDP program and maps
    #[arg(long, value_name = "FOLDER")]
    pin: Option<PathBuf>,
}

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
    for warning in config.warnings().into_iter().chain(log_filter::complaint()) {
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
            ExitCode::from(match error {
                KeeperError::Config(_) => WRONG,
                KeeperError::Fenced(_) => FENCED,
                _ => FAILED,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the shipped unit does at each exit: started again it would go to and fro with the
    /// server that replaced it.
    #[test]
    fn the_unit_does_not_restart_a_server_that_was_replaced() {
        let unit = include_str!("../../scripts/systemd/baton.service");
        let prevented = unit.lines().find_map(|line| line.strip_prefix("RestartPreventExitStatus=")).unwrap();
        assert_eq!(prevented.split(' ').collect::<Vec<_>>(), [FENCED.to_string()]);
        assert!(unit.lines().any(|line| line == "Restart=always"), "and restarts it after all else");
    }
}
