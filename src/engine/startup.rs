//! The engine: what a keeper starts, from the hand-over to its end.
//!
//! ```text
//! new       map ─ locks ─ epoch ─ first takeover frames ─ threads, queues ─ database, API
//! standby   map ─ threads, queues ─ everything touched ─ … ─ locks ─ epoch ─ first takeover frames ─ database, API
//! ```
//!
//! The order of a take-over is the order of what recovery needs. The database and the API open
//! beside that, in threads of their own, and what waits for them waits.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::RecvTimeoutError;

use super::control::database::DatabaseHandle;
use super::control::dispatcher::Journal;
use super::control::{Control, Start};
use super::first_frames;
use super::runtime::{Made, Runtime};
use crate::cascade::Topology;
use crate::database::{CommitError, DatabaseError, Job, Opened, Outcome};
use crate::handover::compat::Identity;
use crate::handover::protocol::{Death, Frames, Handover, KeeperLine, Manifest, Notice, Role, TableOrigin};
use crate::limits::{CONTROL_SLEEP_MAX, GENERATION_BLOCK, STANDBY_HEAP_BYTES};
use crate::link::Peers;
use crate::link::egress::Ports;
use crate::link::outgoing::Outgoing;
use crate::recovery::{Path, Recovery, Settings, Warming};
use crate::sys::af_xdp::{self, Mapped, XdpError};
use crate::sys::mapping::Mapping;
use crate::sys::robust_locks::{Held, RobustLocks};
use crate::sys::threads::Nice;
use crate::sys::{clock, memory, seccomp, threads};
use crate::table::archive::{Archive, Whence};
use crate::table::file::OpenError;
use crate::table::file::snapshot::{self, SnapshotError, SnapshotFault};
use crate::table::{OwnerId, Recovered, Table};
use crate::time::Nanos;
use crate::wire::Epoch;

/// Why an engine cannot go on.
#[derive(Debug, thiserror::Error)]
enum EngineError {
    #[error("this program may not take over: {0}")]
    Program(String),
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
    System { what: &'static str, error: io::Error },
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> EngineError {
    move |error| EngineError::System { what, error }
}

/// Runs an engine until the keeper orders a stop or is gone, or another dispatch server controls.
/// `born` is when the process began its main.
pub fn run(handover: Handover, born: Nanos) -> ExitCode {
    let Handover { manifest, table, succession, frames, api, keeper } = handover;
    let keeper = Arc::new(keeper);
    let end = |error: EngineError| {
        tracing::error!(%error, "the engine cannot start");
        // A keeper that is gone needs no telling.
        let _ = keeper.tell(&Notice::Failed { why: error.to_string() });
        ExitCode::FAILURE
    };
    let opened = RobustLocks::open(succession.as_fd());
    // Mapped, it needs no descriptor, by which one could do more to it.
    drop(succession);
    let succession = match opened {
        Ok(succession) => Arc::new(succession),
        Err(error) => return end(system("the locks of the succession")(error)),
    };
    let prepare = || {
        // A standby may get the locks before its keeper has heard what it is.
        manifest.keeper.admit(&Identity::ours()).map_err(EngineError::Program)?;
        // As above; and the lock of its file, which proves deaths, lasts as long as the mapping and
        // cannot be given back.
        let table = Table::open(Mapping::adopt(table).map_err(OpenError::from)?.without_descriptor())?;
        succession.beat(0);
        let mapped = manifest.interfaces.iter().zip(frames);
        let mapped = mapped.map(|(interface, Frames { umem, sockets })| af_xdp::map(&interface.xdp, umem, sockets));
        let mapped = mapped.collect::<Result<Vec<_>, _>>()?;
        let successor = Successor::new(manifest, table, Arc::clone(&succession), Arc::clone(&keeper))?;
        Ok((succeed(&succession, &successor)?, successor, mapped))
    };
    let (lock, successor, mapped) = match prepare() {
        Ok(prepared) => prepared,
        Err(error) => return end(error),
    };
    // Held to the end of this thread's work on table and rings, which is the control thread's.
    let Some(lock) = lock else { return ExitCode::SUCCESS };
    match successor.take_over(mapped, born, api) {
        Ok((mut control, threads)) => {
            let code = control.run();
            for thread in threads {
                // A worker that panicked has printed why, and its keeper starts another engine.
                if thread.join().is_err() {
                    return ExitCode::FAILURE;
                }
            }
            // The standby goes on here, and does not wait for database and clients to be let go.
            drop(lock);
            code
        }
        Err(error) => {
            // Before the locks go: what stopped this one would stop its standby.
            succession.close();
            end(error)
        }
    }
}

/// Waits until nobody works with table and rings any more, by the locks of all who could; gives the
/// control thread's own. None where their last owner meant nobody to follow, or the keeper died
/// with them: its engines are dying too, and what was its is the next keeper's.
fn succeed<'a>(succession: &'a RobustLocks, successor: &Successor) -> Result<Option<Held<'a>>, EngineError> {
    let refused = system("a lock of the succession");
    let take = || {
        let control = succession.take(0)?.0;
        for worker in 1..=successor.manifest.sockets() {
            // Given back at once: it is that worker's, whose thread takes it when it begins.
            drop(succession.take(worker)?);
        }
        Ok(control)
    };
    let worker = &successor.manifest.config.worker;
    threads::keep_free(worker.pinned());
    if let Some(core) = worker.control_core
        && !threads::pin(core)
    {
        tracing::warn!(core, "the control thread cannot be pinned to its core; it runs where it is put");
    }
    if successor.manifest.role == Role::Standby && !threads::run_first() {
        tracing::debug!("this standby waits as others do: the system lets it run nothing in real time");
    }
    let control = take().map_err(refused)?;
    Ok((!succession.is_closed() && !successor.keeper.is_closed()).then_some(control))
}

/// Who is to take over: everything mapped, and, where it stands by, made ahead.
struct Successor {
    manifest: Manifest,
    table: Arc<Table>,
    topology: Topology,
    peers: Arc<Peers>,
    ports: Ports,
    succession: Arc<RobustLocks>,
    keeper: Arc<KeeperLine>,
    path: Path,
    /// What a standby has made ahead.
    runtime: Option<Runtime>,
    recovery: Option<Recovery>,
    /// Where the first frames are written.
    outgoing: Outgoing<usize>,
}

impl Successor {
    fn new(
        manifest: Manifest,
        table: Table,
        succession: Arc<RobustLocks>,
        keeper: Arc<KeeperLine>,
    ) -> Result<Self, EngineError> {
        if manifest.role == Role::Standby {
            seccomp::confine().map_err(system("giving up system calls"))?;
        }
        let ports = Ports::new(&manifest);
        let mut topology = Topology::new(&manifest.config, &ports.macs());
        for &(domain, hop) in &manifest.next_hops {
            topology.handle_authentic(domain, hop);
        }
        let peers = Arc::new(Peers::new(&topology));
        let path = if manifest.table == TableOrigin::Kept { Path::Cache } else { Path::Database };
        let table = Arc::new(table);
        let mut successor = Self {
            manifest,
            table,
            topology,
            peers,
            ports,
            succession,
            keeper,
            path,
            runtime: None,
            recovery: None,
            outgoing: Outgoing::default(),
        };
        if successor.manifest.role == Role::Standby {
            successor.runtime = Some(successor.make_runtime()?);
            successor.rehearse();
            successor.recovery = Some(successor.new_recovery(successor.table.epoch(), clock::now()));
            memory::reserve_heap(STANDBY_HEAP_BYTES);
            let touched = memory::touch_all().map_err(system("its own memory map"))?;
            tracing::debug!(bytes = touched, "everything is mapped and touched");
            // A keeper that is gone ends this process by its line.
            let _ = successor.keeper.tell(&Notice::Standing { program: Identity::ours() });
        }
        Ok(successor)
    }

    fn make_runtime(&self) -> Result<Runtime, EngineError> {
        let made = Made {
            manifest: &self.manifest,
            peers: &self.peers,
            ports: &self.ports,
            succession: &self.succession,
            keeper: &self.keeper,
            settled: self.path == Path::Cache,
            stands_by: self.manifest.role == Role::Standby,
        };
        Runtime::new(&made).map_err(system("threads and queues"))
    }

    /// Makes first frames from the table as it is and throws them away, so that the code for it has
    /// run once.
    fn rehearse(&mut self) {
        let mut recovery = self.new_recovery(self.table.epoch(), clock::now());
        let mut writer = self.table.writer(OwnerId::CONTROL);
        let ready = first_frames::Ready {
            topology: &self.topology,
            peers: &self.peers,
            ports: &self.ports,
            writer: &mut writer,
            journal: &mut Journal::default(),
            outgoing: &mut self.outgoing,
        };
        first_frames::send(&mut recovery, ready, &mut [first_frames::Nowhere], clock::now());
    }

    fn new_recovery(&self, epoch: Epoch, now: Nanos) -> Recovery {
        let settings = Settings::from(&self.manifest.config.recovery);
        Recovery::new(self.topology.domains(), epoch, self.path, &settings, now)
    }

    /// Nothing is sent to domains that another dispatch server controls, whichever engine heard of
    /// it.
    fn observe_fences(&self, recovery: &mut Recovery) {
        for (domain, by) in self.table.fences().filter(|(_, by)| by.term() >= self.table.epoch().term()) {
            recovery.fence(domain, by);
            if let Some((_, peer)) = self.peers.find(domain) {
                peer.fence();
            }
        }
    }

    /// Everybody who could work with table and rings is dead: takes both, and control.
    fn take_over(
        mut self,
        mapped: Vec<Mapped>,
        born: Nanos,
        api: UnixListener,
    ) -> Result<(Control, Vec<JoinHandle<()>>), EngineError> {
        let begun = clock::now();
        let mut heard = Vec::new();
        if let Some(runtime) = &self.runtime {
            for (domain, hop) in runtime.line.controls() {
                self.topology.handle_authentic(domain, hop);
            }
            self.peers.follow(&self.topology);
            // To stop, or that the keeper is gone: the control thread obeys before it waits
            // for more.
            heard.extend(runtime.line.orders.try_iter());
        }
        self.succession.beat(0);
        let recovered = self.table.recover();
        self.succession.beat(0);
        let mut writer = self.table.writer(OwnerId::CONTROL);
        let mut journal = Journal::default();
        // With a living cache the epoch is in the table, and the database is not waited for.
        let epoch = (self.path == Path::Cache).then(|| self.table.bump_generation()).flatten();
        let mut senders = af_xdp::take_over(mapped)?;
        let sent = epoch.map(|epoch| {
            writer.begin(epoch);
            let mut recovery = match self.recovery.take() {
                Some(recovery) => recovery.begin(epoch, begun),
                None => self.new_recovery(epoch, begun),
            };
            self.observe_fences(&mut recovery);
            let ready = first_frames::Ready {
                topology: &self.topology,
                peers: &self.peers,
                ports: &self.ports,
                writer: &mut writer,
                journal: &mut journal,
                outgoing: &mut self.outgoing,
            };
            let first = first_frames::send(&mut recovery, ready, senders.sockets(), begun);
            (epoch, recovery, first)
        });
        threads::run_with_others();
        if self.manifest.role != Role::Standby {
            // Before a frame is read, and not before the first ones are sent: the kernel takes
            // longer to compile the filter than it takes to send them.
            seccomp::confine().map_err(system("giving up system calls"))?;
        }
        let rings = senders.receive()?;
        self.succession.beat(0);
        self.say(&recovered);
        let mut runtime = match self.runtime.take() {
            Some(runtime) => runtime,
            None => self.make_runtime()?,
        };
        let shared = Arc::clone(&runtime.shared);
        let mut warming = None;
        let (epoch, recovery, first_sent, store) = match sent {
            Some((epoch, recovery, first)) => (epoch, recovery, first, None),
            None => {
                let store =
                    DatabaseHandle::open(&self.manifest.config, &shared, self.path).map_err(system("a thread"))?;
                let (epoch, store, opened) = reserve(&self.table, store, || self.succession.beat(0))?;
                writer.begin(epoch);
                // A table that lives, and whose block of generations is used up, knows more than
                // its last snapshot.
                warming = if self.path == Path::Database { self.warm() } else { None };
                let mut recovery = self.new_recovery(epoch, begun);
                self.observe_fences(&mut recovery);
                (epoch, recovery, None, Some((store, opened)))
            }
        };
        shared.begin(epoch);
        runtime.start(rings, &self.table);
        let stood_by = self.manifest.role == Role::Standby;
        let (noticed, how) = match self.succession.take_hang() {
            Some(since) if since < begun => (since, "hung, and was killed"),
            _ => (begun, "ended, and its standby had its locks"),
        };
        let followed = self.manifest.active.map(|pid| Death { pid, noticed_ns: noticed.0, how: how.into() });
        let Runtime { poll, line, collector, counters, outboxes, threads, .. } = runtime;
        let control = Control::new(Start {
            begun,
            path: self.path,
            epoch,
            topology: self.topology,
            shared,
            recovery,
            journal,
            writer,
            outboxes,
            ports: self.ports,
            counters,
            collector,
            store,
            warming,
            keeper: self.keeper,
            heard,
            orders: line.orders,
            succession: self.succession,
            api,
            poll,
            mode: self.manifest.mode(),
            config: self.manifest.config,
            predecessor: if stood_by { followed } else { self.manifest.predecessor },
            first_sent,
            born: (!stood_by).then_some(born),
        });
        Ok((control, threads))
    }

    /// Opens the snapshot that is to warm a new table, where there is one: then that is the path.
    fn warm(&mut self) -> Option<Warming> {
        let path = self.manifest.config.database.snapshot();
        match snapshot::open(&path) {
            Ok(archive) => {
                let Whence { parts, terminals, .. } = *archive.whence();
                tracing::info!(
                    snapshot = %path.display(), parts, terminals,
                    "recovering by the snapshot, as far as the database confirms it"
                );
                self.path = Path::Snapshot;
                let archive = Arc::new(archive);
                read_ahead(&archive);
                Some(Warming::by(archive))
            }
            Err(SnapshotError { what: SnapshotFault::Io { error, .. }, .. })
                if error.kind() == io::ErrorKind::NotFound =>
            {
                None
            }
            Err(error) => {
                tracing::warn!(%error, "recovering by the database alone");
                Some(Warming::refused(error.to_string()))
            }
        }
    }

    fn say(&self, recovered: &Recovered) {
        if *recovered != Recovered::default() {
            tracing::info!(?recovered, "operations that a predecessor had begun are finished or undone");
        }
        if let TableOrigin::Fresh { why } = &self.manifest.table {
            tracing::info!(%why, "the table is new");
        }
    }
}

/// Has the segments of a snapshot read from the disk, and checked, before the control thread comes
/// to them. It waits for none of it: what is not checked then it checks itself.
fn read_ahead(archive: &Arc<Archive>) {
    let archive = Arc::downgrade(archive);
    let run = move || {
        for number in 0.. {
            // A snapshot that is not read any more is read ahead no more.
            let Some(archive) = archive.upgrade() else { return };
            // What is wrong with it the control thread finds out again, and says.
            if number >= archive.segments() || archive.segment(number).is_err() {
                return;
            }
        }
    };
    if let Err(error) = threads::spawn_nice("snapshot ahead", Nice::ClientsWait, run) {
        tracing::debug!(%error, "nobody reads the snapshot ahead");
    }
}

/// Waits for the database, and reserves a block of generations for this table. The first of them is
/// the epoch. A database that another process has may be waited for for long: `beat` tells the
/// keeper that this one waits and does not hang.
fn reserve(
    table: &Table,
    store: DatabaseHandle,
    beat: impl Fn(),
) -> Result<(Epoch, DatabaseHandle, Opened), EngineError> {
    let mut found = None;
    let count = GENERATION_BLOCK;
    store.thread.submit(Job::Reserve { count }).map_err(|_| EngineError::DatabaseGone)?;
    loop {
        beat();
        let outcome = match store.outcomes.recv_timeout(CONTROL_SLEEP_MAX) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return Err(EngineError::DatabaseGone),
        };
        match outcome {
            Outcome::Waiting(error @ DatabaseError::Held { .. }) => tracing::warn!(%error, "waiting for the database"),
            // Without a table there is nothing to control by meanwhile.
            Outcome::Waiting(error) => return Err(error.into()),
            Outcome::Opened(opened) => found = Some(opened),
            Outcome::Failed(error) => return Err(error.into()),
            Outcome::Reserved(result) => {
                let block = result?;
                table.set_reservation(block.epoch(), block.end);
                let opened = found.take().ok_or(EngineError::DatabaseGone)?;
                for &(domain, by) in &opened.fences {
                    // As many as a table has room for is as many as a configuration may name.
                    let _ = table.set_fence(domain, by);
                }
                return Ok((block.epoch(), store, opened));
            }
            Outcome::Committed { .. } | Outcome::Given(_) | Outcome::Unwritable(_) | Outcome::Writable => {}
        }
    }
}
