//! Baton: a V2V conference dispatch server that survives its own death.
//!
//! ```text
//!            operators, clients                        autonomous servers, terminals
//!                   │  HTTP, CLI                                 │  V2V frames
//!                   ▼                                            ▼
//!   cms ─────── what a conference is and what may be done to it  bpf/  steers
//!     │  database   key parameters, durable                      │
//!     ▼                                                          ▼
//!   recovery    lookup → connect → takeover → update  ◄────►   link   rings, workers, control
//!     │                                                          │
//!     ▼                                                          ▼
//!   cascade     which domain, over which link                  wire   frames as types
//!     │
//!     ▼
//!   table       meetings and terminals: mapped, lock-free, alive after whoever wrote it is dead
//!   ───────────────────────────────────────────────────────────────────────────────────────
//!   keeper      what outlives an engine          sys    the only unsafe code, the only system calls
//! ```
//!
//! Beside them: [`sdk`], a V2V endpoint for makers of autonomous servers and terminals; [`sim`], autonomous servers over
//! real rings and in one process under a seeded clock; [`load`], an open-loop load generator; [`stage`], where demonstration and benchmarks
//! play; [`telemetry`], with the service level that it is held to; [`doctor`], what a machine lacks; [`config`]; [`cli`]; and [`limits`], where every
//! bound is.
//!
//! What always holds between the rooms:
//!
//! - `wire`, `table`, `cascade`, `recovery` and the operations of `cms` know no clock, no randomness and no system call:
//!   time is an argument. So a simulation runs the code that production runs.
//! - `unsafe` is in `sys` alone, and the compiler sees to it.
//! - A worker never blocks, allocates, logs or takes a lock. What is slow goes to the control thread over a bounded queue,
//!   and a queue that is full is counted, not waited for.
//! - A bad frame is a counted value, never an error or a panic.
//! - A frame leaves its ring after everything that follows from it was handed on; a client is answered after the database
//!   and the autonomous server both know. Death in between repeats work and loses none.

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
pub mod limits;
pub mod link;
pub mod load;
pub mod recovery;
pub mod sdk;
pub mod sim;
pub mod sla;
pub mod stage;
pub mod sys;
pub mod table;
pub mod telemetry;
pub mod time;
pub mod wire;
