//! Somebody who repeats what was recorded, as fast as the control thread takes it.

use std::sync::Arc;

use crate::cascade::Topology;
use crate::config::{AutonomousDomain, Heartbeat};
use crate::engine::control::dispatcher::{Beginning, Dispatcher, Journal};
use crate::limits::{CONTROL_BATCH, FRAME_BYTES_MAX};
use crate::recovery::{Path, Recovery, Settings};
use crate::table::{Capacity, OwnerId, Table};
use crate::time::Nanos;
use crate::wire::{
    DEFAULT_ETHERTYPE, Domain, Envelope, Epoch, Header, Key, Mac, MeetingId, Message, Opcode, Transaction,
    encode_message,
};

/// A heartbeat is authentic for ever, whoever sends it again. Before the dispatcher, its answers
/// did not come out of what a round may send: 256 of them were posted, and 256 frames of ours.
#[test]
fn repeated_heartbeats_do_not_keep_recovery_from_sending() {
    let (own, theirs) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
    let dispatch = Domain::new(1).unwrap().device(1);
    let number = Domain::new(366).unwrap();
    let domain = AutonomousDomain {
        number,
        mac: Some(theirs),
        interface: None,
        vlan: None,
        label: None,
        secret: None,
        behind: Vec::new(),
    };
    let topology = Topology::with(&[domain], dispatch, DEFAULT_ETHERTYPE, &[own], Heartbeat::default());
    let table = Arc::new(Table::on_heap(Capacity { meetings: 64, terminals: 64 }));
    let (epoch, mut now) = (Epoch::new(1, 1), Nanos(1_000_000_000));
    let recovery = Recovery::new(topology.domains(), epoch, Path::Database, &Settings::default(), now);
    let mut dispatcher = Dispatcher::new(Beginning {
        path: Path::Database,
        epoch,
        ethertype: DEFAULT_ETHERTYPE,
        topology,
        recovery,
        journal: Journal::default(),
        writer: table.writer(OwnerId::CONTROL),
        opened: None,
        runs: 1,
    });
    let envelope = Envelope {
        dst_mac: own,
        src_mac: theirs,
        vlan: None,
        ethertype: DEFAULT_ETHERTYPE,
        to: dispatch,
        from: number.server(),
        label: None,
    };
    let mut heartbeat = [0; FRAME_BYTES_MAX];
    let header = Header::request(Transaction(7), Epoch::NONE, MeetingId::NONE);
    let length =
        encode_message(&mut heartbeat, &envelope, &header, &Message::Heartbeat { sent_ns: 1 }, &Key::Unauthenticated);
    let mut ours = 0;
    // The rounds of `Control`: so much is taken in, and so much is sent. A second of them.
    for _ in 0..1_000 {
        for _ in 0..CONTROL_BATCH {
            dispatcher.handle_frame(now, &heartbeat[..length]);
        }
        dispatcher.handle_timeout(now);
        while dispatcher.poll_worker_change().is_some() {}
        for _ in 0..CONTROL_BATCH {
            let Some(transmit) = dispatcher.poll_transmit(now) else { break };
            let mut buffer = [0; FRAME_BYTES_MAX];
            let length = transmit.encode(&mut buffer, &Key::Unauthenticated);
            let frame = crate::wire::Frame::parse(&buffer[..length], DEFAULT_ETHERTYPE).unwrap();
            ours += u32::from(frame.opcode() != Ok(Opcode::HeartbeatAck));
        }
        now = Nanos(now.0 + 1_000_000);
    }
    assert!(ours > 0, "neither CONNECT nor a heartbeat of ours left in a second of repeated heartbeats");
}
