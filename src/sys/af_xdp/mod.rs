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
//! What always holds, at every moment at which the process may be killed: each chunk is in exactly
//! one of these places, and a successor can tell in which. Before an index moves that hands a chunk
//! over, the chunk's owner word says so and by which entry; if that entry lies beyond the index,
//! the hand-over never happened. A frame leaves its receive ring only by [`Socket::release`], so a
//! frame that was not released is received again, and nothing is lost.

mod completions;
mod error;
mod holders;
mod open;
mod options;
mod queue;
mod ring;
mod settings;
mod socket;
mod umem;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

pub use error::XdpError;
pub use open::{bind, is_gone};
pub use settings::Settings;
pub use socket::{Received, Socket, Statistics, Usage};
pub(crate) use umem::MAGIC as UMEM_MAGIC;

use self::queue::MappedQueue;
use self::umem::{Area, Umem};

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
