//! What a keeper hands to an engine, and what the two tell each other afterwards.
//!
//! An engine's standard input is a Unix `SOCK_SEQPACKET` socket, so that nothing has to be arranged
//! between fork and exec. The keeper sends one packet over it, which says the version, with the
//! descriptors beside it (`SCM_RIGHTS`); the first of them is a sealed memory file with the
//! [`Manifest`] as JSON, which holds the whole configuration: as a packet, that would be hundreds
//! of KiB which the kernel has to find in one piece at the moment of a death. Then [`Notice`]s go
//! one way and [`Order`]s the other.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::compat::{HANDOVER, Identity};
use super::{Attached, AttachedAll, StandbyState, UpgradeForm, UpgradeState, Upgrading};
use crate::cascade::Hop;
use crate::config::Config;
use crate::limits::MANIFEST_BYTES_MAX;
use crate::sys::af_xdp;
use crate::sys::fd_passing::{self, Received};
use crate::sys::sealed;
use crate::wire::{Domain, Mac};

/// Bytes of a notice or order, at most.
pub(crate) const NOTE_BYTES: usize = 4096;

/// What an engine is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It takes over at once.
    Active,
    /// It maps and touches everything, and waits for the locks of the one that controls.
    Standby,
}

/// What the table holds as the engine finds it, which decides the path of the recovery.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableOrigin {
    /// The meetings and terminals that a predecessor had: the cache serves.
    Kept,
    /// Nothing, or not everything yet: the database serves. What is there all the same is true.
    /// Why, in words.
    Fresh {
        /// Such as "there was none" or "the machine was started since".
        why: String,
    },
}

/// How a predecessor came to its end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Death {
    /// Its process id.
    pub pid: u32,
    /// When keeper or standby had proof of it, in nanoseconds of `CLOCK_MONOTONIC`.
    pub noticed_ns: u64,
    /// In words: "killed by signal 9", "exited with status 1".
    pub how: String,
}

/// What an engine is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// `HANDOVER`.
    pub version: u32,
    /// What the keeper runs: an engine of a program that does not match takes nothing over.
    pub keeper: Identity,
    /// Whether it is to control at once.
    pub role: Role,
    /// Engines that this keeper has started, this one included.
    pub incarnation: u32,
    /// The configuration, secrets included.
    pub config: Config,
    /// The table, as found.
    pub table: TableOrigin,
    /// Its predecessor's end, if it had one under this keeper.
    pub predecessor: Option<Death>,
    /// For a standby: the process that controls.
    pub active: Option<u32>,
    /// When this was sent, in nanoseconds of `CLOCK_MONOTONIC`.
    pub sent_ns: u64,
    /// Next hops that a predecessor had learned: the first takeover frames need not wait for frames
    /// to learn from.
    pub next_hops: Vec<(Domain, Hop)>,
    /// The interfaces, as they are configured.
    pub interfaces: Vec<Served>,
}

impl Manifest {
    /// How many sockets there are: one a worker, interface by interface, queue by queue, ring by
    /// ring.
    pub fn sockets(&self) -> usize {
        self.interfaces.iter().map(|interface| interface.xdp.sockets()).sum()
    }

    /// How steering is attached, for the status.
    pub fn mode(&self) -> AttachedAll {
        AttachedAll::of(self.interfaces.iter().map(|interface| interface.mode))
    }
}

/// An interface, as it is served.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Served {
    /// Its Ethernet address.
    pub mac: Mac,
    /// How steering is attached.
    pub mode: Attached,
    /// How its sockets were opened, for [`af_xdp::map`].
    pub xdp: af_xdp::Settings,
}

/// What frames of one interface come and go by.
#[derive(Debug)]
pub struct Frames<D> {
    /// The UMEM's file.
    pub umem: D,
    /// The AF_XDP sockets, queue by queue, ring by ring. To be adopted, by the first engine too.
    pub sockets: Vec<D>,
}

/// What an engine is handed.
pub struct Handover {
    /// The rest of what it needs to know.
    pub manifest: Manifest,
    /// The table's file. It bears the keeper's lock, which lasts until the last process that was
    /// handed it is gone.
    pub table: OwnedFd,
    /// The locks of the threads that work with table and rings: [`crate::sys::robust_locks`].
    pub succession: OwnedFd,
    /// Interface by interface.
    pub frames: Vec<Frames<OwnedFd>>,
    /// The API's listening socket: clients wait in its backlog from one engine to the next.
    pub api: UnixListener,
    /// For notices and orders.
    pub keeper: KeeperLine,
}

/// What an engine tells its keeper.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Notice {
    /// A standby's: everything is mapped and touched, and it waits for the locks.
    Standing {
        /// What it runs.
        program: Identity,
    },
    /// It controls: workers run and hold their locks, and the first takeover frames are on their
    /// way.
    Ready,
    /// The table holds every meeting that the database holds: from now on it serves the next
    /// engine.
    Complete,
    /// Where frames to a domain go, as learned from its authentic frames. For the next engine.
    NextHop {
        /// The domain that has been heard.
        domain: Domain,
        /// Its interface and MAC address.
        hop: Hop,
    },
    /// A client asks for an upgrade.
    Upgrade {
        /// As the client sent it.
        form: UpgradeForm,
    },
    /// It cannot go on, and ends. Starting another at once would not help.
    Failed {
        /// Why, in words.
        why: String,
    },
    /// Another dispatch server controls under a higher epoch. It has stopped controlling; another
    /// engine must not be started.
    Fenced {
        /// As [`crate::wire::Epoch`] has it.
        epoch: u64,
    },
}

/// What a keeper tells its engine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Write the snapshot, and exit with success.
    Stop,
    /// To a standby: where frames to a domain go, as the one that controls has learned.
    NextHop {
        /// The domain that has been heard.
        domain: Domain,
        /// Its interface and MAC address.
        hop: Hop,
    },
    /// To the one that controls: how its standby does, for the status.
    Standby {
        /// Whether it is ready.
        state: StandbyState,
    },
    /// To the one that controls: what became of the frames that steering saw, for the status.
    Steered {
        /// Frames, by the name of what became of them.
        frames: BTreeMap<String, u64>,
    },
    /// To the one that controls: leave table and rings to the standby, which takes over, and exit
    /// with success.
    Yield {
        /// What the client that asked for it is told.
        upgrading: Upgrading,
    },
    /// To the one that controls: the upgrade that was asked for does not take place, and it goes
    /// on.
    Stay {
        /// Why, in words.
        why: String,
    },
    /// To the one that controls: how the last upgrade does, for the status.
    Upgraded {
        /// How.
        state: UpgradeState,
    },
}

/// An engine's end of the line to its keeper.
pub struct KeeperLine(OwnedFd);

impl KeeperLine {
    /// Sends a notice. Never waits: the few notices of an engine's life fit the socket's buffer.
    ///
    /// # Errors
    /// The keeper is gone.
    pub fn tell(&self, notice: &Notice) -> io::Result<()> {
        fd_passing::send(self.0.as_fd(), &serde_json::to_vec(notice)?, &[])
    }

    /// Whether the keeper has closed its end, or is gone.
    pub fn is_closed(&self) -> bool {
        let mut watched = [PollFd::new(&self.0, PollFlags::empty())];
        let looked = rustix::io::retry_on_intr(|| poll(&mut watched, Some(&Timespec::default())));
        looked.is_ok() && watched[0].revents().contains(PollFlags::HUP)
    }

    /// The next order; waits for it.
    ///
    /// # Errors
    /// `UnexpectedEof`: the keeper is gone, and the engine ends. Anything else is a broken line, to
    /// be treated alike.
    pub fn order(&self) -> io::Result<Order> {
        let mut buffer = [0; NOTE_BYTES];
        let Received { bytes, .. } = fd_passing::receive(self.0.as_fd(), &mut buffer, 0, true)?;
        Ok(serde_json::from_slice(&buffer[..bytes])?)
    }
}

impl AsFd for KeeperLine {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Why an engine was handed nothing.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// Standard input is not a keeper's socket.
    #[error("`baton engine` is started by `baton run` and not by hand: standard input is no keeper's socket ({0})")]
    NoKeeper(io::Error),
    /// The keeper ended, or let this engine go, before it handed over.
    #[error("the keeper closed the line before it handed over")]
    Closed,
    /// Keeper and engine are of different versions.
    #[error(
        "keeper and engine do not understand each other ({0}): was the program replaced under a running keeper? start the keeper again"
    )]
    Foreign(String),
}

impl From<OwnedFd> for KeeperLine {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

/// Waits on standard input for what the keeper hands over.
///
/// # Errors
/// See [`HandoverError`].
pub fn receive() -> Result<Handover, HandoverError> {
    receive_from(fd_passing::stdin().map_err(HandoverError::NoKeeper)?)
}

/// As [`receive`], on this socket.
///
/// # Errors
/// See [`HandoverError`].
pub fn receive_from(socket: OwnedFd) -> Result<Handover, HandoverError> {
    let mut buffer = [0; NOTE_BYTES];
    let most = fd_passing::DESCRIPTORS_MAX;
    let received =
        fd_passing::receive(socket.as_fd(), &mut buffer, most, true).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => HandoverError::Closed,
            io::ErrorKind::InvalidData => HandoverError::Foreign(error.to_string()),
            _ => HandoverError::NoKeeper(error),
        })?;
    let foreign = |error: serde_json::Error| HandoverError::Foreign(error.to_string());
    let value: serde_json::Value = serde_json::from_slice(&buffer[..received.bytes]).map_err(foreign)?;
    let version = value.get("version").and_then(serde_json::Value::as_u64);
    if version != Some(u64::from(HANDOVER)) {
        let version = version.map_or("none".into(), |version| version.to_string());
        let error = HandoverError::Foreign(format!("version {version} where {HANDOVER} is expected"));
        // Every version understands this notice; where the keeper is gone it does not matter.
        let _ = KeeperLine::from(socket).tell(&Notice::Failed { why: error.to_string() });
        return Err(error);
    }
    let mut descriptors = received.descriptors.into_iter();
    let all = descriptors.len();
    let mut next = || descriptors.next();
    let Some(told) = next() else { return Err(HandoverError::Foreign("no manifest".into())) };
    let told = sealed::read(told, MANIFEST_BYTES_MAX).map_err(|error| HandoverError::Foreign(error.to_string()))?;
    let manifest: Manifest = serde_json::from_slice(&told).map_err(foreign)?;
    let (Some(table), Some(succession), Some(api)) = (next(), next(), next()) else {
        return Err(HandoverError::Foreign(format!("{all} descriptors")));
    };
    let mut frames = Vec::with_capacity(manifest.interfaces.len());
    for interface in &manifest.interfaces {
        let umem = next();
        let sockets: Vec<_> = (0..interface.xdp.sockets()).map_while(|_| next()).collect();
        let Some(umem) = umem.filter(|_| sockets.len() == interface.xdp.sockets()) else {
            let what = format!("{all} descriptors where {} sockets are expected", manifest.sockets());
            return Err(HandoverError::Foreign(what));
        };
        frames.push(Frames { umem, sockets });
    }
    let api = UnixListener::from(api);
    Ok(Handover { manifest, table, succession, frames, api, keeper: KeeperLine(socket) })
}

/// The keeper's side: sends the manifest with what it names.
///
/// # Errors
/// The system's; `BrokenPipe` where the engine is gone.
pub(crate) fn send(
    line: BorrowedFd<'_>,
    manifest: &Manifest,
    [table, succession, api]: [BorrowedFd<'_>; 3],
    frames: &[Frames<BorrowedFd<'_>>],
) -> io::Result<()> {
    let sockets: Vec<_> = frames.iter().map(|of_one| of_one.sockets.len()).collect();
    let expected: Vec<_> = manifest.interfaces.iter().map(|interface| interface.xdp.sockets()).collect();
    assert_eq!(sockets, expected, "a place for each socket");
    let told = sealed::write("baton-manifest", &serde_json::to_vec(manifest)?)?;
    let mut all = vec![told.as_fd(), table, succession, api];
    for Frames { umem, sockets } in frames {
        all.push(*umem);
        all.extend_from_slice(sockets);
    }
    fd_passing::send(line, &serde_json::to_vec(&Envelope { version: manifest.version })?, &all)
}

/// The packet itself: what every version understands of every other.
#[derive(Serialize)]
struct Envelope {
    version: u32,
}
