//! An autonomous server played by hand: the test says what it answers.

use std::time::Duration;

use super::fake_store::FakeStore;
use crate::limits::FRAME_BYTES_MAX;
use crate::recovery::{Body, Event, Heard, Path, Request, ServerRecovery, Settings};
use crate::time::Nanos;
use crate::wire::{
    Address, Business, DEFAULT_ETHERTYPE, Decode, Domain, Envelope, Epoch, Flags, Frame, Header, Info, Key, Layout,
    Level, Mac, MeetingId, MeetingState, MeetingSummary, Message, Opcode, Record, Role, Run, Status, StreamKind,
    TakeoverResult, TerminalState, encode_page,
};

pub const EPOCH: Epoch = Epoch::new(1, 7);

pub fn domain() -> Domain {
    Domain::new(366).expect("a domain")
}

/// The machine, what it holds, and the time.
pub struct ScriptedPeer {
    pub server: ServerRecovery,
    pub store: FakeStore,
    /// How many meetings CONNECT_ACK says are held: as many as the cache holds, unless the test
    /// says otherwise.
    pub held: u32,
    pub now: Nanos,
}

impl ScriptedPeer {
    pub fn new(path: Path, store: FakeStore, settings: Settings) -> Self {
        let held = store.cache.len() as u32;
        Self { server: ServerRecovery::new(domain(), EPOCH, path, settings, Nanos(0)), store, held, now: Nanos(0) }
    }

    pub fn cache(store: FakeStore) -> Self {
        Self::new(Path::Cache, store, Settings::default())
    }

    pub fn database(store: FakeStore) -> Self {
        Self::new(Path::Database, store, Settings::default())
    }

    /// The autonomous server answers a heartbeat, while there are so many parts here.
    pub fn heartbeat(&mut self, held: u32, boot_generation: u16, ours: u32) {
        let heard = Heard { held, boot_generation, highest: Epoch::new(1, 6) };
        self.server.handle_heartbeat(self.now, heard, || ours);
    }

    /// Every request that the machine wants to send now.
    pub fn requests(&mut self) -> Vec<Request> {
        std::iter::from_fn(|| self.server.poll_transmit(self.now, &mut self.store)).collect()
    }

    /// The one request that it wants to send now.
    pub fn request(&mut self) -> Request {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.remove(0)
    }

    /// Lets the time go by until the machine wants to be polled.
    pub fn wait(&mut self) {
        self.now = self.server.poll_timeout().expect("something is awaited").max(self.now);
    }

    /// Lets so much time go by.
    pub fn sleep(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    pub fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.server.poll_event()).collect()
    }

    /// Answers with a message.
    pub fn answer(&mut self, request: &Request, message: Message) -> bool {
        let status = match message {
            Message::Refused { status, .. } => status,
            _ => Status::Ok,
        };
        self.server.handle_message(self.now, &request.header.answer(status), &message, &mut self.store)
    }

    /// Refuses a request.
    pub fn refuse(&mut self, request: &Request, status: Status, value: u64) -> bool {
        let opcode = Opcode::from_wire(request.opcode()).and_then(Opcode::answer).expect("a request").wire();
        self.answer(request, Message::Refused { opcode, status, value })
    }

    /// Answers with one page.
    pub fn page<R: Record + Copy>(
        &mut self,
        request: &Request,
        opcode: Opcode,
        pages: (u16, u16),
        records: &[R],
    ) -> bool {
        self.page_under(&request.header.answer(Status::Ok), opcode, pages, records)
    }

    /// Answers with one page, with the bytes of its records changed.
    pub fn spoilt<R: Record + Copy>(
        &mut self,
        request: &Request,
        opcode: Opcode,
        records: &[R],
        spoil: impl FnOnce(&mut [u8]),
    ) -> bool {
        self.page_of(&request.header.answer(Status::Ok), opcode, (0, 1), records, spoil)
    }

    /// A page under a header of the test's own.
    pub fn page_under<R: Record + Copy>(
        &mut self,
        header: &Header,
        opcode: Opcode,
        pages: (u16, u16),
        records: &[R],
    ) -> bool {
        self.page_of(header, opcode, pages, records, |_| {})
    }

    fn page_of<R: Record + Copy>(
        &mut self,
        header: &Header,
        opcode: Opcode,
        pages: (u16, u16),
        records: &[R],
        spoil: impl FnOnce(&mut [u8]),
    ) -> bool {
        let (mut buffer, length) = page_frame(opcode, header, pages, records);
        // Behind the page's head: which it is of how many, and what it holds.
        spoil(&mut buffer[PAGE + 8..length]);
        let frame = Frame::parse(&buffer[..length], DEFAULT_ETHERTYPE).expect("well formed");
        let page = frame.page().expect("a page");
        self.server.handle_page(self.now, opcode, &frame.header(), &page, &mut self.store)
    }

    pub fn connect_ack(&mut self, request: &Request, window: u16) -> bool {
        let highest_epoch = Epoch::new(1, 6);
        self.answer(request, Message::ConnectAck { highest_epoch, boot_generation: 1, held: self.held, window })
    }

    /// Grants everything that a takeover asks for.
    pub fn grant(&mut self, request: &Request) {
        let results: Vec<_> = entries(request).iter().map(|&meeting| result(meeting, Status::Ok)).collect();
        assert!(self.page(request, Opcode::TakeoverBatchAck, (0, 1), &results));
    }

    /// A listing of nothing.
    pub fn end_listing(&mut self, request: &Request) {
        assert!(self.page::<MeetingSummary>(request, Opcode::Info, (0, 1), &[]));
    }

    /// Answers an audit with what the machine itself said.
    pub fn agree(&mut self, request: &Request) {
        let Body::Message(Message::ReplayDone { count, digest }) = request.body else { panic!("{request:?}") };
        assert!(self.answer(request, Message::Audit { count, digest }));
    }

    /// Answers all that is asked as one who holds just what was asked for would, until nothing is
    /// asked any more.
    pub fn play(&mut self, held: &[MeetingSummary]) {
        for _ in 0..1000 {
            let requests = self.requests();
            if requests.is_empty() {
                return;
            }
            requests.iter().for_each(|request| self.reply(request, held));
        }
        panic!("it never ends");
    }

    /// Answers one request as [`Self::play`] does.
    pub fn reply(&mut self, request: &Request, held: &[MeetingSummary]) {
        match &request.body {
            Body::Takeover(_) => self.grant(request),
            Body::Message(Message::Connect { .. }) => drop(self.connect_ack(request, 16)),
            Body::Message(Message::InfoQuery { first }) => {
                let rest: Vec<_> = held.iter().filter(|summary| summary.meeting >= *first).take(21).copied().collect();
                self.page(request, Opcode::Info, (0, 1), &rest);
            }
            Body::Message(Message::StateQuery) => drop(self.page::<TerminalState>(request, Opcode::State, (0, 1), &[])),
            Body::Message(Message::ReplayDone { .. }) => self.agree(request),
            other => panic!("{other:?}"),
        }
    }
}

/// Where a page begins in a frame without a label: after the headers of Ethernet, packet and PDU.
pub const PAGE: usize = 14 + 18 + 24;

/// A frame of the domain's autonomous server with one page, and its length. The records fit it.
pub fn page_frame<R: Record + Copy>(
    opcode: Opcode,
    header: &Header,
    pages: (u16, u16),
    records: &[R],
) -> ([u8; FRAME_BYTES_MAX], usize) {
    let envelope = Envelope {
        dst_mac: Mac::default(),
        src_mac: Mac::default(),
        vlan: None,
        ethertype: DEFAULT_ETHERTYPE,
        to: Address::default(),
        from: domain().server(),
        label: None,
    };
    let mut buffer = [0; FRAME_BYTES_MAX];
    let (length, taken) =
        encode_page(&mut buffer, &envelope, opcode, header, pages, records.iter().copied(), &Key::Unauthenticated);
    assert_eq!(taken, records.len(), "the test's records fit a page");
    (buffer, length)
}

/// The meetings that a takeover asks for.
pub fn entries(request: &Request) -> Vec<u64> {
    match &request.body {
        Body::Takeover(wanted) => wanted.iter().map(|(entry, _)| entry.meeting.0).collect(),
        other => panic!("not a takeover: {other:?}"),
    }
}

/// The opcodes of requests.
pub fn opcodes(requests: &[Request]) -> Vec<Opcode> {
    requests.iter().map(|request| Opcode::from_wire(request.opcode()).expect("known")).collect()
}

/// The request of this opcode.
pub fn the(requests: &[Request], opcode: Opcode) -> Request {
    requests.iter().find(|request| request.opcode() == opcode.wire()).expect("it is among them").clone()
}

pub fn summary(meeting: u64, version: u64) -> MeetingSummary {
    MeetingSummary {
        meeting: MeetingId(meeting),
        version,
        controller: Epoch::new(1, 6),
        state: MeetingState::InMeeting,
        level: Level::HIGHEST,
        participants: 0,
        layout: Layout::new(4).expect("a layout"),
        chairman: Address::default(),
        run: Run(7),
    }
}

pub fn result(meeting: u64, status: Status) -> TakeoverResult {
    TakeoverResult { meeting: MeetingId(meeting), status, state: MeetingState::InMeeting, participants: 0 }
}

pub fn terminal(meeting: u64, device: u16) -> TerminalState {
    TerminalState {
        meeting: MeetingId(meeting),
        terminal: domain().device(device),
        version: 1,
        business: Business::InMeeting,
        decode: Decode::Decoding,
        role: Role::Participant,
        flags: Flags::ONLINE,
        channel: 0,
        stream: StreamKind::Main,
        info: Info::EMPTY,
    }
}
