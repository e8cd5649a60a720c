//! What the threads of an engine share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::frame_queue::FrameQueue;
use super::peers::Peers;
use super::troubles::Troubles;
use super::waker::Waker;
use crate::wire::{Address, Epoch};

/// A worker's outbox, and what wakes it for that.
pub type Way = (Arc<FrameQueue>, Arc<Waker>);

/// What workers and the control thread share.
pub struct Shared {
    /// The dispatch server's own address.
    pub address: Address,
    /// What V2V frames bear on this site.
    pub ethertype: u16,
    /// The UDP port of the packet generator's probes, where steering takes those too.
    pub probe_port: Option<u16>,
    /// The domains, their keys.
    pub peers: Arc<Peers>,
    /// Frames for the control thread.
    pub inbox: FrameQueue,
    /// Wakes the control thread.
    pub control: Waker,
    /// A worker of each interface, by whose outbox what does not leave by one's own goes. Entered
    /// before any worker runs; none where there is one interface alone.
    pub ways: OnceLock<Box<[Way]>>,
    /// What is wrong with the table, as workers meet it.
    pub troubles: Troubles,
    epoch: AtomicU64,
    /// Per domain, in the topology's order: whether the table holds all of its terminals.
    settled: Box<[AtomicBool]>,
    /// The interface is gone.
    gone: AtomicBool,
    stop: AtomicBool,
}

impl Shared {
    /// What is shared from the start. `settled`: the table holds all terminals of all domains.
    pub fn new(
        address: Address,
        (ethertype, probe_port): (u16, Option<u16>),
        peers: Arc<Peers>,
        inbox: FrameQueue,
        control: Waker,
        settled: bool,
    ) -> Self {
        let settled = (0..peers.len()).map(|_| AtomicBool::new(settled)).collect();
        let (epoch, gone, stop) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(false));
        let (troubles, ways) = (Troubles::default(), OnceLock::new());
        Self { address, ethertype, probe_port, peers, inbox, control, ways, troubles, epoch, settled, gone, stop }
    }

    /// The epoch that this engine controls under.
    pub fn epoch(&self) -> Epoch {
        // Relaxed: a worker only writes it into acknowledgements, which any epoch of ours may bear.
        Epoch(self.epoch.load(Ordering::Relaxed))
    }

    /// Enters the epoch, before any worker runs.
    pub fn begin(&self, epoch: Epoch) {
        // Relaxed: the threads that read it are spawned after this.
        self.epoch.store(epoch.0, Ordering::Relaxed);
    }

    /// Whether the table holds all of a domain's terminals, so that one that it does not hold is
    /// unknown.
    pub fn is_settled(&self, domain: usize) -> bool {
        // Acquire pairs with the Release in `settle`: what the recovery inserted before it is seen.
        self.settled[domain].load(Ordering::Acquire)
    }

    /// Says that the table holds all of a domain's terminals now.
    pub fn settle(&self, domain: usize) {
        // Release pairs with the Acquire in `is_settled`.
        self.settled[domain].store(true, Ordering::Release);
    }

    /// Tells the control thread that the interface is gone.
    pub fn lose_interface(&self) {
        // Relaxed, as for `stop`: the wake-up makes it be looked at.
        if !self.gone.swap(true, Ordering::Relaxed) {
            self.control.wake();
        }
    }

    /// Whether the interface is gone.
    pub fn has_lost_interface(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Tells every thread to end.
    pub fn stop(&self) {
        // Relaxed: a stop orders nothing but itself; the control thread joins the others.
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether every thread shall end.
    pub fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
