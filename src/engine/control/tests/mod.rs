//! The control thread against the one of 880add8: what it did there, it does here.

use std::os::unix::net::UnixListener;
use std::path::Path as FilePath;
use std::sync::Arc;

use crossbeam::channel::bounded;
use mio::{Poll, Token};

use super::dispatcher::{Beginning, Dispatcher, Journal};
use super::sender::Sender;
use super::workers::Workers;
use super::{Control, Start};
use crate::cascade::Topology;
use crate::config::{Config, Overrides};
use crate::handover::AttachedAll;
use crate::handover::protocol::{KeeperLine, Order};
use crate::limits::{CONTROL_BATCH, CONTROL_QUEUE, FRAME_BYTES_MAX, OUTBOX_QUEUE};
use crate::link::egress::Ports;
use crate::link::{FrameQueue, Peers, Shared, Waker};
use crate::recovery::{Path, Recovery, Settings};
use crate::sys::fd_passing;
use crate::sys::robust_locks::RobustLocks;
use crate::table::{Capacity, OwnerId, Table};
use crate::telemetry::Collector;
use crate::time::Nanos;
use crate::wire::{
    Domain, Envelope, Epoch, Frame, Header, Key, Mac, MeetingId, Message, Opcode, Transaction, encode_message,
};

const OURS: Mac = Mac([2, 0, 0, 0, 0xd0, 1]);
const THEIRS: Mac = Mac([2, 0, 0, 0, 0xa0, 1]);
const EPOCH: Epoch = Epoch::new(1, 1);

fn domain() -> Domain {
    Domain::new(366).unwrap()
}

fn config(folder: &FilePath) -> Config {
    let text = format!(
        "[interface]\nname = \"eth0\"\n[database]\npath = \"{}/baton.redb\"\n[[domain]]\nnumber = 366\n\
         mac = \"02:00:00:00:a0:01\"\ninsecure_no_authentication = true\n",
        folder.display()
    );
    Config::parse(FilePath::new("test"), &text, &Overrides::default()).unwrap()
}

/// What a control thread works on, without a worker.
struct Around {
    config: Config,
    topology: Topology,
    shared: Arc<Shared>,
    outbox: Arc<FrameQueue>,
    for_worker: Arc<Waker>,
    poll: Poll,
    _polls: Poll,
}

fn around(folder: &FilePath) -> Around {
    let config = config(folder);
    let topology = Topology::new(&config, &[OURS]);
    let (poll, other) = (Poll::new().unwrap(), Poll::new().unwrap());
    let wake = Waker::new(poll.registry(), Token(0)).unwrap();
    let for_worker = Arc::new(Waker::new(other.registry(), Token(0)).unwrap());
    let peers = Arc::new(Peers::new(&topology));
    let steered = (config.interface.ethertype, None);
    let inbox = FrameQueue::new(CONTROL_QUEUE);
    let shared = Arc::new(Shared::new(config.dispatch.address, steered, peers, inbox, wake, false));
    shared.begin(EPOCH);
    let outbox = Arc::new(FrameQueue::new(OUTBOX_QUEUE));
    Around { config, topology, shared, outbox, for_worker, poll, _polls: other }
}

fn table() -> Arc<Table> {
    Arc::new(Table::on_heap(Capacity { meetings: 64, terminals: 256 }))
}

fn heartbeat(around: &Around, sent_ns: u64) -> Vec<u8> {
    let envelope = Envelope {
        dst_mac: OURS,
        src_mac: THEIRS,
        vlan: None,
        ethertype: around.config.interface.ethertype,
        to: around.config.dispatch.address,
        from: domain().server(),
        label: None,
    };
    let header = Header::request(Transaction(1), Epoch::NONE, MeetingId::NONE);
    let mut buffer = [0; FRAME_BYTES_MAX];
    let key = Key::derive(None, crate::wire::Direction::Autonomous);
    let length = encode_message(&mut buffer, &envelope, &header, &Message::Heartbeat { sent_ns }, &key);
    buffer[..length].to_vec()
}

fn dispatcher(around: &Around, path: Path) -> Dispatcher {
    let topology = Topology::new(&around.config, &[OURS]);
    Dispatcher::new(Beginning {
        path,
        epoch: EPOCH,
        ethertype: around.config.interface.ethertype,
        recovery: Recovery::new(topology.domains(), EPOCH, path, &Settings::default(), Nanos(1)),
        topology,
        journal: Journal::default(),
        writer: table().writer(OwnerId::CONTROL),
        opened: None,
        warming: None,
        runs: 1,
    })
}

/// A heartbeat that was recorded is authentic for ever and cheap to repeat. In 880add8 its answer
/// was sent beside the [`CONTROL_BATCH`] frames of a round; here answers are fetched first and fill
/// the batch, so that nothing else is ever sent: no CONNECT, no takeover, no command, no heartbeat
/// of ours, by whose answers the link would stay up.
#[test]
fn a_flood_of_heartbeats_keeps_nothing_else_from_being_sent() {
    let (answers, others) = sent_under(1);
    assert!(answers == 100 && others > 0, "without a flood: {answers} answers, {others} others");
    let (answers, others) = sent_under(CONTROL_BATCH);
    assert!(others > 0, "in ten seconds {answers} answers to heartbeats were sent, and nothing else");
}

/// Answers to heartbeats, and other frames, that are sent in a hundred rounds with so many
/// heartbeats each.
fn sent_under(heartbeats: usize) -> (u32, u32) {
    let folder = tempfile::tempdir().unwrap();
    let around = around(folder.path());
    let mut dispatcher = dispatcher(&around, Path::Database);
    let sender =
        Sender::new(vec![(around.outbox.clone(), around.for_worker.clone())], Ports::one(OURS), around.shared.clone());
    let mut workers = Workers { shared: around.shared.clone(), sender };
    let recorded = heartbeat(&around, 7);
    let (mut answers, mut others) = (0, 0);
    for round in 0..100_u64 {
        let now = Nanos((1 + round) * 100_000_000);
        for _ in 0..heartbeats {
            let write = |buffer: &mut [u8]| {
                buffer[..recorded.len()].copy_from_slice(&recorded);
                recorded.len()
            };
            assert!(around.shared.inbox.post(now, write));
        }
        // A round, in the order of `Control::round`.
        workers.take(now, &mut dispatcher, CONTROL_BATCH);
        dispatcher.handle_timeout(now);
        workers.give(now, &mut dispatcher, CONTROL_BATCH);
        while dispatcher.poll_event().is_some() {}
        while dispatcher.poll_notice().is_some() {}
        // The worker keeps up.
        while let Some(opcode) = around
            .outbox
            .take(|bytes, _| Frame::parse(bytes, around.config.interface.ethertype).unwrap().opcode().unwrap())
        {
            if opcode == Opcode::HeartbeatAck { answers += 1 } else { others += 1 }
        }
    }
    (answers, others)
}

/// One worker's outbox is full: its interface takes no frames for a while. In 880add8 heartbeats
/// that came by another interface were answered all the same, because an answer asked for room in
/// its own outbox alone; here their autonomous servers take this server for dead.
#[test]
fn a_full_outbox_of_one_interface_keeps_no_heartbeat_of_another_from_being_answered() {
    let folder = tempfile::tempdir().unwrap();
    let around = around(folder.path());
    let mut dispatcher = dispatcher(&around, Path::Database);
    let full = Arc::new(FrameQueue::new(1));
    assert!(full.post(Nanos(1), |_| 64));
    let outboxes = vec![(around.outbox.clone(), around.for_worker.clone()), (full, around.for_worker.clone())];
    let sender = Sender::new(outboxes, Ports::one(OURS), around.shared.clone());
    let mut workers = Workers { shared: around.shared.clone(), sender };
    let came = heartbeat(&around, 7);
    for round in 1..=100 {
        let now = Nanos(round * 100_000_000);
        assert!(around.shared.inbox.post(now, |buffer| {
            buffer[..came.len()].copy_from_slice(&came);
            came.len()
        }));
        workers.take(now, &mut dispatcher, CONTROL_BATCH);
        dispatcher.handle_timeout(now);
        workers.give(now, &mut dispatcher, CONTROL_BATCH);
    }
    let answered = std::iter::from_fn(|| around.outbox.take(|_, _| ())).count();
    assert!(answered > 0, "of 100 heartbeats in ten seconds none was answered, and its own outbox is empty");
}

/// A control thread over these outboxes. What has to outlive it is given beside it.
fn control(around: Around, folder: &FilePath, heard: Vec<std::io::Result<Order>>) -> (Control, impl Sized) {
    let Around { config, topology, shared, outbox, for_worker, poll, _polls } = around;
    let (ours, theirs) = fd_passing::pair().unwrap();
    let (sender, orders) = bounded(1);
    let (succession, fd) = RobustLocks::create().unwrap();
    let recovery = Recovery::new(topology.domains(), EPOCH, Path::Cache, &Settings::default(), Nanos(1));
    let control = Control::new(Start {
        begun: Nanos(1),
        path: Path::Cache,
        epoch: EPOCH,
        config,
        topology,
        shared,
        recovery,
        journal: Journal::default(),
        writer: table().writer(OwnerId::CONTROL),
        outboxes: vec![(outbox, for_worker)],
        ports: Ports::one(OURS),
        counters: Vec::new(),
        collector: Collector::default(),
        store: None,
        warming: None,
        keeper: Arc::new(KeeperLine::from(theirs)),
        heard,
        orders,
        succession: Arc::new(succession),
        api: UnixListener::bind(folder.join("api")).unwrap(),
        poll,
        mode: AttachedAll::default(),
        predecessor: None,
        first_sent: None,
        born: None,
    });
    (control, (ours, sender, fd, _polls))
}

/// The keeper orders a stop and is gone before the control thread looks: in 880add8 the first
/// order ended it in order, with its snapshot.
#[test]
fn an_engine_that_was_ordered_to_stop_writes_its_snapshot_though_its_keeper_is_gone_by_then() {
    let folder = tempfile::tempdir().unwrap();
    let around = around(folder.path());
    let snapshot = around.config.database.snapshot();
    let heard = vec![Ok(Order::Stop), Err(std::io::ErrorKind::UnexpectedEof.into())];
    let (mut control, _kept) = control(around, folder.path(), heard);
    let code = control.take_orders(Nanos(2)).expect("it ends");
    assert!(snapshot.exists(), "it ended with {code:?}, and without its snapshot");
}

/// Nothing can be sent, because an outbox is full. In 880add8 such rounds did nothing, and the
/// thread slept for a millisecond after each. Here a heartbeat that is due at once makes each round
/// count as one that worked: it never sleeps, on the core of the worker that is to make room.
#[test]
fn a_control_thread_that_can_send_nothing_does_not_go_round_without_a_pause() {
    let folder = tempfile::tempdir().unwrap();
    let mut around = around(folder.path());
    around.outbox = Arc::new(FrameQueue::new(1));
    assert!(around.outbox.post(Nanos(1), |_| 64));
    let (mut control, _kept) = control(around, folder.path(), Vec::new());
    let worked = (1..=1000).filter(|at| control.round(Nanos(at * 1_000_000))).count();
    assert!(worked < 1000, "each of {worked} rounds says that it did something, and all do nothing");
}
