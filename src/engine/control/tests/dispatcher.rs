//! The dispatcher opposite a simulated autonomous server, frame by frame.

use std::sync::Arc;

use super::records::DatabaseState;
use super::*;
use crate::config::{AutonomousDomain, Heartbeat};
use crate::database::{Change, Database, KeyParameters, Member, PartParameters};
use crate::lab::sim::{AutonomousServer, Settings as ServerSettings};
use crate::limits::FRAME_BYTES_MAX;
use crate::recovery::{Path, Settings};
use crate::table::{Capacity, OwnerId, Part, Terminal};
use crate::wire::{
    Address, DEFAULT_ETHERTYPE, Direction, Flags, Key, Layout, Level, Mac, MeetingState, Opcode, Role, WINDOW_NONE,
};

const OURS: Mac = Mac([2, 0, 0, 0, 0xd0, 1]);
const EPOCH: Epoch = Epoch::new(1, 1);

struct Both {
    dispatcher: Dispatcher,
    server: AutonomousServer,
    key: Key,
    now: Nanos,
    events: Vec<Event>,
}

/// Both hold these meetings, of one terminal each.
fn both(meetings: &[MeetingId]) -> Both {
    both_with(meetings, None)
}

/// The database, where it is open, has those of the meetings that are `stored`.
fn both_with(meetings: &[MeetingId], stored: Option<&[MeetingId]>) -> Both {
    let domain = Domain::new(366).unwrap();
    let us = Address::from_number(0x1_FFFF);
    let mut settings = ServerSettings::new(domain);
    settings.dispatch_mac = Some(OURS);
    settings.terminals = settings.terminals.max(meetings.len() as u32);
    let domains = [AutonomousDomain {
        number: domain,
        mac: Some(settings.mac),
        interface: None,
        vlan: None,
        label: None,
        secret: None,
        behind: Vec::new(),
    }];
    let now = Nanos(1_000_000_000);
    let mut server = AutonomousServer::new(settings, 1);
    let table = Arc::new(Table::on_heap(Capacity { meetings: 512, terminals: 512 }));
    let mut writer = table.writer(OwnerId::CONTROL);
    writer.begin(EPOCH);
    let database = Database::in_memory().unwrap();
    let terminals: Vec<_> = server.terminals().map(|(state, _)| state.terminal).collect();
    for (&meeting, &terminal) in meetings.iter().zip(&terminals) {
        server.hold(now, meeting, Level::HIGHEST, Layout::new(4).unwrap(), &[(terminal, Role::Participant)]);
        let summary = server.meeting(meeting).unwrap();
        let part = Part { participants: 0, state: MeetingState::InMeeting, ..Part::listed(domain, &summary) };
        writer.insert_part(&part).unwrap();
        writer.join(meeting, domain, &Terminal::new(terminal, meeting, Role::Participant)).unwrap();
        if stored.is_some_and(|stored| stored.contains(&meeting)) {
            let member = Member { terminal, role: Role::Participant, flags: Flags::default(), window: WINDOW_NONE };
            let parameters = KeyParameters {
                meeting,
                name: String::new(),
                level: summary.level,
                layout: summary.layout,
                chairman: summary.chairman,
                created_ms: 1,
                parts: vec![PartParameters { domain, version: summary.version, state: MeetingState::InMeeting }],
                members: vec![member],
                run: summary.run,
            };
            database.commit(&[Change::Create(parameters)], EPOCH).unwrap();
        }
    }
    let opened = stored.map(|_| Opened {
        epoch: database.epoch().unwrap(),
        next_meeting: database.next_meeting().unwrap(),
        unfinished: Vec::new(),
        fences: Vec::new(),
        wanted: Vec::new(),
        database,
    });
    let topology = Topology::with(&domains, us, DEFAULT_ETHERTYPE, &[OURS], Heartbeat::default());
    let recovery = Recovery::new(topology.domains(), EPOCH, Path::Cache, &Settings::default(), now);
    let dispatcher = Dispatcher::new(Beginning {
        path: Path::Cache,
        epoch: EPOCH,
        ethertype: DEFAULT_ETHERTYPE,
        topology,
        recovery,
        journal: Journal::default(),
        writer,
        opened,
        warming: None,
        runs: 1,
    });
    Both { dispatcher, server, key: domains[0].key(Direction::Dispatch), now, events: Vec::new() }
}

impl Both {
    /// Ten milliseconds. `is_lost` says which of our frames do not arrive.
    fn step(&mut self, mut is_lost: impl FnMut(Opcode, MeetingId) -> bool) {
        self.now = self.now + Duration::from_millis(10);
        let mut buffer = [0; FRAME_BYTES_MAX];
        for _ in 0..8 {
            self.dispatcher.handle_timeout(self.now);
            while self.dispatcher.poll_worker_change().is_some() {}
            while let Some(transmit) = self.dispatcher.poll_transmit(self.now) {
                let length = transmit.encode(&mut buffer, &self.key);
                let frame = Frame::parse(&buffer[..length], DEFAULT_ETHERTYPE).unwrap();
                if !is_lost(frame.opcode().unwrap(), frame.header().meeting) {
                    self.server.handle_frame(self.now, &buffer[..length]);
                }
            }
            self.server.handle_timeout(self.now);
            while let Some(length) = self.server.poll_transmit(self.now, &mut buffer) {
                let bytes = buffer[..length].to_vec();
                self.dispatcher.handle_frame(self.now, &bytes);
            }
            self.events.extend(std::iter::from_fn(|| self.dispatcher.poll_event()));
            while self.dispatcher.poll_notice().is_some() {}
        }
    }
}

/// Two starts that a death cut short are finished, and both parts are in doubt: the autonomous
/// server is to be asked for the members of each. It does not answer for the first; that one
/// meeting's silence is to hold up no other. But of a domain one meeting is asked about a second,
/// and it is the first, again and again.
#[test]
fn a_finished_start_whose_members_are_not_told_holds_up_no_other() {
    let asked = asked_about(false);
    assert!(asked[0] > 0 && asked[1] > 0, "where it answers: {asked:?}");
    let asked = asked_about(true);
    assert!(asked[0] > 0, "the first is asked about");
    assert!(asked[1] > 0, "within a minute the first was asked about {} times and the second never", asked[0]);
}

/// How often each of two meetings is asked about within a minute; what asks about the first may be
/// lost.
fn asked_about(is_first_lost: bool) -> [u32; 2] {
    let meetings = [MeetingId(1), MeetingId(2)];
    let mut both = both(&meetings);
    for _ in 0..300 {
        both.step(|_, _| false);
    }
    let domain = Domain::new(366).unwrap();
    assert!(both.dispatcher.recovery.is_reconciled());
    for meeting in meetings {
        both.dispatcher.records.writer.update_part(meeting, domain, |part| part.in_doubt = true).unwrap();
        both.dispatcher.unfinished.note(domain, meeting);
    }
    let mut asked = [0, 0];
    for _ in 0..6000 {
        both.step(|opcode, meeting| {
            if opcode == Opcode::StateQuery {
                asked[usize::from(meeting == meetings[1])] += 1;
            }
            is_first_lost && opcode == Opcode::StateQuery && meeting == meetings[0]
        });
    }
    asked
}

fn domain() -> Domain {
    Domain::new(366).unwrap()
}

/// Damages the record of a meeting's part, not what of it is in the columns.
fn damage(table: &Table, meeting: MeetingId) {
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    let is_record = |pair: &&[crate::sys::mapping::SharedWord]| {
        let (first, second) = (pair[0].load(relaxed), pair[1].load(relaxed));
        first == meeting.0 && second & Domain::MAX == domain().number() && second >> 40 != 0
    };
    let found: Vec<_> = table.mapping().words().windows(2).filter(is_record).collect();
    assert!(!found.is_empty());
    found.iter().for_each(|pair| pair[0].store(meeting.0 ^ 1 << 40, relaxed));
    // Not by reading it: that something was met unreadable is counted.
    assert_eq!(table.damaged_parts_in(domain()).count(), 1);
}

const THREE: [MeetingId; 3] = [MeetingId(1), MeetingId(2), MeetingId(3)];

impl Both {
    fn table(&self) -> Arc<Table> {
        Arc::clone(self.dispatcher.records.writer.table())
    }

    fn steps(&mut self, count: u32) {
        (0..count).for_each(|_| self.step(|_, _| false));
    }

    fn is_discarded(&self) -> bool {
        self.events.iter().any(|event| matches!(event, Event::PartDiscarded(..)))
    }
}

/// The database opens when all is taken over and the proof is on its way: then the table is read,
/// and both sides agree before the comparison has come to an end. That they agree says nothing of
/// what can be read, and does not mean any more that neither knows the part.
#[test]
fn a_part_that_both_the_server_and_the_database_know_is_not_thrown_away() {
    let all: Vec<_> = (1..=300).map(MeetingId).collect();
    for opens in 1..40 {
        let mut both = both_with(&all, Some(&all));
        let DatabaseState::Open { opened, .. } =
            std::mem::replace(&mut both.dispatcher.records.database, DatabaseState::Opening)
        else {
            panic!("it is open");
        };
        let table = both.table();
        damage(&table, all[1]);
        for _ in 0..opens {
            both.step(|opcode, _| opcode == Opcode::ReplayDone);
        }
        both.dispatcher.handle_outcome(both.now, Outcome::Opened(opened));
        both.steps(100);
        assert!(!both.is_discarded(), "step {opens}: thrown away, as one that neither knows");
        assert!(table.part(all[1], domain()).is_some(), "step {opens}");
    }
}

/// Nobody but the autonomous server knows it any more: it is an orphan there, which an operator
/// adopts or ends, and its record is in nobody's way.
#[test]
fn a_damaged_part_that_the_database_does_not_know_does_not_stay() {
    let mut both = both_with(&THREE, Some(&[THREE[0], THREE[2]]));
    let table = both.table();
    damage(&table, THREE[1]);
    both.steps(6000);
    assert_eq!(table.verify(), Vec::<String>::new(), "a minute later");
    let is_told = |event: &Event| matches!(event, Event::Recovery(crate::recovery::Event::Orphan { .. }));
    assert!(both.events.iter().any(is_told), "{:?}", &both.events[..both.events.len().min(6)]);
}

/// It was whole when table and database were compared.
#[test]
fn a_record_that_is_damaged_later_is_restored_when_its_domain_changes_and_is_proven() {
    let mut both = both_with(&THREE, Some(&THREE));
    let table = both.table();
    both.steps(300);
    assert!(both.dispatcher.recovery.is_reconciled());
    damage(&table, THREE[1]);
    both.dispatcher.records.writer.update_part(THREE[0], domain(), |_| {}).unwrap();
    both.dispatcher.recovery.doubt(domain());
    both.steps(6000);
    assert!(table.part(THREE[1], domain()).is_some(), "a minute later");
    assert_eq!(table.verify(), Vec::<String>::new());
}

/// Reports do not read what is beside a terminal's line, and a takeover reads nothing of it.
#[test]
fn a_member_whose_part_cannot_be_read_is_a_member_again() {
    let mut both = both_with(&THREE, Some(&THREE));
    let table = both.table();
    let terminal = table.members(THREE[1], domain()).next().unwrap().terminal;
    table.damage_berth(terminal);
    both.steps(6000);
    assert!(table.membership(terminal).is_some(), "a minute later");
    assert_eq!(table.members(THREE[1], domain()).count(), 1);
}
