//! Autonomous servers and terminals that are not there: the other side of wire.md, to hold the
//! dispatch server against.
//!
//! [`AutonomousServer`] is written from wire.md and not from the dispatch server's code, so that a
//! misreading on one side shows. It does no I/O: `baton sim` runs many of it on an interface, tests
//! run it under a clock of their own with a [`Network`] between, and the same seed brings the same
//! run.

mod answers;
mod control;
mod counters;
mod dump;
mod meeting;
mod meeting_map;
mod meetings;
mod members;
mod network;
mod numbering;
mod preload;
mod probes;
mod random;
mod run;
mod server;
mod settings;
mod summary;
mod terminals;
mod ticker;
mod timeline;
mod timer_lists;
mod world;

#[cfg(test)]
mod tests;

pub use counters::{Counters, Latency};
pub use dump::{Dump, HeldPart, HeldTerminal};
pub use network::{Network, NetworkCounters, NetworkSettings, Port};
pub use preload::{Preload, PreloadedDomain};
pub use random::Random;
pub use run::{Manner, RunError, Simulation};
pub use server::AutonomousServer;
pub use settings::Settings;
pub use summary::{Digest, RecoveryNow, TerminalChanged};
pub use timeline::{AuditSeen, EpochSeen};
pub use world::{DomainStatus, Recovery, World, WorldStatus};
