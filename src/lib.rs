//! Baton: a V2V conference dispatch server that survives its own death.
//!
//! ```text
//! cli/        what is typed                                                     lab/  sim, load, testbed
//! ───────────────────────────────────────────────────────────────────────────────────────────────
//! engine/     one process: startup, control thread         keeper/    what outlives an engine
//! ───────────────────────────────────────────────────────────────────────────────────────────────
//! api/        HTTP, metrics, views of the table            handover/  what the two processes agree on
//! link/       the bottom layer: rings and workers          sla/       the offline judge
//! recovery/   lookup → connect → takeover → update         doctor/    what a machine lacks
//! cms/        what may be done to a conference
//! ───────────────────────────────────────────────────────────────────────────────────────────────
//! cascade/    which domain, over which link                database/  key parameters, durable
//! table/      meetings and terminals: mapped, lock-free    telemetry/ counters, latency, logs
//! ───────────────────────────────────────────────────────────────────────────────────────────────
//! sys/        unsafe code and system calls                 config/    the configuration file
//! wire/       frames as types          limits  every bound          time, text, output
//! ```
//!
//! A room uses only rooms that stand further down; `tests/architecture.rs` has the table of what
//! may use what, and checks it. [`sdk`] is a V2V endpoint for makers of autonomous servers and
//! terminals.
//!
//! What always holds between the rooms:
//!
//! - `wire`, `table`, `cascade`, `recovery` and `cms` know no clock, no randomness and no system
//!   call: time is an argument. So a simulation runs the code that production runs.
//! - `unsafe` is in `sys` alone, and the compiler sees to it.
//! - A worker never blocks, allocates, logs or takes a lock. What is slow goes to the control
//!   thread over a bounded queue, and a queue that is full is counted, not waited for.
//! - A bad frame is a counted value, never an error or a panic.
//! - A frame leaves its ring after everything that follows from it was handed on; a client is
//!   answered after the database and the autonomous server both know. Death in between repeats work
//!   and loses none.

pub mod api;
pub mod cascade;
pub mod cli;
pub mod cms;
pub mod config;
pub mod database;
pub mod doctor;
pub mod engine;
pub mod handover;
pub mod keeper;
#[cfg(any(test, feature = "lab"))]
pub mod lab;
pub mod limits;
pub mod link;
mod output;
pub mod recovery;
pub mod sdk;
pub mod sla;
pub mod sys;
pub mod table;
pub mod telemetry;
pub mod text;
pub mod time;
pub mod wire;
