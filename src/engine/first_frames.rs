//! The first takeover frames of an engine: straight from the table to the rings, before there is
//! anything else.
//!
//! Frames go out by the thread that takes over, because waking a worker for them costs more than
//! sending them.

use super::control::dispatcher::Journal;
use crate::cascade::Topology;
use crate::limits::{BURST, CHUNK_BYTES};
use crate::link::Peers;
use crate::link::egress::Ports;
use crate::link::{Flushed, Received, Ring};
use crate::recovery::{DatabaseStore, NoOrphans, Recovery, TableStore};
use crate::sys::clock;
use crate::table::Writer;
use crate::time::Nanos;

/// What the first frames are made from.
pub(crate) struct Ready<'a> {
    pub topology: &'a Topology,
    pub peers: &'a Peers,
    pub ports: &'a Ports,
    pub writer: &'a mut Writer,
    /// What a walk over the table finds to be written to the database.
    pub journal: &'a mut Journal,
}

/// Sends the first frames that recovery wants to be sent, a burst at most; the very first is handed
/// to the kernel at once. Gives when that was.
pub(crate) fn send(recovery: &mut Recovery, ready: Ready<'_>, rings: &mut [impl Ring], now: Nanos) -> Option<Nanos> {
    let Ready { topology, peers, ports, writer, journal } = ready;
    let mut first = None;
    for _ in 0..BURST {
        let mut holdings = TableStore {
            writer: &mut *writer,
            store: &mut DatabaseStore { database: None, is_lost: false, write: |changes| journal.update(changes) },
            is_busy: &|_| false,
            speakers: topology.speakers(),
            orphans: &mut NoOrphans,
            // The control thread meets what is damaged again, and says so.
            replaced: &mut Vec::new(),
        };
        let Some(request) = recovery.poll_transmit(now, &mut holdings) else { break };
        // One without a next hop is repeated, as any that is lost.
        let Some(envelope) = topology.next_hop(request.domain) else { continue };
        let Some((place, peer)) = peers.find(request.domain) else { continue };
        let among = rings.len();
        let ring = &mut rings[ports.ring(envelope.src_mac, place) % among];
        if !ring.transmit(|buffer| request.encode(buffer, &envelope, &peer.outbound)) {
            break;
        }
        if first.is_none() {
            // What cannot be handed over now the workers hand over.
            let _ = ring.flush();
            first = Some(clock::now());
        }
    }
    for ring in rings {
        let _ = ring.flush();
    }
    first
}

/// Rings whose frames go nowhere: what is rehearsed is written and thrown away.
pub(crate) struct Nowhere;

impl Ring for Nowhere {
    fn entries(&self) -> usize {
        0
    }

    fn waiting(&self) -> usize {
        0
    }

    fn receive(&mut self, _: usize) -> usize {
        0
    }

    fn received(&self, _: usize) -> Received<'_> {
        Received { bytes: &[], arrived: None }
    }

    fn release(&mut self, _: usize) {}

    fn transmit(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        write(&mut [0; CHUNK_BYTES]) > 0
    }

    fn flush(&mut self) -> Flushed {
        Flushed::All
    }
}
