//! What an engine works with beyond table and rings: threads, queues, histograms. A standby makes
//! it ahead, a new engine after its first takeover frames, which need none of it.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded};
use mio::Poll;

use super::control::CONTROL_WAKE;
use super::keeper_channel::KeeperChannel;
use crate::handover::protocol::{KeeperLine, Manifest};
use crate::limits::{CONTROL_QUEUE, OUTBOX_QUEUE};
use crate::link::FrameQueue;
use crate::link::Peers;
use crate::link::Shared;
use crate::link::Waker;
use crate::link::Worker;
use crate::link::egress::Ports;
use crate::link::thread::{Manner, Start, spawn};
use crate::sys::af_xdp::Socket;
use crate::sys::robust_locks::RobustLocks;
use crate::table::{OwnerId, Table};
use crate::telemetry::{Collector, Counters, Recorder, recorder};

/// What all of it is made for.
pub(super) struct Made<'a> {
    pub manifest: &'a Manifest,
    pub peers: &'a Arc<Peers>,
    pub ports: &'a Ports,
    pub succession: &'a Arc<RobustLocks>,
    pub keeper: &'a Arc<KeeperLine>,
    /// Whether the table holds all terminals of all domains.
    pub settled: bool,
    pub stands_by: bool,
}

/// Threads, queues, histograms.
pub(super) struct Runtime {
    pub poll: Poll,
    pub shared: Arc<Shared>,
    pub line: KeeperChannel,
    pub collector: Collector,
    pub counters: Vec<Arc<Counters>>,
    pub outboxes: Vec<(Arc<FrameQueue>, Arc<Waker>)>,
    pub threads: Vec<JoinHandle<()>>,
    workers: Vec<WorkerSlot>,
    /// A worker says here that it has its lock.
    begun: Receiver<()>,
}

/// One worker's, until it has its rings.
struct WorkerSlot {
    start: Sender<Worker<Socket>>,
    /// That its rings are on.
    interface: u8,
    outbox: Arc<FrameQueue>,
    counters: Arc<Counters>,
    recorder: Recorder,
}

impl Runtime {
    /// Makes everything. The workers' threads wait for their rings.
    pub fn new(made: &Made<'_>) -> io::Result<Self> {
        let Made { manifest, peers, ports, succession, keeper, settled, stands_by } = *made;
        let config = &manifest.config;
        let poll = Poll::new()?;
        let wake = Waker::new(poll.registry(), CONTROL_WAKE)?;
        let steered = (config.interface.ethertype, config.interface.probe_port);
        let inbox = FrameQueue::new(CONTROL_QUEUE);
        let shared = Shared::new(config.dispatch.address, steered, Arc::clone(peers), inbox, wake, settled);
        let shared = Arc::new(shared);
        let line = KeeperChannel::listen(Arc::clone(keeper), Arc::clone(&shared), stands_by)?;
        let mut collector = Collector::default();
        let (mut counters, mut outboxes, mut threads, mut workers) =
            (vec![], Vec::<(_, Arc<Waker>)>::new(), vec![], vec![]);
        let (says, begun) = bounded(manifest.sockets());
        for number in 0..manifest.sockets() {
            let outbox = Arc::new(FrameQueue::new(OUTBOX_QUEUE));
            let count = Arc::new(Counters::default());
            let (start, wait) = bounded(1);
            let manner = Manner { number, wait: config.worker.wait, core: config.worker.core(number) };
            let start_of = Start { rings: wait, begun: says.clone(), succession: Arc::clone(succession) };
            let (thread, wake) = spawn(start_of, Arc::clone(&shared), manner)?;
            threads.push(thread);
            outboxes.push((Arc::clone(&outbox), wake));
            counters.push(Arc::clone(&count));
            let interface = ports.interface_of(number);
            workers.push(WorkerSlot { start, interface, outbox, counters: count, recorder: recorder(&mut collector) });
        }
        let ways = ports.firsts().map(|ring| outboxes[ring].clone()).collect();
        let entered = shared.ways.set(ways);
        debug_assert!(entered.is_ok(), "nobody else has entered them: it was made above");
        Ok(Self { poll, shared, line, collector, counters, outboxes, threads, workers, begun })
    }

    /// Gives every worker its rings, and waits until each has its lock.
    pub fn start(&mut self, sockets: Vec<Socket>, table: &Arc<Table>) {
        assert_eq!(sockets.len(), self.workers.len(), "a socket for each worker");
        let started = self.workers.len();
        for (number, (slot, socket)) in self.workers.drain(..).zip(sockets).enumerate() {
            let writer = table.writer(OwnerId::worker(number as u8));
            let WorkerSlot { start, interface, outbox, counters, recorder } = slot;
            let worker = Worker::new((socket, interface), writer, Arc::clone(&self.shared), outbox, counters, recorder);
            // A thread that is gone has panicked, and the process ends with it.
            let _ = start.send(worker);
        }
        for _ in 0..started {
            let _ = self.begun.recv();
        }
    }
}
