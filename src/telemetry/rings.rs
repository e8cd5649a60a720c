//! How the rings of a worker are.

use serde::{Deserialize, Serialize};

/// The rings of one socket, and what the kernel counted for it since it was bound. Entries are
/// frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RingStatus {
    /// The receive queue of the interface.
    pub queue: u32,
    /// Which of the queue's sockets.
    pub ring: u32,
    /// The receive ring's entries.
    pub receive_entries: u32,
    /// Those that wait for the worker.
    pub receive_waiting: u32,
    /// The transmit ring's entries.
    pub transmit_entries: u32,
    /// Those that wait for the kernel.
    pub transmit_waiting: u32,
    /// Chunks to send with that are free.
    pub transmit_free: u32,
    /// Chunks that the kernel has to receive into; of the queue, shared by its sockets.
    pub fill_waiting: u32,
    /// Frames that the kernel dropped for want of a chunk, or other reasons.
    pub kernel_receive_dropped: u64,
    /// Frames that it dropped because the receive ring was full.
    pub kernel_receive_ring_full: u64,
    /// How often it found no chunk to receive into.
    pub kernel_fill_ring_empty: u64,
    /// Entries of the fill ring that were none.
    pub kernel_receive_invalid: u64,
    /// Entries of the transmit ring that were none.
    pub kernel_transmit_invalid: u64,
    /// How often it found nothing to send.
    pub kernel_transmit_ring_empty: u64,
}
