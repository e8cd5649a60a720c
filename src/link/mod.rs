//! The bottom layer: frames between the rings and the rest.
//!
//! ```text
//!            rx ring ──► worker ──► table            control ──► recovery, cascade, cms
//!            tx ring ◄── worker ◄── outbox ◄────────── control ◄── inbox ◄── worker
//! ```
//!
//! One worker thread a ring does what terminals ask, alone; the control thread does all else, and no worker ever waits
//! for it. What always holds: a frame leaves its ring only after everything that follows from it was handed on.

mod acknowledgements;
mod control;
mod desk;
pub mod engine;
mod equipment;
mod first;
mod line;
mod mailbox;
pub mod memory;
mod overload;
mod peers;
mod ports;
mod post;
mod ring;
mod shared;
mod snapshots;
mod status;
mod store;
#[cfg(test)]
mod tests;
mod thread;
mod troubles;
mod upgrade;
mod wake;
mod worker;

pub use mailbox::Mailbox;
pub use peers::{Peer, Peers};
pub use ring::{Flushed, Received, Ring};
pub use shared::Shared;
pub use wake::Wake;
pub use worker::Worker;
