//! The operating system, and the only `unsafe` code of the crate.
#![allow(unsafe_code, reason = "this is the one place for it; lib.rs denies it everywhere else")]

pub mod af_xdp;
pub mod bpf;
pub mod capabilities;
pub mod clock;
pub mod cmac;
pub mod cpu_topology;
pub mod durable;
pub mod exclusive;
pub mod fd_passing;
pub mod file_bytes;
pub mod interface;
pub mod interrupt;
pub mod mapping;
pub mod memory;
pub mod mounts;
pub mod process;
pub mod random;
pub mod robust_locks;
pub mod sd_notify;
pub mod sealed;
pub mod seccomp;
pub mod sigbus;
pub mod signals;
pub mod stderr;
pub mod threads;
