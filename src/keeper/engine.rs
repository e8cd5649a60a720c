//! An engine as its keeper sees it: a process and a line.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use super::estate::Estate;
use super::handover::{Death, Notice, Order, Role};
use super::program::Identity;
use super::starter::{StartError, Started, Starter};
use crate::limits::WORDS_BYTES_MAX;
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
    /// When it was started.
    pub started: Instant,
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
        let started = Instant::now();
        Ok(Self { process, line, silent: false, started, ready: None, stands: false, failed: None, yields: false })
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
                    Ok(notice) => return Some(brief(notice)),
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

/// With words that can be said on. They come from a program that may be any, and go into orders to another, whose line ends with one
/// that is too long: control characters would be written as six bytes each.
fn brief(notice: Notice) -> Notice {
    let cut = |words: String| {
        let fits = |&(at, letter): &(usize, char)| at + letter.len_utf8() <= WORDS_BYTES_MAX;
        let letters = words.char_indices().take_while(fits);
        letters.map(|(_, letter)| if letter.is_control() { ' ' } else { letter }).collect::<String>()
    };
    match notice {
        Notice::Failed { why } => Notice::Failed { why: cut(why) },
        Notice::Standing { program } => {
            Notice::Standing { program: Identity { version: cut(program.version.clone()), ..program } }
        }
        notice => notice,
    }
}

#[cfg(test)]
mod tests {
    use super::super::handover::NOTE_BYTES;
    use super::*;

    /// What a failing candidate said came back to the engine that controls, and ended it.
    #[test]
    fn whatever_an_engine_says_fits_an_order_to_another() {
        for said in ["\"", "\u{1}", "\u{20ac}", "a"].map(|letter| letter.repeat(3000)) {
            let Notice::Failed { why } = brief(Notice::Failed { why: said.clone() }) else {
                panic!("it is the same notice")
            };
            let why = format!("the new program (engine 4194304) exited with status 1: {why}");
            assert!(serde_json::to_vec(&Order::Stay { why }).unwrap().len() < NOTE_BYTES);
            let program = Identity { version: said, ..Identity::ours() };
            let Notice::Standing { program } = brief(Notice::Standing { program }) else {
                panic!("it is the same notice")
            };
            assert!(program.version.len() <= WORDS_BYTES_MAX);
        }
    }
}
