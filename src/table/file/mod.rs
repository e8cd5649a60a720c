//! The table as a file: opening, inspection, resizing, and snapshots that survive a reboot.

mod earlier;
pub mod export;
mod inspect;
mod old;
mod open;
pub mod resize;
pub mod snapshot;

pub use inspect::{Counts, DomainCount, Inspection};
pub use open::{OpenError, Refusal};
