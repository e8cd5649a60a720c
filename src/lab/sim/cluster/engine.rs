//! One engine: the real dispatcher, the real worker over rings in memory, and what lies between
//! them. In place of their threads each has its turn, under the simulation's clock.

use std::sync::Arc;

use mio::{Poll, Token};

use super::database::{DatabaseModel, Disk};
use super::site::{DISPATCH_MAC, dispatch_address};
use super::trace::Trace;
use crate::api::{Reply, Request};
use crate::cascade::Topology;
use crate::cms::ReplyId;
use crate::config::{AutonomousDomain, Heartbeat};
use crate::database::{Opened, Outcome};
use crate::engine::control::dispatcher::{Beginning, Dispatcher, End, Event, Journal};
use crate::engine::control::sender::Sender;
use crate::engine::control::workers::Workers;
use crate::engine::first_frames::{self, Ready};
use crate::handover::protocol::{Notice, Order};
use crate::lab::sim::Random;
use crate::link::egress::Ports;
use crate::link::memory_ring::MemoryRing;
use crate::link::outgoing::Outgoing;
use crate::link::{FrameQueue, Peers, Shared, Waker, Worker};
use crate::recovery::{self, Path, Recovery, Report, Settings, Warming};
use crate::table::{OwnerId, Table};
use crate::telemetry::{Counters, Recorder};
use crate::time::Nanos;
use crate::wire::{DEFAULT_ETHERTYPE, Domain, Epoch};

/// Frames that may wait between worker and dispatcher, each way.
const QUEUE: usize = 256;
/// Rounds at one moment, at most: more means that it goes round without getting anywhere.
const ROUNDS_MAX: u32 = 100_000;

/// When an engine dies: after so many more steps, if at all. A step lies between any two things
/// that an engine does.
#[derive(Clone, Copy, Default, Debug)]
pub struct Fate(Option<u32>);

/// An engine died.
#[derive(Debug)]
pub(super) struct Died;

impl Fate {
    /// Dies after so many steps.
    pub const fn after(steps: u32) -> Self {
        Self(Some(steps))
    }

    fn step(&mut self) -> Result<(), Died> {
        let Some(left) = &mut self.0 else { return Ok(()) };
        *left = left.checked_sub(1).ok_or(Died)?;
        Ok(())
    }
}

/// What an engine begins with.
pub(super) struct Start<'a> {
    pub now: Nanos,
    pub path: Path,
    pub epoch: Epoch,
    pub table: &'a Arc<Table>,
    pub ring: &'a MemoryRing,
    pub domains: &'a [AutonomousDomain],
    pub settings: &'a Settings,
    /// Where the epoch had to come from the database.
    pub opened: Option<Opened>,
    /// The snapshot that a new table is warmed from.
    pub warming: Option<Warming>,
    pub random: Random,
}

/// What comes out of an engine.
pub(super) struct Outside<'a> {
    pub trace: &'a mut Trace,
    pub frames: Vec<Vec<u8>>,
    pub replies: Vec<(ReplyId, Reply)>,
    pub notices: Vec<Notice>,
}

/// A dispatch server's process: all that dies with it.
pub struct Engine {
    pub(super) dispatcher: Dispatcher,
    pub(super) database: DatabaseModel,
    pub(super) table: Arc<Table>,
    workers: Workers,
    worker: Worker<MemoryRing>,
    ring: MemoryRing,
    events: Vec<recovery::Event>,
    /// Frames that pass between worker and dispatcher in one turn.
    batch: usize,
    /// Keep the registries of the wakers alive.
    _polls: [Poll; 2],
}

impl Engine {
    /// Takes over: in the order of a real engine's start, first frames before all else.
    pub(super) fn start(start: Start<'_>) -> Self {
        let Start { now, path, epoch, table, ring, domains, settings, opened, warming, mut random } = start;
        let topology =
            Topology::with(domains, dispatch_address(), DEFAULT_ETHERTYPE, &[DISPATCH_MAC], Heartbeat::default());
        let polls = [(); 2].map(|()| Poll::new().expect("a process may have an epoll"));
        let [for_control, for_worker] =
            polls.each_ref().map(|poll| Waker::new(poll.registry(), Token(0)).expect("and an eventfd"));
        let peers = Arc::new(Peers::new(&topology));
        let shared = Arc::new(Shared::new(
            dispatch_address(),
            (DEFAULT_ETHERTYPE, None),
            peers,
            FrameQueue::new(QUEUE),
            for_control,
            path == Path::Cache,
        ));
        shared.begin(epoch);
        let mut recovery = Recovery::new(topology.domains(), epoch, path, settings, now);
        for (domain, by) in table.fences().filter(|(_, by)| by.term() >= epoch.term()) {
            recovery.fence(domain, by);
            if let Some((_, peer)) = shared.peers.find(domain) {
                peer.fence();
            }
        }
        let mut writer = table.writer(OwnerId::CONTROL);
        writer.begin(epoch);
        let mut journal = Journal::default();
        let ports = Ports::one(DISPATCH_MAC);
        if path == Path::Cache {
            let ready = Ready {
                topology: &topology,
                peers: &shared.peers,
                ports: &ports,
                writer: &mut writer,
                journal: &mut journal,
                outgoing: &mut Outgoing::default(),
            };
            first_frames::send(&mut recovery, ready, &mut [ring.inherit()], now);
        }
        let outbox = Arc::new(FrameQueue::new(QUEUE));
        let worker = Worker::new(
            (ring.inherit(), 0),
            table.writer(OwnerId::worker(0)),
            Arc::clone(&shared),
            Arc::clone(&outbox),
            Arc::new(Counters::default()),
            Recorder::deaf(),
        );
        let sender = Sender::new(vec![(outbox, Arc::new(for_worker))], ports, Arc::clone(&shared));
        let database = DatabaseModel::new(opened.is_some(), Random::new(random.number()));
        let beginning = Beginning {
            path,
            epoch,
            ethertype: DEFAULT_ETHERTYPE,
            topology,
            recovery,
            journal,
            writer,
            opened,
            warming,
            runs: random.number(),
        };
        Self {
            dispatcher: Dispatcher::new(beginning),
            database,
            table: Arc::clone(table),
            workers: Workers { shared, sender },
            worker,
            ring: ring.clone(),
            events: Vec::new(),
            batch: 1 + random.below(32) as usize,
            _polls: polls,
        }
    }

    /// Does all that is to be done now.
    pub(super) fn work(
        &mut self,
        now: Nanos,
        disk: &Disk,
        fate: &mut Fate,
        outside: &mut Outside<'_>,
    ) -> Result<(), Died> {
        for _ in 0..ROUNDS_MAX {
            if !self.round(now, disk, fate, outside)? || self.dispatcher.end().is_some() {
                return Ok(());
            }
        }
        panic!("the engine goes round without getting anywhere");
    }

    /// One turn of each. Says whether there was anything to do.
    fn round(&mut self, now: Nanos, disk: &Disk, fate: &mut Fate, outside: &mut Outside<'_>) -> Result<bool, Died> {
        let mut any = self.worker.step(now);
        fate.step()?;
        self.worker.settle();
        outside.frames.extend(std::iter::from_fn(|| self.ring.sent()));
        fate.step()?;
        any |= self.workers.take(now, &mut self.dispatcher, self.batch);
        fate.step()?;
        self.database.handle_timeout(now, disk);
        while let Some(outcome) = self.database.poll_outcome() {
            outside.trace.say(now, || match &outcome {
                Outcome::Opened(_) => "the database is open".into(),
                outcome => format!("{outcome:?}"),
            });
            self.dispatcher.handle_outcome(now, outcome);
            any = true;
            fate.step()?;
        }
        any |= self.dispatcher.poll_timeout() == Some(Nanos(0));
        self.dispatcher.handle_timeout(now);
        fate.step()?;
        any |= self.workers.give(now, &mut self.dispatcher, self.batch);
        fate.step()?;
        while self.database.has_room()
            && let Some(job) = self.dispatcher.poll_commit()
        {
            outside.trace.say(now, || format!("to the database {job:?}"));
            self.database.submit(job);
            any = true;
            fate.step()?;
        }
        while let Some(reply) = self.dispatcher.poll_reply() {
            outside.trace.say(now, || format!("{reply:?}"));
            outside.replies.push(reply);
            fate.step()?;
        }
        outside.notices.extend(std::iter::from_fn(|| self.dispatcher.poll_notice()));
        while let Some(event) = self.dispatcher.poll_event() {
            outside.trace.say(now, || format!("{event:?}"));
            if let Event::Recovery(event) = event {
                self.events.push(event);
            }
        }
        // What a real engine measures.
        self.dispatcher.take_round_trips().for_each(drop);
        Ok(any)
    }

    pub(super) fn request(&mut self, now: Nanos, client: ReplyId, request: Request, deadline: Nanos) {
        self.dispatcher.handle_request(now, client, request, deadline);
    }

    pub(super) fn gone(&mut self, client: ReplyId) {
        self.dispatcher.handle_gone(client);
    }

    pub(super) fn order(&mut self, now: Nanos, order: Order) {
        self.dispatcher.handle_order(now, order);
    }

    pub(super) fn poll_timeout(&mut self, disk: &Disk) -> Option<Nanos> {
        self.dispatcher.poll_timeout().into_iter().chain(self.database.poll_timeout(disk)).min()
    }

    pub(super) fn end(&self) -> Option<End> {
        self.dispatcher.end()
    }

    /// Whether another is to follow at once.
    pub(super) fn has_left(&self) -> bool {
        matches!(self.end(), Some(End::Leaves | End::Stopped))
    }

    /// Whether nothing is under way: no operation, no commit.
    pub(super) fn is_idle(&self) -> bool {
        let operations = self.dispatcher.operations();
        operations.under_way() == 0 && operations.left() == 0 && self.database.is_idle()
    }

    /// Its rings, which outlive it.
    pub(super) fn ring(&self) -> MemoryRing {
        self.ring.clone()
    }

    /// How its recovery does.
    pub fn recovery(&self) -> Report {
        self.dispatcher.recovery().report()
    }

    /// Whether it agrees with every autonomous server.
    pub fn is_reconciled(&self) -> bool {
        self.dispatcher.recovery().is_reconciled()
    }

    /// Whether nothing that came from a snapshot is to be asked about any more.
    pub fn is_refreshed(&self) -> bool {
        self.dispatcher.recovery().is_refreshed()
    }

    /// Parts that its table has from a snapshot, because the database confirmed them.
    pub fn confirmed(&self) -> u64 {
        self.dispatcher.warmed().map_or(0, |warmed| warmed.confirmed)
    }

    /// Whether a snapshot of its table holds at least what the last one does.
    pub fn is_settled(&self) -> bool {
        self.dispatcher.is_settled()
    }

    /// The domains that it has given up, and who controls them.
    pub fn fenced(&self) -> Vec<(Domain, Epoch)> {
        self.dispatcher.recovery().fenced().collect()
    }

    /// Whether another dispatch server has made it stop.
    pub fn is_fenced(&self) -> bool {
        matches!(self.end(), Some(End::Fenced(_)))
    }

    /// What recovery has said so far.
    pub fn events(&self) -> &[recovery::Event] {
        &self.events
    }

    /// Under which it controls.
    pub fn epoch(&self) -> Epoch {
        self.dispatcher.epoch()
    }
}
