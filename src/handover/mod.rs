//! What the two processes, keeper and engine, agree on.
//!
//! [`protocol`]: what they tell each other, and which descriptors pass between them. [`compat`]:
//! what has to be the same in two programs for one to understand the other. [`Upgrading`] and its
//! forms: a hand-over to another program, as clients see it.

pub mod compat;
pub mod protocol;
mod shown;
mod upgrade;

pub use shown::{Attached, AttachedAll, StandbyState};
pub use upgrade::{Program, TrialTime, UpgradeForm, UpgradeState, Upgrading};
