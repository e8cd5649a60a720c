//! Network interfaces: which is meant, its address, its queues.

use std::io;

use crate::wire::Mac;

/// A network interface of the namespace that the calling thread is in.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Interface {
    /// Its name, `eth0`.
    pub name: String,
    /// Its index, which the kernel knows it by.
    pub index: u32,
}

/// Why an interface cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// The operator named an interface that is not there.
    #[error("there is no interface `{name}` here; `ip link` lists those that there are")]
    Missing {
        /// As it was named.
        name: String,
    },
    /// The kernel refused to tell.
    #[error("interface `{name}`: cannot read its {what}: {error}")]
    Unreadable {
        /// As it was named.
        name: String,
        /// What was asked for.
        what: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

impl Interface {
    /// The interface of this name.
    pub fn find(name: &str) -> Result<Self, InterfaceError> {
        let _ = name;
        todo!()
    }

    /// Its Ethernet address.
    pub fn mac(&self) -> Result<Mac, InterfaceError> {
        todo!()
    }

    /// How many receive queues are in use.
    pub fn queues(&self) -> Result<u32, InterfaceError> {
        todo!()
    }
}
