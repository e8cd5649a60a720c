//! One worker's socket: frames in, frames out.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::sockopt::xdp_statistics;
use rustix::net::{SendFlags, send};

use super::queue::{MappedQueue, Queue, wake_to_receive, wake_to_transmit};
use super::ring::{Consumer, Descriptor, Producer};
use super::umem::{Chunk, Owner};
use super::{Settings, XdpError};
use crate::limits::{CHUNK_BYTES, UNCOLLECTED_MAX};
use crate::sys::bpf::{ARRIVAL_BYTES, arrival};
use crate::time::Nanos;

/// One socket: a receive and a transmit ring. `Send`: each belongs to one worker thread.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    pub(super) queue: Arc<Queue>,
    ring: u32,
    receive: Consumer<Descriptor>,
    transmit: Producer<Descriptor>,
    /// Frames taken from the receive ring and not released. It has room for the whole ring and
    /// never grows.
    held: VecDeque<Held>,
    /// Transmit chunks that nobody else has: one at first, then those of the predecessor. It never
    /// grows either.
    free: Vec<Chunk>,
    /// Whether the predecessor's chunks are among them.
    taken_back: bool,
    /// Whether looking into an empty ring runs the driver.
    busy_poll: bool,
}

#[derive(Debug)]
struct Held {
    chunk: Chunk,
    at: usize,
    length: usize,
}

/// A frame that arrived.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// From the destination MAC address on.
    pub bytes: &'a [u8],
    /// When the interface received it; none if the driver has no room for the stamp.
    pub arrived: Option<Nanos>,
}

/// The kernel's counts for a socket since it was bound (`XDP_STATISTICS`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statistics {
    /// Frames dropped for other reasons.
    pub receive_dropped: u64,
    /// Frames dropped because the receive ring was full.
    pub receive_ring_full: u64,
    /// Frames dropped because the fill ring was empty.
    pub fill_ring_empty: u64,
    /// Invalid entries of the fill ring.
    pub receive_invalid: u64,
    /// Invalid entries of the transmit ring.
    pub transmit_invalid: u64,
    /// How often the kernel found the transmit ring empty.
    pub transmit_ring_empty: u64,
}

/// How full the rings of a socket are, in entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Of the receive ring.
    pub receive_entries: u32,
    /// Frames in it that wait to be received.
    pub receive_waiting: u32,
    /// Of the transmit ring.
    pub transmit_entries: u32,
    /// Frames in it that the kernel has not taken.
    pub transmit_waiting: u32,
    /// Free chunks for sending.
    pub transmit_free: u32,
    /// Chunks that the kernel has to receive into, for all of the queue's sockets; 0 while another
    /// socket adds more.
    pub fill_waiting: u32,
}

impl std::ops::AddAssign for Statistics {
    fn add_assign(&mut self, other: Self) {
        self.receive_dropped += other.receive_dropped;
        self.receive_ring_full += other.receive_ring_full;
        self.fill_ring_empty += other.fill_ring_empty;
        self.receive_invalid += other.receive_invalid;
        self.transmit_invalid += other.transmit_invalid;
        self.transmit_ring_empty += other.transmit_ring_empty;
    }
}

impl MappedQueue {
    /// The sockets, each with the one chunk for sending that its predecessor left unused. For the
    /// other chunks see [`Queue::take_back_sent`], for received frames
    /// [`Queue::take_back_received`].
    pub(super) fn take_over(self, settings: &Settings) -> Result<Vec<Socket>, XdpError> {
        let (queue, sockets) = self.share(settings)?;
        let sockets = sockets.into_iter().enumerate();
        sockets
            .map(|(ring, (fd, (receive, transmit)))| {
                let spare = queue.take_spare(ring as u32, &transmit)?;
                let busy_poll = settings.busy_poll;
                Ok(Socket::new(fd, queue.clone(), ring as u32, receive, transmit, spare, busy_poll))
            })
            .collect()
    }
}

impl Socket {
    fn new(
        fd: OwnedFd,
        queue: Arc<Queue>,
        ring: u32,
        receive: Consumer<Descriptor>,
        transmit: Producer<Descriptor>,
        free: Vec<Chunk>,
        busy_poll: bool,
    ) -> Self {
        let held = VecDeque::with_capacity(receive.entries() as usize);
        Self { fd, queue, ring, receive, transmit, held, free, taken_back: false, busy_poll }
    }

    /// Takes back what the dead process had for sending, if that has not been done yet.
    pub(super) fn take_back_sent(&mut self) -> Result<(), XdpError> {
        if !self.taken_back {
            let back = self.queue.take_back_sent(self.ring, &self.transmit)?;
            self.free.reserve(self.queue.transmit as usize);
            self.free.extend(back);
            self.taken_back = true;
        }
        Ok(())
    }

    /// Takes back what the dead process had received: for all sockets of a queue, before one of
    /// them receives.
    pub(super) fn take_back_received(of_queue: &[Self]) -> Result<(), XdpError> {
        // A chunk that one of them holds would be considered free.
        assert!(of_queue.iter().all(|socket| socket.held.is_empty()), "nothing was received yet");
        let rings: Vec<_> = of_queue.iter().map(|socket| &socket.receive).collect();
        if of_queue[0].queue.take_back_received(&rings)? {
            wake_to_receive(&of_queue[0].fd);
        }
        Ok(())
    }

    /// The number of its queue on the interface.
    pub fn queue(&self) -> u32 {
        self.queue.number
    }

    /// Its number among the sockets of the queue.
    pub fn ring(&self) -> u32 {
        self.ring
    }

    /// Capacity of its receive ring.
    pub fn entries(&self) -> usize {
        self.receive.entries() as usize
    }

    /// The number of frames that [`Self::receive`] would find.
    pub fn waiting(&self) -> usize {
        self.receive.available() as usize
    }

    /// Takes up to `max` more frames from the ring; returns how many are now held, which
    /// [`Self::received`] shows.
    pub fn receive(&mut self, max: usize) -> usize {
        if self.busy_poll && self.receive.available() == 0 {
            wake_to_receive(&self.fd);
        }
        for _ in 0..max {
            let Some(entry) = self.receive.take() else { break };
            let (chunk, at) = self.queue.area.take(entry.address);
            // Including the stamp before it.
            let ahead = at.min(ARRIVAL_BYTES);
            self.queue.area.prefetch(&chunk, at - ahead, entry.length as usize + ahead);
            self.held.push_back(Held { chunk, at, length: entry.length as usize });
        }
        self.held.len()
    }

    /// The `i`th held frame, oldest first.
    ///
    /// # Panics
    /// If fewer are held.
    pub fn received(&self, i: usize) -> Received<'_> {
        let Held { chunk, at, length } = &self.held[i];
        let bytes = self.queue.area.bytes(chunk, *at, *length);
        let stamp = at.checked_sub(ARRIVAL_BYTES).map(|at| self.queue.area.bytes(chunk, at, ARRIVAL_BYTES));
        let arrived = stamp.and_then(|stamp| arrival(stamp.first_chunk().expect("as long as was asked for")));
        Received { bytes, arrived }
    }

    /// Releases the `n` oldest frames: everything that follows from them is done, and flushed.
    /// Until then a successor receives them again.
    ///
    /// # Panics
    /// If fewer are held.
    pub fn release(&mut self, n: usize) {
        assert!(n <= self.held.len(), "{n} frames are released, {} are held", self.held.len());
        let area = &self.queue.area;
        for Held { chunk, at, .. } in self.held.iter_mut().take(n) {
            // The chunk's next frame may have no stamp, and must not be taken to have this one's.
            if let Some(at) = at.checked_sub(ARRIVAL_BYTES) {
                area.bytes_mut(chunk, at, ARRIVAL_BYTES).fill(0);
            }
            area.set_owner(chunk, Owner::Process);
        }
        self.receive.release(n as u32);
        if self.queue.refill(self.held.drain(..n).map(|held| held.chunk)) {
            wake_to_receive(&self.fd);
        }
    }

    /// Lets `write` write a frame into a free chunk and return its length, and queues it; a length
    /// of 0 means no frame. False, without calling `write`, if no chunk or no place in the ring is
    /// free: [`Self::flush`] and try again.
    ///
    /// # Panics
    /// If the length is more than the chunk's.
    pub fn transmit(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        if self.free.is_empty() {
            // What is refused here is refused again, and reported, when everything is taken back.
            if self.taken_back { self.collect() } else { drop(self.take_back_sent()) }
        }
        if !self.transmit.has_room() {
            return false;
        }
        let Some(mut chunk) = self.free.pop() else { return false };
        let length = write(self.queue.area.bytes_mut(&mut chunk, 0, CHUNK_BYTES));
        assert!(length <= CHUNK_BYTES, "a frame of {length} bytes was written into a chunk");
        if length == 0 {
            self.free.push(chunk);
            return true;
        }
        let claim = Owner::Transmit(self.transmit.next());
        if !self.taken_back {
            self.queue.area.withdraw(self.transmit.overwritten(), claim);
        }
        let put = |address| self.transmit.put(Descriptor { address, length: length as u32 });
        self.queue.area.hand_over(chunk, claim, put);
        true
    }

    /// Hands the queued frames to the kernel. From here on they are sent even if this process dies,
    /// by the kernel or by the process that adopts the socket. False if the kernel could not take
    /// all of them now: the next flush, even without new frames, continues in order.
    /// [`XdpError::InterfaceGone`]: this socket will never send or receive again.
    pub fn flush(&mut self) -> Result<bool, XdpError> {
        let flushed = self.hand_over();
        // Not only when none is left: no frame shall wait while thousands are collected.
        if self.taken_back && self.queue.transmit as usize - self.free.len() >= UNCOLLECTED_MAX {
            self.collect();
        }
        flushed
    }

    /// Takes back the chunks that the kernel has sent.
    fn collect(&mut self) {
        let (wake, sent) = self.queue.sent(self.ring);
        self.free.extend(sent);
        if wake {
            wake_to_receive(&self.fd);
        }
    }

    fn hand_over(&mut self) -> Result<bool, XdpError> {
        self.transmit.publish();
        let mut waiting = self.transmit.waiting();
        // In copy mode a call sends as many as `open` asked for, or 32 frames (net/xdp/xsk.c,
        // TX_BATCH_SIZE). Each turn leaves fewer, or is the last.
        while waiting > 0 {
            if !self.transmit.needs_wakeup() {
                return Ok(true);
            }
            match send(&self.fd, &[], SendFlags::DONTWAIT) {
                // Its own batch was used up, or buffers are short, or the device is busy or down:
                // only what was taken tells which.
                Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::BUSY | Errno::NOBUFS | Errno::NETDOWN) => {}
                Err(Errno::NXIO | Errno::NODEV) => {
                    return Err(XdpError::InterfaceGone { interface: self.queue.interface.clone() });
                }
                Err(error) => return Err(XdpError::Call { what: "sending", error: error.into() }),
            }
            let before = std::mem::replace(&mut waiting, self.transmit.waiting());
            if waiting == before {
                if self.busy_poll {
                    wake_to_transmit(&self.fd);
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The present fill of the rings.
    pub fn usage(&mut self) -> Usage {
        let (fill_waiting, wake) = self.queue.fill_waiting();
        if wake {
            wake_to_receive(&self.fd);
        }
        Usage {
            receive_entries: self.receive.entries(),
            receive_waiting: self.receive.available(),
            transmit_entries: self.queue.transmit,
            transmit_waiting: self.transmit.waiting(),
            transmit_free: self.free.len() as u32,
            fill_waiting,
        }
    }

    /// The kernel's counts since the socket was bound.
    pub fn statistics(&self) -> Result<Statistics, XdpError> {
        let counted = xdp_statistics(&self.fd)
            .map_err(|error| XdpError::Call { what: "reading what the kernel counted", error: error.into() })?;
        Ok(Statistics {
            receive_dropped: counted.rx_dropped,
            receive_ring_full: counted.rx_ring_full.unwrap_or(0),
            fill_ring_empty: counted.rx_fill_ring_empty_descs.unwrap_or(0),
            receive_invalid: counted.rx_invalid_descs,
            transmit_invalid: counted.tx_invalid_descs,
            transmit_ring_empty: counted.tx_ring_empty_descs.unwrap_or(0),
        })
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
