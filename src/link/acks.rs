//! Reports that are in the table and not yet acknowledged.
//!
//! A page of acknowledgements goes to the domain's next hop, wherever its reports came from: a
//! report that was recorded is authentic wherever it is sent again, and would draw the
//! acknowledgements of all others there.

use super::ring::Ring;
use super::shared::Shared;
use crate::limits::ACKNOWLEDGEMENTS_PER_PAGE;
use crate::time::Nanos;
use crate::wire::{Address, Envelope, Header, MeetingId, Opcode, ReportAck, Status, Transaction, encode_page};

/// The reports of one domain that wait for the next REPORT_ACK_BATCH to it.
struct Waiting {
    count: usize,
    entries: [ReportAck; ACKNOWLEDGEMENTS_PER_PAGE],
}

/// What waits, a page a domain, all of it made at start.
pub(crate) struct Acknowledgements {
    waiting: Vec<Waiting>,
    /// Domains in whose page something waits, so that a flush does not walk them all.
    dirty: Vec<usize>,
    /// One of them may be full.
    is_full: bool,
}

/// What a flush handed on and what it could not.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Flushed {
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
        let waiting = || Waiting { count: 0, entries: [nobody; ACKNOWLEDGEMENTS_PER_PAGE] };
        Self { waiting: (0..domains).map(|_| waiting()).collect(), dirty: Vec::with_capacity(domains), is_full: false }
    }

    /// Takes an acknowledgement, if the domain's page has room.
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
    pub fn flush_full(&mut self, by: By<'_>, ring: &mut impl Ring) -> Flushed {
        let mut flushed = Flushed::default();
        if !std::mem::take(&mut self.is_full) {
            return flushed;
        }
        for at in (0..self.dirty.len()).rev() {
            let domain = self.dirty[at];
            if self.waiting[domain].count == ACKNOWLEDGEMENTS_PER_PAGE {
                self.dirty.swap_remove(at);
                flushed += self.send(domain, by, ring);
            }
        }
        flushed
    }

    /// As [`Self::take`], and sends the domain's page where that is full now. Others' are not.
    #[inline]
    pub fn push(&mut self, domain: usize, by: By<'_>, ack: ReportAck, ring: &mut impl Ring) -> Flushed {
        self.take(domain, ack);
        if self.waiting[domain].count < ACKNOWLEDGEMENTS_PER_PAGE {
            return Flushed::default();
        }
        self.dirty.retain(|&dirty| dirty != domain);
        self.send(domain, by, ring)
    }

    /// Sends every page in which something waits.
    pub fn flush(&mut self, by: By<'_>, ring: &mut impl Ring) -> Flushed {
        let mut flushed = Flushed::default();
        while let Some(domain) = self.dirty.pop() {
            flushed += self.send(domain, by, ring);
        }
        flushed
    }

    /// Sends one page. Where there is no room on the way out, or no way yet, its acknowledgements
    /// are dropped, and counted: the terminals repeat their reports, and a worker never waits.
    fn send(&mut self, domain: usize, by: By<'_>, ring: &mut impl Ring) -> Flushed {
        let waiting = &mut self.waiting[domain];
        let entries = &waiting.entries[..std::mem::take(&mut waiting.count)];
        let count = entries.len() as u64;
        let dropped = Flushed { acknowledged: 0, dropped: count, frames: 0 };
        let By { shared, interface } = by;
        let peer = shared.peers.peer(domain);
        // It was given up since: our epoch may be above that of the server that controls it.
        if peer.is_fenced() {
            return dropped;
        }
        let Some(hop) = peer.hop() else { return dropped };
        let Some(src_mac) = shared.peers.own_mac(hop.interface) else { return dropped };
        let envelope = Envelope {
            dst_mac: hop.mac,
            src_mac,
            vlan: peer.marks.vlan,
            ethertype: shared.ethertype,
            to: peer.domain.server(),
            from: shared.address,
            label: peer.marks.label,
        };
        // Nobody answers it, so it needs no transaction of its own: 0 is nobody's.
        let header = Header::request(Transaction(0), shared.epoch(), MeetingId::NONE);
        let write = |buffer: &mut [u8]| {
            let entries = entries.iter().copied();
            encode_page(buffer, &envelope, Opcode::ReportAckBatch, &header, (0, 1), entries, &peer.outbound).0
        };
        if hop.interface == interface {
            let sent = ring.transmit(write);
            return if sent { Flushed { acknowledged: count, dropped: 0, frames: 1 } } else { dropped };
        }
        // Its reports come by another interface than it is at. The worker there counts the frame.
        let ways = shared.ways.get().map_or(&[][..], |ways| ways);
        let Some((outbox, worker)) = ways.get(usize::from(hop.interface)) else { return dropped };
        if !outbox.post(Nanos::default(), write) {
            return dropped;
        }
        worker.wake();
        Flushed { acknowledged: count, dropped: 0, frames: 0 }
    }
}

/// By what pages leave.
#[derive(Clone, Copy)]
pub(crate) struct By<'a> {
    pub shared: &'a Shared,
    /// The interface that the worker's own ring is on.
    pub interface: u8,
}
