//! An engine as its keeper sees it: a process and a line.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::hearing::{Heard, Hearing, Known};
use super::resources::Resources;
use super::spawner::{StartError, Started, Starter};
use crate::handover::compat::Identity;
use crate::handover::protocol::{Death, Notice, Order, Role};
use crate::limits::{NOTICES_PER_ROUND, NOTICES_PER_SECOND, WORDS_BYTES_MAX};
use crate::sys::fd_passing;
use crate::time::Nanos;

/// Bytes of a notice, at most.
const NOTICE_BYTES: usize = 4096;

/// A started engine.
#[derive(Debug)]
pub(super) struct Engine {
    pub process: Started,
    line: OwnedFd,
    /// The other end has been closed: there is nothing more to come, and polling it would only
    /// spin.
    silent: bool,
    hearing: Hearing,
    known: Rc<Known>,
    /// Notices that are heeded yet before it is the turn of other duties.
    turn: u32,
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
    /// By when it is to have ended: it said that it ends, or says nothing more.
    pub ends_by: Option<Instant>,
    /// Why the keeper had it killed.
    pub condemned: Option<String>,
    /// Since when it hung, if that is why.
    pub hung_since: Option<Nanos>,
}

impl Engine {
    /// Starts one, of this program or of the keeper's own. It waits for its inheritance.
    pub(super) fn start(
        starter: &Starter,
        program: Option<BorrowedFd<'_>>,
        role: Role,
        known: Rc<Known>,
    ) -> Result<Self, StartError> {
        let (line, theirs) = fd_passing::pair()?;
        let process = starter.engine(theirs, program)?;
        let started = Instant::now();
        Ok(Self {
            process,
            line,
            silent: false,
            hearing: Hearing::new(role, started),
            known,
            turn: 0,
            started,
            ready: None,
            stands: false,
            failed: None,
            yields: false,
            ends_by: None,
            condemned: None,
            hung_since: None,
        })
    }

    /// Hands it the resources, to control.
    pub(super) fn inherit(
        &self,
        resources: &Resources,
        incarnation: u32,
        predecessor: Option<Death>,
    ) -> io::Result<()> {
        resources.hand_over(self.line.as_fd(), Role::Active, incarnation, predecessor, None)
    }

    /// Hands it the resources, to stand by the one that controls.
    pub(super) fn stand_by(&self, resources: &Resources, incarnation: u32, active: u32) -> io::Result<()> {
        resources.hand_over(self.line.as_fd(), Role::Standby, incarnation, None, Some(active))
    }

    /// The line, while there is something to wait for on it.
    pub(super) fn line(&self) -> Option<BorrowedFd<'_>> {
        (!self.silent).then(|| self.line.as_fd())
    }

    /// It is its turn to be listened to: to the end, if it has `ended`, else for some notices.
    pub(super) fn turn(&mut self, ended: bool) {
        self.turn = if ended { NOTICES_PER_SECOND } else { NOTICES_PER_ROUND };
    }

    /// The next thing that it said in its turn.
    pub(super) fn notice(&mut self) -> Option<Notice> {
        let mut buffer = [0; NOTICE_BYTES];
        while !self.silent && self.turn > 0 {
            self.turn -= 1;
            let heard = match fd_passing::receive(self.line.as_fd(), &mut buffer, 0, false) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // Whatever is wrong with the line, its pidfd says how the engine fares.
                Err(error) if error.kind() != io::ErrorKind::InvalidData => {
                    self.silent = true;
                    return None;
                }
                Err(_) => self.hearing.hear(None, &self.known, Instant::now()),
                Ok(received) => self.hearing.hear(Some(&buffer[..received.bytes]), &self.known, Instant::now()),
            };
            match heard {
                Heard::Notice(notice) => return Some(brief(notice)),
                Heard::Nothing => tracing::debug!("engine {} said what is passed over", self.process.id()),
                Heard::Enough(why) => {
                    self.silent = true;
                    self.condemn(why.into());
                }
            }
        }
        None
    }

    /// Has it killed, and says why. Who follows is decided when it has ended.
    pub(super) fn condemn(&mut self, why: String) {
        if self.condemned.is_none() {
            tracing::error!("engine {} {why}: it is killed", self.process.id());
            self.condemned = Some(why);
            self.process.kill();
        }
    }

    /// It is to have ended within this time from now.
    pub(super) fn ends_within(&mut self, time: Duration) {
        self.ends_by.get_or_insert_with(|| Instant::now() + time);
    }

    /// Whether it can say nothing more.
    pub(super) fn is_silent(&self) -> bool {
        self.silent
    }

    /// For how long it controlled, of which it does not count that it hung. None: it never did.
    pub(super) fn controlled(&self, hang: Duration) -> Option<Duration> {
        let controlled = self.ready?.elapsed();
        Some(if self.hung_since.is_some() { controlled.saturating_sub(hang) } else { controlled })
    }

    /// Orders it to do something. Never waits.
    pub(super) fn order(&self, order: &Order) -> io::Result<()> {
        fd_passing::send(self.line.as_fd(), &serde_json::to_vec(order)?, &[])
    }
}

/// With words that can be said on. They come from a program that may be any, and go into orders to
/// another, whose line ends with one that is too long: control characters would be written as six
/// bytes each.
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
