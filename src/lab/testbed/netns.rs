//! Two network namespaces and a veth pair between them. Every test, bench and demonstration that
//! sends real frames uses this one.
//!
//! What always holds: nothing of a pair is left when it is dropped, and when making it failed
//! half-way. Processes that are still in one of its namespaces were started for it and are killed
//! first. A pair that a killed process left is cleared by the next one of the same names.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::process::{Pid, Signal, getpid, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::command::{CommandFailed, command};
use crate::output::tell;
use crate::wire::Mac;

/// Where `ip netns` keeps namespaces.
const NAMESPACES: &str = "/run/netns";

/// A pair that could not be made, or not be cleared away.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// `ip` failed, which needs root.
    #[error(transparent)]
    Command(#[from] CommandFailed),
    /// A namespace could not be entered or set up.
    #[error("namespace {namespace}: {error}")]
    Namespace {
        /// Its name.
        namespace: String,
        /// What the system said.
        error: io::Error,
    },
}

/// One end of the pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The first namespace.
    Left,
    /// The second one.
    Right,
}

impl Side {
    /// The name of the interface there, in a pair made by [`Pair::new`].
    pub const fn interface(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
        }
    }
}

/// The two ends of a veth pair; each array has the left one first.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Names of the interfaces.
    pub interfaces: [&'static str; 2],
    /// Ethernet addresses; where none are given, the kernel's choice.
    pub macs: Option<[Mac; 2]>,
    /// Receive queues of each, and transmit queues.
    pub queues: u32,
}

/// The namespaces, until it is dropped.
#[derive(Debug)]
pub struct Pair {
    names: [String; 2],
}

impl Pair {
    /// A pair of this process: interfaces `left` and `right`, with this many queues.
    ///
    /// # Errors
    /// See [`NetnsError`].
    pub fn new(queues: u32) -> Result<Self, NetnsError> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        Self::with(["l", "r"].map(|side| format!("baton-t{process}-{number}{side}")), &Ends::of_queues(queues))
    }

    /// Namespaces of these names, with these ends, both up. Nothing but what a test sends crosses
    /// the pair: IPv6, whose neighbour discovery would send of its own accord, is off.
    ///
    /// # Errors
    /// See [`NetnsError`].
    pub fn with(names: [String; 2], ends: &Ends) -> Result<Self, NetnsError> {
        // What an earlier process may have left: process ids come round again.
        clear(&names)?;
        // Made first, so that it is cleared when one of the following steps fails.
        let pair = Self { names };
        let [left, right] = &pair.names;
        for (name, side) in pair.names.iter().zip([Side::Left, Side::Right]) {
            command("ip", &["netns", "add", name])?;
            pair.try_on(side, without_ipv6)?
                .map_err(|error| NetnsError::Namespace { namespace: name.clone(), error })?;
            pair.ip(side, "link set lo up")?;
        }
        let Ends { interfaces, macs, queues } = ends;
        let queues = format!("numtxqueues {queues} numrxqueues {queues}");
        // Made inside the namespaces, so the names cannot clash with interfaces of the machine.
        let [here, there] = interfaces;
        pair.ip(
            Side::Left,
            &format!("link add {here} netns {left} {queues} type veth peer name {there} {queues} netns {right}"),
        )?;
        for (at, side) in [Side::Left, Side::Right].into_iter().enumerate() {
            if let Some(macs) = macs {
                pair.ip(side, &format!("link set {} address {}", interfaces[at], macs[at]))?;
            }
            pair.ip(side, &format!("link set {} up", interfaces[at]))?;
        }
        Ok(pair)
    }

    /// Joins the two by a second veth pair, `left2` and `right2`.
    ///
    /// # Errors
    /// See [`NetnsError`].
    pub fn join_again(&self) -> Result<(), NetnsError> {
        let right = self.name(Side::Right);
        self.ip(Side::Left, &format!("link add left2 type veth peer name right2 netns {right}"))?;
        self.ip(Side::Left, "link set left2 up")?;
        self.ip(Side::Right, "link set right2 up")
    }

    /// The name of the namespace of a side.
    pub fn name(&self, side: Side) -> &str {
        &self.names[side as usize]
    }

    /// The file by which the namespace of a side is entered.
    pub fn path(&self, side: Side) -> PathBuf {
        path(self.name(side))
    }

    /// Runs `ip` on a side, with arguments that blanks part.
    ///
    /// # Errors
    /// See [`NetnsError`].
    pub fn ip(&self, side: Side, arguments: &str) -> Result<(), NetnsError> {
        let all: Vec<_> = ["-n", self.name(side)].into_iter().chain(arguments.split_whitespace()).collect();
        Ok(command("ip", &all).map(drop)?)
    }

    /// Moves the calling thread into the namespace of a side. What it opens there stays there.
    ///
    /// # Errors
    /// See [`NetnsError`].
    pub fn enter(&self, side: Side) -> Result<(), NetnsError> {
        let enter = || {
            let namespace = File::open(self.path(side))?;
            Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
        };
        enter().map_err(|error| NetnsError::Namespace { namespace: self.name(side).to_owned(), error })
    }

    /// Does something in the namespace of a side, on a thread of its own, which never comes back
    /// from there.
    ///
    /// # Panics
    /// As `work` does; and if the namespace cannot be entered.
    pub fn on<R: Send>(&self, side: Side, work: impl FnOnce() -> R + Send) -> R {
        self.try_on(side, work).unwrap_or_else(|error| panic!("{error}"))
    }

    fn try_on<R: Send>(&self, side: Side, work: impl FnOnce() -> R + Send) -> Result<R, NetnsError> {
        thread::scope(|scope| {
            let there = scope.spawn(|| self.enter(side).map(|()| work()));
            there.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if let Err(error) = clear(&self.names) {
            tell!("baton: not everything could be cleared away: {error}");
        }
    }
}

impl Ends {
    /// `left` and `right`, with this many queues.
    pub const fn of_queues(queues: u32) -> Self {
        Self { interfaces: [Side::Left.interface(), Side::Right.interface()], macs: None, queues }
    }
}

/// Kills the processes in these namespaces and removes them; namespaces that are not there are
/// fine.
///
/// # Errors
/// See [`NetnsError`].
pub fn clear(names: &[String; 2]) -> Result<(), NetnsError> {
    for name in names.iter().filter(|name| path(name).exists()) {
        for pid in command("ip", &["netns", "pids", name])?.split_whitespace() {
            // Not this process, whose main thread a bench moves there.
            let pid = pid.parse().ok().and_then(Pid::from_raw).filter(|&pid| pid != getpid());
            if let Some(pid) = pid {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        command("ip", &["netns", "delete", name])?;
    }
    Ok(())
}

fn path(namespace: &str) -> PathBuf {
    Path::new(NAMESPACES).join(namespace)
}

/// In the calling thread's namespace: no IPv6 on any interface, those to come included.
fn without_ipv6() -> io::Result<()> {
    for of in ["all", "default"] {
        match fs::write(format!("/proc/sys/net/ipv6/conf/{of}/disable_ipv6"), "1") {
            // A kernel without it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    Ok(())
}
