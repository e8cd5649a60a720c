//! The autonomous server held against wire.md, rule by rule.

mod preload;
mod reports;
mod rules;

use std::time::Duration;

use super::{AutonomousServer, Random, Settings};
use crate::limits::FRAME_BYTES_MAX;
use crate::time::Nanos;
use crate::wire::{
    Address, Covered, Direction, Domain, Envelope, Epoch, Flags, FlagsHeader, Frame, Header, Info, Key, Layout, Level,
    Mac, MeetingId, MeetingState, MeetingSummary, Message, Opcode, ReportAck, Role, Run, Secret, Status, TakeoverEntry,
    TakeoverResult, TerminalState, Transaction, digest_of, encode_message, encode_page,
};

const SECRET: Secret = Secret([7; 32]);
const DISPATCH: Address = Address::from_number(0x1_0001);
const DISPATCH_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const EPOCH: Epoch = Epoch::new(3, 7);
const ONE: MeetingId = MeetingId(1);

fn domain() -> Domain {
    Domain::new(366).unwrap()
}

fn terminal(number: u16) -> Address {
    domain().device(1000 + number)
}

/// A dispatch server that says what a test has it say.
struct Rig {
    server: AutonomousServer,
    now: Nanos,
    transaction: u32,
    epoch: Epoch,
    acknowledges: bool,
}

impl Rig {
    fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings { secret: Some(SECRET), ..Settings::new(domain()) };
        change(&mut settings);
        let server = AutonomousServer::new(settings, 5);
        Self { server, now: Nanos(1_000_000_000), transaction: 0, epoch: EPOCH, acknowledges: true }
    }

    fn envelope(&self) -> Envelope {
        Envelope {
            dst_mac: Mac([2, 0, 0, 0, 1, 0x6e]),
            src_mac: DISPATCH_MAC,
            vlan: None,
            ethertype: 0x88B5,
            to: domain().server(),
            from: DISPATCH,
            label: None,
        }
    }

    fn header(&mut self, meeting: MeetingId) -> Header {
        self.transaction += 1;
        Header::request(Transaction(self.transaction), self.epoch, meeting)
    }

    fn key(&self) -> Key {
        Key::derive(Some(&SECRET), Direction::Dispatch)
    }

    fn frame(&self, header: &Header, message: &Message) -> Vec<u8> {
        let mut bytes = vec![0; FRAME_BYTES_MAX];
        let length = encode_message(&mut bytes, &self.envelope(), header, message, &self.key());
        bytes.truncate(length);
        bytes
    }

    fn give(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.server.handle_frame(self.now, bytes);
        self.sent()
    }

    fn sent(&mut self) -> Vec<Vec<u8>> {
        let mut buffer = [0; FRAME_BYTES_MAX];
        let mut frames = Vec::new();
        while let Some(length) = self.server.poll_transmit(self.now, &mut buffer) {
            let frame = Frame::parse(&buffer[..length], 0x88B5).unwrap();
            assert!(frame.authentic(&Key::derive(Some(&SECRET), Direction::Autonomous)));
            assert_eq!(frame.envelope().dst_mac, DISPATCH_MAC);
            frames.push(buffer[..length].to_vec());
        }
        frames
    }

    fn page<R: crate::wire::Record>(&mut self, header: &Header, opcode: Opcode, records: Vec<R>) -> Vec<Vec<u8>> {
        let mut bytes = vec![0; FRAME_BYTES_MAX];
        let (length, _) = encode_page(&mut bytes, &self.envelope(), opcode, header, (0, 1), records, &self.key());
        self.give(&bytes[..length])
    }

    fn ask(&mut self, meeting: MeetingId, message: Message) -> (Status, Message) {
        let header = self.header(meeting);
        let frames = self.give(&self.frame(&header, &message));
        // What the command brings about may be reported at once, behind the answer.
        let frame = Frame::parse(frames.first().expect("an answer"), 0x88B5).unwrap();
        let answer = frame.header();
        assert_eq!((answer.transaction, answer.epoch), (header.transaction, header.epoch), "answers echo");
        (Status::from_wire(answer.status).unwrap(), frame.message().unwrap())
    }

    fn start(&mut self, meeting: MeetingId, level: u8, members: impl IntoIterator<Item = u16>) {
        let (level, layout) = (Level::new(level).unwrap(), Layout::new(4).unwrap());
        let start = Message::MeetingStart { level, layout, chairman: terminal(1), participants: 0, run: Run(7) };
        assert_eq!(self.ask(meeting, start).0, Status::Ok);
        for number in members {
            let add = Message::MemberAdd { terminal: terminal(number), role: Role::Participant };
            assert_eq!(self.ask(meeting, add).0, Status::Ok);
        }
    }

    /// Runs for so long, acknowledging what is reported if it is to; gives the reports.
    fn run(&mut self, time: Duration) -> Vec<(Nanos, TerminalState, bool)> {
        let (end, mut reports) = (self.now + time, Vec::new());
        loop {
            self.server.handle_timeout(self.now);
            let mut acks = Vec::new();
            for bytes in self.sent() {
                let frame = Frame::parse(&bytes, 0x88B5).unwrap();
                let state = report_of(&frame);
                let ack_now = frame.header().flags.has(FlagsHeader::ACK_NOW);
                reports.push((self.now, state, ack_now));
                acks.push(ReportAck { terminal: state.terminal, version: state.version, status: Status::Ok });
            }
            while self.acknowledges && !acks.is_empty() {
                let header = self.header(MeetingId::NONE);
                let some = acks.drain(..acks.len().min(63)).collect();
                assert!(self.page(&header, Opcode::ReportAckBatch, some).is_empty(), "an acknowledgement ends it");
            }
            match self.server.poll_timeout() {
                Some(due) if due <= end => self.now = self.now.max(due),
                _ => break,
            }
        }
        self.now = end;
        reports
    }
}

fn report_of(frame: &Frame<'_>) -> TerminalState {
    if frame.opcode() == Ok(Opcode::ReportInfo) {
        return frame.page().unwrap().records().unwrap().next().unwrap().unwrap();
    }
    let Message::Report { terminal, version, business, decode, role, flags, channel, stream, info } =
        frame.message().unwrap()
    else {
        panic!("not a report: {:?}", frame.opcode())
    };
    assert_eq!(frame.envelope().from, terminal, "a terminal's frame is relayed under its own address");
    let meeting = frame.header().meeting;
    TerminalState { meeting, terminal, version, business, decode, role, flags, channel, stream, info: Info::new(&info) }
}

#[test]
fn connect_tells_the_epoch_seen_before() {
    let mut rig = Rig::new(|settings| settings.window = 4);
    let before = |message: Message| match message {
        Message::ConnectAck { highest_epoch, boot_generation, held, window } => {
            assert_eq!((boot_generation, held, window), (1, 0, 4));
            highest_epoch
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(before(rig.ask(MeetingId::NONE, Message::Connect { window: 8 }).1), Epoch::NONE);
    assert_eq!(before(rig.ask(MeetingId::NONE, Message::Connect { window: 8 }).1), EPOCH);
    assert_eq!(rig.server.highest_epoch(), EPOCH);
}

#[test]
fn lower_epoch_is_refused_and_changes_nothing() {
    let mut rig = Rig::new(|_| ());
    rig.start(ONE, 3, [1]);
    rig.epoch = Epoch::new(3, 6);
    let before: Vec<_> = rig.server.meetings().collect();
    let refused = Message::Refused { opcode: Opcode::MeetingEndAck.wire(), status: Status::StaleEpoch, value: EPOCH.0 };
    assert_eq!(rig.ask(ONE, Message::MeetingEnd { reason: 0 }), (Status::StaleEpoch, refused));
    assert_eq!(rig.ask(ONE, Message::Takeover { version: 1 }).0, Status::StaleEpoch);
    assert_eq!(rig.ask(MeetingId::NONE, Message::Connect { window: 1 }).0, Status::Ok);
    assert_eq!(rig.ask(MeetingId::NONE, Message::Heartbeat { sent_ns: 5 }).0, Status::Ok);
    assert_eq!(rig.ask(MeetingId::NONE, Message::Probe { sent_ns: 5, sequence: 6 }).0, Status::Ok);
    assert_eq!(rig.server.meetings().collect::<Vec<_>>(), before);
    rig.server.restart();
    assert_eq!(rig.ask(ONE, Message::Takeover { version: 1 }).0, Status::StaleEpoch, "epochs outlive a restart");
}

#[test]
fn request_that_comes_again_gets_its_answer_and_no_second_effect() {
    let mut rig = Rig::new(|_| ());
    rig.start(ONE, 3, [1, 2]);
    let header = rig.header(ONE);
    let frame = rig.frame(&header, &Message::MemberRemove { terminal: terminal(2) });
    let first = rig.give(&frame);
    rig.start(MeetingId(2), 3, [2]);
    assert_eq!(rig.give(&frame), first, "the same answer, to the byte");
    assert_eq!(rig.server.members(MeetingId(2)).collect::<Vec<_>>(), [terminal(2)]);
    assert_eq!(rig.server.counters().requests_repeated, 1);
    let other = rig.frame(&header, &Message::MeetingEnd { reason: 0 });
    let answer = rig.give(&other);
    let frame = Frame::parse(&answer[0], 0x88B5).unwrap();
    assert_eq!(frame.header().status, Status::Malformed.wire(), "one transaction is one request");
    assert_eq!(rig.server.meetings().count(), 2);
}

#[test]
fn takeover_is_ok_then_already_then_unknown() {
    let mut rig = Rig::new(|_| ());
    for id in 1..=70 {
        rig.start(MeetingId(id), 3, []);
    }
    rig.start(MeetingId(71), 2, [1, 2]);
    rig.ask(MeetingId(70), Message::MeetingEnd { reason: 0 });
    rig.epoch = Epoch::new(3, 8);
    let expected = Message::TakeoverAck {
        version: 3,
        state: MeetingState::InMeeting,
        level: Level::new(2).unwrap(),
        participants: 2,
    };
    assert_eq!(rig.ask(MeetingId(71), Message::Takeover { version: 0 }), (Status::Ok, expected));
    assert_eq!(rig.ask(MeetingId(71), Message::Takeover { version: 0 }), (Status::Already, expected));
    assert_eq!(rig.ask(MeetingId(99), Message::Takeover { version: 0 }).0, Status::UnknownMeeting);
    let header = rig.header(MeetingId::NONE);
    let entries = [71, 3, 70, 99].map(|id| TakeoverEntry { meeting: MeetingId(id), version: 1 }).to_vec();
    let answer = rig.page(&header, Opcode::TakeoverBatch, entries.clone());
    let frame = Frame::parse(&answer[0], 0x88B5).unwrap();
    let results: Vec<TakeoverResult> = frame.page().unwrap().records().unwrap().flatten().collect();
    let brief: Vec<_> = results.iter().map(|r| (r.meeting.0, r.status, r.state, r.participants)).collect();
    assert_eq!(
        brief,
        [
            (71, Status::Already, MeetingState::InMeeting, 2),
            (3, Status::Ok, MeetingState::InMeeting, 0),
            (70, Status::UnknownMeeting, MeetingState::Ended, 0),
            (99, Status::UnknownMeeting, MeetingState::None, 0),
        ]
    );
    assert_eq!(rig.page(&header, Opcode::TakeoverBatch, entries), answer, "and the same again, not ALREADY");
    let (count, digest) = (2, digest_of(MeetingId(71), 3).wrapping_add(digest_of(MeetingId(3), 1)));
    assert_eq!(rig.ask(MeetingId::NONE, Message::ReplayDone { count, digest }).1, Message::Audit { count, digest });
    let seen = rig.server.timeline().last().unwrap();
    assert_eq!((seen.epoch, seen.taken_over, seen.already, seen.unknown, seen.ended), (rig.epoch, 2, 2, 3, 1));
    assert!(seen.audit.unwrap().same && seen.replay_done_ns.is_some());
}

#[test]
fn listing_is_ascending_capped_and_ends_empty() {
    let mut rig = Rig::new(|settings| settings.info_pages_max = 2);
    for id in (1..=50).rev() {
        rig.start(MeetingId(id * 10), 3, []);
    }
    let mut listing = |first| {
        let header = rig.header(MeetingId::NONE);
        let frames = rig.give(&rig.frame(&header, &Message::InfoQuery { first: MeetingId(first) }));
        let pages = frames.iter().map(|bytes| Frame::parse(bytes, 0x88B5).unwrap().page().unwrap());
        let records = pages.clone().flat_map(|page| page.records::<MeetingSummary>().unwrap().flatten());
        (
            pages.map(|page| (page.page, page.pages)).collect::<Vec<_>>(),
            records.map(|r| r.meeting.0).collect::<Vec<_>>(),
        )
    };
    assert_eq!(listing(0), (vec![(0, 2), (1, 2)], (1..=42).map(|id| id * 10).collect()));
    assert_eq!(listing(421), (vec![(0, 1)], (43..=50).map(|id| id * 10).collect()));
    assert_eq!(listing(501), (vec![(0, 1)], vec![]));
}

#[test]
fn state_listing_comes_again_as_it_was_though_terminals_have_left() {
    let mut rig = Rig::new(|_| ());
    rig.start(ONE, 3, 1..=60);
    let header = rig.header(ONE);
    let query = rig.frame(&header, &Message::StateQuery);
    let first = rig.give(&query);
    assert_eq!(first.len(), 3, "60 states of 40 bytes, 25 a page");
    rig.ask(ONE, Message::MemberRemove { terminal: terminal(3) });
    assert_eq!(rig.give(&query), first);
    let (mut count, again) = (0, rig.header(MeetingId::NONE));
    for bytes in rig.give(&rig.frame(&again, &Message::StateQuery)) {
        count +=
            Frame::parse(&bytes, 0x88B5).unwrap().page().unwrap().records::<TerminalState>().unwrap().flatten().count();
    }
    assert_eq!(count, 59, "meeting 0: all that the epoch controls");
    assert_eq!(rig.ask(MeetingId(9), Message::StateQuery).0, Status::UnknownMeeting);
}

#[test]
fn commands_count_versions_when_they_change_something() {
    let mut rig = Rig::new(|_| ());
    rig.start(ONE, 3, [1]);
    let me = terminal(1);
    let member = |opcode, version| Message::MemberAck { opcode, version, terminal: me };
    let role = Message::RoleSet { terminal: me, role: Role::Chairman };
    assert_eq!(rig.ask(ONE, role), (Status::Ok, member(Opcode::RoleSetAck, 3)));
    assert_eq!(rig.ask(ONE, role), (Status::Already, member(Opcode::RoleSetAck, 3)));
    let flags = Message::FlagsSet { terminal: me, mask: Flags::MUTED, value: Flags::MUTED };
    assert_eq!(rig.ask(ONE, flags), (Status::Ok, member(Opcode::FlagsSetAck, 4)));
    let layout = Message::LayoutSet { layout: Layout::new(16).unwrap() };
    let done = Message::MeetingAck { opcode: Opcode::LayoutSetAck, version: 5 };
    assert_eq!(rig.ask(ONE, layout), (Status::Ok, done));
    assert_eq!(rig.ask(ONE, Message::WindowSet { terminal: me, window: 3 }).1, member(Opcode::WindowSetAck, 6));
    let summary = rig.server.meetings().next().unwrap();
    assert_eq!((summary.version, summary.chairman, summary.layout.windows()), (6, me, 16));
    let state = rig.server.terminal(me).unwrap();
    assert_eq!((state.role, state.meeting, state.flags.0 & 1), (Role::Chairman, ONE, 1));
    assert_eq!(
        rig.ask(ONE, Message::RoleSet { terminal: terminal(2), role: Role::Chairman }).0,
        Status::UnknownTerminal
    );
    let beyond = Message::MemberAdd { terminal: domain().device(1), role: Role::Participant };
    assert_eq!(rig.ask(ONE, beyond).0, Status::UnknownTerminal);
    let ended = Message::MeetingAck { opcode: Opcode::MeetingEndAck, version: 7 };
    assert_eq!(rig.ask(ONE, Message::MeetingEnd { reason: 1 }), (Status::Ok, ended));
    assert_eq!(rig.ask(ONE, Message::MeetingEnd { reason: 1 }), (Status::Already, ended));
    assert_eq!(rig.server.terminal(me).unwrap().meeting, MeetingId::NONE);
    assert_eq!(rig.ask(ONE, Message::LayoutSet { layout: Layout::new(1).unwrap() }).0, Status::UnknownMeeting);
}

#[test]
fn only_a_higher_level_takes_a_terminal_away() {
    let mut rig = Rig::new(|_| ());
    rig.start(ONE, 3, [1]);
    rig.start(MeetingId(2), 3, []);
    rig.start(MeetingId(3), 2, []);
    let add = Message::MemberAdd { terminal: terminal(1), role: Role::Participant };
    assert_eq!(rig.ask(MeetingId(2), add).0, Status::Conflict);
    assert_eq!(rig.ask(MeetingId(3), add).0, Status::Ok);
    assert_eq!(rig.ask(ONE, add).0, Status::Conflict);
    let participants: Vec<_> = rig.server.meetings().map(|summary| summary.participants).collect();
    assert_eq!(participants, [0, 0, 1]);
}

#[test]
fn busy_is_said_and_not_remembered() {
    let mut rig = Rig::new(|_| ());
    rig.server.set_busy(rig.now + Duration::from_millis(1));
    let (header, connect) = (rig.header(MeetingId::NONE), Message::Connect { window: 1 });
    let answer = rig.give(&rig.frame(&header, &connect));
    let wait = Message::Refused { opcode: Opcode::ConnectAck.wire(), status: Status::Busy, value: 20_000_000 };
    assert_eq!(Frame::parse(&answer[0], 0x88B5).unwrap().message(), Ok(wait));
    rig.now = rig.now + Duration::from_millis(1);
    let answer = rig.give(&rig.frame(&header, &connect));
    assert_eq!(Frame::parse(&answer[0], 0x88B5).unwrap().header().status, Status::Ok.wire());
}

#[test]
fn what_is_wrong_is_counted_and_answered_as_the_page_says() {
    let mut rig = Rig::new(|_| ());
    let header = rig.header(ONE);
    let good = rig.frame(&header, &Message::Takeover { version: 1 });
    let retag = |mut bytes: Vec<u8>, change: &dyn Fn(&mut [u8])| {
        change(&mut bytes);
        let key = Key::derive(Some(&SECRET), Direction::Dispatch);
        let end = bytes.len() - 16;
        let tag = key.tag(&Covered::of(&bytes[14..end], false));
        bytes[end..].copy_from_slice(&tag);
        bytes
    };
    let answer = |frames: Vec<Vec<u8>>| {
        let frame = Frame::parse(&frames[0], 0x88B5).unwrap();
        (frame.opcode_raw(), Status::from_wire(frame.header().status).unwrap(), frame.is_error_answer())
    };
    let version = retag(good.clone(), &|bytes| bytes[32] = 9);
    assert_eq!(answer(rig.give(&version)), (0x12, Status::UnsupportedVersion, true));
    let unknown = retag(good.clone(), &|bytes| bytes[33] = 0x77);
    assert_eq!(answer(rig.give(&unknown)), (0x77, Status::Malformed, true));
    let payload = retag(good.clone(), &|bytes| bytes[33] = Opcode::TakeoverBatch.wire());
    assert_eq!(answer(rig.give(&payload)), (0x15, Status::Malformed, false));
    let error_answer = retag(good.clone(), &|bytes| (bytes[33], bytes[35]) = (0x77, 0x80));
    assert!(rig.give(&error_answer).is_empty(), "an error answer is never answered");
    let wrong_way = retag(good.clone(), &|bytes| bytes[33] = Opcode::TakeoverAck.wire());
    assert!(rig.give(&wrong_way).is_empty());
    let mut forged = good.clone();
    forged[60] ^= 1;
    assert!(rig.give(&forged).is_empty());
    assert!(rig.give(&good[..95]).is_empty());
    let counters = rig.server.counters();
    assert_eq!((counters.frames_unauthentic, counters.frames_malformed, counters.frames_unasked), (1, 4, 2));
}

#[test]
fn arbitrary_bytes_never_panic_nor_change_a_meeting() {
    let mut rig = Rig::new(|settings| settings.secret = None);
    let (header, connect) = (rig.header(MeetingId::NONE), Message::Connect { window: 8 });
    let mut frame = vec![0; FRAME_BYTES_MAX];
    let length = encode_message(&mut frame, &rig.envelope(), &header, &connect, &Key::Unauthenticated);
    let mut random = Random::new(9);
    let mut buffer = [0; FRAME_BYTES_MAX];
    // Without a secret the tag is zero, so that everything before it reaches the machine.
    for _ in 0..50_000 {
        let mut bytes = frame.clone();
        let page = random.chance(500_000);
        if page {
            bytes[14] = 2;
        }
        let end = if page { FRAME_BYTES_MAX - 24 } else { length - 16 };
        for _ in 0..random.below(12) {
            bytes[32 + random.below(end as u64 - 32) as usize] = random.number() as u8;
        }
        bytes[33] = random.below(0x56) as u8;
        rig.server.handle_frame(rig.now, &bytes);
        while rig.server.poll_transmit(rig.now, &mut buffer).is_some() {}
    }
    assert!(rig.server.counters().requests > 1000);
}
