//! A dispatch server's control in one process: operations, a real table and database, and simulated
//! autonomous servers behind a seeded network.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use crate::cascade::{Exchange, Purpose};
use crate::cms::{
    Command, CommandSettings, ConferenceRequest, NewMember, Operations, OperationsEvent, Refusal, ReplyId, StartMeeting,
};
use crate::cms::{ConferenceAnswer, ConferenceReply};
use crate::database::{Change, CommitError, Database, JobId, Member, PartParameters};
use crate::lab::sim::{AutonomousServer, Network, NetworkSettings, Port, Random, Settings};
use crate::limits::{COMMANDS_IN_FLIGHT_MAX, FRAME_BYTES_MAX};
use crate::table::{Capacity, OwnerId, Part, Table, Terminal, Writer};
use crate::time::Nanos;
use crate::wire::{
    Address, Direction, Domain, Envelope, Epoch, Frame, Header, Key, Layout, Level, Mac, MeetingId, MeetingState,
    Message, Role, Secret, encode_message,
};

const DISPATCH: Address = Address::from_number(0x1_0001);
const DISPATCH_MAC: Mac = Mac([2, 0xd1, 0, 0, 0, 1]);
const ETHERTYPE: u16 = 0x88B5;
/// The network flips bits, and only a tag shows that.
const SECRET: Secret = Secret([7; 32]);

pub fn domain(number: u64) -> Domain {
    Domain::new(number).unwrap()
}

/// Terminal `number` of a domain, from 1.
pub fn terminal(domain_number: u64, number: u16) -> Address {
    domain(domain_number).device(1000 + number)
}

pub fn layout(windows: u8) -> Layout {
    Layout::new(windows).unwrap()
}

/// A conference of these members, the first its chairman.
pub fn conference(meeting: impl Into<Option<u64>>, members: &[Address]) -> ConferenceRequest {
    ConferenceRequest::Start(StartMeeting {
        meeting: meeting.into().map(MeetingId),
        name: "Conference".into(),
        level: Level::HIGHEST,
        layout: layout(4),
        chairman: members.first().copied(),
        members: members.iter().map(|&terminal| NewMember::participant(terminal)).collect(),
        created_ms: 1,
    })
}

/// With each of these domains nothing is asked yet.
pub fn exchanges(domains: impl IntoIterator<Item = Domain>, epoch: Epoch) -> BTreeMap<Domain, Exchange> {
    let new = || Exchange::new(epoch, Duration::from_millis(20), Duration::from_secs(1));
    domains.into_iter().map(|domain| (domain, new())).collect()
}

pub struct World {
    pub now: Nanos,
    pub epoch: Epoch,
    pub operations: Operations,
    pub exchanges: BTreeMap<Domain, Exchange>,
    pub writer: Writer,
    worker: Writer,
    pub database: Database,
    pub servers: Vec<AutonomousServer>,
    pub ports: Vec<Port>,
    pub network: Network,
    dispatch: Port,
    pub replies: BTreeMap<u64, ConferenceReply>,
    commits: VecDeque<(JobId, Vec<Change>)>,
    /// Whether commits are carried out.
    pub commits_run: bool,
    /// Commits that the disk will not take, counted from the first.
    pub commits_fail: Range<u32>,
    commits_seen: u32,
    /// Whether terminals' reports arrive.
    pub reports: bool,
    /// Domains that the next engine finds in its configuration.
    pub configured: Vec<Domain>,
    /// How often it was said that something is not finished.
    pub unfinished: u32,
    next_reply: u64,
    /// Domains that recovery was asked to hold against the table, and has not yet.
    pub doubted: BTreeSet<Domain>,
    folder: TempDir,
}

impl World {
    pub fn new(domains: u64, terminals: u16, settings: NetworkSettings, seed: u64) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let database = Database::open(&folder.path().join("baton.redb")).unwrap();
        let mut random = Random::new(seed);
        let mut network = Network::new(settings, random.number());
        let servers: Vec<_> = (1..=domains)
            .map(|number| {
                AutonomousServer::new(
                    Settings { terminals: terminals.into(), secret: Some(SECRET), ..Settings::new(domain(number)) },
                    random.number(),
                )
            })
            .collect();
        let ports = (1..=domains).map(|number| network.attach(Settings::new(domain(number)).mac)).collect();
        let dispatch = network.attach(DISPATCH_MAC);
        let table = Arc::new(Table::on_heap(Capacity { meetings: 4096, terminals: 16_384 }));
        let epoch = Epoch::new(1, 1);
        Self {
            now: Nanos(1_000_000_000),
            epoch,
            operations: Operations::new(epoch, (1..=domains).map(domain), CommandSettings::default()),
            exchanges: exchanges((1..=domains).map(domain), epoch),
            writer: table.writer(OwnerId::CONTROL),
            worker: table.writer(OwnerId::worker(0)),
            database,
            servers,
            ports,
            network,
            dispatch,
            replies: BTreeMap::new(),
            commits: VecDeque::new(),
            commits_run: true,
            commits_fail: 0..0,
            commits_seen: 0,
            reports: true,
            configured: (1..=domains).map(domain).collect(),
            unfinished: 0,
            next_reply: 0,
            doubted: BTreeSet::new(),
            folder,
        }
    }

    /// One whose database is open.
    pub fn open(domains: u64, terminals: u16, settings: NetworkSettings, seed: u64) -> Self {
        let mut world = Self::new(domains, terminals, settings, seed);
        world.open_database();
        world
    }

    pub fn open_database(&mut self) {
        let next = self.database.next_meeting().unwrap();
        let unfinished = self.database.unfinished().unwrap();
        let wanted = self.database.wanted().unwrap();
        self.operations.handle_opened(self.now, next, unfinished, wanted, &mut self.writer);
    }

    pub fn ask(&mut self, request: ConferenceRequest) -> u64 {
        self.ask_within(request, Duration::from_secs(8))
    }

    pub fn ask_within(&mut self, request: ConferenceRequest, time: Duration) -> u64 {
        self.next_reply += 1;
        let deadline = self.now + time;
        self.operations.handle_request(self.now, ReplyId(self.next_reply), request, deadline, &mut self.writer);
        self.next_reply
    }

    /// Asks, and lets the world go on until there is an answer.
    pub fn get(&mut self, request: ConferenceRequest) -> ConferenceReply {
        let asked = self.ask(request);
        self.run_until(|world| world.replies.contains_key(&asked));
        self.replies.remove(&asked).unwrap()
    }

    pub fn must(&mut self, request: ConferenceRequest) -> ConferenceAnswer {
        let shown = format!("{request:?}");
        self.get(request).unwrap_or_else(|refusal| panic!("{shown}: {refusal}"))
    }

    pub fn refused(&mut self, request: ConferenceRequest) -> Refusal {
        let shown = format!("{request:?}");
        self.get(request).err().unwrap_or_else(|| panic!("{shown} was not refused"))
    }

    pub fn run_until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        let limit = self.now + Duration::from_secs(300);
        while !done(self) {
            let goes_on = self.step() && self.now < limit;
            assert!(goes_on || done(self), "nothing happens any more at {:?}", self.now);
        }
    }

    /// Until no operation is under way, and recovery has done what it was asked for.
    pub fn settle(&mut self) {
        self.run_until(|world| world.operations.under_way() == 0 && world.operations.left() == 0);
        let doubted = std::mem::take(&mut self.doubted);
        self.take_over(|domain| doubted.contains(&domain));
        let until = self.now + Duration::from_secs(20);
        while self.now < until && !self.servers.iter().all(AutonomousServer::is_quiet) && self.step() {}
    }

    /// Lets what is under way between dispatch server and autonomous servers arrive.
    pub fn settle_frames(&mut self) {
        while let Some((port, bytes)) = self.network.receive(Nanos(u64::MAX)) {
            if let Some(server) = self.ports.iter().position(|&other| other == port) {
                self.servers[server].handle_frame(self.now, &bytes);
            }
        }
    }

    /// The database takes what it is given, and nothing else happens.
    pub fn commit_what_is_decided(&mut self) {
        while let Some((job, changes)) = self.operations.poll_commit() {
            let result = self.database.commit(&changes, self.epoch);
            self.operations.handle_committed(self.now, job, result, &mut self.writer);
        }
    }

    /// What is due now happens; then the clock goes to what is next. False where nothing is.
    pub fn step(&mut self) -> bool {
        self.exchange();
        if self.commits_run && !self.commits.is_empty() {
            let mut jobs: Vec<_> = self.commits.drain(..).collect();
            let mut fails = Vec::new();
            jobs.retain(|&(job, _)| {
                self.commits_seen += 1;
                let fails_now = self.commits_fail.contains(&self.commits_seen);
                fails.extend(fails_now.then_some(job));
                !fails_now
            });
            if self.commits_seen + 1 >= self.commits_fail.end {
                self.commits_fail = 0..0;
            }
            for job in fails {
                let full = CommitError::Storage("no space left on device".into());
                self.operations.handle_committed(self.now, job, Err(full), &mut self.writer);
            }
            let group: Vec<_> = jobs.iter().map(|(_, changes)| (changes.as_slice(), self.epoch)).collect();
            let results = self.database.commit_group(&group).unwrap();
            for ((job, _), result) in jobs.into_iter().zip(results) {
                self.operations.handle_committed(self.now, job, result, &mut self.writer);
            }
            return true;
        }
        let servers = self.servers.iter().filter_map(AutonomousServer::poll_timeout);
        let repeats = self.exchanges.values().filter_map(|exchange| exchange.due(Purpose::Command));
        let due = servers.chain(repeats).chain(self.network.poll_timeout()).chain(self.operations.poll_timeout()).min();
        let Some(due) = due else { return false };
        self.now = self.now.max(due);
        self.operations.handle_timeout(self.now, &mut self.writer);
        self.servers.iter_mut().for_each(|server| server.handle_timeout(self.now));
        self.exchange();
        true
    }

    fn exchange(&mut self) {
        let mut buffer = [0; FRAME_BYTES_MAX];
        while let Some(command) = self.poll_transmit() {
            self.send(command.domain, &command.header, &command.message);
        }
        assert!(self.operations.commands() <= crate::limits::COMMANDS_WAITING_MAX);
        assert!(self.operations.shared.lanes.in_flight() <= COMMANDS_IN_FLIGHT_MAX);
        for server in &mut self.servers {
            while let Some(length) = server.poll_transmit(self.now, &mut buffer) {
                self.network.send(self.now, &buffer[..length]);
            }
        }
        while let Some((port, bytes)) = self.network.receive(self.now) {
            match self.ports.iter().position(|&other| other == port) {
                Some(server) => self.servers[server].handle_frame(self.now, &bytes),
                None => {
                    assert_eq!(port, self.dispatch);
                    self.receive(&bytes);
                }
            }
        }
        while let Some(commit) = self.operations.poll_commit() {
            self.commits.push_back(commit);
        }
        while let Some((ReplyId(id), reply)) = self.operations.poll_reply() {
            assert!(self.replies.insert(id, reply).is_none(), "a client is answered once");
        }
        while let Some(event) = self.operations.poll_event() {
            match event {
                OperationsEvent::Unanswered { domain } => drop(self.doubted.insert(domain)),
                OperationsEvent::Unfinished { .. } => self.unfinished += 1,
                OperationsEvent::Stale { .. } | OperationsEvent::Fenced { .. } | OperationsEvent::Warning { .. } => {}
            }
        }
    }

    /// The next command to send.
    pub fn poll_transmit(&mut self) -> Option<Command> {
        self.operations.poll_transmit(self.now, &mut self.exchanges)
    }

    /// Gives operations an answer; gives whether it was to one of their commands.
    pub fn handle_message(&mut self, from: Domain, header: &Header, message: &Message) -> bool {
        self.operations.handle_message(self.now, from, header, message, &mut self.exchanges, &mut self.writer)
    }

    fn send(&mut self, to: Domain, header: &Header, message: &Message) {
        let mut buffer = [0; FRAME_BYTES_MAX];
        let envelope = Envelope {
            dst_mac: Settings::new(to).mac,
            src_mac: DISPATCH_MAC,
            vlan: None,
            ethertype: ETHERTYPE,
            to: to.server(),
            from: DISPATCH,
            label: None,
        };
        let key = Key::derive(Some(&SECRET), Direction::Dispatch);
        let length = encode_message(&mut buffer, &envelope, header, message, &key);
        self.network.send(self.now, &buffer[..length]);
    }

    /// What a worker and the control thread do with a frame.
    fn receive(&mut self, bytes: &[u8]) {
        let Ok(frame) = Frame::parse(bytes, ETHERTYPE) else { return };
        if !frame.authentic(&Key::derive(Some(&SECRET), Direction::Autonomous)) {
            return;
        }
        let Ok(message) = frame.message() else { return };
        let Some(from) = frame.envelope().from.domain() else { return };
        let header = frame.header();
        if let Message::Report { terminal, version, business, decode, role, flags, channel, stream, info } = message {
            if !self.reports {
                return;
            }
            let meeting = header.meeting;
            self.worker.report(terminal, meeting, version, business, decode, role, flags, channel, stream, &info);
            let ack = Message::ReportAck { terminal, version };
            self.send(from, &header.answer(crate::wire::Status::Ok), &ack);
            return;
        }
        self.handle_message(from, &header, &message);
    }

    /// The engine dies with all that is not in table, database and autonomous servers, and the next
    /// one begins. With `reboot` the table is gone too.
    pub fn die(&mut self, reboot: bool) {
        self.epoch = Epoch::new(1, self.epoch.generation() + 1);
        let settings = CommandSettings { runs: self.epoch.0 };
        self.operations = Operations::new(self.epoch, self.configured.iter().copied(), settings);
        self.exchanges = exchanges(self.configured.iter().copied(), self.epoch);
        self.commits.clear();
        if reboot {
            let table = Arc::new(Table::on_heap(Capacity { meetings: 4096, terminals: 16_384 }));
            self.writer = table.writer(OwnerId::CONTROL);
            self.worker = table.writer(OwnerId::worker(0));
            self.database.clone().for_each_meeting(|meeting| self.restore(&meeting)).unwrap();
        }
        self.take_over(|_| true);
    }

    fn restore(&mut self, parameters: &crate::database::KeyParameters) {
        let meeting = parameters.meeting;
        for part in &parameters.parts {
            let entered = Part {
                meeting,
                domain: part.domain,
                version: part.version,
                epoch: Epoch::NONE,
                state: part.state,
                level: parameters.level,
                layout: parameters.layout,
                participants: 0,
                chairman: parameters.chairman,
                in_doubt: false,
                is_unlisted: false,
                run: parameters.run,
            };
            self.writer.insert_part(&entered).unwrap();
            for member in parameters.members_in(part.domain) {
                let state = Terminal::new(member.terminal, meeting, member.role);
                self.writer.join(meeting, part.domain, &state).unwrap();
            }
        }
    }

    /// What a recovery leaves: parts in meeting are ours, with the members and versions that the
    /// autonomous servers have.
    fn take_over(&mut self, is_meant: impl Fn(Domain) -> bool) {
        let parts: Vec<_> = self.writer.table().parts().filter(|part| is_meant(part.domain)).collect();
        for part in parts.into_iter().filter(|part| part.state == MeetingState::InMeeting) {
            let meeting = part.meeting;
            let epoch = self.epoch;
            let server = self.servers.iter().find(|server| server.domain() == part.domain).unwrap();
            let Some(held) = server.meetings().find(|held| held.meeting == meeting) else {
                panic!("{meeting:?} was promised, and its autonomous server does not have it");
            };
            self.writer
                .update_part(meeting, part.domain, |part| {
                    (part.epoch, part.version) = (epoch, held.version);
                    (part.layout, part.chairman) = (held.layout, held.chairman);
                })
                .unwrap();
            let held_version = held.version;
            let held: Vec<_> = server.members(meeting).collect();
            for member in self.writer.table().members(meeting, part.domain) {
                if !held.contains(&member.terminal) {
                    self.writer.leave(meeting, member.terminal).unwrap();
                }
            }
            for &member in &held {
                let state = server.terminal(member).unwrap();
                if self.writer.table().terminal(member).is_none() {
                    self.writer.join(meeting, part.domain, &Terminal::from(&state)).unwrap();
                }
                let _ = self.writer.update_terminal(member, |terminal| {
                    terminal.set_state(&state);
                    true
                });
            }
            let row = PartParameters { domain: part.domain, version: held_version, state: MeetingState::InMeeting };
            let mut changes = vec![Change::RemovePart(meeting, part.domain), Change::Part(meeting, row)];
            changes.extend(held.iter().filter_map(|&member| self.writer.table().terminal(member)).map(|state| {
                let Terminal { terminal, role, flags, window, .. } = state;
                Change::Member(meeting, Member { terminal, role, flags, window })
            }));
            self.database.commit(&changes, self.epoch).unwrap();
        }
    }

    /// Holds table, database and autonomous servers against each other.
    pub fn check(&self) {
        let table = self.writer.table();
        let mut held = BTreeMap::new();
        for server in &self.servers {
            for summary in server.meetings() {
                let members: Vec<_> = server.members(summary.meeting).collect();
                held.insert((summary.meeting, server.domain()), (summary, members));
            }
        }
        let mut parts: Vec<_> = table.parts().map(|part| (part.meeting, part.domain)).collect();
        parts.sort();
        assert_eq!(parts, held.keys().copied().collect::<Vec<_>>(), "parts of the table and of the servers");
        let mut durable = BTreeMap::new();
        self.database
            .for_each_meeting(|meeting| {
                for part in &meeting.parts {
                    durable.insert((meeting.meeting, part.domain), (*part, meeting.clone()));
                }
            })
            .unwrap();
        assert_eq!(parts, durable.keys().copied().collect::<Vec<_>>(), "parts of the database and of the servers");
        for ((meeting, domain), (summary, members)) in held {
            let part = table.part(meeting, domain).unwrap();
            assert_eq!(part.version, summary.version, "{meeting:?} {domain:?}");
            assert_eq!((part.layout, part.chairman), (summary.layout, summary.chairman), "{meeting:?} {domain:?}");
            assert_eq!((part.state, part.epoch), (MeetingState::InMeeting, self.epoch), "{meeting:?} {domain:?}");
            let (row, parameters) = &durable[&(meeting, domain)];
            assert_eq!((row.version, row.state), (summary.version, MeetingState::InMeeting), "{meeting:?} {domain:?}");
            assert_eq!(parameters.layout, summary.layout);
            let mut ours: Vec<_> = table.members(meeting, domain).map(|member| member.terminal).collect();
            ours.sort();
            assert_eq!(ours, members, "members in the table of {meeting:?}");
            let kept: Vec<_> = parameters.members_in(domain).map(|member| member.terminal).collect();
            assert_eq!(kept, members, "members in the database of {meeting:?}");
            for member in parameters.members_in(domain) {
                let server = self.servers.iter().find(|server| server.domain() == domain).unwrap();
                let theirs = server.terminal(member.terminal).unwrap();
                let ours = table.terminal(member.terminal).unwrap();
                assert_eq!((ours.role, ours.flags), (theirs.role, theirs.flags), "{}", member.terminal);
                assert_eq!(member.role, theirs.role, "{}", member.terminal);
                assert_eq!(theirs.role == Role::Chairman, summary.chairman == member.terminal, "{}", member.terminal);
            }
        }
        assert!(self.folder.path().exists());
    }
}
