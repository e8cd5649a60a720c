//! How often a writer has changed parts, by domain: who wants to know whether anything of a domain
//! is other than it was need not look at its parts.

use crate::wire::{Domain, mix};

/// Counts; domains that share one are told of each other's changes, which is a look too many and
/// never one too few.
const COUNTS: usize = 256;

/// Changes of parts, by domain. It is told of each before it is made, so that none is missed that a
/// panic cut short.
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
