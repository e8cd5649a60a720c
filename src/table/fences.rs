//! Fences: the domains whose autonomous servers have told of a newer controller, and under which
//! epoch.
//!
//! A fence outlives the engine that heard of it, so that a server which was replaced does not
//! control again because somebody starts it. It counts until this server's own term is above that
//! of the fence, which an operator or a cluster gives it. Counting up generations, as each start
//! does, never passes it.
//!
//! The control thread alone writes, the epoch before the domain: killed between the two stores, the
//! fence is not there yet, and the autonomous server says again what it said. An epoch that is
//! raised is one store.

use std::sync::atomic::Ordering;

use super::Table;
use super::layout::FENCE;
use crate::wire::{Domain, Epoch};

impl Table {
    /// Every fence that was ever written down, those that do not count any more included.
    pub fn fences(&self) -> impl Iterator<Item = (Domain, Epoch)> + '_ {
        self.words().fences().chunks_exact(FENCE).filter_map(|words| {
            // Acquire pairs with the Release store of the domain in `set_fence`.
            let domain = Domain::new(words[0].load(Ordering::Acquire))?;
            // Acquire pairs with the Release store of a raised epoch.
            Some((domain, Epoch(words[1].load(Ordering::Acquire))))
        })
    }

    /// Under which epoch somebody else controls this domain; none where this server may.
    pub fn fence(&self, domain: Domain) -> Option<Epoch> {
        let term = self.epoch().term();
        self.fences().find(|&(fenced, by)| fenced == domain && by.term() >= term).map(|(_, by)| by)
    }

    /// Writes down that a domain is controlled under `by`; an epoch below the one that is there
    /// changes nothing. False where there is no room: as many domains are fenced as a configuration
    /// may name.
    #[must_use]
    pub fn set_fence(&self, domain: Domain, by: Epoch) -> bool {
        let term = self.epoch().term();
        let all = || self.words().fences().chunks_exact(FENCE);
        // Relaxed: this thread alone writes.
        let load = |words: &[crate::sys::mapping::SharedWord], at: usize| words[at].load(Ordering::Relaxed);
        if let Some(words) = all().find(|words| load(words, 0) == domain.number()) {
            if load(words, 1) < by.0 {
                words[1].store(by.0, Ordering::Release);
            }
            return true;
        }
        // What does not count any more makes room.
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
