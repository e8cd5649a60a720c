//! Where the demonstration, the benchmarks and the tests run, and what runs there: two network
//! namespaces with a veth pair between them, the dispatch server and the autonomous servers,
//! operators, and the comparison of both sides.

pub mod checker;
pub mod cluster;
mod command;
pub mod huge_pages;
pub mod netns;
pub mod processes;
mod root;
pub mod scenario;
mod setup;
pub mod sim_client;
pub mod workload;

pub use root::need_root;
pub use setup::*;
