//! The control thread's way out: over the workers, for they alone have rings.

use std::sync::Arc;

use super::mailbox::Mailbox;
use super::shared::Shared;
use super::wake::Wake;
use crate::cascade::Topology;
use crate::time::Nanos;
use crate::wire::{Domain, Envelope, Header, Key, Message, encode_message};

/// Sends by the workers' outboxes, a domain's frames always by the same worker, so that they stay in order.
pub(super) struct Post {
    outboxes: Vec<(Arc<Mailbox>, Arc<Wake>)>,
    shared: Arc<Shared>,
    /// Frames for which no next hop was known.
    pub unroutable: u64,
    /// Frames for which the outbox had no room.
    pub overflowed: u64,
}

impl Post {
    pub fn new(outboxes: Vec<(Arc<Mailbox>, Arc<Wake>)>, shared: Arc<Shared>) -> Self {
        Self { outboxes, shared, unroutable: 0, overflowed: 0 }
    }

    /// Whether any frame, whomever it is for, would find room.
    pub fn has_room(&self) -> bool {
        self.outboxes.iter().all(|(outbox, _)| outbox.has_room())
    }

    /// Wakes every worker, so that it sees what was said to all.
    pub fn wake(&self) {
        self.outboxes.iter().for_each(|(_, wake)| wake.wake());
    }

    /// Sends a message to a domain's autonomous server. What cannot be sent is counted; whoever asked repeats it.
    pub fn message(&mut self, topology: &Topology, domain: Domain, header: &Header, message: &Message) {
        let Some(envelope) = topology.next_hop(domain) else {
            self.unroutable += 1;
            return;
        };
        self.enveloped(domain, &envelope, |buffer, key| encode_message(buffer, &envelope, header, message, key));
    }

    /// Sends whatever `write` writes.
    pub fn frame(
        &mut self,
        topology: &Topology,
        domain: Domain,
        write: impl FnOnce(&mut [u8], &Envelope, &Key) -> usize,
    ) {
        let Some(envelope) = topology.next_hop(domain) else {
            self.unroutable += 1;
            return;
        };
        self.enveloped(domain, &envelope, |buffer, key| write(buffer, &envelope, key));
    }

    /// As [`Self::frame`], in this envelope.
    pub fn enveloped(&mut self, domain: Domain, envelope: &Envelope, write: impl FnOnce(&mut [u8], &Key) -> usize) {
        let Some((place, peer)) = self.shared.peers.find(domain) else {
            debug_assert!(false, "{:?} is no domain of the configuration", envelope.to);
            return;
        };
        let (outbox, wake) = &self.outboxes[place % self.outboxes.len()];
        if outbox.post(Nanos::default(), |buffer| write(buffer, &peer.outbound)) {
            wake.wake();
        } else {
            self.overflowed += 1;
        }
    }
}
