//! AF_XDP: frames between a network interface and this process, without the network stack.
//!
//! There are two halves, because sockets outlive engines. [`bind`] opens everything and needs
//! privileges: the keeper does it, once. [`map`] maps what was opened, and [`take_over`] returns
//! the sockets, first for sending, then for everything: an engine does this without privileges,
//! with the descriptors that it inherited. The first engine does it exactly as every later one.
//!
//! ```text
//!              fill ──►  kernel  ──► receive ──►  held  ──┐  release: back to fill
//!                ▲                                        │
//!                └────────────────────────────────────────┘
//!   transmit: free ──►  transmit ring  ──►  kernel  ──►  completion ──► free
//! ```
//!
//! What always holds, at every moment at which the process may be killed: each chunk is in exactly one of
//! these places, and a successor can tell in which. Before an index moves that hands a chunk over,
//! the chunk's owner word says so and by which entry; if that entry lies beyond the index, the
//! hand-over never happened. A frame leaves its receive ring only by [`Socket::release`], so a
//! frame that was not released is received again, and nothing is lost.

mod completions;
mod holders;
mod open;
mod options;
mod queue;
mod ring;
mod socket;
mod umem;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use open::{bind, is_gone};
pub use socket::{Received, Socket, Statistics, Usage};

use self::queue::MappedQueue;
use self::umem::{Area, Umem};
use super::bpf::{QUEUES_MAX, RINGS_PER_QUEUE_MAX};
use super::interface::Interface;
use crate::limits::{CHUNK_BYTES, CHUNK_ZERO_COPY_BYTES, RING_ENTRIES_MAX, RING_ENTRIES_MIN};

/// The settings with which an interface is opened. The keeper hands them on with the descriptors:
/// both halves derive every size and place from them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// The interface that the sockets are bound to.
    pub interface: Interface,
    /// How many of its queues are used, from 0.
    pub queues: u32,
    /// Sockets on each queue; steering distributes the queue's frames among them.
    pub rings: u32,
    /// Number of frames that a queue can hold for its sockets: entries of its fill ring and of each
    /// receive ring. A power of two.
    pub receive: u32,
    /// Number of frames that a socket can have on their way out: entries of its transmit ring. A
    /// power of two.
    pub transmit: u32,
    /// Whether to ask for huge pages. If there are none, small pages are used.
    pub huge_pages: bool,
    /// Whether the driver shall work on the memory itself. If it cannot, that is an error.
    pub zero_copy: bool,
    /// Whether the sockets' workers run the driver when they look into their rings. If the kernel
    /// cannot do that, interrupts run it.
    #[serde(default)]
    pub busy_poll: bool,
}

impl Settings {
    /// One socket on every queue of the interface, the usual sizes, copy mode.
    pub fn new(interface: Interface, queues: u32) -> Self {
        Self {
            interface,
            queues,
            rings: 1,
            receive: 4096,
            transmit: 2048,
            huge_pages: true,
            zero_copy: false,
            busy_poll: false,
        }
    }

    /// The number of sockets over all queues.
    pub const fn sockets(&self) -> usize {
        self.queues as usize * self.rings as usize
    }

    const fn chunks_of_queue(&self) -> usize {
        self.receive as usize + self.rings as usize * self.transmit as usize
    }

    const fn chunk_bytes(&self) -> usize {
        if self.zero_copy { CHUNK_ZERO_COPY_BYTES } else { CHUNK_BYTES }
    }

    const fn chunks(&self) -> usize {
        self.queues as usize * self.chunks_of_queue()
    }

    /// Entries of a queue's completion ring: all that its sockets can have sent.
    const fn completion(&self) -> u32 {
        (self.rings * self.transmit).next_power_of_two()
    }

    fn check(&self) -> Result<(), XdpError> {
        let in_range = |what, value, least, most| match value {
            value if (least..=most).contains(&value) => Ok(()),
            value => Err(XdpError::Settings { what, value, least, most }),
        };
        in_range("queues", self.queues, 1, QUEUES_MAX)?;
        in_range("rings on a queue", self.rings, 1, RINGS_PER_QUEUE_MAX)?;
        for (what, entries) in [("receive entries", self.receive), ("transmit entries", self.transmit)] {
            in_range(what, entries, RING_ENTRIES_MIN, RING_ENTRIES_MAX)?;
            if !entries.is_power_of_two() {
                return Err(XdpError::NoPowerOfTwo { what, value: entries });
            }
        }
        Ok(())
    }
}

/// The descriptors that outlive an engine.
#[derive(Debug)]
pub struct Bound {
    /// As granted: sizes are halved if lockable memory is short.
    pub settings: Settings,
    /// The memory that contains the frames, a memfd.
    pub umem: OwnedFd,
    /// Queue by queue, ring by ring: `queue * rings + ring`.
    pub sockets: Vec<OwnedFd>,
}

/// What [`bind`] opened, mapped, while another process may still work with it.
#[derive(Debug)]
pub struct Mapped {
    settings: Settings,
    queues: Vec<MappedQueue>,
}

/// Maps what [`bind`] opened, without reading it: a standby does this in advance.
pub fn map(settings: &Settings, umem: OwnedFd, sockets: Vec<OwnedFd>) -> Result<Mapped, XdpError> {
    settings.check()?;
    if sockets.len() != settings.sockets() {
        return Err(XdpError::Foreign { what: "there are more or fewer sockets than these settings say" });
    }
    let umem = Arc::new(Umem::open(umem.as_fd(), settings)?);
    let mut left = sockets.into_iter();
    let mut queues = Vec::with_capacity(settings.queues as usize);
    for queue in 0..settings.queues {
        let area = Area::new(umem.clone(), settings, queue);
        let own = left.by_ref().take(settings.rings as usize).collect();
        queues.push(MappedQueue::map(settings, queue, area, own)?);
    }
    Ok(Mapped { settings: settings.clone(), queues })
}

/// One socket for each descriptor, in their order, for sending: the sockets of one interface follow
/// those of another.
///
/// The previous owner must be dead. What it had flushed is sent with the next flush at the latest.
pub fn take_over(all: Vec<Mapped>) -> Result<Senders, XdpError> {
    let mut sockets = Vec::with_capacity(all.iter().map(|mapped| mapped.settings.sockets()).sum());
    let mut shared = Vec::with_capacity(all.iter().map(|mapped| mapped.queues.len()).sum());
    for Mapped { settings, queues } in all {
        for queue in queues {
            sockets.extend(queue.take_over(&settings)?);
            shared.push(settings.rings as usize);
        }
    }
    Ok(Senders { sockets, shared })
}

/// Sockets that send, and have not yet looked at what was received: a queue's memory is many words,
/// and the first frame need not wait until they are read. The first frame has a chunk of its own;
/// for the second one a socket takes back the chunks that the dead process had for sending.
#[derive(Debug)]
pub struct Senders {
    sockets: Vec<Socket>,
    /// How many consecutive sockets share a queue.
    shared: Vec<usize>,
}

impl Senders {
    /// The sockets, for sending only.
    pub fn sockets(&mut self) -> &mut [Socket] {
        &mut self.sockets
    }

    /// The sockets, for everything. Frames that the dead process received and did not release are
    /// received again. Chunks that it held go back to the kernel, or are free for sending.
    pub fn receive(mut self) -> Result<Vec<Socket>, XdpError> {
        self.sockets.iter_mut().try_for_each(Socket::take_back_sent)?;
        let mut left = &self.sockets[..];
        for rings in self.shared {
            let (of_queue, behind) = left.split_at(rings);
            Socket::take_back_received(of_queue)?;
            left = behind;
        }
        Ok(self.sockets)
    }
}

/// [`map`], [`take_over`] and [`Senders::receive`] in one, for when the previous owner is dead
/// already.
pub fn adopt(settings: &Settings, umem: OwnedFd, sockets: Vec<OwnedFd>) -> Result<Vec<Socket>, XdpError> {
    take_over(vec![map(settings, umem, sockets)?])?.receive()
}

/// Checks that this is the memory that [`bind`] made under these settings, as it granted them.
///
/// # Errors
/// [`XdpError::Foreign`]: it is not, or another version made it.
pub fn check(settings: &Settings, umem: BorrowedFd<'_>) -> Result<(), XdpError> {
    settings.check()?;
    Umem::open(umem, settings).map(drop)
}

/// Why AF_XDP is not available, or failed.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// The operator's: a setting is out of its range.
    #[error("{value} {what}: {least} to {most} are possible")]
    Settings {
        /// The counted resource, in the plural.
        what: &'static str,
        /// The number that was asked for.
        value: u32,
        /// The smallest allowed number.
        least: u32,
        /// The largest allowed number.
        most: u32,
    },
    /// The operator's: a ring of a size that no ring has.
    #[error("{value} {what}: the kernel's rings have a power of two of them, such as {power}", power = .value.next_power_of_two())]
    NoPowerOfTwo {
        /// The counted resource, in the plural.
        what: &'static str,
        /// The number that was asked for.
        value: u32,
    },
    /// The operator's: the process lacks privileges.
    #[error("AF_XDP sockets need CAP_NET_RAW and CAP_NET_ADMIN, and were refused: start it as root")]
    Privilege,
    /// The operator's: the interface was removed.
    #[error("interface {interface} is gone")]
    InterfaceGone {
        /// The name of the interface.
        interface: String,
    },
    /// The operator's: the interface has fewer queues.
    #[error(
        "interface {interface} has no queue {queue} for both directions; `ethtool -l {interface}` lists its queues"
    )]
    NoQueue {
        /// The name of the interface.
        interface: String,
        /// The queue that was asked for.
        queue: u32,
    },
    /// The operator's: another process uses the queue.
    #[error("queue {queue} of {interface} is taken, by {holders}: end that, or use another interface")]
    Occupied {
        /// The name of the interface.
        interface: String,
        /// The queue that was asked for.
        queue: u32,
        /// The processes that have it.
        holders: String,
    },
    /// The operator's: the driver does not support user memory.
    #[error("the driver of {interface} has no zero-copy mode: leave the setting out")]
    NoZeroCopy {
        /// The name of the interface.
        interface: String,
    },
    /// The machine's: there is not enough memory.
    #[error("no memory of {bytes} bytes for frames: {error}")]
    Memory {
        /// The size that was asked for.
        bytes: usize,
        /// The kernel's error.
        error: io::Error,
    },
    /// The operator's: lockable memory is short, even for the smallest rings.
    #[error("{bytes} bytes of frames may not be locked in memory: give the process CAP_IPC_LOCK, or raise `ulimit -l`")]
    LockedMemory {
        /// The size that was asked for.
        bytes: u64,
    },
    /// The machine's: this kernel lacks something.
    #[error("this kernel has no {what}; Baton needs Linux 6.4 or newer")]
    OldKernel {
        /// The missing feature, and since when it exists.
        what: &'static str,
    },
    /// Ours: the descriptors do not belong together, or another version opened them.
    #[error("the inherited frames' memory is refused: {what}")]
    Foreign {
        /// What is wrong with the memory.
        what: &'static str,
    },
    /// Another call failed.
    #[error("AF_XDP: {what}: {error}")]
    Call {
        /// The step that failed.
        what: &'static str,
        /// The kernel's error.
        error: io::Error,
    },
}
