//! Who is where in the simulated network.

use crate::lab::sim::{AutonomousServer, Port};
use crate::wire::{Address, Domain, Mac};

/// The dispatch server's.
pub(super) const DISPATCH_MAC: Mac = Mac([2, 0, 0, 0, 0xd0, 1]);

pub(super) fn dispatch_address() -> Address {
    Domain::new(1).expect("1 is a domain").device(1)
}

/// One autonomous server and its place in the network.
#[expect(missing_docs, reason = "the types say it")]
pub struct Site {
    pub server: AutonomousServer,
    pub port: Port,
}
