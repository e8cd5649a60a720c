//! The control thread's way out: over the workers, for they alone have rings.

use std::sync::Arc;

use super::dispatcher::Transmit;
use crate::limits::POSTED_MAX;
use crate::link::FrameQueue;
use crate::link::Shared;
use crate::link::Waker;
use crate::link::egress::Ports;
use crate::time::Nanos;

/// Sends by the workers' outboxes, a domain's frames always by the same worker of an interface, so
/// that they stay in order.
///
/// A worker that waits is woken for several frames at once, by [`Self::deliver`]: on the core of
/// the control thread it would run at each of them, and a change of threads costs as much as a
/// frame.
pub(crate) struct Sender {
    outboxes: Vec<Outbox>,
    ports: Ports,
    shared: Arc<Shared>,
    /// Frames for a domain that the configuration does not name, or by an interface without a
    /// worker.
    pub unroutable: u64,
    /// Frames for which the outbox had no room.
    pub overflowed: u64,
}

struct Outbox {
    frames: Arc<FrameQueue>,
    worker: Arc<Waker>,
    /// Frames that the worker was not woken for.
    undelivered: usize,
}

impl Outbox {
    fn deliver(&mut self) {
        if std::mem::take(&mut self.undelivered) > 0 {
            self.worker.wake();
        }
    }
}

impl Sender {
    pub fn new(outboxes: Vec<(Arc<FrameQueue>, Arc<Waker>)>, ports: Ports, shared: Arc<Shared>) -> Self {
        let outboxes = outboxes.into_iter().map(|(frames, worker)| Outbox { frames, worker, undelivered: 0 }).collect();
        Self { outboxes, ports, shared, unroutable: 0, overflowed: 0 }
    }

    /// Whether any frame, whomever it is for, would find room.
    pub fn has_room(&self) -> bool {
        self.outboxes.iter().all(|outbox| outbox.frames.has_room())
    }

    /// Wakes every worker, so that it sees what was said to all.
    pub fn wake(&self) {
        self.outboxes.iter().for_each(|outbox| outbox.worker.wake());
    }

    /// Has the workers send what was posted. Called whenever no more follows at once.
    pub fn deliver(&mut self) {
        self.outboxes.iter_mut().for_each(Outbox::deliver);
    }

    /// Sends a frame. What cannot be sent is counted, and repeated by its asker.
    pub fn send(&mut self, transmit: &Transmit) {
        let way = self.shared.peers.find(transmit.domain);
        let Some((outbox, peer)) = way.and_then(|(place, peer)| {
            Some((self.outboxes.get_mut(self.ports.ring(transmit.envelope.src_mac, place))?, peer))
        }) else {
            // Of no domain of the configuration, or by an interface that has no worker.
            self.unroutable += 1;
            return;
        };
        if outbox.frames.post(Nanos::default(), |buffer| transmit.encode(buffer, &peer.outbound)) {
            outbox.undelivered += 1;
        } else {
            self.overflowed += 1;
        }
        if outbox.undelivered >= POSTED_MAX {
            outbox.deliver();
        }
    }
}
