//! A dispatch server's memory, a bad network and autonomous servers, in one process under one
//! clock.
//!
//! Everything but the network is what runs in production: the table, the database, the machines of
//! recovery, and on the other side the simulated autonomous servers, which are written from the
//! wire format and not from our code.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use baton::cascade::Speakers;
use baton::database::{Change, Database, KeyParameters, Member, PartParameters, WINDOW_NONE};
use baton::lab::sim::{self, AutonomousServer, Network, NetworkSettings, Port, Random};
use baton::limits::FRAME_BYTES_MAX;
use baton::recovery::{DatabaseStore, Event, OrphanList, Path, Recovery, Settings, TableStore};
use baton::table::{Capacity, OwnerId, Part, Reported, Table, Terminal, Writer};
use baton::time::Nanos;
use baton::wire::{
    Address, DEFAULT_ETHERTYPE, Direction, Domain, Envelope, Epoch, Frame, Header, Key, Layout, Level, Mac, MeetingId,
    MeetingState, MeetingSummary, Message, Opcode, Role, Run, Secret, Status, TerminalState, encode_message,
};

const DISPATCH_MAC: Mac = Mac([2, 0, 0, 0, 0xd0, 1]);
const CAPACITY: Capacity = Capacity { meetings: 4096, terminals: 8192 };
/// Steps of a simulation, at most: more means that it goes round without getting anywhere.
const STEPS_MAX: u32 = 5_000_000;

pub fn dispatch_address() -> Address {
    "1/1".parse().expect("an address")
}

/// One autonomous server and its place in the network.
pub struct Site {
    pub server: AutonomousServer,
    pub port: Port,
    mac: Mac,
    secret: Secret,
}

/// Every orphan that was ever seen.
struct Orphans<'a>(&'a mut Vec<MeetingId>);

impl OrphanList for Orphans<'_> {
    fn note(&mut self, _: Domain, summary: &MeetingSummary) {
        self.0.push(summary.meeting);
    }

    fn keep(&mut self, _: Domain, _: &dyn Fn(MeetingId) -> bool) {}
}

/// What a dispatch server's process dies without.
pub struct Dispatch {
    pub recovery: Recovery,
    pub writer: Writer,
    worker: Writer,
    /// Written to the database by [`World::commit`], lost by a death before it.
    pending: Vec<Vec<Change>>,
    pub events: Vec<Event>,
}

pub struct World {
    pub now: Nanos,
    pub network: Network,
    pub sites: Vec<Site>,
    pub table: Arc<Table>,
    pub database: Database,
    /// Whether the database can be read: another process may still have it.
    pub database_open: bool,
    pub dispatch: Option<Dispatch>,
    pub random: Random,
    pub epoch: Epoch,
    pub orphans: Vec<MeetingId>,
    speakers: Speakers,
    /// Takeover frames in the order they were sent, for who wants to see what was sent when.
    pub sent: VecDeque<(Nanos, Domain, u8)>,
    /// Holds the database's file.
    _folder: tempfile::TempDir,
}

impl World {
    /// Domains from 1 on, each with this many terminals; no meeting yet, and nobody dispatches.
    pub fn new(seed: u64, domains: u64, terminals: u16, network: NetworkSettings) -> Self {
        let mut random = Random::new(seed);
        let mut network = Network::new(network, random.number());
        network.attach(DISPATCH_MAC);
        let sites = (1..=domains)
            .map(|number| {
                let domain = Domain::new(number).expect("a domain");
                let mut settings = sim::Settings::new(domain);
                let secret = Secret([number as u8; 32]);
                settings.secret = Some(secret.clone());
                settings.dispatch = dispatch_address();
                settings.terminals = terminals.into();
                settings.info_pages_max = 1 + random.below(4) as u16;
                settings.window = 1 + random.below(8) as u16;
                let mac = settings.mac;
                let port = network.attach(mac);
                Site { server: AutonomousServer::new(settings, random.number()), port, mac, secret }
            })
            .collect();
        // A flush on tmpfs is cheap, and durable enough for a simulated power cut.
        let folder = tempfile::tempdir_in("/dev/shm").expect("a tmpfs");
        let database = Database::open(&folder.path().join("database.redb")).expect("a new database");
        Self {
            now: Nanos(1_000_000_000),
            network,
            sites,
            table: Arc::new(Table::on_heap(CAPACITY)),
            database,
            database_open: true,
            dispatch: None,
            random,
            epoch: Epoch::new(1, 1),
            orphans: Vec::new(),
            speakers: Speakers::new((1..=domains).map(|number| (Domain::new(number).expect("a domain"), &[][..]))),
            sent: VecDeque::new(),
            _folder: folder,
        }
    }

    /// Conferences that everybody knows of: table, database and autonomous servers.
    pub fn confer(&mut self, meetings: impl IntoIterator<Item = u64>, members: u64) {
        let mut writer = self.table.writer(OwnerId::CONTROL);
        let mut changes = Vec::new();
        for meeting in meetings.into_iter().map(MeetingId) {
            let mut parts = Vec::new();
            let mut all = Vec::new();
            for site in &mut self.sites {
                let free: Vec<_> = free_terminals(&site.server).take(members as usize).collect();
                if free.is_empty() {
                    continue;
                }
                let level = Level::new(1 + (meeting.0 % 5) as u8).expect("a level");
                let layout = Layout::new(4).expect("a layout");
                let roles = free.iter().map(|&terminal| (terminal, Role::Participant)).collect::<Vec<_>>();
                site.server.hold(self.now, meeting, level, layout, &roles);
                let summary = summary_of(&site.server, meeting).expect("it holds what it was told to");
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
                    run: summary.run,
                };
                writer.insert_part(&part).expect("room");
                parts.push(PartParameters { domain, version: summary.version, state: MeetingState::InMeeting });
                for (terminal, role) in roles {
                    writer.join(meeting, domain, &Terminal::new(terminal, meeting, role)).expect("room");
                    let flags = baton::wire::Flags::default();
                    all.push(Member { terminal, role, flags, window: WINDOW_NONE });
                }
            }
            let (level, layout) = (Level::new(1 + (meeting.0 % 5) as u8).expect("1 to 5"), Layout::new(4).expect("4"));
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
        self.database.commit(&changes, self.epoch).expect("a new database takes them");
    }

    /// A dispatch server starts under the next epoch. On the database path it starts with an empty
    /// table.
    pub fn start(&mut self, path: Path, settings: &Settings) {
        assert!(self.dispatch.is_none(), "one at a time");
        if path == Path::Database {
            self.table = Arc::new(Table::on_heap(CAPACITY));
        } else {
            self.table.recover();
        }
        self.epoch = Epoch::new(self.epoch.term(), self.epoch.generation() + 1);
        let domains = self.sites.iter().map(|site| site.server.domain());
        self.dispatch = Some(Dispatch {
            recovery: Recovery::new(domains, self.epoch, path, settings, self.now),
            writer: self.table.writer(OwnerId::CONTROL),
            worker: self.table.writer(OwnerId::worker(0)),
            pending: Vec::new(),
            events: Vec::new(),
        });
    }

    /// The dispatch server dies: what was not durable is lost, what is under way arrives at nobody.
    pub fn kill(&mut self) {
        self.dispatch = None;
    }

    /// What waits for the database is written.
    pub fn commit(&mut self) {
        if let Some(dispatch) = &mut self.dispatch {
            let group: Vec<_> = dispatch.pending.iter().map(|changes| (&changes[..], self.epoch)).collect();
            for result in self.database.commit_group(&group).expect("the disk is there") {
                result.expect("the database knows what recovery writes about");
            }
            dispatch.pending.clear();
        }
    }

    /// Lets things happen for so long.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.run(end, |_| false);
    }

    /// Lets things happen until every autonomous server agrees; gives whether they do within this
    /// time.
    pub fn run_until_reconciled(&mut self, time: Duration) -> bool {
        let end = self.now + time;
        self.run(end, |world| world.is_reconciled());
        self.is_reconciled()
    }

    pub fn is_reconciled(&self) -> bool {
        self.dispatch.as_ref().is_some_and(|dispatch| dispatch.recovery.is_reconciled())
    }

    fn run(&mut self, end: Nanos, done: impl Fn(&Self) -> bool) {
        for _ in 0..STEPS_MAX {
            self.transmit();
            if done(self) {
                return;
            }
            let servers = self.sites.iter().filter_map(|site| site.server.poll_timeout());
            let recovery = self.dispatch.as_ref().and_then(|dispatch| dispatch.recovery.poll_timeout());
            let next = servers.chain(recovery).chain(self.network.poll_timeout()).min();
            let Some(next) = next.filter(|next| *next < end) else {
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
            self.receive();
        }
        panic!("the simulation goes round without getting anywhere");
    }

    /// Everybody sends what they have.
    fn transmit(&mut self) {
        let mut buffer = [0; FRAME_BYTES_MAX];
        for site in &mut self.sites {
            while let Some(length) = site.server.poll_transmit(self.now, &mut buffer) {
                self.network.send(self.now, &buffer[..length]);
            }
        }
        let Some(dispatch) = &mut self.dispatch else { return };
        let mut store = DatabaseStore {
            database: Some(&self.database).filter(|_| self.database_open),
            is_lost: false,
            write: |changes| dispatch.pending.push(changes),
        };
        let mut orphans = Orphans(&mut self.orphans);
        let mut holdings = TableStore {
            writer: &mut dispatch.writer,
            store: &mut store,
            is_busy: &|_| false,
            speakers: &self.speakers,
            orphans: &mut orphans,
        };
        while let Some(request) = dispatch.recovery.poll_transmit(self.now, &mut holdings) {
            let site = self.sites.iter().find(|site| site.server.domain() == request.domain).expect("a domain of ours");
            let length = request.encode(&mut buffer, &envelope(site), &key(site, Direction::Dispatch));
            self.network.send(self.now, &buffer[..length]);
            self.sent.push_back((self.now, request.domain, request.opcode()));
        }
        dispatch.events.extend(std::iter::from_fn(|| dispatch.recovery.poll_event()));
    }

    /// Everybody gets what has arrived.
    fn receive(&mut self) {
        while let Some((port, bytes)) = self.network.receive(self.now) {
            match self.sites.iter_mut().find(|site| site.port == port) {
                Some(site) => site.server.handle_frame(self.now, &bytes),
                None => self.receive_dispatch(&bytes),
            }
        }
    }

    /// A frame arrives at the dispatch server, which may not be there.
    fn receive_dispatch(&mut self, bytes: &[u8]) {
        let Some(dispatch) = &mut self.dispatch else { return };
        let Ok(frame) = Frame::parse(bytes, DEFAULT_ETHERTYPE) else { return };
        let from = frame.envelope().from.domain();
        let Some(site) = self.sites.iter().find(|site| Some(site.server.domain()) == from) else { return };
        if frame.envelope().to != dispatch_address() || !frame.authentic(&key(site, Direction::Autonomous)) {
            return;
        }
        let (Ok(opcode), header, domain) = (frame.opcode(), frame.header(), site.server.domain()) else { return };
        let mut store = DatabaseStore {
            database: Some(&self.database).filter(|_| self.database_open),
            is_lost: false,
            write: |changes| dispatch.pending.push(changes),
        };
        let mut orphans = Orphans(&mut self.orphans);
        let mut holdings = TableStore {
            writer: &mut dispatch.writer,
            store: &mut store,
            is_busy: &|_| false,
            speakers: &self.speakers,
            orphans: &mut orphans,
        };
        let mut reported = None;
        if let Ok(message) = frame.message() {
            if let Message::Report { info, .. } = message {
                reported = Some(report(&mut dispatch.worker, &header, &message, &info));
            } else {
                dispatch.recovery.handle_message(self.now, domain, &header, &message, &mut holdings);
            }
        } else if let Ok(page) = frame.page() {
            if opcode == Opcode::ReportInfo {
                let state = page.records::<TerminalState>().ok().and_then(|mut records| records.next()?.ok());
                reported = state.map(|state| report_info(&mut dispatch.worker, &state));
            } else {
                dispatch.recovery.handle_page(self.now, domain, opcode, &header, &page, &mut holdings);
            }
        }
        if let Some(Some(answer)) = reported {
            let mut buffer = [0; FRAME_BYTES_MAX];
            let to = Envelope { to: frame.envelope().from, ..envelope(site) };
            let head = Header { epoch: self.epoch, ..header.answer(Status::Ok) };
            let length = encode_message(&mut buffer, &to, &head, &answer, &key(site, Direction::Dispatch));
            self.network.send(self.now, &buffer[..length]);
        }
    }
}

/// Enters a report; gives the acknowledgement, if it may be given.
fn report(worker: &mut Writer, header: &Header, message: &Message, info: &[u8]) -> Option<Message> {
    let &Message::Report { terminal, version, business, decode, role, flags, channel, stream, .. } = message else {
        return None;
    };
    let meeting = header.meeting;
    match worker.report(terminal, meeting, version, business, decode, role, flags, channel, stream, info) {
        Reported::Applied | Reported::Known => Some(Message::ReportAck { terminal, version }),
        _ => None,
    }
}

fn report_info(worker: &mut Writer, state: &TerminalState) -> Option<Message> {
    let &TerminalState { meeting, terminal, version, business, decode, role, flags, channel, stream, .. } = state;
    match worker.report(terminal, meeting, version, business, decode, role, flags, channel, stream, &state.info) {
        Reported::Applied | Reported::Known => Some(Message::ReportInfoAck { terminal, version }),
        _ => None,
    }
}

fn key(site: &Site, direction: Direction) -> Key {
    Key::derive(Some(&site.secret), direction)
}

fn envelope(site: &Site) -> Envelope {
    Envelope {
        dst_mac: site.mac,
        src_mac: DISPATCH_MAC,
        vlan: None,
        ethertype: DEFAULT_ETHERTYPE,
        to: site.server.domain().server(),
        from: dispatch_address(),
        label: None,
    }
}

/// The terminals of a domain that are in no meeting.
pub fn free_terminals(server: &AutonomousServer) -> impl Iterator<Item = Address> + '_ {
    server.terminals().filter(|(state, _)| state.meeting == MeetingId::NONE).map(|(state, _)| state.terminal)
}

/// What an autonomous server says of a meeting.
pub fn summary_of(server: &AutonomousServer, meeting: MeetingId) -> Option<MeetingSummary> {
    server.meetings().find(|summary| summary.meeting == meeting)
}

/// Two dispatch servers, one of which does not know yet that it is the old one.
impl World {
    /// Another host's dispatch server starts under the next generation of the world's term, with a
    /// table of its own.
    pub fn start_other(&mut self, path: Path, settings: &Settings) {
        self.table = Arc::new(Table::on_heap(CAPACITY));
        self.start(path, settings);
    }

    /// A dispatch server that was stopped for a while goes on, in place of the present one.
    pub fn resume(&mut self, recovery: Recovery, events: Vec<Event>, epoch: Epoch) {
        self.dispatch = None;
        self.epoch = epoch;
        self.dispatch = Some(Dispatch {
            recovery,
            writer: self.table.writer(OwnerId::CONTROL),
            worker: self.table.writer(OwnerId::worker(0)),
            pending: Vec::new(),
            events,
        });
    }
}
