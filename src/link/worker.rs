//! One worker: a burst of frames from the ring, through wire and table, to a burst of answers.
//!
//! It does alone what terminals ask (REPORT, REPORT_INFO) and probes; all else is the control
//! thread's and goes there over a bounded queue. It never blocks, allocates, logs or takes a lock;
//! what it cannot do it counts.
//!
//! Each frame of a burst goes through four steps, and between them others have theirs, so that
//! memory is at work all the while and hardly waited for:
//!
//! ```text
//! parse, fetch index lines ─ 8 frames ─► look up, fetch the record ─ 8 frames ─► check the tag, enter into the table ──► write answers
//! ```
//!
//! Answers are written into chunks of their own and not into the frames that they answer. Receive
//! and transmit chunks are two pools, and the owner word of each says by which pool's rules a
//! successor takes it back; a chunk that changed pools would need a third rule, and one more
//! instant at which a death has to be thought through, to spare a copy of 96 bytes. Of most reports
//! nothing would be spared at all, for 63 of them are answered in one page.
//!
//! Where more waits than a worker can do, it looks through much of it at once, hands on what is for
//! the control thread, and sheds (`overload`).

use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;

use super::acks::{self, Acknowledgements, By};
use super::burst::{Answers, Burst, Opened, Prompt, Says, open};
use super::frame_queue::FrameQueue;
use super::overload::{Overload, Refusals, Shedding};
use super::ring::{Flushed, Ring};
use super::shared::Shared;
use super::tags;
use crate::limits::{ACK_DELAY_NS, BURST, BUSY_RETRY_NS, FETCH_AHEAD, HELD_MAX, LOOK_AHEAD};
use crate::sys::clock;
use crate::table::{SlotHint, Table, Writer};
use crate::telemetry::{Counter, Counters, Recorder, Stage};
use crate::time::Nanos;
use crate::wire::{Envelope, Frame, Header, Message, Opcode, ReportAck, Status, encode_message};

/// A worker over its rings.
///
/// Order of calls: [`Self::step`] again and again; where it did nothing for a while,
/// [`Self::settle`] before waiting.
pub struct Worker<R> {
    ring: R,
    /// That the rings are on.
    interface: u8,
    table: Arc<Table>,
    writer: Writer,
    shared: Arc<Shared>,
    outbox: Arc<FrameQueue>,
    counters: Arc<Counters>,
    recorder: Recorder,
    acknowledgements: Acknowledgements,
    overload: Overload,
    refusals: Refusals,
    /// The held entries that are to go through the steps, and those of them that go first.
    todo: Vec<usize>,
    first: Vec<usize>,
    /// What a burst leads to.
    answers: Answers,
    /// Entries received and not released.
    held: usize,
    /// When the oldest of them was received.
    held_since: Nanos,
    /// Something was queued on the ring and not handed to the kernel.
    unsent: bool,
    /// Something was posted to the control thread, which was not woken for it.
    for_control: bool,
}

/// What is to become of a frame where there are too many.
enum Sifted {
    Now,
    Later,
    Shed(Counter),
}

impl<R: Ring> Worker<R> {
    /// A worker with everything that it will ever allocate, over rings on the interface of that
    /// number.
    pub fn new(
        (ring, interface): (R, u8),
        writer: Writer,
        shared: Arc<Shared>,
        outbox: Arc<FrameQueue>,
        counters: Arc<Counters>,
        recorder: Recorder,
    ) -> Self {
        let acknowledgements = Acknowledgements::new(shared.peers.len());
        let (overload, refusals) = (Overload::new(ring.entries()), Refusals::new(shared.peers.len()));
        // A predecessor may have died between queueing frames and telling the kernel: the first
        // step tells it.
        let unsent = true;
        let (todo, first) = (Vec::with_capacity(LOOK_AHEAD), Vec::with_capacity(LOOK_AHEAD));
        let answers = Answers::new();
        let (held, held_since) = (0, Nanos(0));
        Self {
            ring,
            interface,
            table: writer.table().clone(),
            writer,
            shared,
            outbox,
            counters,
            recorder,
            acknowledgements,
            overload,
            refusals,
            todo,
            first,
            answers,
            held,
            held_since,
            unsent,
            for_control: false,
        }
    }

    /// For tests that look at the other end.
    pub fn ring(&self) -> &R {
        &self.ring
    }

    /// Its rings, for a test that plays the other end.
    pub fn ring_mut(&mut self) -> &mut R {
        &mut self.ring
    }

    /// Takes one burst in and one burst out; says whether there was anything to do.
    pub fn step(&mut self, now: Nanos) -> bool {
        let before = self.held;
        let (shedding, begins) = self.overload.note(self.ring.waiting());
        self.held = self.ring.receive(if shedding == Shedding::Nothing { BURST } else { LOOK_AHEAD });
        let taken = self.held - before;
        if taken > 0 {
            if before == 0 {
                self.held_since = now;
            }
            self.take_in(before, shedding, now);
            self.counters.add(Counter::Received, taken as u64);
            self.counters.add(Counter::Overloads, begins.into());
        }
        let posted = self.send_outbox();
        let due = self.held >= HELD_MAX || now.since(self.held_since) >= Duration::from_nanos(ACK_DELAY_NS);
        if self.held > 0 && due {
            self.settle();
        } else if self.unsent {
            self.flush_ring();
        }
        if self.recorder.hand_over(now) {
            self.counters.show_ring(self.ring.status());
        }
        taken > 0 || posted
    }

    /// Sends every acknowledgement that waits, hands all to the kernel, and then gives the held
    /// entries back.
    pub fn settle(&mut self) {
        let by = By { shared: &self.shared, interface: self.interface };
        let flushed = self.acknowledgements.flush(by, &mut self.ring);
        self.note(flushed);
        if self.unsent {
            self.flush_ring();
        }
        self.ring.release(std::mem::take(&mut self.held));
    }

    /// Whether nothing waits for [`Self::settle`] or for the kernel.
    pub fn is_settled(&self) -> bool {
        self.held == 0 && !self.unsent
    }

    fn flush_ring(&mut self) {
        let flushed = self.ring.flush();
        self.unsent = flushed != Flushed::All;
        if flushed == Flushed::Gone {
            self.shared.lose_interface();
        }
    }

    fn note(&mut self, flushed: acks::Flushed) {
        self.counters.add(Counter::Acknowledged, flushed.acknowledged);
        self.counters.add(Counter::AcknowledgementsDropped, flushed.dropped);
        self.counters.add(Counter::Sent, flushed.frames);
        self.unsent |= flushed.frames > 0;
    }

    /// Sends what the control thread posted, a burst of it.
    fn send_outbox(&mut self) -> bool {
        for sent in 0..BURST {
            if self.outbox.is_empty() {
                return sent > 0;
            }
            let outbox = &self.outbox;
            let room = self.ring.transmit(|buffer| {
                let copy = |bytes: &[u8], _| {
                    buffer[..bytes.len()].copy_from_slice(bytes);
                    bytes.len()
                };
                outbox.take(copy).expect("this worker alone takes from its outbox, and it was not empty")
            });
            if !room {
                return sent > 0;
            }
            self.counters.count(Counter::Sent);
            self.unsent = true;
        }
        true
    }

    /// Does what the entries that are held from one on say, or sheds them.
    fn take_in(&mut self, from: usize, shedding: Shedding, now: Nanos) {
        let (mut first, mut todo) = (std::mem::take(&mut self.first), std::mem::take(&mut self.todo));
        if shedding == Shedding::Nothing {
            todo.extend(from..self.held);
        } else {
            self.refusals.begin();
            for held in from..self.held {
                match self.sift(held, shedding, now) {
                    Sifted::Now => first.push(held),
                    Sifted::Later => todo.push(held),
                    Sifted::Shed(counter) => self.counters.count(counter),
                }
            }
        }
        for burst in first.chunks(BURST).chain(todo.chunks(BURST)) {
            self.work(burst, shedding, now);
            self.wake_control();
        }
        self.answer();
        first.clear();
        todo.clear();
        (self.first, self.todo) = (first, todo);
    }

    /// Once for all that a burst has for the control thread: to wake somebody takes longer than to
    /// post a frame.
    fn wake_control(&mut self) {
        if std::mem::take(&mut self.for_control) {
            self.shared.control.wake();
        }
    }

    /// Tells what must not wait, what can, and what is shed, by the look of it.
    fn sift(&mut self, held: usize, shedding: Shedding, now: Nanos) -> Sifted {
        // What is malformed or strange is counted in its turn.
        let Ok((frame, peer)) = open(self.ring.received(held), &self.shared) else { return Sifted::Later };
        let counter = match Opcode::from_wire(frame.opcode_raw()) {
            Some(Opcode::Report | Opcode::ReportInfo) if shedding >= Shedding::Reports => Counter::ShedReports,
            Some(Opcode::Probe) if shedding >= Shedding::Probes => Counter::ShedProbes,
            Some(Opcode::Report | Opcode::ReportInfo | Opcode::Probe) => return Sifted::Later,
            _ => return Sifted::Now,
        };
        if self.refusals.tell(peer.place, now, || frame.authentic(peer.inbound.key())) {
            self.answers.prompt.push(Prompt { held, domain: peer.place, says: Says::Busy });
        }
        Sifted::Shed(counter)
    }

    /// Has a burst of held entries go through the steps.
    fn work(&mut self, held: &[usize], shedding: Shedding, now: Nanos) {
        let Self {
            ring,
            interface,
            table,
            writer,
            shared,
            counters,
            recorder,
            acknowledgements,
            refusals,
            answers,
            for_control,
            ..
        } = self;
        let interface = *interface;
        let finder = table.finder();
        let (mut oldest, mut stamped) = (now.0, false);
        let mut burst = Burst {
            ring: &*ring,
            now,
            writer,
            shared,
            interface,
            counters,
            acknowledgements,
            answers,
            for_control,
            reports: 0,
        };
        // A group at a time goes through each step, so that memory is fetched and tags are compared
        // while others are worked on: three are on their way, and each step takes one in.
        let mut groups: [_; 3] = std::array::from_fn(|_| ArrayVec::<Opened<'_>, FETCH_AHEAD>::new());
        let mut entries = held.chunks(FETCH_AHEAD);
        for step in 0..entries.len() + 2 {
            let [new, sought, fetched] = [0, 2, 1].map(|before| (step + before) % 3);
            for &held in entries.next().unwrap_or_default() {
                let received = ring.received(held);
                if let Some(arrived) = received.arrived {
                    oldest = oldest.min(arrived.0);
                    stamped = true;
                }
                let (frame, peer) = match open(received, shared) {
                    Ok(opened) => opened,
                    Err(counter) => {
                        counters.count(counter);
                        continue;
                    }
                };
                let sought = frame.reports_on().map(|(terminal, _)| finder.prefetch_index(terminal));
                groups[new].push(Opened { held, frame, peer, sought, near: SlotHint::default(), is_authentic: false });
            }
            for opened in &mut groups[sought] {
                if let Some(sought) = opened.sought {
                    opened.near = finder.prefetch_record(sought);
                }
            }
            let group = &mut groups[fetched];
            if shedding >= Shedding::Known {
                // Before their tags are compared: what is shed is to cost little.
                group.retain(|opened| {
                    let is_shed = burst.is_known(opened);
                    if is_shed {
                        counters.count(Counter::ShedKnown);
                        let (peer, frame) = (opened.peer, &opened.frame);
                        if refusals.tell(peer.place, now, || frame.authentic(peer.inbound.key())) {
                            burst.prompt(opened, Says::Busy);
                        }
                    }
                    !is_shed
                });
            }
            tags::check(group);
            for opened in &*group {
                if let Err(counter) = burst.take(opened) {
                    counters.count(counter);
                }
            }
            group.clear();
        }
        if stamped {
            // For all, stamped or not: that of the burst's oldest is the longest.
            recorder.record_ns(Stage::RingWait, now.0 - oldest, held.len() as u64);
        }
        let reports = burst.reports;
        if reports > 0 && recorder.listens() {
            // One look at the clock for all: that of the burst's last report is the longest.
            recorder.record_ns(Stage::Processing, clock::now().0.saturating_sub(now.0), reports);
        }
        drop(groups);
        self.answer();
    }

    /// Writes what the burst led to.
    fn answer(&mut self) {
        let by = By { shared: &self.shared, interface: self.interface };
        let mut flushed = self.acknowledgements.flush_full(by, &mut self.ring);
        for &(domain, ack) in &self.answers.batched {
            flushed += self.acknowledgements.push(domain, by, ack, &mut self.ring);
        }
        self.answers.batched.clear();
        self.note(flushed);
        for i in 0..self.answers.prompt.len() {
            let prompt = self.answers.prompt[i];
            self.answer_at_once(&prompt);
        }
        self.answers.prompt.clear();
    }

    fn answer_at_once(&mut self, prompt: &Prompt) {
        let received = self.ring.received(prompt.held);
        // It was parsed before, and is the same.
        let Ok(frame) = Frame::parse(received.bytes, self.shared.ethertype) else { return };
        let header = frame.header();
        let Some(own) = self.shared.peers.own_mac(self.interface) else { return };
        let marks = self.shared.peers.peer(prompt.domain).marks;
        let Some(reply) = marks.answer(&frame.envelope(), own) else { return };
        let (message, counter, otherwise) = match prompt.says {
            Says::Acknowledged(ReportAck { terminal, version, .. }) => {
                let message = Message::ReportAck { terminal, version };
                (message, Counter::Acknowledged, Some(Counter::AcknowledgementsDropped))
            }
            Says::InfoAcknowledged(ReportAck { terminal, version, .. }) => {
                let message = Message::ReportInfoAck { terminal, version };
                (message, Counter::Acknowledged, Some(Counter::AcknowledgementsDropped))
            }
            Says::Echo { sent_ns, sequence } => (Message::ProbeEcho { sent_ns, sequence }, Counter::ProbesEchoed, None),
            Says::Busy => {
                let Some(opcode) = Opcode::from_wire(frame.opcode_raw()).and_then(Opcode::answer) else { return };
                let refused = Message::Refused { opcode: opcode.wire(), status: Status::Busy, value: BUSY_RETRY_NS };
                (refused, Counter::BusyTold, None)
            }
        };
        let header = match prompt.says {
            Says::Busy => header.answer(Status::Busy),
            Says::Echo { .. } => header.answer(Status::Ok),
            // By our own epoch its autonomous server tells that we have not been replaced.
            Says::Acknowledged(_) | Says::InfoAcknowledged(_) => {
                Header { epoch: self.shared.epoch(), ..header.answer(Status::Ok) }
            }
        };
        let sent = self.send(prompt.domain, &reply, &header, &message);
        if let Some(counter) = if sent { Some(counter) } else { otherwise } {
            self.counters.count(counter);
        }
    }

    fn send(&mut self, domain: usize, reply: &Envelope, header: &Header, message: &Message) -> bool {
        let key = self.shared.peers.peer(domain).outbound.key();
        let sent = self.ring.transmit(|buffer| encode_message(buffer, reply, header, message, key));
        if sent {
            self.counters.count(Counter::Sent);
            self.unsent = true;
        }
        sent
    }
}
