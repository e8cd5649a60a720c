//! `baton engine`: what the keeper starts. Not for people: its standard input is the keeper's socket.

use std::process::ExitCode;

use super::{FAILED, complain, log_to_stderr};
use crate::keeper::handover;
use crate::link::engine::{self, Prepared};
use crate::sys::{process, sigbus};

/// What `run` starts.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Waits for the inheritance and takes over.
pub fn run(_: &Args) -> ExitCode {
    log_to_stderr();
    // First of all: should the keeper have died already, its end of the line is closed, and `receive` says so.
    if let Err(error) = process::tie_to_parent().and_then(|()| sigbus::explain()) {
        complain(&error);
        return ExitCode::from(FAILED);
    }
    let prepared = Prepared::default();
    match handover::receive() {
        Ok(handover) => engine::run(handover, prepared),
        // A keeper that stops lets go an engine that it had started ahead.
        Err(handover::HandoverError::Closed) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(FAILED)
        }
    }
}
