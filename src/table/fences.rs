//! Fences: the domains whose autonomous servers have reported a newer controller, each with that
//! controller's epoch.
//!
//! A fence outlives the engine that wrote it, so that a server which was replaced does not control
//! again only because it is started. It holds until this server's own term is above the fence's;
//! only an operator or a cluster gives it such a term. Counting up generations, as each start does,
//! never passes it.
//!
//! Only the control thread writes, the epoch before the domain: if it is killed between the two
//! stores, there is no fence yet, and the autonomous server reports again. Raising an epoch is one
//! store.

use std::sync::atomic::Ordering;

use super::Table;
use super::layout::FENCE;
use crate::wire::{Domain, Epoch};

impl Table {
    /// Every fence that was ever written, including those that no longer hold.
    pub fn fences(&self) -> impl Iterator<Item = (Domain, Epoch)> + '_ {
        self.words().fences().chunks_exact(FENCE).filter_map(|words| {
            // Acquire pairs with the Release store of the domain in `set_fence`.
            let domain = Domain::new(words[0].load(Ordering::Acquire))?;
            // Acquire pairs with the Release store of a raised epoch.
            Some((domain, Epoch(words[1].load(Ordering::Acquire))))
        })
    }

    /// The epoch of the other dispatch server that controls this domain; none if this one may.
    pub fn fence(&self, domain: Domain) -> Option<Epoch> {
        let term = self.epoch().term();
        self.fences().find(|&(fenced, by)| fenced == domain && by.term() >= term).map(|(_, by)| by)
    }

    /// Records that another dispatch server controls a domain under `by`; an epoch below the
    /// recorded one changes nothing. False if there is no room: as many domains are fenced as a
    /// configuration may name.
    #[must_use]
    pub fn set_fence(&self, domain: Domain, by: Epoch) -> bool {
        let term = self.epoch().term();
        let all = || self.words().fences().chunks_exact(FENCE);
        // Relaxed: only this thread writes.
        let load = |words: &[crate::sys::mapping::SharedWord], at: usize| words[at].load(Ordering::Relaxed);
        if let Some(words) = all().find(|words| load(words, 0) == domain.number()) {
            if load(words, 1) < by.0 {
                words[1].store(by.0, Ordering::Release);
            }
            return true;
        }
        // A fence that no longer holds makes room.
        let free = all().find(|words| load(words, 0) == 0);
        let Some(words) = free.or_else(|| all().find(|words| Epoch(load(words, 1)).term() < term)) else {
            return false;
        };
        words[0].store(0, Ordering::Release);
        words[1].store(by.0, Ordering::Release);
        words[0].store(domain.number(), Ordering::Release);
        true
    }
}
