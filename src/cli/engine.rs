//! `baton engine`: what the keeper starts. Not for people: its standard input is the keeper's
//! socket.

use std::process::ExitCode;

use super::{FAILED, complain, log_to_stderr};
use crate::engine::startup;
use crate::handover::protocol;
use crate::sys::{capabilities, process, sigbus};
use crate::time::Nanos;

/// What `run` starts.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Waits for what the keeper hands over, and takes control with it. `born` is when the process
/// began its main.
pub fn run(born: Nanos) -> ExitCode {
    log_to_stderr();
    abort_on_panic();
    // First of all: should the keeper have died already, its end of the line is closed, and
    // `receive` says so.
    let confined = process::tie_to_parent().and_then(|()| sigbus::explain()).and_then(|()| capabilities::keep_none());
    if let Err(error) = confined {
        complain(&error);
        return ExitCode::from(FAILED);
    }
    match protocol::receive() {
        Ok(handover) => startup::run(handover, born),
        // A keeper that stops lets go an engine that it has just started.
        Err(protocol::HandoverError::Closed) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(FAILED)
        }
    }
}

/// A thread that panics ends the process in every build: the standby is there for that,
/// and waits for all of it.
fn abort_on_panic() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        say(info);
        std::process::abort();
    }));
}
