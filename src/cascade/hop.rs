//! Where frames to a domain leave and where they arrive next.

use serde::{Deserialize, Serialize};

use crate::wire::{Envelope, Mac};

/// A next hop: a MAC address, at one of our interfaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hop {
    /// The interface, counted from 0 as they are configured.
    pub interface: u8,
    /// The MAC address there.
    pub mac: Mac,
}

impl Hop {
    /// It in one number, which threads can hand to each other whole. Never 0 for a station's
    /// address.
    #[inline]
    pub fn number(self) -> u64 {
        let [a, b, c, d, e, f] = self.mac.0;
        u64::from_le_bytes([a, b, c, d, e, f, self.interface, 0])
    }

    /// The inverse of [`Self::number`]; the highest byte is ignored.
    pub fn from_number(number: u64) -> Self {
        let [a, b, c, d, e, f, interface, _] = number.to_le_bytes();
        Self { interface, mac: Mac([a, b, c, d, e, f]) }
    }
}

/// What the frames to a domain bear on their way, beside addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Marks {
    /// The 802.1Q tag of its link.
    pub vlan: Option<u16>,
    /// The label of the path to it.
    pub label: Option<u16>,
}

impl Marks {
    /// The envelope of the answer to who asked, from our interface of this address. Tag and label
    /// are those of the way to the domain, and where none are configured those that the frame
    /// bears: an interface may have taken the tag off before the frame could be looked at. What was
    /// sent to many is answered by one all the same.
    ///
    /// None where a group asked: no station is one, and an answer would go to all of it.
    #[inline]
    pub fn answer(self, asked: &Envelope, own: Mac) -> Option<Envelope> {
        (!is_group(asked.src_mac)).then_some(Envelope {
            dst_mac: asked.src_mac,
            src_mac: own,
            vlan: self.vlan.or(asked.vlan),
            label: self.label.or(asked.label),
            to: asked.from,
            from: asked.to,
            ethertype: asked.ethertype,
        })
    }
}

/// Whether an address stands for several stations.
#[inline]
pub fn is_group(mac: Mac) -> bool {
    mac.0[0] & 1 == 1
}
