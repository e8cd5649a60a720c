//! The starter: the process that starts engines, so that the keeper need not be able to.
//!
//! To run something as another user takes CAP_SETUID and CAP_SETGID, and to end it CAP_KILL: each
//! is worth more to an attacker who takes a process over than all that a keeper works with. So the
//! keeper starts one process as the engines' user while it still may, gives the capabilities up,
//! and has that process start and end engines. It has no privileges at all.
//!
//! What always holds: engines do not outlive their starter (the kernel kills them,
//! [`crate::sys::process::tie_to_parent`]), nor the starter its keeper: it ends with the line
//! between them. A keeper whose starter is gone, or answers so late that its answers cannot be told
//! apart, cannot go on, and ends as well: a line that was lost once is never used again
//! ([`Starter::check`]).
//!
//! ```text
//!   keeper ──► start, with the engine's line,    starter ──► started, with a pidfd; or refused
//!              and its program if another
//!              kill                                          ended: the engine's status, once for each
//! ```

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::handover::protocol::HandoverError;
use crate::limits::{ENGINES_MAX, STARTER_WAIT_MS};
use crate::sys::fd_passing::{self, Received};
use crate::sys::process::{Process, User};

/// Bytes of a request or answer, at most.
const NOTE_BYTES: usize = 4096;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Request {
    Start,
    Kill(u32),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Started(u32),
    Refused {
        why: String,
        /// It is the file that cannot be executed.
        program: bool,
    },
    Ended {
        id: u32,
        status: i32,
    },
}

/// Why no engine was started.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// It may be tried again: the starter, or the system, could not just then.
    #[error("{0}")]
    Refused(io::Error),
    /// Another program may do: this one cannot be executed.
    #[error("{0}")]
    Program(io::Error),
    /// The starter is lost, and with it every further start.
    #[error("{0}")]
    Line(Lost),
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::Refused(error)
    }
}

/// Why the line to the starter cannot be used any more.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("the process that starts engines is gone")]
    Gone,
    #[error("the process that starts engines does not answer")]
    Silent,
    #[error("the process that starts engines says something that is not understood: {0}")]
    Foreign(String),
}

impl From<Lost> for io::Error {
    fn from(lost: Lost) -> Self {
        Self::other(lost)
    }
}

/// The keeper's side.
#[derive(Debug)]
pub(super) struct Starter {
    line: Rc<Line>,
    /// Dropped last: with it every engine goes.
    process: Option<Process>,
}

impl Starter {
    /// Starts it, as this user, if one is given, which needs root.
    pub fn start(user: Option<&User>) -> io::Result<Self> {
        let (socket, theirs) = fd_passing::pair()?;
        let process = Process::start_self(&["starter"], theirs, user)?;
        Ok(Self { line: Rc::new(Line::new(socket)), process: Some(process) })
    }

    /// Whether engines can be started and ended.
    ///
    /// # Errors
    /// The starter has ended, or the line to it was lost at any time before.
    pub fn check(&self) -> Result<(), Lost> {
        match self.line.lost.get() {
            Some(lost) => Err(lost.clone()),
            None if self.process.as_ref().is_some_and(|process| has_ended(process.as_fd())) => Err(Lost::Gone),
            None => Ok(()),
        }
    }

    /// Has an engine started with this as its standard input: of this program, or of the keeper's
    /// own.
    pub fn engine(&self, stdin: OwnedFd, program: Option<BorrowedFd<'_>>) -> Result<Started, StartError> {
        let beside: Vec<_> = [stdin.as_fd()].into_iter().chain(program).collect();
        self.line.ask(&Request::Start, &beside).map_err(StartError::Line)?;
        loop {
            match self.line.hear().map_err(StartError::Line)? {
                (Answer::Started(id), Some(pidfd)) => {
                    return Ok(Started { id, pidfd, line: self.line.clone(), status: None });
                }
                (Answer::Started(_), None) => {
                    return Err(StartError::Line(self.line.lose(Lost::Foreign("an engine without a pidfd".into()))));
                }
                (Answer::Refused { why, program: false }, _) => return Err(StartError::Refused(io::Error::other(why))),
                (Answer::Refused { why, program: true }, _) => return Err(StartError::Program(io::Error::other(why))),
                (Answer::Ended { id, status }, _) => self.line.note(id, status),
            }
        }
    }
}

impl AsFd for Starter {
    /// Readable when the starter has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.process.as_ref().expect("there until it is dropped").as_fd()
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        if self.line.is_silent() {
            // A starter that does not answer may not end either, and to kill it takes CAP_KILL. It
            // ends with the line, once it runs again; the keeper does not wait for that.
            std::mem::forget(self.process.take());
        }
    }
}

#[derive(Debug)]
struct Line {
    socket: OwnedFd,
    /// Ends that were received while another answer was waited for.
    ended: RefCell<BTreeMap<u32, ExitStatus>>,
    /// Why it cannot be used any more. An answer that is not waited for any longer would be taken
    /// for the answer to the next request.
    lost: OnceCell<Lost>,
}

impl Line {
    fn new(socket: OwnedFd) -> Self {
        Self { socket, ended: RefCell::default(), lost: OnceCell::new() }
    }

    fn ask(&self, request: &Request, beside: &[BorrowedFd<'_>]) -> Result<(), Lost> {
        self.usable()?;
        let word = serde_json::to_vec(request).expect("a word of numbers");
        fd_passing::send(self.socket.as_fd(), &word, beside).map_err(|error| self.lose_by(&error))
    }

    fn hear(&self) -> Result<(Answer, Option<OwnedFd>), Lost> {
        self.usable()?;
        let longest = Some(Duration::from_millis(STARTER_WAIT_MS));
        if !readable(self.socket.as_fd(), longest).map_err(|error| self.lose_by(&error))? {
            return Err(self.lose(Lost::Silent));
        }
        let mut buffer = [0; NOTE_BYTES];
        let received = fd_passing::receive(self.socket.as_fd(), &mut buffer, 1, false);
        let Received { bytes, descriptors } = received.map_err(|error| self.lose_by(&error))?;
        let answer = serde_json::from_slice(&buffer[..bytes]);
        let answer = answer.map_err(|error| self.lose(Lost::Foreign(error.to_string())))?;
        Ok((answer, descriptors.into_iter().next()))
    }

    fn is_silent(&self) -> bool {
        self.lost.get() == Some(&Lost::Silent)
    }

    fn usable(&self) -> Result<(), Lost> {
        self.lost.get().map_or(Ok(()), |lost| Err(lost.clone()))
    }

    /// It is never used again.
    fn lose(&self, how: Lost) -> Lost {
        self.lost.get_or_init(|| how).clone()
    }

    fn lose_by(&self, error: &io::Error) -> Lost {
        self.lose(match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Lost::Gone,
            // It has not even taken what it was asked before.
            io::ErrorKind::WouldBlock => Lost::Silent,
            _ => Lost::Foreign(error.to_string()),
        })
    }

    fn note(&self, id: u32, status: i32) {
        self.ended.borrow_mut().insert(id, ExitStatus::from_raw(status));
    }

    /// Waits for how this process ended. It is certain that it has.
    fn end_of(&self, id: u32) -> Result<ExitStatus, Lost> {
        loop {
            if let Some(status) = self.ended.borrow_mut().remove(&id) {
                return Ok(status);
            }
            if let (Answer::Ended { id, status }, _) = self.hear()? {
                self.note(id, status);
            }
        }
    }
}

/// An engine's process, a child of the starter.
#[derive(Debug)]
pub(super) struct Started {
    id: u32,
    pidfd: OwnedFd,
    line: Rc<Line>,
    status: Option<ExitStatus>,
}

impl Started {
    pub fn id(&self) -> u32 {
        self.id
    }

    /// How it ended, if it has. Then every thread of it has left its address space for good: the
    /// kernel makes a pidfd readable (`do_notify_pidfd`, kernel/signal.c) only when the last thread
    /// is past `exit_mm`.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() && readable(self.pidfd.as_fd(), Some(Duration::ZERO))? {
            // The starter was woken with us, and its answer is on its way.
            self.status = Some(self.line.end_of(self.id)?);
        }
        Ok(self.status)
    }

    /// Has it killed. It has not [ended](Self::ended) by that yet.
    pub fn kill(&mut self) {
        // With the starter all engines end.
        let _ = self.line.ask(&Request::Kill(self.id), &[]);
    }
}

impl AsFd for Started {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Started {
    /// No engine outlives the keeper's record of it.
    fn drop(&mut self) {
        if !matches!(self.ended(), Ok(Some(_))) {
            self.kill();
            // A starter that answers kills it at once; how long the kernel takes to take it apart
            // is not known.
            let longest = Duration::from_millis(if self.line.is_silent() { 0 } else { STARTER_WAIT_MS });
            match readable(self.pidfd.as_fd(), Some(longest)) {
                Ok(true) => drop(self.ended()),
                _ => drop(self.line.lose(Lost::Silent)),
            }
        }
    }
}

fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    readable(pidfd, Some(Duration::ZERO)).unwrap_or(false)
}

/// Waits for something to read, no longer than this.
fn readable(descriptor: BorrowedFd<'_>, longest: Option<Duration>) -> io::Result<bool> {
    let time = longest.map(|time| Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) });
    let mut watched = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
    Ok(rustix::io::retry_on_intr(|| poll(&mut watched, time.as_ref()))? > 0)
}

/// The starter itself: serves the keeper at the other end of standard input until that is gone.
///
/// # Errors
/// Standard input is no keeper's.
pub fn serve() -> Result<(), HandoverError> {
    let line = fd_passing::stdin().map_err(HandoverError::NoKeeper)?;
    let mut engines = Vec::new();
    let result = attend(line.as_fd(), &mut engines);
    // All at once, then one after the other: dropped, each is waited for.
    engines.iter_mut().for_each(Process::kill);
    match result {
        Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(HandoverError::NoKeeper(error)),
        Ok(never) => match never {},
    }
}

fn attend(line: BorrowedFd<'_>, engines: &mut Vec<Process>) -> io::Result<std::convert::Infallible> {
    let tell = |answer: &Answer, beside: &[BorrowedFd<'_>]| {
        fd_passing::send(line, &serde_json::to_vec(answer).map_err(io::Error::other)?, beside)
    };
    let mut buffer = [0; NOTE_BYTES];
    loop {
        let mut watched = vec![PollFd::from_borrowed_fd(line, PollFlags::IN)];
        watched.extend(engines.iter().map(|engine| PollFd::from_borrowed_fd(engine.as_fd(), PollFlags::IN)));
        rustix::io::retry_on_intr(|| poll(&mut watched, None))?;
        let asked = !watched[0].revents().is_empty();
        drop(watched);

        for mut engine in std::mem::take(engines) {
            match engine.ended()? {
                Some(status) => tell(&Answer::Ended { id: engine.id(), status: status.into_raw() }, &[])?,
                None => engines.push(engine),
            }
        }
        if !asked {
            continue;
        }
        let Received { bytes, descriptors } = fd_passing::receive(line, &mut buffer, 2, true)?;
        match serde_json::from_slice(&buffer[..bytes])? {
            Request::Kill(id) => engines.iter_mut().filter(|engine| engine.id() == id).for_each(Process::kill),
            Request::Start => match start(engines, descriptors) {
                Ok(engine) => tell(&Answer::Started(engine.id()), &[engine.as_fd()])?,
                Err(error) => {
                    let program = is_of_the_file(&error);
                    tell(&Answer::Refused { why: error.to_string(), program }, &[])?;
                }
            },
        }
    }
}

fn start(engines: &mut Vec<Process>, descriptors: Vec<OwnedFd>) -> io::Result<&Process> {
    if engines.len() >= ENGINES_MAX {
        return Err(io::Error::other("dead engines are still being taken apart"));
    }
    let mut descriptors = descriptors.into_iter();
    let stdin = descriptors.next().ok_or_else(|| io::Error::other("an engine without a line"))?;
    engines.push(match descriptors.next() {
        Some(program) => Process::start_opened(program.as_fd(), &["engine"], stdin)?,
        None => Process::start_self(&["engine"], stdin, None)?,
    });
    Ok(engines.last().expect("one was just pushed"))
}

/// Whether execve refused the file (execve(2)), and not the system another process.
fn is_of_the_file(error: &io::Error) -> bool {
    let Some(error) = Errno::from_io_error(error) else { return false };
    matches!(error, Errno::ACCESS | Errno::PERM | Errno::NOENT | Errno::NOEXEC | Errno::INVAL | Errno::ISDIR)
        || matches!(error, Errno::LIBBAD | Errno::LOOP | Errno::NOTDIR | Errno::TXTBSY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_starter_that_is_gone_is_said_to_be() {
        let (ours, theirs) = fd_passing::pair().unwrap();
        drop(theirs);
        let line = Line::new(ours);
        assert!(line.hear().unwrap_err().to_string().contains("is gone"));
    }

    #[test]
    fn ends_are_kept_until_they_are_asked_for() {
        let (ours, theirs) = fd_passing::pair().unwrap();
        let line = Line::new(ours);
        for (id, status) in [(7, 9), (8, 0)] {
            let word = serde_json::to_vec(&Answer::Ended { id, status }).unwrap();
            fd_passing::send(theirs.as_fd(), &word, &[]).unwrap();
        }
        assert_eq!(line.end_of(8).unwrap().into_raw(), 0);
        assert_eq!(line.end_of(7).unwrap().into_raw(), 9);
    }

    /// A late answer would be taken for the answer to the next request.
    #[test]
    fn a_line_that_was_lost_is_never_used_again() {
        let (ours, theirs) = fd_passing::pair().unwrap();
        let line = Line::new(ours);
        line.lose(Lost::Silent);
        let word = serde_json::to_vec(&Answer::Started(7)).unwrap();
        fd_passing::send(theirs.as_fd(), &word, &[]).unwrap();
        assert_eq!(line.ask(&Request::Start, &[]).unwrap_err(), Lost::Silent);
        assert_eq!(line.hear().unwrap_err(), Lost::Silent);
        assert!(!readable(theirs.as_fd(), Some(Duration::ZERO)).unwrap(), "nothing was asked");
    }

    #[test]
    fn a_silent_starter_is_given_up_before_the_service_manager_gives_up_its_keeper() {
        let unit = include_str!("../../scripts/systemd/baton.service");
        let seconds = unit.lines().find_map(|line| line.strip_prefix("WatchdogSec=")?.strip_suffix('s')).unwrap();
        assert!(STARTER_WAIT_MS * 2 < seconds.parse::<u64>().unwrap() * 1000);
    }

    #[test]
    fn a_file_that_cannot_be_executed_is_told_from_a_system_that_has_no_process_left() {
        let _copies = crate::sys::process::copies::made();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        std::fs::write(&path, "no program").unwrap();
        let file = std::fs::File::open(&path).unwrap();
        let (line, _) = fd_passing::pair().unwrap();
        assert!(is_of_the_file(&Process::start_opened(file.as_fd(), &[], line).unwrap_err()));
        for error in [Errno::AGAIN, Errno::NOMEM, Errno::MFILE] {
            assert!(!is_of_the_file(&error.into()));
        }
        assert!(!is_of_the_file(&io::Error::other("dead engines are still being taken apart")));
    }
}
