//! The control thread: everything that is not a report.
//!
//! It collects what came (frames from the workers, requests, what the database says, orders of the
//! keeper), gives it to the machines that decide (recovery, cascade, operations), and then carries
//! out what those want, in bounded batches. It alone writes meetings; a worker never waits for it.

/// The control thread's hands on table and database, for as long as one call takes.
macro_rules! holdings {
    ($control:ident) => {
        TableStore {
            writer: &mut $control.writer,
            store: &mut DatabaseStore {
                database: $control.store.as_ref().and_then(DatabaseHandle::database),
                is_lost: $control.store.as_ref().is_some_and(DatabaseHandle::is_lost),
                write: |changes| $control.journal.update(changes),
            },
            is_busy: &|meeting| $control.operations.is_under_way(meeting),
            speakers: $control.topology.speakers(),
            orphans: &mut $control.orphans,
        }
    };
}

mod counted;
mod events;
mod fence;
mod intake;
pub(super) mod journal;
mod sender;
mod snapshots;
mod status;
mod troubles;
mod upgrade;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Receiver;
use mio::{Events, Poll, Token};

use self::intake::Filling;

use crate::api::{Answer, Api, ApiRequest, Orphan, Reply, Submitter, View};
use crate::cascade::Topology;
use crate::cms::{CommandSettings, Operations, ReplyId};
use crate::config::{self, Config};
use crate::handover::protocol::{Death, KeeperLine, Notice, Order};
use crate::handover::{AttachedAll, StandbyState};
use crate::limits::{BUSY_ROUNDS_MAX, CONTROL_BATCH, CONTROL_SLEEP_MAX};
use crate::link::FrameQueue;
use crate::link::Shared;
use crate::link::Waker;
use crate::link::egress::Ports;
use crate::recovery::{Cursor, DatabaseStore, Path, Recovery, TableStore};
use crate::sys::robust_locks::RobustLocks;
use crate::sys::{clock, random};
use crate::table::Writer;
use crate::table::file::snapshot;
use crate::telemetry::{Aggregator, Collector, Counters, EngineNote, Recorder, Rotation, Sources, Stage};
use crate::time::Nanos;
use crate::wire::{Address, Domain, Epoch, Header, MeetingId, encode_message};
use journal::{DatabaseHandle, Journal};
use sender::Sender;
use snapshots::Snapshots;
use upgrade::Upgrade;

/// The control thread's wake-ups arrive under this token.
pub(super) const CONTROL_WAKE: Token = Token(0);

/// What a control thread begins with.
pub(super) struct Inheritance {
    pub begun: Nanos,
    pub path: Path,
    pub epoch: Epoch,
    pub config: Config,
    pub topology: Topology,
    pub shared: Arc<Shared>,
    /// Begun already, where the first frames are out.
    pub recovery: Recovery,
    pub journal: Journal,
    pub writer: Writer,
    pub outboxes: Vec<(Arc<FrameQueue>, Arc<Waker>)>,
    pub ports: Ports,
    pub counters: Vec<Arc<Counters>>,
    pub collector: Collector,
    /// Already open where the epoch had to come from it.
    pub store: Option<DatabaseHandle>,
    pub keeper: Arc<KeeperLine>,
    /// Orders that came before it controlled.
    pub heard: Vec<io::Result<Order>>,
    pub orders: Receiver<io::Result<Order>>,
    pub succession: Arc<RobustLocks>,
    pub api: UnixListener,
    pub poll: Poll,
    pub mode: AttachedAll,
    pub predecessor: Option<Death>,
    /// When the very first takeover frame was handed to the kernel.
    pub first_sent: Option<Nanos>,
    /// When the process began, where it was started to take over at once.
    pub born: Option<Nanos>,
}

/// The control thread.
pub(super) struct Control {
    pub(super) begun: Nanos,
    pub(super) path: Path,
    pub(super) epoch: Epoch,
    pub(super) config: Config,
    pub(super) topology: Topology,
    pub(super) shared: Arc<Shared>,
    pub(super) writer: Writer,
    pub(super) sender: Sender,
    pub(super) counters: Vec<Arc<Counters>>,
    recorder: Recorder,
    /// Until the thread that takes it runs.
    collector: Option<Collector>,
    pub(super) recovery: Recovery,
    pub(super) operations: Operations,
    pub(super) orphans: Orphans,
    journal: Journal,
    pub(super) store: Option<DatabaseHandle>,
    pub(super) unexpected: u64,
    /// Terminals that were said to find no room.
    full: Vec<Address>,
    requests: Receiver<ApiRequest>,
    submitter: Submitter,
    waiting: HashMap<ReplyId, tokio::sync::oneshot::Sender<Reply>>,
    next_reply: u64,
    keeper: Arc<KeeperLine>,
    heard: Vec<io::Result<Order>>,
    orders: Receiver<io::Result<Order>>,
    succession: Arc<RobustLocks>,
    /// How the standby does, by the keeper's word.
    pub(super) standby: StandbyState,
    /// What became of the frames that steering saw, by the keeper's word.
    pub(super) steered: BTreeMap<String, u64>,
    pub(super) upgrade: Upgrade,
    listener: Option<UnixListener>,
    snapshots: Option<Snapshots>,
    api: Option<Api>,
    view: View,
    poll: Poll,
    pub(super) mode: AttachedAll,
    /// What of the database is to be put into the table yet; nothing where operations may begin.
    filling: Option<Filling>,
    /// What of the table is to be held against the database yet.
    comparing: Option<Filling>,
    predecessor: Option<Death>,
    first_sent: Option<Nanos>,
    born: Option<Nanos>,
    timed: events::Timed,
    fenced: Option<Epoch>,
    /// Who asked for control, and waits for the database.
    taking: Option<fence::Client>,
    counted: counted::Counted,
    told: events::Told,
    /// Goes last: it writes down what all others recorded.
    pub(super) aggregator: Option<Aggregator>,
}

/// Meetings that autonomous servers hold and we do not know.
pub(super) type Orphans = BTreeMap<(Domain, MeetingId), Orphan>;

impl Control {
    pub fn new(inheritance: Inheritance) -> Self {
        let Inheritance {
            begun,
            path,
            epoch,
            config,
            topology,
            shared,
            recovery,
            journal,
            writer,
            outboxes,
            ports,
            counters,
            mut collector,
            store,
            keeper,
            heard,
            orders,
            succession,
            api,
            poll,
            mode,
            predecessor,
            first_sent,
            born,
        } = inheritance;
        // A table that lives holds everything: there is no domain left to fill it from.
        let domains = if path == Path::Cache { Vec::new() } else { topology.domains().collect() };
        let filling = Filling { domains, cursor: Cursor::default() };
        let recorder = crate::telemetry::recorder(&mut collector);
        let runs = random::number();
        let commands = CommandSettings { runs };
        let operations = Operations::new(epoch, topology.domains(), commands);
        let sender = Sender::new(outboxes, ports, shared.clone());
        let control = shared.clone();
        let (submitter, requests) = Submitter::new(move || control.control.wake());
        let view = View::new(writer.table().clone());
        Self {
            begun,
            path,
            epoch,
            config,
            topology,
            shared,
            writer,
            sender,
            counters,
            collector: Some(collector),
            recorder,
            recovery,
            operations,
            orphans: Orphans::new(),
            journal,
            store,
            unexpected: 0,
            full: Vec::new(),
            requests,
            submitter,
            waiting: HashMap::new(),
            next_reply: 0,
            keeper,
            heard,
            orders,
            succession,
            standby: StandbyState::Absent("none yet".into()),
            steered: BTreeMap::new(),
            upgrade: Upgrade::new(),
            listener: Some(api),
            snapshots: None,
            api: None,
            view,
            poll,
            mode,
            filling: Some(filling),
            comparing: None,
            predecessor,
            first_sent,
            born,
            timed: events::Timed::default(),
            fenced: None,
            taking: None,
            counted: counted::Counted::default(),
            told: events::Told::default(),
            aggregator: None,
        }
    }

    /// Works until the end: an order of the keeper, its death, or a newer controller. Afterwards
    /// nothing of this touches the table; dropping it closes the rest.
    pub fn run(&mut self) -> ExitCode {
        // Whatever the first frames did not need, and what they left.
        self.transmit(clock::now());
        if let Err(error) = self.open_the_rest() {
            tracing::error!(%error, "the engine cannot go on");
            self.give_up(&Notice::Failed { why: error.to_string() });
            self.shared.stop();
            return ExitCode::FAILURE;
        }
        let mut events = Events::with_capacity(8);
        let mut busy = 0_u32;
        let code = loop {
            self.succession.beat(0);
            let now = clock::now();
            let mut worked = self.take_frames(now);
            worked |= self.take_troubles(now);
            worked |= self.take_outcomes(now);
            worked |= self.take_requests(now);
            worked |= self.fill(now);
            worked |= self.compare();
            self.operations.handle_timeout(now, &mut self.writer);
            worked |= self.handle_events(now);
            worked |= self.transmit(now);
            self.commit();
            self.answer();
            self.note_times(now);
            self.note_recovery(now);
            if let Some(highest) = self.fenced {
                tracing::error!(%highest, "another dispatch server controls: this one stops");
                self.leave_fences();
                self.give_up(&Notice::Fenced { epoch: highest.0 });
                break ExitCode::FAILURE;
            }
            if self.shared.has_lost_interface() {
                let (names, list) = (&self.config.interface.names, self.config.interface.list());
                let why =
                    format!("{} {list} is gone", if names.len() == 1 { "interface" } else { "one of the interfaces" });
                tracing::error!("{why}: this engine ends");
                self.give_up(&Notice::Failed { why });
                break ExitCode::FAILURE;
            }
            if self.is_to_leave(now) {
                // The next engine answers clients from here on.
                self.api.as_mut().map(Api::stop);
                break ExitCode::SUCCESS;
            }
            busy = if worked { busy + 1 } else { 0 };
            if (!worked || busy.is_multiple_of(BUSY_ROUNDS_MAX))
                && let Some(code) = self.wait(&mut events, worked)
            {
                break code;
            }
        };
        self.shared.stop();
        self.sender.wake();
        code
    }

    /// What the first takeover frames did not need.
    fn open_the_rest(&mut self) -> io::Result<()> {
        let _ = self.keeper.tell(&Notice::Ready);
        if self.store.is_none() {
            self.store = Some(DatabaseHandle::open(&self.config, &self.shared, self.path)?);
        }
        let snapshot = self.config.database.snapshot();
        self.snapshots = Some(Snapshots::spawn(self.writer.table().clone(), snapshot)?);
        let collector = self.collector.take().expect("the engine begins once");
        let aggregator = Aggregator::spawn(self.sources(collector))?;
        if let Some(listener) = self.listener.take() {
            let telemetry = aggregator.published();
            self.api = Some(Api::spawn(listener, self.submitter.clone(), self.view.clone(), telemetry)?);
        }
        self.aggregator = Some(aggregator);
        if let Some(opened) = self.store.as_ref().and_then(|store| store.opened.as_ref()) {
            self.view.set_database(opened.database.clone());
        }
        Ok(())
    }

    fn sources(&self, collector: Collector) -> Sources {
        let config::Telemetry { rotate_mib, rotate_s, keep, .. } = self.config.telemetry;
        let rotation = Rotation {
            bytes: u64::from(rotate_mib) << 20,
            age: Duration::from_secs(rotate_s.into()),
            keep: keep as usize,
        };
        Sources {
            collector,
            counters: self.counters.clone(),
            folder: self.config.log_folder().map(|folder| (folder, rotation)),
            engine: EngineNote { epoch: self.epoch.to_string(), pid: std::process::id(), part: 1 },
        }
    }

    /// Ends for a reason that a standby would end for as well: it must not follow.
    fn give_up(&self, why: &Notice) {
        self.succession.close();
        // A keeper that is gone needs no telling.
        let _ = self.keeper.tell(why);
    }

    /// Answers the clients whose operations are done.
    fn answer(&mut self) {
        while let Some((id, reply)) = self.operations.poll_reply() {
            if let Some(to) = self.waiting.remove(&id) {
                let _ = to.send(reply.map(Answer::Conference));
            }
        }
    }

    /// Sends what the machines want to be sent, as much as there is room for.
    fn transmit(&mut self, now: Nanos) -> bool {
        let mut any = false;
        for _ in 0..CONTROL_BATCH {
            if self.fenced.is_some() || !self.sender.has_room() {
                break;
            }
            if let Some((envelope, header, message)) = self.topology.poll_transmit(now, self.epoch, &mut self.recovery)
            {
                if let Some(domain) = envelope.to.domain() {
                    // A heartbeat under our epoch would take back what somebody else controls.
                    let epoch = if self.is_given_up(domain) { Epoch::NONE } else { header.epoch };
                    let header = Header { epoch, ..header };
                    self.sender.enveloped(domain, &envelope, |buffer, key| {
                        encode_message(buffer, &envelope, &header, &message, key)
                    });
                }
                any = true;
                continue;
            }
            if let Some(request) = self.recovery.poll_transmit(now, &mut holdings!(self)) {
                let write = |buffer: &mut [u8], envelope: &_, key: &_| request.encode(buffer, envelope, key);
                self.sender.frame(&self.topology, request.domain, write);
            } else if let Some(command) = self.operations.poll_transmit(now, &mut self.recovery) {
                self.sender.message(&self.topology, command.domain, &command.header, &command.message);
            } else {
                break;
            }
            any = true;
        }
        if self.topology.take_turned() {
            self.shared.peers.follow(&self.topology);
        }
        self.sender.deliver();
        any
    }

    /// Hands the database what is to be durable.
    fn commit(&mut self) {
        while let Some((id, changes)) = self.operations.poll_commit() {
            self.journal.operation(id, changes);
        }
        if let Some(store) = &self.store {
            store.commit(&mut self.journal, self.epoch);
        }
    }

    /// Records the round trips of commands.
    fn note_times(&mut self, now: Nanos) {
        for round_trip in self.operations.take_round_trips() {
            self.recorder.record(Stage::CommandRoundTrip, round_trip);
        }
        self.recorder.hand_over(now);
    }

    /// Waits until there is something to do. Gives the exit code where that is to end.
    fn wait(&mut self, events: &mut Events, busy: bool) -> Option<ExitCode> {
        let timeouts = [self.recovery.poll_timeout(), self.operations.poll_timeout(), self.topology.poll_timeout()];
        let until = timeouts.into_iter().flatten().min();
        let now = clock::now();
        let timeout = until.map_or(CONTROL_SLEEP_MAX, |until| until.since(now).min(CONTROL_SLEEP_MAX));
        let full = !self.sender.has_room();
        self.shared.control.announce();
        let queued = busy
            || !self.shared.inbox.is_empty()
            || !self.requests.is_empty()
            || !self.orders.is_empty()
            || !self.heard.is_empty()
            || self.store.as_ref().is_some_and(|store| !store.outcomes.is_empty());
        // An outbox that is full empties within the time that a worker needs for a burst, and
        // nobody wakes us then.
        let timeout = if queued {
            Duration::ZERO
        } else if full {
            Duration::from_millis(1)
        } else {
            timeout
        };
        // An interrupted wait is a short one.
        let _ = self.poll.poll(events, Some(timeout));
        self.shared.control.awake();
        let heard = std::mem::take(&mut self.heard);
        for order in heard.into_iter().chain(self.orders.try_iter()) {
            match order {
                Ok(Order::Stop) => return Some(self.stop()),
                Ok(Order::Standby { state }) => self.standby = state,
                Ok(Order::Steered { frames }) => self.steered = frames,
                Ok(Order::Yield { upgrading }) => self.upgrade.begin(upgrading, clock::now()),
                Ok(Order::Stay { why }) => self.upgrade.refuse(&why),
                Ok(Order::Upgraded { state }) => self.upgrade.state = state,
                // It is we who learn.
                Ok(Order::NextHop { .. }) => {}
                Err(error) => {
                    tracing::error!(%error, "the keeper is gone: this engine ends, so that the next keeper may take over");
                    return Some(ExitCode::FAILURE);
                }
            }
        }
        None
    }

    /// Ends in order: what recovery had for the database is written, and the table's snapshot.
    fn stop(&mut self) -> ExitCode {
        tracing::info!("this engine ends, and writes its snapshot");
        self.commit();
        // What the database is given before it is closed, it still writes; it is closed when the
        // engine's store is dropped.
        (self.store, self.snapshots) = (None, None);
        let path = self.config.database.snapshot();
        match snapshot::write(self.writer.table(), &path) {
            Ok(bytes) => {
                tracing::info!(path = %path.display(), bytes, "snapshot written");
                ExitCode::SUCCESS
            }
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "no snapshot written");
                ExitCode::FAILURE
            }
        }
    }
}
