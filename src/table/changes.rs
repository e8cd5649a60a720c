//! How often a writer has changed parts, by domain: whether anything in a domain has changed can be
//! told without reading its parts.

use crate::wire::{Domain, mix};

/// Domains that share a counter count each other's changes too: that makes a caller look in vain,
/// and never makes it miss a change.
const COUNTS: usize = 256;

/// Changes of parts, by domain. Each is counted before it is made, so that one which a panic cuts
/// short is counted too.
#[derive(Clone, Debug)]
pub(super) struct PartChanges(Box<[u64; COUNTS]>);

impl Default for PartChanges {
    fn default() -> Self {
        Self(Box::new([0; COUNTS]))
    }
}

impl PartChanges {
    pub fn of(&self, domain: Domain) -> u64 {
        self.0[place(domain)]
    }

    pub fn count(&mut self, domain: Domain) {
        self.0[place(domain)] += 1;
    }
}

fn place(domain: Domain) -> usize {
    mix(domain.number()) as usize % COUNTS
}
