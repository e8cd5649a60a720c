//! An engine as its keeper sees it: a process and a line.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process;
use std::rc::Rc;

use rustix::process::Signal;

use super::hearing::{Heard, Hearing, Known};
use super::lifecycle::{EngineId, Exit, ExitStatus, Input};
use super::spawner::{StartError, Started, Starter};
use crate::handover::compat::Identity;
use crate::handover::protocol::{Notice, Order, Role};
use crate::limits::{NOTICES_PER_ROUND, NOTICES_PER_SECOND, WORDS_BYTES_MAX};
use crate::sys::clock;
use crate::sys::fd_passing;

/// Bytes of a notice, at most.
const NOTICE_BYTES: usize = 4096;

/// A started engine.
#[derive(Debug)]
pub(super) struct Engine {
    id: EngineId,
    pub process: Started,
    line: OwnedFd,
    /// The other end has been closed, or is not listened to any longer: polling it would only spin.
    silent: bool,
    hearing: Hearing,
    known: Rc<Known>,
}

impl Engine {
    /// Starts one, of this program or of the keeper's own. It waits for what it is handed.
    pub fn start(
        starter: &Starter,
        program: Option<BorrowedFd<'_>>,
        id: EngineId,
        role: Role,
        known: Rc<Known>,
    ) -> Result<Self, StartError> {
        let (line, theirs) = fd_passing::pair()?;
        let process = starter.engine(theirs, program)?;
        Ok(Self { id, process, line, silent: false, hearing: Hearing::new(role, clock::now()), known })
    }

    /// The keeper's end of its line.
    pub fn line(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }

    /// What is to be polled: its end, and, while it can say something, its line.
    pub fn watched(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [self.process.as_fd()].into_iter().chain((!self.silent).then(|| self.line()))
    }

    /// Orders it to do something. Never waits.
    pub fn order(&self, order: &Order) -> io::Result<()> {
        fd_passing::send(self.line(), &serde_json::to_vec(order)?, &[])
    }

    /// Adds what is new of it: what it said, all of it if it has ended, else some; and its end.
    /// `table_is_bad` is asked only if a bad table may be what it died of.
    ///
    /// # Errors
    /// The system's.
    pub fn look(&mut self, seen: &mut Vec<Input>, table_is_bad: impl FnOnce() -> bool) -> io::Result<()> {
        // First whether it has ended, then what it said: then nothing that it said last is missed.
        let ended = self.process.ended()?;
        let noticed = clock::now();
        self.listen(if ended.is_some() { NOTICES_PER_SECOND } else { NOTICES_PER_ROUND }, seen);
        if let Some(status) = ended.map(exit_status) {
            let table_is_bad = status == ExitStatus::Bus && table_is_bad();
            seen.push(Input::Exited(self.id, Exit { status, noticed, table_is_bad }));
        }
        Ok(())
    }

    fn listen(&mut self, most: u32, seen: &mut Vec<Input>) {
        let mut buffer = [0; NOTICE_BYTES];
        for _ in 0..most {
            if self.silent {
                return;
            }
            let received = fd_passing::receive(self.line.as_fd(), &mut buffer, 0, false);
            let packet = match &received {
                Ok(received) => Some(&buffer[..received.bytes]),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // What is wrong with the line does not matter: the pidfd says how the engine is.
                Err(_) => {
                    self.silent = true;
                    seen.push(Input::Silent(self.id));
                    return;
                }
            };
            match self.hearing.hear(packet, &self.known, clock::now()) {
                Heard::Notice(notice) => seen.push(Input::Notice(self.id, brief(notice))),
                Heard::Nothing => tracing::debug!("engine {} said something that is ignored", self.process.id()),
                Heard::Enough(why) => {
                    self.silent = true;
                    seen.push(Input::Distrusted(self.id, why));
                }
            }
        }
    }
}

fn exit_status(status: process::ExitStatus) -> ExitStatus {
    match (status.signal(), status.code()) {
        (Some(signal), _) => match Signal::from_named_raw(signal) {
            Some(Signal::KILL) => ExitStatus::Kill,
            Some(Signal::ABORT) => ExitStatus::Abrt,
            Some(Signal::SEGV) => ExitStatus::Segv,
            Some(Signal::BUS) => ExitStatus::Bus,
            Some(Signal::SYS) => ExitStatus::Sys,
            Some(Signal::TERM) => ExitStatus::Term,
            _ => ExitStatus::Signal(signal),
        },
        (None, Some(code)) => ExitStatus::Code(code),
        (None, None) => ExitStatus::Unknown,
    }
}

/// With its texts cut to what can be passed on. They come from a program that may be any, and go
/// into orders to another engine, whose line ends with a packet that is too long: control
/// characters would be written as six bytes each.
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
    use super::*;
    use crate::handover::protocol::NOTE_BYTES;

    /// What a failing candidate said was passed to the engine that controls, and ended it.
    #[test]
    fn what_an_engine_says_fits_an_order_to_another_however_long_it_is() {
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
