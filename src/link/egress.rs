//! Our interfaces as senders see them.
//!
//! A frame leaves by the interface whose MAC address it bears, and there by one of that interface's
//! rings: always the same for a domain, so that its frames stay in order.

use std::ops::Range;

use crate::handover::protocol::Manifest;
use crate::wire::Mac;

/// Which rings are whose.
pub(crate) struct Ports(Vec<(Mac, Range<usize>)>);

impl Ports {
    /// As the keeper handed them over: rings are numbered interface by interface.
    pub fn new(manifest: &Manifest) -> Self {
        let mut next = 0;
        let port = |interface: &crate::handover::protocol::Served| {
            let rings = next..next + interface.xdp.sockets();
            next = rings.end;
            (interface.mac, rings)
        };
        Self(manifest.interfaces.iter().map(port).collect())
    }

    /// One ring on one interface.
    #[cfg(any(test, feature = "lab"))]
    pub fn one(mac: Mac) -> Self {
        Self(vec![(mac, 0..1)])
    }

    /// The MAC addresses.
    pub fn macs(&self) -> Vec<Mac> {
        self.0.iter().map(|(mac, _)| *mac).collect()
    }

    /// The first ring of each.
    pub fn firsts(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().map(|(_, rings)| rings.start)
    }

    /// The ring of the domain at a place for a frame with this source. One that is none of ours
    /// leaves by the first interface.
    pub fn ring(&self, source: Mac, place: usize) -> usize {
        let Some((_, rings)) = self.0.iter().find(|(mac, _)| *mac == source).or(self.0.first()) else { return 0 };
        rings.start + place % rings.len().max(1)
    }

    /// The number of the interface that a ring is on.
    pub fn interface_of(&self, ring: usize) -> u8 {
        self.0.iter().position(|(_, rings)| rings.contains(&ring)).unwrap_or(0) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_leaves_by_a_ring_of_the_interface_whose_address_it_bears() {
        let (one, two) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        let ports = Ports(vec![(one, 0..2), (two, 2..5)]);
        assert_eq!([0, 1, 2, 3].map(|place| ports.ring(one, place)), [0, 1, 0, 1]);
        assert_eq!([0, 1, 2, 3].map(|place| ports.ring(two, place)), [2, 3, 4, 2]);
        assert_eq!(ports.ring(Mac([0xff; 6]), 1), 1, "an address that is none of ours any more");
        assert_eq!(ports.firsts().collect::<Vec<_>>(), [0, 2]);
        assert_eq!([0, 1, 2, 3, 4].map(|ring| ports.interface_of(ring)), [0, 0, 1, 1, 1]);
        assert_eq!(ports.macs(), [one, two]);
    }
}
