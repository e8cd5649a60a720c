//! The state of a worker's rings.

use serde::{Deserialize, Serialize};

/// The rings of one socket, and the kernel's counts for it since it was bound. Entries are frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RingStatus {
    /// The receive queue of the interface.
    pub queue: u32,
    /// The number of the socket on its queue.
    pub ring: u32,
    /// The capacity of the receive ring.
    pub receive_entries: u32,
    /// Entries that wait for the worker.
    pub receive_waiting: u32,
    /// The capacity of the transmit ring.
    pub transmit_entries: u32,
    /// Entries that wait for the kernel.
    pub transmit_waiting: u32,
    /// Free chunks for sending.
    pub transmit_free: u32,
    /// Chunks that the kernel has to receive into; of the queue, shared by its sockets.
    pub fill_waiting: u32,
    /// Frames that the kernel dropped because it had no chunk, or for other reasons.
    pub kernel_receive_dropped: u64,
    /// Frames that it dropped because the receive ring was full.
    pub kernel_receive_ring_full: u64,
    /// How often it found no chunk to receive into.
    pub kernel_fill_ring_empty: u64,
    /// Invalid entries of the fill ring.
    pub kernel_receive_invalid: u64,
    /// Invalid entries of the transmit ring.
    pub kernel_transmit_invalid: u64,
    /// How often it found nothing to send.
    pub kernel_transmit_ring_empty: u64,
}
