//! The domains as workers see them: keys that do not change, and where their frames come from.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::cascade::Topology;
use crate::wire::{Domain, Key, Mac};

/// One domain.
pub struct Peer {
    /// Which.
    pub domain: Domain,
    /// What frames from it are checked with.
    pub inbound: Key,
    /// What frames to it are tagged with.
    pub outbound: Key,
    /// The MAC of its latest authentic frame, 0 before the first: workers write it, the control thread reads it.
    seen: AtomicU64,
}

impl Peer {
    /// Notes where an authentic frame came from. A store only where that is new.
    pub fn note(&self, mac: Mac) -> bool {
        let [a, b, c, d, e, f] = mac.0;
        let number = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        // Relaxed, here and below: the number is all there is, and nothing else is read by its light.
        let new = self.seen.load(Ordering::Relaxed) != number;
        if new {
            self.seen.store(number, Ordering::Relaxed);
        }
        new
    }

    /// The MAC of its latest authentic frame.
    pub fn seen(&self) -> Option<Mac> {
        let [_, _, a, b, c, d, e, f] = self.seen.load(Ordering::Relaxed).to_be_bytes();
        Some(Mac([a, b, c, d, e, f])).filter(|mac| *mac != Mac::default())
    }
}

/// Every domain of the configuration, by its number.
pub struct Peers(Box<[Peer]>);

impl Peers {
    /// The domains of a topology.
    pub fn new(topology: &Topology) -> Self {
        let mut peers: Vec<_> = topology
            .domains()
            .filter_map(|domain| topology.route(domain))
            .map(|route| Peer {
                domain: route.domain,
                inbound: route.from_it.clone(),
                outbound: route.to_it.clone(),
                seen: AtomicU64::new(0),
            })
            .collect();
        peers.sort_by_key(|peer| peer.domain);
        Self(peers.into())
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "a configuration names at least one domain")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// A domain and its place.
    pub fn find(&self, domain: Domain) -> Option<(usize, &Peer)> {
        let place = self.0.binary_search_by_key(&domain, |peer| peer.domain).ok()?;
        Some((place, &self.0[place]))
    }

    /// The domain at a place.
    ///
    /// # Panics
    /// If there is none.
    pub fn peer(&self, place: usize) -> &Peer {
        &self.0[place]
    }

    /// All of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.0.iter()
    }
}
