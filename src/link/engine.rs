//! The engine: what a keeper starts, from its inheritance to its end.
//!
//! The order of a start is the order of what recovery needs: table, epoch, rings, workers, first takeover frames. The
//! database and the API open beside that, in threads of their own, and what waits for them waits.

use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;

use mio::Poll;

use super::control::{CONTROL_WAKE, Control, Inheritance};
use super::mailbox::Mailbox;
use super::peers::Peers;
use super::shared::Shared;
use super::store::Store;
use super::thread::{Manner, Waiting, spawn};
use super::wake::Wake;
use super::worker::Worker;
use crate::cascade::Topology;
use crate::cms::{CommitError, DatabaseError, Job, Outcome, Reservation};
use crate::keeper::handover::{Handover, Notice, TableOrigin};
use crate::limits::{CONTROL_QUEUE, GENERATION_BLOCK, OUTBOX_QUEUE};
use crate::recovery::Path;
use crate::sys::af_xdp::{self, XdpError};
use crate::sys::clock;
use crate::sys::mapping::Mapping;
use crate::table::{OpenError, OwnerId, Table};
use crate::telemetry::{Collector, Counters, recorder};
use crate::wire::Epoch;

/// Why an engine cannot go on.
#[derive(Debug, thiserror::Error)]
enum EngineError {
    #[error("the table that was handed over cannot be used: {0}")]
    Table(#[from] OpenError),
    #[error("the rings that were handed over cannot be used: {0}")]
    Rings(#[from] XdpError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("no generations could be reserved: {0}")]
    Reservation(#[from] CommitError),
    #[error("the database's thread ended")]
    DatabaseGone,
    #[error("the system refused {what}: {error}")]
    System { what: &'static str, error: std::io::Error },
}

fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> EngineError {
    move |error| EngineError::System { what, error }
}

/// What an engine that was started ahead makes before it has anything to work with, so that its first frames do not
/// wait for memory.
pub struct Prepared {
    inbox: Mailbox,
    /// One worker's; further workers' are made when it is known how many there are.
    outbox: Mailbox,
}

impl Default for Prepared {
    fn default() -> Self {
        Self { inbox: Mailbox::new(CONTROL_QUEUE), outbox: Mailbox::new(OUTBOX_QUEUE) }
    }
}

/// Runs an engine until the keeper orders a stop or is gone, or another dispatch server controls.
pub fn run(handover: Handover, prepared: Prepared) -> ExitCode {
    let Prepared { inbox, outbox } = prepared;
    let mut first_outbox = Some(outbox);
    let Handover { manifest, table, umem, sockets, api, keeper } = handover;
    let keeper = Arc::new(keeper);
    let begun = clock::now();
    let start = || -> Result<(Control, Vec<JoinHandle<()>>), EngineError> {
        let config = manifest.config;
        let table = Arc::new(Table::open(Mapping::adopt(table).map_err(OpenError::from)?)?);
        let recovered = table.recover();
        if recovered != Default::default() {
            tracing::info!(?recovered, "operations that a predecessor had begun are finished or undone");
        }
        let path = match &manifest.table {
            TableOrigin::Kept => Path::Cache,
            TableOrigin::Fresh { why } => {
                tracing::info!(%why, "the table is new: recovering by the database");
                Path::Database
            }
        };

        let poll = Poll::new().map_err(system("a poll"))?;
        let wake = Wake::new(poll.registry(), CONTROL_WAKE).map_err(system("an eventfd"))?;
        let mut topology = Topology::new(&config, manifest.mac);
        for (domain, mac) in manifest.next_hops {
            topology.handle_authentic(domain, mac);
        }
        let peers = Peers::new(&topology);
        let settled = path == Path::Cache;
        let (address, steered) = (config.dispatch.address, (config.interface.ethertype, config.interface.probe_port));
        let shared = Arc::new(Shared::new(address, steered, peers, inbox, wake, settled));

        // With a living cache the epoch is in the table, and the database is not waited for.
        let next = (path == Path::Cache).then(|| table.bump_generation()).flatten();
        let (epoch, store) = match next {
            Some(epoch) => (epoch, None),
            None => {
                let store = Store::open(&config, &shared).map_err(system("a thread"))?;
                let (epoch, store) = reserve(&table, store)?;
                (epoch, Some(store))
            }
        };
        shared.begin(epoch);

        let mut collector = Collector::default();
        let (mut outboxes, mut wakes, mut counters, mut threads) = (vec![], vec![], vec![], vec![]);
        for (number, socket) in af_xdp::adopt(&manifest.xdp, umem, sockets)?.into_iter().enumerate() {
            let outbox = Arc::new(first_outbox.take().unwrap_or_else(|| Mailbox::new(OUTBOX_QUEUE)));
            let count = Arc::new(Counters::default());
            let waiting = Waiting::new().map_err(system("a poll"))?;
            wakes.push(waiting.wake.clone());
            let writer = table.writer(OwnerId::worker(number as u8));
            let worker =
                Worker::new(socket, writer, shared.clone(), outbox.clone(), count.clone(), recorder(&mut collector));
            let core = config.worker.cores.get(number).copied();
            let manner = Manner { number, wait: config.worker.wait, core };
            threads.push(spawn(worker, waiting, shared.clone(), manner).map_err(system("a thread"))?);
            outboxes.push(outbox);
            counters.push(count);
        }
        let control = Control::new(Inheritance {
            begun,
            path,
            epoch,
            config,
            topology,
            shared,
            writer: table.writer(OwnerId::CONTROL),
            outboxes: outboxes.into_iter().zip(wakes).collect(),
            counters,
            collector,
            store,
            keeper: keeper.clone(),
            api,
            poll,
            mode: manifest.mode,
            predecessor: manifest.predecessor,
        });
        Ok((control, threads))
    };
    match start() {
        Ok((control, threads)) => {
            let code = control.run();
            for thread in threads {
                // A worker that panicked has printed why, and its keeper starts another engine.
                if thread.join().is_err() {
                    return ExitCode::FAILURE;
                }
            }
            code
        }
        Err(error) => {
            tracing::error!(%error, "the engine cannot start");
            // A keeper that is gone needs no telling.
            let _ = keeper.tell(&Notice::Failed { why: error.to_string() });
            ExitCode::FAILURE
        }
    }
}

/// Waits for the database, and reserves a block of generations for this table. The first of them is the epoch.
fn reserve(table: &Table, mut store: Store) -> Result<(Epoch, Store), EngineError> {
    let count = GENERATION_BLOCK;
    store.thread.submit(Job::Reserve { count }).map_err(|_| EngineError::DatabaseGone)?;
    loop {
        match store.outcomes.recv().map_err(|_| EngineError::DatabaseGone)? {
            Outcome::Waiting(error) => tracing::warn!(%error, "waiting for the database"),
            Outcome::Opened(opened) => store.opened = Some(opened),
            Outcome::Failed(error) => return Err(error.into()),
            Outcome::Reserved(result) => {
                let Reservation { term, first, end } = result?;
                table.set_reservation(term, first, end);
                return Ok((Epoch::new(term, first), store));
            }
            Outcome::Committed { .. } => {}
        }
    }
}
