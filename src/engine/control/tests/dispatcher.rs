//! The dispatcher opposite a simulated autonomous server, frame by frame.

use std::sync::Arc;

use super::*;
use crate::config::{AutonomousDomain, Heartbeat};
use crate::lab::sim::{AutonomousServer, Settings as ServerSettings};
use crate::limits::FRAME_BYTES_MAX;
use crate::recovery::{Path, Settings};
use crate::table::{Capacity, OwnerId, Part, Terminal};
use crate::wire::{Address, DEFAULT_ETHERTYPE, Direction, Key, Layout, Level, Mac, MeetingState, Opcode, Role};

const OURS: Mac = Mac([2, 0, 0, 0, 0xd0, 1]);
const EPOCH: Epoch = Epoch::new(1, 1);

struct Both {
    dispatcher: Dispatcher,
    server: AutonomousServer,
    key: Key,
    now: Nanos,
}

/// Both hold these meetings, of one terminal each.
fn both(meetings: &[MeetingId]) -> Both {
    let domain = Domain::new(366).unwrap();
    let us = Address::from_number(0x1_FFFF);
    let mut settings = ServerSettings::new(domain);
    settings.dispatch_mac = Some(OURS);
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
    let table = Arc::new(Table::on_heap(Capacity { meetings: 64, terminals: 256 }));
    let mut writer = table.writer(OwnerId::CONTROL);
    let terminals: Vec<_> = server.terminals().map(|(state, _)| state.terminal).collect();
    for (&meeting, &terminal) in meetings.iter().zip(&terminals) {
        server.hold(now, meeting, Level::HIGHEST, Layout::new(4).unwrap(), &[(terminal, Role::Participant)]);
        let summary = server.meeting(meeting).unwrap();
        let part = Part { participants: 0, state: MeetingState::InMeeting, ..Part::listed(domain, &summary) };
        writer.insert_part(&part).unwrap();
        writer.join(meeting, domain, &Terminal::new(terminal, meeting, Role::Participant)).unwrap();
    }
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
        opened: None,
        warming: None,
        runs: 1,
    });
    Both { dispatcher, server, key: domains[0].key(Direction::Dispatch), now }
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
            while self.dispatcher.poll_event().is_some() {}
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
