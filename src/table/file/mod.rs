//! The table as a file: opened, inspected, resized, and written down as a snapshot that survives a
//! reboot.

mod export;
mod inspect;
mod open;
pub mod resize;
pub mod snapshot;

pub use inspect::{Counts, DomainCount, Inspection};
pub use open::{OpenError, Refusal};
