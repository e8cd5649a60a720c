//! The table as a file: opening, inspection, resizing, and snapshots that survive a reboot.

pub mod export;
mod inspect;
mod open;
pub mod resize;
pub mod snapshot;

pub use inspect::{Counts, DomainCount, Inspection};
pub use open::{OpenError, Refusal};
