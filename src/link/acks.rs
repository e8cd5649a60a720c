//! Reports that are in the table and not yet acknowledged.
//!
//! A page of acknowledgements goes to the domain's next hop, wherever its reports came from: a
//! report that was recorded is authentic wherever it is sent again, and would draw the
//! acknowledgements of all others there.

use super::outgoing::Outgoing;
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
    /// Pages that leave together, each with its acknowledgements and the interface that it leaves
    /// by.
    outgoing: Outgoing<(u64, u8)>,
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

impl std::ops::Add for Flushed {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl Acknowledgements {
    pub fn new(domains: usize) -> Self {
        let nobody = ReportAck { terminal: Address::default(), version: 0, status: Status::Ok };
        let waiting = || Waiting { count: 0, entries: [nobody; ACKNOWLEDGEMENTS_PER_PAGE] };
        Self {
            waiting: (0..domains).map(|_| waiting()).collect(),
            dirty: Vec::with_capacity(domains),
            is_full: false,
            outgoing: Outgoing::default(),
        }
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
                flushed += self.write(domain, by, ring);
            }
        }
        flushed + self.send(by, ring)
    }

    /// As [`Self::take`], and sends the domain's page where that is full now. Others' are not.
    #[inline]
    pub fn push(&mut self, domain: usize, by: By<'_>, ack: ReportAck, ring: &mut impl Ring) -> Flushed {
        self.take(domain, ack);
        if self.waiting[domain].count < ACKNOWLEDGEMENTS_PER_PAGE {
            return Flushed::default();
        }
        self.dirty.retain(|&dirty| dirty != domain);
        self.write(domain, by, ring) + self.send(by, ring)
    }

    /// Sends every page in which something waits.
    pub fn flush(&mut self, by: By<'_>, ring: &mut impl Ring) -> Flushed {
        let mut flushed = Flushed::default();
        while let Some(domain) = self.dirty.pop() {
            flushed += self.write(domain, by, ring);
        }
        flushed + self.send(by, ring)
    }

    /// Writes one page, which is sent with others. Where there is no way yet, its acknowledgements
    /// are dropped, and counted: the terminals repeat their reports.
    fn write(&mut self, domain: usize, by: By<'_>, ring: &mut impl Ring) -> Flushed {
        let waiting = &mut self.waiting[domain];
        let entries = &waiting.entries[..std::mem::take(&mut waiting.count)];
        let count = entries.len() as u64;
        let dropped = Flushed { acknowledged: 0, dropped: count, frames: 0 };
        let shared = by.shared;
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
        self.outgoing.write(domain, (count, hop.interface), |buffer, key| {
            let entries = entries.iter().copied();
            encode_page(buffer, &envelope, Opcode::ReportAckBatch, &header, (0, 1), entries, key).0
        });
        if self.outgoing.is_full() { self.send(by, ring) } else { Flushed::default() }
    }

    /// Sends what was written. Where there is no room on the way out, a page's acknowledgements are
    /// dropped, and counted: a worker never waits.
    fn send(&mut self, by: By<'_>, ring: &mut impl Ring) -> Flushed {
        let By { shared, interface } = by;
        let mut flushed = Flushed::default();
        for ((count, leaves_by), page) in self.outgoing.take(&shared.peers) {
            let copy = |buffer: &mut [u8]| {
                buffer[..page.len()].copy_from_slice(page);
                page.len()
            };
            let (sent, frames) = if leaves_by == interface {
                (ring.transmit(copy), 1)
            } else {
                // Its reports come by another interface than it is at. The worker there counts the
                // frame.
                let ways = shared.ways.get().map_or(&[][..], |ways| ways);
                let way = ways.get(usize::from(leaves_by));
                let posted = way.filter(|(outbox, _)| outbox.post(Nanos::default(), copy));
                posted.inspect(|(_, worker)| worker.wake());
                (posted.is_some(), 0)
            };
            flushed += match sent {
                true => Flushed { acknowledged: count, dropped: 0, frames },
                false => Flushed { acknowledged: 0, dropped: count, frames: 0 },
            };
        }
        flushed
    }
}

/// By what pages leave.
#[derive(Clone, Copy)]
pub(crate) struct By<'a> {
    pub shared: &'a Shared,
    /// The interface that the worker's own ring is on.
    pub interface: u8,
}
