//! AF_XDP: frames between a network interface and this process, without the network stack.
//!
//! Two halves, because sockets outlive engines. [`bind`] opens everything and needs privileges: the keeper does it, once.
//! [`adopt`] maps what was opened and gives the sockets to work with: an engine does it, without privileges, with the
//! descriptors that it inherited. The first engine adopts exactly as every later one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::interface::Interface;
use crate::time::Nanos;

/// What is opened on an interface. The keeper hands it on with the descriptors: both halves derive every size and
/// place from it.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Settings {
    /// Where.
    pub interface: Interface,
    /// How many of its queues, from 0.
    pub queues: u32,
    /// Sockets on each queue; steering shares the queue's frames among them.
    pub rings: u32,
    /// Frames that a queue can hold for its sockets: entries of its fill ring and of each receive ring. A power of two.
    pub receive: u32,
    /// Frames that a socket can have on their way out: entries of its transmit ring. A power of two.
    pub transmit: u32,
    /// Whether to ask for huge pages. Where there are none, small pages do.
    pub huge_pages: bool,
    /// Whether the driver shall work on the memory itself. Where it cannot, that is an error.
    pub zero_copy: bool,
}

impl Settings {
    /// One socket on every queue of the interface, the usual sizes, copy mode.
    pub fn new(interface: Interface, queues: u32) -> Self {
        Self { interface, queues, rings: 1, receive: 4096, transmit: 2048, huge_pages: true, zero_copy: false }
    }
}

/// Why AF_XDP cannot be had, or failed.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// To be replaced.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Everything that outlives an engine.
#[derive(Debug)]
pub struct Bound {
    /// As granted: sizes are halved where memory that may be locked is short.
    pub settings: Settings,
    /// The memory that frames lie in, a memfd.
    pub umem: OwnedFd,
    /// Queue by queue, ring by ring: `queue * rings + ring`.
    pub sockets: Vec<OwnedFd>,
}

/// Opens and binds all sockets of an interface. Needs CAP_NET_RAW, and CAP_IPC_LOCK or enough RLIMIT_MEMLOCK.
pub fn bind(settings: &Settings) -> Result<Bound, XdpError> {
    let _ = settings;
    todo!()
}

/// Maps what [`bind`] opened: one socket for each descriptor, in their order.
///
/// Whoever had them before must be dead. What it held comes back: frames that it received and did not release are
/// received again, chunks that it had in its hands are free.
pub fn adopt(settings: &Settings, umem: OwnedFd, sockets: Vec<OwnedFd>) -> Result<Vec<Socket>, XdpError> {
    let _ = (settings, umem, sockets);
    todo!()
}

/// One socket: a receive and a transmit ring. `Send`: each belongs to one worker thread.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

/// A frame that arrived.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// From the destination MAC on.
    pub bytes: &'a [u8],
    /// When the interface had it; none where the driver has no room for the stamp.
    pub arrived: Option<Nanos>,
}

/// What the kernel counted for a socket since it was bound (`XDP_STATISTICS`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statistics {
    /// Frames dropped for other reasons.
    pub receive_dropped: u64,
    /// Frames dropped because the receive ring was full.
    pub receive_ring_full: u64,
    /// Frames dropped because the fill ring was empty.
    pub fill_ring_empty: u64,
    /// Entries of the fill ring that were none.
    pub receive_invalid: u64,
    /// Entries of the transmit ring that were none.
    pub transmit_invalid: u64,
    /// How often the kernel found the transmit ring empty.
    pub transmit_ring_empty: u64,
}

impl Socket {
    /// The queue of the interface that it is on.
    pub fn queue(&self) -> u32 {
        todo!()
    }

    /// Its number among the sockets of the queue.
    pub fn ring(&self) -> u32 {
        todo!()
    }

    /// Takes up to `max` more frames from the ring; gives how many are now held, which [`Self::received`] shows.
    pub fn receive(&mut self, max: usize) -> usize {
        let _ = max;
        todo!()
    }

    /// The `i`th frame that is held, oldest first.
    ///
    /// # Panics
    /// If fewer are held.
    pub fn received(&self, i: usize) -> Received<'_> {
        let _ = i;
        todo!()
    }

    /// Gives the `n` oldest frames back: whatever follows from them is done. Before this, a successor receives them again.
    ///
    /// # Panics
    /// If fewer are held.
    pub fn release(&mut self, n: usize) {
        let _ = n;
        todo!()
    }

    /// Has a frame written into a free chunk, its length given back, and queues it. False, and `write` not called, where
    /// no chunk or no place in the ring is free: [`Self::flush`] and try again.
    pub fn transmit(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        let _ = write;
        todo!()
    }

    /// Hands the queued frames to the kernel. False where the kernel could not take all of them now: they stay queued, in
    /// order, and the next flush goes on.
    pub fn flush(&mut self) -> Result<bool, XdpError> {
        todo!()
    }

    /// What the kernel counted.
    pub fn statistics(&self) -> Result<Statistics, XdpError> {
        todo!()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
