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
use crate::link::outgoing::Outgoing;
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
    /// Where frames are written: memory that was written to before.
    pub outgoing: &'a mut Outgoing<usize>,
}

/// Sends the first frames that recovery wants to be sent, a burst at most; the very first is handed
/// to the kernel at once. Gives when that was.
pub(crate) fn send(recovery: &mut Recovery, ready: Ready<'_>, rings: &mut [impl Ring], now: Nanos) -> Option<Nanos> {
    let Ready { topology, peers, ports, writer, journal, outgoing } = ready;
    let mut first = None;
    let mut has_room = true;
    for _ in 0..BURST {
        let mut holdings = TableStore {
            writer: &mut *writer,
            store: &mut DatabaseStore { database: None, is_lost: false, write: |changes| journal.update(changes) },
            is_busy: &|_| false,
            speakers: topology.speakers(),
            orphans: &mut NoOrphans,
            // The control thread meets what is damaged again, and says so.
            replaced: &mut Vec::new(),
            warming: None,
        };
        let Some(request) = recovery.poll_transmit(now, &mut holdings) else { break };
        // One without a next hop is repeated, as any that is lost.
        let Some(envelope) = topology.next_hop(request.domain) else { continue };
        let Some((place, _)) = peers.find(request.domain) else { continue };
        let ring = ports.ring(envelope.src_mac, place) % rings.len();
        outgoing.write(place, ring, |buffer, key| request.encode(buffer, &envelope, key));
        if first.is_none() {
            // The others' tags are made together; this one waits for no other.
            has_room = queue(outgoing, peers, rings);
            // What cannot be handed over now the workers hand over.
            let _ = rings[ring].flush();
            first = has_room.then(clock::now);
        } else if outgoing.is_full() {
            has_room = queue(outgoing, peers, rings);
        }
        if !has_room {
            break;
        }
    }
    queue(outgoing, peers, rings);
    for ring in rings {
        let _ = ring.flush();
    }
    first
}

/// Queues what was written. False where there was no room for all of it: the rest is repeated, as
/// any that is lost.
fn queue(outgoing: &mut Outgoing<usize>, peers: &Peers, rings: &mut [impl Ring]) -> bool {
    let mut has_room = true;
    for (ring, frame) in outgoing.take(peers) {
        has_room &= rings[ring].transmit(|buffer| {
            buffer[..frame.len()].copy_from_slice(frame);
            frame.len()
        });
    }
    has_room
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
