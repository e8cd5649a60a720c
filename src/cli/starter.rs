//! `baton starter`: what the keeper starts to start engines by. Not for people, as `baton engine`
//! is not.

use std::process::ExitCode;

use super::{FAILED, complain, log_to_stderr};
use crate::keeper;
use crate::sys::{capabilities, process};

/// What `run` starts.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Starts engines for as long as the keeper is there.
pub fn run(_: &Args) -> ExitCode {
    log_to_stderr();
    let confined = process::tie_to_parent().and_then(|()| capabilities::keep_none());
    if let Err(error) = confined {
        complain(&error);
        return ExitCode::from(FAILED);
    }
    match keeper::start_engines() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(FAILED)
        }
    }
}
