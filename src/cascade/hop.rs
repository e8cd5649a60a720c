//! Where frames to a domain leave and where they arrive next.

use serde::{Deserialize, Serialize};

use crate::wire::Mac;

/// A next hop: a MAC address, at one of our interfaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hop {
    /// The interface, counted from 0 as they are configured.
    pub interface: u8,
    /// The MAC address there.
    pub mac: Mac,
}

impl Hop {
    /// It in one number, which threads can hand to each other whole. Never 0 for a station's address.
    #[inline]
    pub fn number(self) -> u64 {
        let [a, b, c, d, e, f] = self.mac.0;
        u64::from_le_bytes([a, b, c, d, e, f, self.interface, 0])
    }

    /// From its [`Self::number`].
    pub fn from_number(number: u64) -> Self {
        let [a, b, c, d, e, f, interface, _] = number.to_le_bytes();
        Self { interface, mac: Mac([a, b, c, d, e, f]) }
    }
}
