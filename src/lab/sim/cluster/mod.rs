//! Everything that takes part, in one process under one clock: a dispatch server's engine,
//! autonomous servers, the network between them, the database, and operators.
//!
//! ```text
//! operators ─ requests ─► engine: dispatcher ─ worker ─ rings ─► network ─► autonomous servers
//!                            │  ▲
//!                            ▼  │
//!                          database          kills at any step; table and database outlive them
//! ```
//!
//! The dispatcher, the worker, the table and the database's rows are the code that production runs;
//! the autonomous servers are written from the wire format and not from our code. The clock, the
//! network, the disk, the keeper and the operators are made up, all by one seed: the same seed, the
//! same run. [`story`] tells one seed's story from beginning to end and says what is wrong at the
//! end; tests of single facts drive a [`Cluster`] themselves.

mod check;
mod database;
mod engine;
mod expected;
mod operators;
mod site;
pub mod story;
mod trace;

use std::sync::Arc;
use std::time::Duration;

pub use self::check::{Agreed, Picture};
pub use self::database::Disk;
pub use self::engine::{Engine, Fate};
use self::engine::{Outside, Start};
use self::operators::Operators;
pub use self::site::Site;
use self::site::{DISPATCH_MAC, dispatch_address};
pub use self::trace::Trace;
use super::{AutonomousServer, Network, NetworkSettings, Random, Settings as ServerSettings};
use crate::config::AutonomousDomain;
use crate::database::{Change, KeyParameters, Member, PartParameters};
use crate::handover::protocol::Notice;
use crate::limits::{FRAME_BYTES_MAX, GENERATION_BLOCK};
use crate::link::memory_ring::MemoryRing;
use crate::recovery::{Path, Settings, Warming};
use crate::sys::file_bytes::FileBytes;
use crate::table::archive::{self, Archive};
use crate::table::{Capacity, OwnerId, Part, Table, Terminal};
use crate::time::Nanos;
use crate::wire::{
    Address, Domain, Epoch, Flags, Layout, Level, MeetingId, MeetingState, Role, Run, Secret, WINDOW_NONE,
};

/// Frames that a worker's rings have room for on their way out.
const RING: usize = 4096;
/// Frames that wait in the rings while there is no engine; further ones are lost.
const UNREAD_MAX: usize = 256;
/// Moments of a simulation, at most: more means that it goes round without getting anywhere.
const MOMENTS_MAX: u32 = 5_000_000;

/// How large a cluster is, and its network.
#[derive(Clone, Copy, Debug)]
pub struct ClusterSettings {
    /// By which everything is drawn that is left to chance.
    pub seed: u64,
    /// Autonomous servers.
    pub domains: u64,
    /// Terminals of each.
    pub terminals: u16,
    /// What befalls frames.
    pub network: NetworkSettings,
    /// Of the table.
    pub capacity: Capacity,
}

/// All of it.
pub struct Cluster {
    /// The time of all.
    pub now: Nanos,
    /// Between the autonomous servers and the dispatch server.
    pub network: Network,
    /// The autonomous servers, by ascending domain.
    pub sites: Vec<Site>,
    /// What outlives an engine.
    pub table: Arc<Table>,
    /// The dispatch server's database.
    pub disk: Disk,
    /// The engine that controls, while there is one.
    pub engine: Option<Engine>,
    /// The last snapshot of a table: it outlives the machine's memory.
    pub snapshot: Option<Vec<u8>>,
    /// For the test that drives the cluster.
    pub random: Random,
    /// Under which the last engine was started.
    pub epoch: Epoch,
    /// When the engine dies. Nothing by itself.
    pub fate: Fate,
    /// What happens, where that is wanted.
    pub trace: Trace,
    operators: Operators,
    ring: MemoryRing,
    domains: Vec<AutonomousDomain>,
    capacity: Capacity,
    /// Whether the table holds all that the database holds, by an engine's word.
    is_complete: bool,
    /// What engines have told their keeper.
    notices: Vec<Notice>,
    /// Frames that engines have sent.
    sent: u64,
    /// Parts that engines which are gone had from snapshots.
    confirmed: u64,
}

impl Cluster {
    /// Domains from 1 on; no meeting yet, no engine, no operators.
    pub fn new(settings: ClusterSettings) -> Self {
        let ClusterSettings { seed, domains: count, terminals, network, capacity } = settings;
        let mut random = Random::new(seed);
        let mut network = Network::new(network, random.number());
        network.attach(DISPATCH_MAC);
        let mut sites = Vec::new();
        let mut domains = Vec::new();
        for number in 1..=count {
            let domain = Domain::new(number).expect("a domain");
            let mut settings = ServerSettings::new(domain);
            let secret = Some(Secret([number as u8; 32]));
            settings.secret.clone_from(&secret);
            settings.dispatch = dispatch_address();
            settings.terminals = terminals.into();
            settings.info_pages_max = 1 + random.below(4) as u16;
            settings.window = 1 + random.below(8) as u16;
            let mac = settings.mac;
            let port = network.attach(mac);
            domains.push(AutonomousDomain {
                number: domain,
                mac: Some(mac),
                interface: None,
                vlan: None,
                label: None,
                secret,
                behind: Vec::new(),
            });
            sites.push(Site { server: AutonomousServer::new(settings, random.number()), port });
        }
        let disk = Disk::new();
        let table = Arc::new(Table::on_heap(capacity));
        let mut cluster = Self {
            now: Nanos(1_000_000_000),
            network,
            sites,
            table,
            disk,
            engine: None,
            snapshot: None,
            random,
            epoch: Epoch::NONE,
            fate: Fate::default(),
            trace: Trace::default(),
            operators: Operators::default(),
            ring: MemoryRing::new(RING),
            domains,
            capacity,
            is_complete: true,
            notices: Vec::new(),
            sent: 0,
            confirmed: 0,
        };
        cluster.reserve();
        cluster
    }

    /// Conferences that table, database and autonomous servers know of, with members everywhere as
    /// long as there are free terminals.
    pub fn confer(&mut self, meetings: impl IntoIterator<Item = u64>, members: u64) {
        let mut writer = self.table.writer(OwnerId::CONTROL);
        let mut changes = Vec::new();
        for meeting in meetings.into_iter().map(MeetingId) {
            let level = Level::new(1 + (meeting.0 % 5) as u8).expect("1 to 5");
            let layout = Layout::new(4).expect("a layout");
            let mut parts = Vec::new();
            let mut all = Vec::new();
            for site in &mut self.sites {
                let free: Vec<_> = free_terminals(&site.server).take(members as usize).collect();
                if free.is_empty() {
                    continue;
                }
                let roles = free.iter().map(|&terminal| (terminal, Role::Participant)).collect::<Vec<_>>();
                site.server.hold(self.now, meeting, level, layout, &roles);
                let summary = site.server.meeting(meeting).expect("it holds what it was told to");
                let domain = site.server.domain();
                let part = Part {
                    meeting,
                    domain,
                    version: summary.version,
                    epoch: self.epoch,
                    state: MeetingState::InMeeting,
                    level,
                    layout,
                    participants: 0,
                    chairman: summary.chairman,
                    in_doubt: false,
                    is_unlisted: false,
                    run: summary.run,
                };
                writer.insert_part(&part).expect("room");
                parts.push(PartParameters { domain, version: summary.version, state: MeetingState::InMeeting });
                for (terminal, role) in roles {
                    writer.join(meeting, domain, &Terminal::new(terminal, meeting, role)).expect("room");
                    all.push(Member { terminal, role, flags: Flags::default(), window: WINDOW_NONE });
                }
            }
            changes.push(Change::Create(KeyParameters {
                meeting,
                name: format!("conference {meeting}"),
                level,
                layout,
                chairman: Address::default(),
                created_ms: 1,
                parts,
                members: all,
                // As a meeting that is held there of itself.
                run: Run::NONE,
            }));
        }
        self.disk.database.commit(&changes, self.epoch).expect("a new database takes them");
    }

    /// A snapshot is taken of the table as it is.
    pub fn take_snapshot(&mut self) {
        self.snapshot = Some(archive::bytes_of(&self.table).expect("a small table"));
    }

    /// An engine takes over: by the table that there is, or after a reboot, which leaves the
    /// database, the rings' other end and the snapshot, where that is the path.
    ///
    /// # Panics
    /// If there is one.
    pub fn start(&mut self, path: Path, settings: &Settings) {
        if path != Path::Cache {
            self.table = Arc::new(Table::on_heap(self.capacity));
            self.ring = MemoryRing::new(RING);
            self.is_complete = false;
        }
        self.take_over(path, settings);
    }

    /// As after a death of the engine alone: the keeper starts another on the table as it is. Only
    /// where an engine has said that nothing is missing in it may that go by the cache.
    pub fn restart(&mut self, settings: &Settings) {
        let path = match self.snapshot {
            _ if self.is_complete => Path::Cache,
            Some(_) => Path::Snapshot,
            None => Path::Database,
        };
        self.take_over(path, settings);
    }

    fn take_over(&mut self, path: Path, settings: &Settings) {
        assert!(self.engine.is_none(), "one at a time");
        self.table.recover();
        // With a living cache the epoch is in the table, and the database is not waited for.
        let bumped = (path == Path::Cache).then(|| self.table.bump_generation()).flatten();
        let opened = bumped.is_none().then(|| {
            self.reserve();
            let opened = self.disk.open();
            for &(domain, by) in &opened.fences {
                assert!(self.table.set_fence(domain, by), "there is room for every domain");
            }
            opened
        });
        let (warming, path) = match path {
            Path::Snapshot => self.warm(),
            path => (None, path),
        };
        self.epoch = bumped.unwrap_or(self.epoch);
        self.trace.say(self.now, || format!("an engine starts by {path:?} under {}", self.epoch));
        self.engine = Some(Engine::start(Start {
            now: self.now,
            path,
            epoch: self.epoch,
            table: &self.table,
            ring: &self.ring,
            domains: &self.domains,
            settings,
            opened,
            warming,
            random: Random::new(self.random.number()),
        }));
    }

    /// As an engine opens the snapshot that it finds.
    fn warm(&self) -> (Option<Warming>, Path) {
        let Some(bytes) = &self.snapshot else { return (None, Path::Database) };
        match Archive::open(FileBytes::heap(bytes)) {
            Ok(archive) => (Some(Warming::by(archive)), Path::Snapshot),
            Err(fault) => (Some(Warming::refused(fault.to_string())), Path::Database),
        }
    }

    /// The database reserves generations for this table; the first is the epoch.
    fn reserve(&mut self) {
        let block = self.disk.database.reserve_generations(GENERATION_BLOCK).expect("memory takes everything");
        // The database draws the nonce by chance, and a simulation must not.
        self.epoch = block.epoch().with_nonce(self.random.number() as u16);
        self.table.set_reservation(self.epoch, block.end);
    }

    /// The engine dies: what was not durable is lost, and what is under way arrives at nobody.
    pub fn kill(&mut self) {
        let Some(engine) = self.engine.take() else { return };
        self.trace.say(self.now, || "the engine dies".into());
        self.confirmed += engine.confirmed();
        engine.database.die(self.now, &self.disk);
        self.operators.handle_death();
        self.fate = Fate::default();
    }

    /// Sets the engine aside, which knows nothing of that: somebody else may start. Gives it back
    /// with its table and its disk, so that [`Self::resume`] can have it go on.
    pub fn set_aside(&mut self) -> Option<(Engine, Disk)> {
        let engine = self.engine.take()?;
        let copy = Disk::new();
        let mut changes = Vec::new();
        let all = self.disk.database.for_each_meeting(|meeting| changes.push(Change::Create(meeting)));
        all.expect("memory can be read");
        copy.database.commit(&changes, Epoch::NONE).expect("a new database takes them");
        self.ring = MemoryRing::new(RING);
        Some((engine, std::mem::replace(&mut self.disk, copy)))
    }

    /// Another host's dispatch server starts, which an operator has given control: under a term
    /// above the last one's, with a table of its own, and a database that knows the conferences.
    pub fn start_elsewhere(&mut self, settings: &Settings) {
        let seen = self.epoch;
        self.disk.database.take_control(seen, GENERATION_BLOCK).expect("memory takes everything");
        self.start(Path::Database, settings);
    }

    /// An engine that was set aside goes on, in place of the present one.
    pub fn resume(&mut self, (engine, disk): (Engine, Disk)) {
        self.kill();
        self.epoch = engine.epoch();
        self.table = Arc::clone(&engine.table);
        self.ring = engine.ring();
        self.disk = disk;
        self.engine = Some(engine);
    }

    /// Whether the engine agrees with every autonomous server.
    pub fn is_reconciled(&self) -> bool {
        self.engine.as_ref().is_some_and(Engine::is_reconciled)
    }

    /// Frames that engines have sent so far.
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// Lets things happen for so long, or until the engine has come to an end.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.run(end, |_| false);
    }

    /// Lets things happen until `done`; gives whether that came within this time.
    pub fn run_until(&mut self, time: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + time;
        self.run(end, &done);
        done(self)
    }

    /// As [`Self::run_until`], until every autonomous server agrees.
    pub fn run_until_reconciled(&mut self, time: Duration) -> bool {
        self.run_until(time, Self::is_reconciled)
    }

    fn run(&mut self, end: Nanos, done: impl Fn(&Self) -> bool) {
        for _ in 0..MOMENTS_MAX {
            self.work();
            if done(self) || self.engine.as_ref().is_some_and(Engine::has_left) {
                return;
            }
            let Some(next) = self.next().filter(|next| *next < end) else {
                self.now = self.now.max(end);
                self.sites.iter_mut().for_each(|site| site.server.handle_timeout(self.now));
                return;
            };
            // Somebody who says that he was due before now is due now; the clock goes on by a
            // little all the same.
            self.now = next.max(self.now + Duration::from_nanos(100));
            for site in &mut self.sites {
                site.server.handle_timeout(self.now);
            }
            self.deliver();
        }
        panic!("the simulation goes round without getting anywhere");
    }

    /// When something happens next.
    fn next(&mut self) -> Option<Nanos> {
        let alive = self.engine.as_mut().filter(|engine| !engine.is_fenced());
        let engine = alive.and_then(|engine| engine.poll_timeout(&self.disk));
        let operators = self.engine.as_ref().and_then(|_| self.operators.poll_timeout());
        let servers = self.sites.iter().filter_map(|site| site.server.poll_timeout());
        servers.chain(self.network.poll_timeout()).chain(engine).chain(operators).min()
    }

    /// Everybody does and sends what is due.
    fn work(&mut self) {
        let mut buffer = [0; FRAME_BYTES_MAX];
        for site in &mut self.sites {
            while let Some(length) = site.server.poll_transmit(self.now, &mut buffer) {
                self.network.send(self.now, &buffer[..length]);
            }
        }
        let Some(engine) = &mut self.engine else { return };
        while let Some((client, request, deadline)) = self.operators.poll_request(self.now) {
            self.trace.say(self.now, || format!("{client:?} asks until {deadline:?} {request:?}"));
            engine.request(self.now, client, request, deadline);
        }
        let trace = &mut self.trace;
        let mut outside = Outside { trace, frames: Vec::new(), replies: Vec::new(), notices: Vec::new() };
        let died = engine.work(self.now, &self.disk, &mut self.fate, &mut outside).is_err();
        let Outside { frames, replies, notices, .. } = outside;
        self.sent += frames.len() as u64;
        for frame in frames {
            self.trace.say_frame(self.now, "sent", &frame);
            self.network.send(self.now, &frame);
        }
        for (client, reply) in replies {
            self.operators.handle_reply(self.now, client, reply);
        }
        for notice in notices {
            self.is_complete |= notice == Notice::Complete;
            self.notices.push(notice);
        }
        for client in self.operators.handle_timeout(self.now) {
            engine.gone(client);
        }
        if died {
            self.kill();
        }
    }

    /// Everybody gets what has arrived.
    fn deliver(&mut self) {
        while let Some((port, bytes)) = self.network.receive(self.now) {
            match self.sites.iter_mut().find(|site| site.port == port) {
                Some(site) => site.server.handle_frame(self.now, &bytes),
                None if self.engine.is_some() || self.ring.unreleased() < UNREAD_MAX => {
                    self.trace.say_frame(self.now, "came", &bytes);
                    self.ring.arrive(&bytes, Some(self.now));
                }
                None => {}
            }
        }
    }
}

/// The terminals of a domain that are in no meeting.
pub fn free_terminals(server: &AutonomousServer) -> impl Iterator<Item = Address> + '_ {
    server.terminals().filter(|(state, _)| state.meeting == MeetingId::NONE).map(|(state, _)| state.terminal)
}
