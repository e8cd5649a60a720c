//! One engine process: it takes the locks, starts the workers, recovers the meetings and controls
//! them until it ends.
//!
//! [`startup`] is the order in which all that happens. The control thread (`control`) does
//! everything that a worker must not wait for: recovery, operations, the database, clients, the
//! keeper.

pub(crate) mod control;
pub(crate) mod first_frames;
mod keeper_channel;
mod runtime;
pub mod startup;
#[cfg(test)]
mod tests;
