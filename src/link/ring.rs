//! What a worker needs of its rings, so that the same loop runs over AF_XDP and over memory.

use crate::sys::af_xdp::{Socket, XdpError};
use crate::telemetry::RingStatus;

pub use crate::sys::af_xdp::Received;

/// What came of handing queued frames to the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flushed {
    /// It has all of them.
    All,
    /// It could not take all of them now: the rest stays queued.
    Later,
    /// The interface is gone: nothing comes or goes by these rings any more.
    Gone,
}

/// The receive and transmit rings of one worker.
///
/// An entry that was received stays in the ring until it is released, and is released only after
/// everything that follows from it was handed on: so the death of the worker makes its successor
/// receive it again, and loses nothing.
pub trait Ring {
    /// Entries that the receive ring has.
    fn entries(&self) -> usize;

    /// How many entries wait to be received.
    fn waiting(&self) -> usize;

    /// Looks at up to `max` more entries; gives how many are held now, those before included.
    fn receive(&mut self, max: usize) -> usize;

    /// The `i`th of the held entries, from the oldest.
    fn received(&self, i: usize) -> Received<'_>;

    /// Gives the `n` oldest held entries back.
    fn release(&mut self, n: usize);

    /// Has `write` write a frame and say its length, and queues it; false, and `write` not called,
    /// where there is no room.
    fn transmit(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool;

    /// Hands what was queued to the kernel.
    fn flush(&mut self) -> Flushed;

    /// How the rings are; none where there are none of the kernel's.
    fn status(&mut self) -> Option<RingStatus> {
        None
    }
}

impl Ring for Socket {
    fn entries(&self) -> usize {
        self.entries()
    }

    fn waiting(&self) -> usize {
        self.waiting()
    }

    fn receive(&mut self, max: usize) -> usize {
        self.receive(max)
    }

    fn received(&self, i: usize) -> Received<'_> {
        self.received(i)
    }

    fn release(&mut self, n: usize) {
        self.release(n);
    }

    fn transmit(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        self.transmit(write)
    }

    fn flush(&mut self) -> Flushed {
        match self.flush() {
            Ok(true) => Flushed::All,
            Err(XdpError::InterfaceGone { .. }) => Flushed::Gone,
            // Where the kernel refuses, the frames stay queued: the next flush tries again, and
            // what is not answered is repeated.
            Ok(false) | Err(_) => Flushed::Later,
        }
    }

    fn status(&mut self) -> Option<RingStatus> {
        let (counted, usage) = (self.statistics().ok()?, self.usage());
        Some(RingStatus {
            queue: self.queue(),
            ring: self.ring(),
            receive_entries: usage.receive_entries,
            receive_waiting: usage.receive_waiting,
            transmit_entries: usage.transmit_entries,
            transmit_waiting: usage.transmit_waiting,
            transmit_free: usage.transmit_free,
            fill_waiting: usage.fill_waiting,
            kernel_receive_dropped: counted.receive_dropped,
            kernel_receive_ring_full: counted.receive_ring_full,
            kernel_fill_ring_empty: counted.fill_ring_empty,
            kernel_receive_invalid: counted.receive_invalid,
            kernel_transmit_invalid: counted.transmit_invalid,
            kernel_transmit_ring_empty: counted.transmit_ring_empty,
        })
    }
}
