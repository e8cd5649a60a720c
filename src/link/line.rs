//! The line from the keeper, listened to by a thread of its own: a standby's others wait for locks.

use std::io;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::channel::{Receiver, unbounded};

use super::shared::Shared;
use crate::keeper::handover::{KeeperLine, Order};
use crate::sys::threads::{Behind, spawn_behind};

/// What the keeper says. Its orders are few: how many wait is bounded by how often links and standbys change.
pub(super) struct Line {
    pub orders: Receiver<io::Result<Order>>,
    stands_by: Arc<AtomicBool>,
}

impl Line {
    /// Listens, and wakes the control thread for each order. While this process stands by, the end of the line is the end of
    /// the process: nobody wants it any more.
    pub fn listen(keeper: Arc<KeeperLine>, shared: Arc<Shared>, stands_by: bool) -> io::Result<Self> {
        let stands_by = Arc::new(AtomicBool::new(stands_by));
        let (told, orders) = unbounded();
        let standing = Arc::clone(&stands_by);
        spawn_behind("keeper's line", Behind::Far, move || {
            loop {
                let order = keeper.order();
                let ended = order.is_err();
                // Relaxed: it says only how the process ends, and with its keeper gone an engine ends either way.
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
        Ok(Self { orders, stands_by })
    }

    /// This process controls from now on.
    pub fn controls(&self) {
        self.stands_by.store(false, Ordering::Relaxed);
    }
}
