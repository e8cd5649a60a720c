//! The control thread: everything that is not a report.
//!
//! It collects what came (frames from the workers, requests, what the database says, orders of the
//! keeper), gives it to the [`Dispatcher`], which decides, and carries out what that wants, in
//! bounded batches. It alone writes meetings; a worker never waits for it.

mod clients;
pub(super) mod database;
pub(crate) mod dispatcher;
mod facts;
mod log;
pub(crate) mod sender;
mod snapshots;
mod telemetry;
#[cfg(test)]
mod tests;
pub(crate) mod workers;

use std::io;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Receiver;
use mio::{Events, Poll, Token};

use self::clients::Clients;
use self::database::DatabaseHandle;
use self::dispatcher::{Beginning, Dispatcher, End, Journal};
use self::facts::Facts;
use self::sender::Sender;
use self::snapshots::Snapshots;
use self::telemetry::Telemetry;
use self::workers::Workers;
use crate::api::View;
use crate::cascade::Topology;
use crate::config::Config;
use crate::database::{Opened, Outcome};
use crate::handover::protocol::{Death, KeeperLine, Notice, Order};
use crate::handover::{AttachedAll, Program};
use crate::limits::{BUSY_ROUNDS_MAX, CONTROL_BATCH, CONTROL_SLEEP_MAX};
use crate::link::FrameQueue;
use crate::link::Shared;
use crate::link::Waker;
use crate::link::egress::Ports;
use crate::recovery::{Path, Recovery, Warming};
use crate::sys::robust_locks::RobustLocks;
use crate::sys::{clock, random};
use crate::table::Writer;
use crate::table::file::snapshot;
use crate::telemetry::{Collector, Counters};
use crate::time::Nanos;
use crate::wire::Epoch;

/// The control thread's wake-ups arrive under this token.
pub(super) const CONTROL_WAKE: Token = Token(0);

/// What a control thread begins with.
pub(super) struct Start {
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
    pub store: Option<(DatabaseHandle, Opened)>,
    /// The snapshot that a new table is warmed from, or why there is none.
    pub warming: Option<Warming>,
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

/// The line to the keeper.
struct Keeper {
    line: Arc<KeeperLine>,
    /// Orders that came before this thread controlled.
    heard: Vec<io::Result<Order>>,
    orders: Receiver<io::Result<Order>>,
}

/// The control thread. What it holds is let go in the order of the fields.
pub(super) struct Control {
    dispatcher: Dispatcher,
    workers: Workers,
    /// None before it is started, and after it was closed in order.
    database: Option<DatabaseHandle>,
    snapshots: Option<Snapshots>,
    clients: Clients,
    keeper: Keeper,
    succession: Arc<RobustLocks>,
    poll: Poll,
    facts: Facts,
    /// Goes last: it writes down what all others recorded.
    telemetry: Telemetry,
}

impl Control {
    pub fn new(start: Start) -> Self {
        let Start { begun, path, epoch, config, topology, shared, recovery, journal, writer, .. } = start;
        let Start { outboxes, ports, counters, collector, store, keeper, heard, orders, succession, .. } = start;
        let Start { api, poll, mode, predecessor, first_sent, born, warming, .. } = start;
        let program = Program::running();
        let facts = Facts { begun, path, epoch, config, program, mode, predecessor, first_sent, born };
        let view = View::new(writer.table().clone());
        let (database, opened) = store.unzip();
        if let Some(opened) = &opened {
            view.set_database(opened.database.clone());
        }
        let control = shared.clone();
        let beginning = Beginning {
            path,
            epoch,
            ethertype: shared.ethertype,
            topology,
            recovery,
            journal,
            writer,
            opened,
            warming,
            runs: random::number(),
        };
        Self {
            dispatcher: Dispatcher::new(beginning),
            workers: Workers { sender: Sender::new(outboxes, ports, shared.clone()), shared },
            database,
            snapshots: None,
            clients: Clients::new(api, view, move || control.control.wake()),
            keeper: Keeper { line: keeper, heard, orders },
            succession,
            poll,
            facts,
            telemetry: Telemetry::new(counters, collector),
        }
    }

    /// Works until the end: an order of the keeper, its death, or a newer controller. Afterwards
    /// nothing of this touches the table; dropping it closes the rest.
    pub fn run(&mut self) -> ExitCode {
        // What did not fit into the first frames.
        self.workers.give(clock::now(), &mut self.dispatcher, CONTROL_BATCH);
        if let Err(error) = self.open_the_rest() {
            tracing::error!(%error, "the engine cannot go on");
            self.give_up(&Notice::Failed { why: error.to_string() });
            self.workers.shared.stop();
            return ExitCode::FAILURE;
        }
        let mut events = Events::with_capacity(8);
        let mut busy = 0_u32;
        let code = loop {
            self.succession.beat(0);
            let worked = self.round(clock::now());
            if let Some(code) = self.end() {
                break code;
            }
            busy = if worked { busy + 1 } else { 0 };
            if !worked || busy.is_multiple_of(BUSY_ROUNDS_MAX) {
                self.wait(&mut events, worked);
                if let Some(code) = self.take_orders(clock::now()) {
                    break code;
                }
            }
        };
        self.workers.shared.stop();
        self.workers.sender.wake();
        code
    }

    /// Gives the dispatcher all that has come, and carries out what it decides. Says whether there
    /// was anything.
    fn round(&mut self, now: Nanos) -> bool {
        let mut worked = self.workers.take(now, &mut self.dispatcher, CONTROL_BATCH);
        worked |= self.take_outcomes(now);
        worked |= self.clients.take(now, &mut self.dispatcher);
        worked |= self.dispatcher.is_due();
        self.dispatcher.handle_timeout(now);
        if matches!(self.dispatcher.end(), Some(End::Fenced(_))) {
            // Before any lock goes: a standby would control under an epoch that is as old. And
            // workers stop at once.
            self.succession.close();
            self.workers.shared.stop();
        }
        worked |= self.workers.give(now, &mut self.dispatcher, CONTROL_BATCH);
        self.commit();
        self.log();
        if let Some(snapshots) = &self.snapshots
            && !snapshots.may_write()
            && self.dispatcher.is_settled()
        {
            snapshots.begin();
        }
        self.tell(now);
        self.answer(now);
        self.telemetry.note(now, &mut self.dispatcher, &self.facts);
        worked
    }

    /// Whether the engine ends here, and with which exit code.
    fn end(&mut self) -> Option<ExitCode> {
        match self.dispatcher.end() {
            Some(End::Fenced(highest)) => {
                tracing::error!(%highest, "another dispatch server controls: this one stops");
                return Some(ExitCode::FAILURE);
            }
            Some(End::Leaves) => {
                // The next engine answers clients from here on.
                self.clients.leave();
                return Some(ExitCode::SUCCESS);
            }
            Some(End::Stopped) => return Some(self.stop()),
            None => {}
        }
        if self.workers.shared.has_lost_interface() {
            let interface = &self.facts.config.interface;
            let what = if interface.names.len() == 1 { "interface" } else { "one of the interfaces" };
            let why = format!("{what} {} is gone", interface.list());
            tracing::error!("{why}: this engine ends");
            self.give_up(&Notice::Failed { why });
            return Some(ExitCode::FAILURE);
        }
        None
    }

    /// What the first takeover frames did not need.
    fn open_the_rest(&mut self) -> io::Result<()> {
        let _ = self.keeper.line.tell(&Notice::Ready);
        let config = &self.facts.config;
        if self.database.is_none() {
            self.database = Some(DatabaseHandle::open(config, &self.workers.shared, self.facts.path)?);
        }
        let table = self.dispatcher.table().clone();
        let snapshots = Snapshots::spawn(table, config.database.snapshot())?;
        // A table that lived holds everything, whether or not the database can be opened.
        if self.facts.path == Path::Cache {
            snapshots.begin();
        }
        self.snapshots = Some(snapshots);
        let published = self.telemetry.collect(&self.facts)?.published();
        self.clients.serve(published)
    }

    /// Ends for a reason that a standby would end for as well: it must not follow.
    fn give_up(&self, why: &Notice) {
        self.succession.close();
        // A keeper that is gone needs no telling.
        let _ = self.keeper.line.tell(why);
    }

    /// Takes what the database says.
    fn take_outcomes(&mut self, now: Nanos) -> bool {
        for taken in 0..CONTROL_BATCH {
            let outcome = self.database.as_ref().and_then(|database| database.outcomes.try_recv().ok());
            let Some(outcome) = outcome else { return taken > 0 };
            if let Outcome::Opened(opened) = &outcome {
                self.clients.view.set_database(opened.database.clone());
            }
            self.dispatcher.handle_outcome(now, outcome);
        }
        true
    }

    /// Hands the database what is to be durable.
    fn commit(&mut self) {
        let Self { database, dispatcher, .. } = self;
        let is_all = database.as_mut().is_none_or(|database| database.submit(|| dispatcher.poll_commit()));
        if !is_all && matches!(dispatcher.end(), Some(End::Fenced(_))) {
            tracing::error!("the database could not be told of it: without the table, a start may control again");
        }
    }

    fn log(&mut self) {
        let mut any = false;
        while let Some(event) = self.dispatcher.poll_event() {
            log::write(&event, &self.facts.config);
            any = true;
        }
        if any {
            self.telemetry.note_moments(&self.dispatcher, &self.facts);
        }
    }

    /// Tells the keeper.
    fn tell(&mut self, now: Nanos) {
        while let Some(notice) = self.dispatcher.poll_notice() {
            // A keeper that is gone needs no telling; a client that waits for it does.
            if let (Err(error), Notice::Upgrade { .. }) = (self.keeper.line.tell(&notice), &notice) {
                let why = format!("the keeper does not hear: {error}");
                self.dispatcher.handle_order(now, Order::Stay { why });
            }
        }
    }

    /// Answers the clients whose requests are done.
    fn answer(&mut self, now: Nanos) {
        let Self { clients, dispatcher, workers, telemetry, facts, .. } = self;
        let status =
            |dispatcher: &Dispatcher, status: &mut _| telemetry.complete(now, status, dispatcher, workers, facts);
        clients.answer(dispatcher, status, |report| facts.complete(report));
    }

    /// Waits until there is something to do.
    fn wait(&mut self, events: &mut Events, busy: bool) {
        let shared = &self.workers.shared;
        let until = self.dispatcher.poll_timeout();
        let now = clock::now();
        let timeout = until.map_or(CONTROL_SLEEP_MAX, |until| until.since(now).min(CONTROL_SLEEP_MAX));
        let is_full = !self.workers.sender.has_room();
        shared.control.announce();
        let queued = busy
            || !shared.inbox.is_empty()
            || !self.clients.requests.is_empty()
            || !self.keeper.orders.is_empty()
            || !self.keeper.heard.is_empty()
            || self.database.as_ref().is_some_and(|database| !database.outcomes.is_empty());
        // An outbox that is full empties within the time that a worker needs for a burst, and
        // nobody wakes us then.
        let timeout = if queued {
            Duration::ZERO
        } else if is_full {
            Duration::from_millis(1)
        } else {
            timeout
        };
        // An interrupted wait is a short one.
        let _ = self.poll.poll(events, Some(timeout));
        shared.control.awake();
    }

    /// Takes what the keeper orders. Gives the exit code where its line has an end.
    fn take_orders(&mut self, now: Nanos) -> Option<ExitCode> {
        let heard = std::mem::take(&mut self.keeper.heard);
        for order in heard.into_iter().chain(self.keeper.orders.try_iter()) {
            match order {
                Ok(order) => self.dispatcher.handle_order(now, order),
                // It was told to stop before that.
                Err(_) if matches!(self.dispatcher.end(), Some(End::Stopped)) => break,
                Err(error) => {
                    tracing::error!(%error, "the keeper is gone: this engine ends, so that the next keeper may take over");
                    return Some(ExitCode::FAILURE);
                }
            }
        }
        matches!(self.dispatcher.end(), Some(End::Stopped)).then(|| self.stop())
    }

    /// Ends in order: what recovery had for the database is written, and the table's snapshot.
    fn stop(&mut self) -> ExitCode {
        tracing::info!("this engine ends, and writes its snapshot");
        self.commit();
        // What the database is given before it is closed, it still writes.
        self.database = None;
        let is_whole = self.snapshots.take().is_some_and(|snapshots| snapshots.may_write());
        let path = self.facts.config.database.snapshot();
        if !is_whole && self.facts.path != Path::Cache {
            tracing::info!(path = %path.display(), "the table is not whole yet: the last snapshot stays");
            return ExitCode::SUCCESS;
        }
        match snapshot::write(self.dispatcher.table(), &path) {
            Ok(written) => {
                tracing::info!(path = %path.display(), bytes = written.head.bytes, "snapshot written");
                ExitCode::SUCCESS
            }
            Err(error) => {
                tracing::error!(%error, "no snapshot written");
                ExitCode::FAILURE
            }
        }
    }
}
