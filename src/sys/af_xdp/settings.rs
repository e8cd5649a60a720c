//! What is opened on an interface, and every size that follows from it.

use serde::{Deserialize, Serialize};

use super::XdpError;
use crate::limits::{CHUNK_BYTES, CHUNK_ZERO_COPY_BYTES, RING_ENTRIES_MAX, RING_ENTRIES_MIN};
use crate::sys::bpf::{QUEUES_MAX, RINGS_PER_QUEUE_MAX};
use crate::sys::interface::Interface;

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

    pub(super) const fn chunks_of_queue(&self) -> usize {
        self.receive as usize + self.rings as usize * self.transmit as usize
    }

    pub(super) const fn chunk_bytes(&self) -> usize {
        if self.zero_copy { CHUNK_ZERO_COPY_BYTES } else { CHUNK_BYTES }
    }

    pub(super) const fn chunks(&self) -> usize {
        self.queues as usize * self.chunks_of_queue()
    }

    /// Entries of a queue's completion ring: all that its sockets can have sent.
    pub(super) const fn completion(&self) -> u32 {
        (self.rings * self.transmit).next_power_of_two()
    }

    pub(super) fn check(&self) -> Result<(), XdpError> {
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
