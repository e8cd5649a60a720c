//! The service manager: it is told the state of its service, and keeps descriptors while no process
//! of the service lives.
//!
//! The protocol is that of sd_notify(3): lines of `NAME=value` in a datagram to the Unix socket
//! that `NOTIFY_SOCKET` names, with descriptors attached. Stored descriptors come back as
//! sd_listen_fds(3) says: from descriptor 3 on, counted by `LISTEN_FDS` and named by
//! `LISTEN_FDNAMES`, for the process `LISTEN_PID`. Without a manager all of this does nothing.
//!
//! What always holds: no message to the manager waits longer than a second, and a lost message
//! never stops a service.

use std::env;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    sendmsg_addr, socket_with,
};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::limits::STORED_MAX;

/// How long the manager may take to accept a message.
const PATIENCE: Duration = Duration::from_secs(1);
/// The first descriptor that a manager passes (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;
/// The variables of the protocol. They are for the keeper; processes that it starts do not get
/// them.
pub const VARIABLES: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// A descriptor that the manager stored, with the name that it was given.
pub type Stored = (String, OwnedFd);

/// The connection to the manager; without a manager, messages go nowhere.
#[derive(Debug)]
pub struct ServiceManager {
    line: Option<(OwnedFd, SocketAddrUnix)>,
    /// How often the manager wants a sign of life.
    beat: Option<Duration>,
    next_beat: Instant,
}

impl ServiceManager {
    /// The manager that the environment names.
    ///
    /// # Errors
    /// The environment does not name a socket, or the system refuses one.
    pub fn of_environment() -> io::Result<Self> {
        let next_beat = Instant::now();
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self { line: None, beat: None, next_beat });
        };
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddrUnix::new_abstract_name(name)?,
            None => SocketAddrUnix::new(&name)?,
        };
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
        Ok(Self { line: Some((socket, address)), beat: beat_of_environment(), next_beat })
    }

    /// Whether there is a manager.
    pub fn is_there(&self) -> bool {
        self.line.is_some()
    }

    /// Reports that the service is up.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// Reports that the service is going down.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping");
    }

    /// Reports the state of the service, in words.
    pub fn status(&self, status: &str) {
        self.tell(&format!("STATUS={status}"));
    }

    /// Sends a sign of life when one is due: twice within the time after which the manager would
    /// end the service.
    pub fn beat(&mut self) {
        if let Some(every) = self.beat
            && Instant::now() >= self.next_beat
        {
            self.next_beat = Instant::now() + every;
            self.tell("WATCHDOG=1");
        }
    }

    /// The longest permitted wait before [`Self::beat`].
    pub fn longest_wait(&self, otherwise: Duration) -> Duration {
        let until = |_| self.next_beat.saturating_duration_since(Instant::now());
        self.beat.map_or(otherwise, |every| until(every).min(otherwise))
    }

    /// Stores a descriptor until the service is stopped for good. The manager does not check it for
    /// hang-ups: that is our own task.
    ///
    /// # Errors
    /// The message could not be sent.
    pub fn store(&self, name: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        self.send(&format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0"), &[descriptor])
    }

    /// Removes the stored descriptor of this name.
    ///
    /// # Errors
    /// The message could not be sent.
    pub fn forget(&self, name: &str) -> io::Result<()> {
        self.send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), &[])
    }

    /// Waits until the manager has processed all messages, or this takes too long.
    ///
    /// # Errors
    /// The message could not be sent.
    pub fn settle(&self) -> io::Result<()> {
        let (end, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        self.send("BARRIER=1", &[theirs.as_fd()])?;
        drop(theirs);
        let time = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        // The manager closes the other end when it reaches this message.
        rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&end, PollFlags::IN)], Some(&time)))?;
        Ok(())
    }

    fn tell(&self, text: &str) {
        if let Err(error) = self.send(text, &[]) {
            tracing::warn!("the service manager did not get `{}`: {error}", text.lines().next().unwrap_or_default());
        }
    }

    fn send(&self, text: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let Some((socket, address)) = &self.line else { return Ok(()) };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(beside.push(SendAncillaryMessage::ScmRights(descriptors)), "the space is for one");
        }
        sendmsg_addr(socket, address, &[IoSlice::new(text.as_bytes())], &mut beside, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

/// Half of the time after which the manager ends a service without a sign of life, if that setting
/// is meant for this process.
fn beat_of_environment() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    number("WATCHDOG_USEC").filter(|&time| ours && time > 1).map(|time| Duration::from_micros(time / 2))
}

/// The descriptors that the manager stored for this process, with their names. Call this once, and
/// before any other descriptor is opened by number; a second call returns nothing.
pub fn stored() -> Vec<Stored> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    // Only one thread gets them. The flag publishes nothing else.
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    let pid = env::var("LISTEN_PID").ok().and_then(|pid| pid.parse().ok());
    let count = env::var("LISTEN_FDS").ok().and_then(|count| count.parse().ok()).unwrap_or(0_usize);
    if pid != Some(std::process::id()) {
        return Vec::new();
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut stored = Vec::new();
    for number in (FIRST..).take(count) {
        // SAFETY: the kernel refuses a number that is not open with EBADF, and only sets a flag on
        // one that is open.
        if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
            break;
        }
        // SAFETY: the descriptor is open (just checked) and was opened by the process that started
        // this one, for this one and under this number (`LISTEN_PID`, `LISTEN_FDS`); nothing else
        // in this process knows the number, and `TAKEN` gives it out once.
        let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
        let name = names.next().unwrap_or_default().to_owned();
        // Further descriptors have no use and are closed, so that the processes started by this one
        // do not have them either.
        if stored.len() < STORED_MAX {
            stored.push((name, descriptor));
        }
    }
    stored
}
