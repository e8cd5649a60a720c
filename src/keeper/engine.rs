//! An engine as its keeper sees it: a process and a line.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use super::estate::Estate;
use super::handover::{Death, Notice, Order, Role};
use super::starter::{StartError, Started, Starter};
use crate::sys::descriptors;

/// Bytes of a notice, at most.
const NOTICE_BYTES: usize = 4096;

/// A started engine.
#[derive(Debug)]
pub(super) struct Engine {
    pub process: Started,
    line: OwnedFd,
    /// The other end has been closed: there is nothing more to come, and polling it would only spin.
    silent: bool,
    /// Since when it controls, by its own word.
    pub ready: Option<Instant>,
    /// Whether it stands by, by its own word.
    pub stands: bool,
    /// What it said when it gave up.
    pub failed: Option<String>,
    /// Its end was ordered, so that its standby takes over.
    pub yields: bool,
}

impl Engine {
    /// Starts one, of this program or of the keeper's own. It waits for its inheritance.
    pub(super) fn start(starter: &Starter, program: Option<BorrowedFd<'_>>) -> Result<Self, StartError> {
        let (line, theirs) = descriptors::pair()?;
        let process = starter.engine(theirs, program)?;
        Ok(Self { process, line, silent: false, ready: None, stands: false, failed: None, yields: false })
    }

    /// Hands it the estate, to control.
    pub(super) fn inherit(&self, estate: &Estate, incarnation: u32, predecessor: Option<Death>) -> io::Result<()> {
        estate.succession().reopen();
        estate.hand_over(self.line.as_fd(), Role::Active, incarnation, predecessor, None)
    }

    /// Hands it the estate, to stand by the one that controls.
    pub(super) fn stand_by(&self, estate: &Estate, incarnation: u32, active: u32) -> io::Result<()> {
        estate.hand_over(self.line.as_fd(), Role::Standby, incarnation, None, Some(active))
    }

    /// The line, while there is something to wait for on it.
    pub(super) fn line(&self) -> Option<BorrowedFd<'_>> {
        (!self.silent).then(|| self.line.as_fd())
    }

    /// The next thing that it said.
    pub(super) fn notice(&mut self) -> Option<Notice> {
        let mut buffer = [0; NOTICE_BYTES];
        loop {
            if self.silent {
                return None;
            }
            match descriptors::receive(self.line.as_fd(), &mut buffer, 0, false) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // Whatever is wrong with the line, its pidfd says how the engine fares.
                Err(_) => self.silent = true,
                Ok(received) => match serde_json::from_slice(&buffer[..received.bytes]) {
                    Ok(notice) => return Some(notice),
                    Err(error) => tracing::warn!("engine {} said what nobody understands: {error}", self.process.id()),
                },
            }
        }
    }

    /// Orders it to do something. Never waits.
    pub(super) fn order(&self, order: &Order) -> io::Result<()> {
        descriptors::send(self.line.as_fd(), &serde_json::to_vec(order)?, &[])
    }
}
