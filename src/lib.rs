//! Baton: a V2V conference dispatch server that keeps control of its meetings when it is killed.
//!
//! ```text
//! cli/        the command line                                                  lab/  sim, load, testbed
//! ───────────────────────────────────────────────────────────────────────────────────────────────
//! engine/     one process: startup, control thread         keeper/    owns what outlives an engine
//! ───────────────────────────────────────────────────────────────────────────────────────────────
//! api/        HTTP, metrics, views of the table            handover/  the protocol between the two
//! link/       the bottom layer: rings and workers          sla/       checks logs against rules
//! recovery/   lookup → connect → takeover → update         doctor/    checks of the machine
//! cms/        operations on meetings
//! ───────────────────────────────────────────────────────────────────────────────────────────────
//! cascade/    domains, links and routes                    database/  key parameters, durable
//! table/      meetings and terminals: mapped, lock-free    telemetry/ counters, latency, logs
//! ───────────────────────────────────────────────────────────────────────────────────────────────
//! sys/        unsafe code and system calls                 config/    the configuration file
//! wire/       frames as types          limits  every bound          time, text, output
//! ```
//!
//! A module uses only modules on lower levels of this map; `tests/architecture.rs` lists the
//! permitted uses and checks them. [`sdk`] is a V2V endpoint for makers of autonomous servers and
//! terminals. `docs/glossary.md` lists the terms.
//!
//! Rules that always hold between the modules:
//!
//! - `wire`, `table`, `cascade`, `recovery` and `cms` use no clock, no randomness and no system
//!   call: time is an argument. A simulation therefore runs the same code as production.
//! - Only `sys` contains `unsafe` code; the compiler enforces this.
//! - A worker never blocks, allocates, logs or takes a lock. It passes slow work to the control
//!   thread over a bounded queue. If the queue is full, it counts the frame and does not wait.
//! - A bad frame is a counted value, never an error or a panic.
//! - A ring entry is released only after all work that follows from its frame was handed on. A
//!   client gets its answer only after the database and the autonomous server both have the change.
//!   A death in between repeats work and loses none.

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
