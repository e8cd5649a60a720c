//! The service manager: told how its service does, and given descriptors to keep while no process
//! of it lives.
//!
//! The protocol is sd_notify(3)'s: lines of `NAME=value` in a datagram to the Unix socket that
//! `NOTIFY_SOCKET` names, descriptors beside them. What was kept comes back as sd_listen_fds(3)
//! says: from descriptor 3 on, counted by `LISTEN_FDS` and named by `LISTEN_FDNAMES`, for the
//! process `LISTEN_PID`. Without a manager all of this does nothing.
//!
//! What always holds: no word to the manager waits longer than a second, and none that is lost
//! stops a service.

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

/// How long the manager may take to take a word.
const PATIENCE: Duration = Duration::from_secs(1);
/// The first descriptor that a manager passes (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;
/// The variables of the protocol. They are the keeper's; what it starts does not get them.
pub const VARIABLES: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// A descriptor that the manager kept, by the name that it was given.
pub type Stored = (String, OwnedFd);

/// The line to the manager; one to nobody where there is none.
#[derive(Debug)]
pub struct ServiceManager {
    line: Option<(OwnedFd, SocketAddrUnix)>,
    /// How often it wants to hear that the service is alive.
    beat: Option<Duration>,
    next_beat: Instant,
}

impl ServiceManager {
    /// The one that the environment names.
    ///
    /// # Errors
    /// The environment names what is no socket, or the system refuses one.
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

    /// Whether there is one.
    pub fn is_there(&self) -> bool {
        self.line.is_some()
    }

    /// The service is up.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// The service is going down.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping");
    }

    /// How the service does, in words.
    pub fn status(&self, status: &str) {
        self.tell(&format!("STATUS={status}"));
    }

    /// Says that the service is alive, when that is due: twice in the time after which the manager
    /// would end it.
    pub fn beat(&mut self) {
        if let Some(every) = self.beat
            && Instant::now() >= self.next_beat
        {
            self.next_beat = Instant::now() + every;
            self.tell("WATCHDOG=1");
        }
    }

    /// The longest that may be waited before [`Self::beat`].
    pub fn longest_wait(&self, otherwise: Duration) -> Duration {
        let until = |_| self.next_beat.saturating_duration_since(Instant::now());
        self.beat.map_or(otherwise, |every| until(every).min(otherwise))
    }

    /// Has a descriptor kept until the service is stopped for good. It is not looked at whether it
    /// hangs up: that is ours to see.
    ///
    /// # Errors
    /// The word could not be sent.
    pub fn store(&self, name: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        self.send(&format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0"), &[descriptor])
    }

    /// Has what bears this name kept no longer.
    ///
    /// # Errors
    /// The word could not be sent.
    pub fn forget(&self, name: &str) -> io::Result<()> {
        self.send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), &[])
    }

    /// Waits until the manager has done all that it was told, or it takes too long.
    ///
    /// # Errors
    /// The word could not be sent.
    pub fn settle(&self) -> io::Result<()> {
        let (end, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        self.send("BARRIER=1", &[theirs.as_fd()])?;
        drop(theirs);
        let time = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        // The other end is closed by the manager when it comes to this word.
        rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&end, PollFlags::IN)], Some(&time)))?;
        Ok(())
    }

    fn tell(&self, text: &str) {
        if let Err(error) = self.send(text, &[]) {
            tracing::warn!("the service manager does not hear `{}`: {error}", text.lines().next().unwrap_or_default());
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

/// Half of the time after which the manager ends a service that it hears nothing of, if that is
/// meant for this process.
fn beat_of_environment() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    number("WATCHDOG_USEC").filter(|&time| ours && time > 1).map(|time| Duration::from_micros(time / 2))
}

/// What the manager kept for this process, with its names. To be asked for once, and before any
/// other descriptor is opened by number; asked again it gives nothing.
pub fn stored() -> Vec<Stored> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    // One thread alone gets them. Nothing else is published with it.
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
        // SAFETY: a number that is not open is refused by the kernel with EBADF, and one that is
        // open is only asked about.
        if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
            break;
        }
        // SAFETY: the descriptor is open (just asked) and was opened by who started this process,
        // for it and under this number (`LISTEN_PID`, `LISTEN_FDS`); nothing of this process knows
        // the number, and `TAKEN` gives it out once.
        let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
        let name = names.next().unwrap_or_default().to_owned();
        // What is beyond is nobody's, and closed: what this process starts is not to have it
        // either.
        if stored.len() < STORED_MAX {
            stored.push((name, descriptor));
        }
    }
    stored
}
