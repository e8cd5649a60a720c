//! Reports that are in the table and not yet acknowledged.

use super::peers::Peer;
use super::ring::Ring;
use crate::limits::ACKNOWLEDGEMENTS_PER_PAGE;
use crate::wire::{Address, Envelope, Epoch, Header, MeetingId, Opcode, ReportAck, Status, Transaction, encode_page};

/// The reports of one domain that wait for the next REPORT_ACK_BATCH to it.
struct Waiting {
    envelope: Option<Envelope>,
    /// A page went by that envelope: the next one's may be another. Until then it stands for what waits.
    stale: bool,
    count: usize,
    entries: [ReportAck; ACKNOWLEDGEMENTS_PER_PAGE],
}

/// What waits, a page a domain, all of it made at start.
pub(super) struct Acknowledgements {
    waiting: Vec<Waiting>,
    /// Domains in whose page something waits, so that a flush does not walk them all.
    dirty: Vec<usize>,
    /// One of them may be full.
    is_full: bool,
}

/// What a flush handed on and what it could not.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Flushed {
    pub acknowledged: u64,
    pub dropped: u64,
    pub frames: u64,
}

impl std::ops::AddAssign for Flushed {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.dropped += other.dropped;
        self.frames += other.frames;
    }
}

impl Acknowledgements {
    pub fn new(domains: usize) -> Self {
        let nobody = ReportAck { terminal: Address::default(), version: 0, status: Status::Ok };
        let waiting =
            || Waiting { envelope: None, stale: true, count: 0, entries: [nobody; ACKNOWLEDGEMENTS_PER_PAGE] };
        Self { waiting: (0..domains).map(|_| waiting()).collect(), dirty: Vec::with_capacity(domains), is_full: false }
    }

    /// Whether it is to be said where the domain's next page goes.
    #[inline]
    pub fn is_unaddressed(&self, domain: usize) -> bool {
        self.waiting[domain].stale
    }

    /// Says where the domain's next page goes: to its autonomous server, by the MAC that asked.
    pub fn address(&mut self, domain: usize, peer: &Peer, reply: Envelope) {
        let waiting = &mut self.waiting[domain];
        (waiting.envelope, waiting.stale) = (Some(Envelope { to: peer.domain.server(), ..reply }), false);
    }

    /// Takes an acknowledgement, if the domain's page has room. The domain was addressed before.
    #[inline]
    pub fn take(&mut self, domain: usize, ack: ReportAck) -> bool {
        let waiting = &mut self.waiting[domain];
        let Some(entry) = waiting.entries.get_mut(waiting.count) else { return false };
        *entry = ack;
        if waiting.count == 0 {
            self.dirty.push(domain);
        }
        waiting.count += 1;
        self.is_full |= waiting.count == ACKNOWLEDGEMENTS_PER_PAGE;
        true
    }

    /// Sends the pages that are full.
    #[inline]
    pub fn flush_full<'a>(&mut self, peer: impl Fn(usize) -> &'a Peer, epoch: Epoch, ring: &mut impl Ring) -> Flushed {
        let mut flushed = Flushed::default();
        if !std::mem::take(&mut self.is_full) {
            return flushed;
        }
        for at in (0..self.dirty.len()).rev() {
            let domain = self.dirty[at];
            if self.waiting[domain].count == ACKNOWLEDGEMENTS_PER_PAGE {
                self.dirty.swap_remove(at);
                flushed += self.send(domain, peer(domain), epoch, ring);
            }
        }
        flushed
    }

    /// As [`Self::take`], and sends the domain's page where that is full now. Others' are not.
    #[inline]
    pub fn push<'a>(
        &mut self,
        domain: usize,
        peer: impl FnOnce() -> (&'a Peer, Epoch),
        ack: ReportAck,
        ring: &mut impl Ring,
    ) -> Flushed {
        self.take(domain, ack);
        if self.waiting[domain].count < ACKNOWLEDGEMENTS_PER_PAGE {
            return Flushed::default();
        }
        self.dirty.retain(|&dirty| dirty != domain);
        let (peer, epoch) = peer();
        self.send(domain, peer, epoch, ring)
    }

    /// Sends every page in which something waits.
    pub fn flush<'a>(&mut self, peer: impl Fn(usize) -> &'a Peer, epoch: Epoch, ring: &mut impl Ring) -> Flushed {
        let mut flushed = Flushed::default();
        while let Some(domain) = self.dirty.pop() {
            flushed += self.send(domain, peer(domain), epoch, ring);
        }
        flushed
    }

    /// Sends one page. Where there is no room on the way out its acknowledgements are dropped, and counted: the
    /// terminals repeat their reports, and a worker never waits.
    fn send(&mut self, domain: usize, peer: &Peer, epoch: Epoch, ring: &mut impl Ring) -> Flushed {
        let waiting = &mut self.waiting[domain];
        let entries = &waiting.entries[..std::mem::take(&mut waiting.count)];
        waiting.stale = true;
        let Some(envelope) = waiting.envelope else { return Flushed::default() };
        // Nobody answers it, so it needs no transaction of its own: 0 is nobody's.
        let header = Header::request(Transaction(0), epoch, MeetingId::NONE);
        let sent = ring.transmit(|buffer| {
            let entries = entries.iter().copied();
            encode_page(buffer, &envelope, Opcode::ReportAckBatch, &header, (0, 1), entries, &peer.outbound).0
        });
        let count = entries.len() as u64;
        if sent {
            Flushed { acknowledged: count, dropped: 0, frames: 1 }
        } else {
            Flushed { acknowledged: 0, dropped: count, frames: 0 }
        }
    }
}
