//! The engine: what a keeper starts, from its inheritance to its end.

use std::os::fd::AsFd;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};

use crate::keeper::handover::{Handover, Notice, Order};

/// Runs an engine until the keeper orders a stop, or is gone.
pub fn run(handover: Handover) -> ExitCode {
    let keeper = &handover.keeper;
    if keeper.tell(&Notice::Ready).is_err() {
        return ExitCode::FAILURE;
    }
    loop {
        let _ = poll(&mut [PollFd::from_borrowed_fd(keeper.as_fd(), PollFlags::IN)], None);
        match keeper.order() {
            Ok(Some(Order::Stop)) => return ExitCode::SUCCESS,
            Ok(None) => {}
            Err(_) => return ExitCode::FAILURE,
        }
    }
}
