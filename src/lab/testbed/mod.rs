//! Where the demonstration, the benchmarks and some tests run, and what runs there: two network
//! namespaces with a veth pair between them, the dispatch server and the autonomous servers,
//! operators, and the comparison of both sides.

pub mod checker;
pub mod cluster;
mod netns;
pub mod processes;
pub mod scenario;
pub mod sim_client;
pub mod workload;

pub use netns::*;
