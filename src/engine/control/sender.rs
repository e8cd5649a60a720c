//! The control thread's way out: over the workers, for they alone have rings.

use std::sync::Arc;

use super::dispatcher::Transmit;
use crate::limits::POSTED_MAX;
use crate::link::FrameQueue;
use crate::link::Shared;
use crate::link::Waker;
use crate::link::egress::Ports;
use crate::link::outgoing::Outgoing;
use crate::time::Nanos;

/// Sends by the workers' outboxes, a domain's frames always by the same worker of an interface, so
/// that they stay in order.
///
/// A worker that waits is woken for several frames at once, by [`Self::deliver`]: on the core of
/// the control thread it would run at each of them, and a change of threads costs as much as a
/// frame.
pub(crate) struct Sender {
    outboxes: Vec<Outbox>,
    /// Frames that are posted together, each with the outbox that it is for.
    outgoing: Outgoing<usize>,
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
        Self { outboxes, outgoing: Outgoing::default(), ports, shared, unroutable: 0, overflowed: 0 }
    }

    /// Whether any frame, whomever it is for, would find room.
    pub fn has_room(&self) -> bool {
        self.outboxes.iter().all(|outbox| outbox.frames.room() > self.outgoing.len())
    }

    /// Wakes every worker, so that it sees what was said to all.
    pub fn wake(&self) {
        self.outboxes.iter().for_each(|outbox| outbox.worker.wake());
    }

    /// Has the workers send what there is. Called whenever no more follows at once.
    pub fn deliver(&mut self) {
        self.post();
        self.outboxes.iter_mut().for_each(Outbox::deliver);
    }

    /// Sends a frame. What cannot be sent is counted, and repeated by its asker.
    pub fn send(&mut self, transmit: &Transmit) {
        let place = self.shared.peers.find(transmit.domain).map(|(place, _)| place);
        let way = place.map(|place| (place, self.ports.ring(transmit.envelope.src_mac, place)));
        let Some((place, outbox)) = way.filter(|&(_, outbox)| outbox < self.outboxes.len()) else {
            // Of no domain of the configuration, or by an interface that has no worker.
            self.unroutable += 1;
            return;
        };
        self.outgoing.write(place, outbox, |buffer, key| transmit.encode(buffer, key));
        if self.outgoing.is_full() {
            self.post();
        }
    }

    /// Posts what was written, in that order.
    fn post(&mut self) {
        for (outbox, frame) in self.outgoing.take(&self.shared.peers) {
            let outbox = &mut self.outboxes[outbox];
            let copy = |buffer: &mut [u8]| {
                buffer[..frame.len()].copy_from_slice(frame);
                frame.len()
            };
            if outbox.frames.post(Nanos::default(), copy) {
                outbox.undelivered += 1;
            } else {
                self.overflowed += 1;
            }
            if outbox.undelivered >= POSTED_MAX {
                outbox.deliver();
            }
        }
    }
}
