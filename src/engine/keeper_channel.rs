//! The line from the keeper, listened to by a thread of its own: a standby's others wait for locks.

use std::collections::BTreeMap;
use std::io;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::channel::{Receiver, bounded};
use parking_lot::Mutex;

use crate::cascade::Hop;
use crate::handover::protocol::{KeeperLine, Order};
use crate::limits::{DOMAINS_MAX, ORDERS_MAX};
use crate::link::Shared;
use crate::sys::threads::{Nice, spawn_nice};
use crate::wire::Domain;

/// What the keeper says. Of next hops the last of each domain is kept, of other orders as many as
/// [`ORDERS_MAX`]: then this thread waits, the socket fills, and the keeper, which never waits,
/// goes on without.
pub(super) struct KeeperChannel {
    pub orders: Receiver<io::Result<Order>>,
    hops: Arc<Mutex<BTreeMap<Domain, Hop>>>,
    stands_by: Arc<AtomicBool>,
}

impl KeeperChannel {
    /// Listens, and wakes the control thread for each order. While this process stands by, the end
    /// of the line is the end of the process: nobody wants it any more.
    pub fn listen(keeper: Arc<KeeperLine>, shared: Arc<Shared>, stands_by: bool) -> io::Result<Self> {
        let stands_by = Arc::new(AtomicBool::new(stands_by));
        let hops = Arc::new(Mutex::new(BTreeMap::new()));
        let (told, orders) = bounded(ORDERS_MAX);
        let (standing, learned) = (Arc::clone(&stands_by), Arc::clone(&hops));
        spawn_nice("keeper's line", Nice::NobodyWaits, move || {
            loop {
                let order = match keeper.order() {
                    Ok(Order::NextHop { domain, hop }) => {
                        note(&mut learned.lock(), domain, hop);
                        continue;
                    }
                    order => order,
                };
                let ended = order.is_err();
                // Relaxed: it says only how the process ends, and with its keeper gone an engine
                // ends either way.
                if ended && standing.load(Ordering::Relaxed) {
                    process::exit(0);
                }
                let gone = told.send(order).is_err();
                shared.control.wake();
                if ended || gone {
                    return;
                }
            }
        })?;
        Ok(Self { orders, hops, stands_by })
    }

    /// This process controls from now on. Gives the next hops that the one before it learned
    /// meanwhile.
    pub fn controls(&self) -> BTreeMap<Domain, Hop> {
        self.stands_by.store(false, Ordering::Relaxed);
        std::mem::take(&mut *self.hops.lock())
    }
}

fn note(hops: &mut BTreeMap<Domain, Hop>, domain: Domain, hop: Hop) {
    // There are no more domains than that: a further one is a fault of the keeper's.
    if hops.len() < DOMAINS_MAX || hops.contains_key(&domain) {
        hops.insert(domain, hop);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Mac;

    #[test]
    fn of_next_hops_the_last_of_each_domain_is_kept_and_no_more_than_there_are_domains() {
        let mut hops = BTreeMap::new();
        let hop = |last: u8| Hop { interface: 0, mac: Mac([2, 0, 0, 0, 0, last]) };
        for turn in 0..3 {
            for number in 1..=2 * DOMAINS_MAX as u64 {
                note(&mut hops, Domain::new(number).unwrap(), hop(turn));
            }
        }
        assert_eq!(hops.len(), DOMAINS_MAX);
        assert!(hops.values().all(|last| *last == hop(2)));
    }
}
