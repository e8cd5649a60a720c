//! What Baton is tried with: simulated autonomous servers, a load generator, the testbed in network
//! namespaces, the demonstration.
//!
//! A server that serves needs none of it: without the cargo feature `lab` it is not in the program.

pub mod demo;
pub mod load;
pub mod sim;
pub mod testbed;
