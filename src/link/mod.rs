//! The bottom layer: frames between the rings and the table.
//!
//! ```text
//!            rx ring ──► worker ──► table            control thread
//!            tx ring ◄── worker ◄── outbox ◄────────── control ◄── inbox ◄── worker
//! ```
//!
//! One worker thread a ring does what terminals ask, alone; the engine's control thread does all
//! else, and no worker ever waits for it. What always holds: a frame leaves its ring only after
//! everything that follows from it was handed on.

pub(crate) mod acks;
mod burst;
pub(crate) mod egress;
mod frame_queue;
pub mod memory_ring;
pub(crate) mod outgoing;
mod overload;
mod peers;
mod ring;
mod shared;
mod tags;
#[cfg(test)]
mod tests;
pub(crate) mod thread;
pub(crate) mod troubles;
mod waker;
mod worker;

pub use frame_queue::FrameQueue;
pub use peers::{Peer, Peers};
pub use ring::{Flushed, Received, Ring};
pub use shared::Shared;
pub use waker::Waker;
pub use worker::Worker;
