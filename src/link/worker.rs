//! One worker: a burst of frames from the ring, through wire and table, to a burst of answers.
//!
//! It does alone what terminals ask (REPORT, REPORT_INFO) and probes; all else is the control thread's and goes there
//! over a bounded queue. It never blocks, allocates, logs or takes a lock; what it cannot do it counts.

use std::sync::Arc;
use std::time::Duration;

use super::acknowledgements::{self, Acknowledgements};
use super::mailbox::Mailbox;
use super::ring::{Flushed, Ring};
use super::shared::Shared;
use crate::limits::{ACK_DELAY_NS, BURST, HELD_MAX, INFO_BYTES_MAX, INFO_BYTES_SHORT};
use crate::table::{Reported, Writer};
use crate::telemetry::{Counter, Counters, Recorder, Stage};
use crate::time::Nanos;
use crate::wire::{
    Address, Envelope, FlagsHeader, Frame, GeneratorProbe, Header, Malformed, MeetingId, Message, Opcode, ReportAck,
    Status, TerminalState, encode_message,
};

/// A worker over its rings.
///
/// Order of calls: [`Self::step`] again and again; where it did nothing for a while, [`Self::settle`] before waiting.
pub struct Worker<R> {
    ring: R,
    writer: Writer,
    shared: Arc<Shared>,
    outbox: Arc<Mailbox>,
    counters: Arc<Counters>,
    recorder: Recorder,
    acknowledgements: Acknowledgements,
    /// The answers to the frame in hand.
    answers: Vec<ReportAck>,
    /// Entries received and not released.
    held: usize,
    /// When the oldest of them was received.
    held_since: Nanos,
    /// Something was queued on the ring and not handed to the kernel.
    unsent: bool,
    /// Something was posted to the control thread, which was not woken for it.
    for_control: bool,
}

/// What a frame leads to, once its bytes are no longer needed.
enum Outcome {
    Nothing,
    Count(Counter),
    Echo {
        domain: usize,
        reply: Envelope,
        header: Header,
        message: Message,
    },
    /// What is in `answers`.
    Acknowledge {
        domain: usize,
        reply: Envelope,
        header: Header,
        info: bool,
    },
}

impl<R: Ring> Worker<R> {
    /// A worker with everything that it will ever allocate.
    pub fn new(
        ring: R,
        writer: Writer,
        shared: Arc<Shared>,
        outbox: Arc<Mailbox>,
        counters: Arc<Counters>,
        recorder: Recorder,
    ) -> Self {
        let acknowledgements = Acknowledgements::new(shared.peers.len());
        // A predecessor may have died between queueing frames and telling the kernel: the first step tells it.
        let unsent = true;
        let answers = Vec::with_capacity(REPORTS_PER_PAGE);
        let (held, held_since) = (0, Nanos(0));
        Self {
            ring,
            writer,
            shared,
            outbox,
            counters,
            recorder,
            acknowledgements,
            answers,
            held,
            held_since,
            unsent,
            for_control: false,
        }
    }

    /// Its rings.
    pub fn ring(&self) -> &R {
        &self.ring
    }

    /// Takes one burst in and one burst out; says whether there was anything to do.
    pub fn step(&mut self, now: Nanos) -> bool {
        let before = self.held;
        self.held = self.ring.receive(BURST);
        let taken = self.held - before;
        if taken > 0 {
            if before == 0 {
                self.held_since = now;
            }
            for i in before..self.held {
                self.handle(i, now);
            }
            if std::mem::take(&mut self.for_control) {
                self.shared.control.wake();
            }
            self.counters.add(Counter::Received, taken as u64);
        }
        let posted = self.send_outbox();
        let due = self.held >= HELD_MAX || now.since(self.held_since) >= Duration::from_nanos(ACK_DELAY_NS);
        if self.held > 0 && due {
            self.settle();
        } else if self.unsent {
            self.flush_ring();
        }
        self.recorder.hand_over(now);
        taken > 0 || posted
    }

    /// Sends every acknowledgement that waits, hands all to the kernel, and then gives the held entries back.
    pub fn settle(&mut self) {
        let shared = &*self.shared;
        let epoch = shared.epoch();
        let flushed = self.acknowledgements.flush(|domain| shared.peers.peer(domain), epoch, &mut self.ring);
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

    fn note(&mut self, flushed: acknowledgements::Flushed) {
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

    /// Does what the `i`th held frame says.
    fn handle(&mut self, i: usize, now: Nanos) {
        match self.examine(i, now) {
            Ok(Outcome::Nothing) => {}
            Ok(Outcome::Count(counter)) => self.counters.count(counter),
            Ok(Outcome::Echo { domain, reply, header, message }) => {
                self.send(domain, reply, header, message);
                self.counters.count(Counter::ProbesEchoed);
            }
            Ok(Outcome::Acknowledge { domain, reply, header, info }) => {
                self.acknowledge(domain, reply, header, info);
                self.recorder.record(Stage::Processing, crate::sys::clock::now().since(now));
            }
            Err(malformed) => self.counters.count(malformed.into()),
        }
    }

    /// Reads a frame, and does what needs only its bytes: the ring is borrowed meanwhile, so answers come after.
    fn examine(&mut self, i: usize, now: Nanos) -> Result<Outcome, Malformed> {
        let Self { ring, writer, shared, counters, recorder, answers, for_control, .. } = self;
        let received = ring.received(i);
        if let Some(arrived) = received.arrived {
            recorder.record(Stage::RingWait, now.since(arrived));
        }
        let is_probe = |port| GeneratorProbe::in_frame(received.bytes, port).is_some();
        let frame = match Frame::parse(received.bytes, shared.ethertype) {
            Err(Malformed::EtherType) if shared.probe_port.is_some_and(is_probe) => {
                return Ok(Outcome::Count(Counter::GeneratorProbes));
            }
            frame => frame?,
        };
        let envelope = frame.envelope();
        if envelope.to != shared.address {
            return Ok(Outcome::Count(Counter::Misaddressed));
        }
        let Some((domain, peer)) = envelope.from.domain().and_then(|domain| shared.peers.find(domain)) else {
            return Ok(Outcome::Count(Counter::UnknownDomain));
        };
        if !frame.authentic(&peer.inbound) {
            return Ok(Outcome::Count(Counter::Unauthentic));
        }
        if peer.note(envelope.src_mac) {
            shared.control.wake();
        }
        let (reply, header) = (envelope.reply(), frame.header());
        // A terminal speaks for itself, its autonomous server for all of its domain.
        let speaks_for = |terminal: Address| {
            terminal == envelope.from || envelope.from.device() == 0 && terminal.domain() == envelope.from.domain()
        };
        // Version 0 is of a terminal that has not reported.
        let may_be_told = |state: &TerminalState| state.version != 0 && speaks_for(state.terminal);
        let mut report = |state: &TerminalState| {
            let status = report(writer, state, counters, || shared.is_settled(domain));
            let ack = status.map(|status| ReportAck { terminal: state.terminal, version: state.version, status });
            answers.extend(ack);
        };
        match frame.opcode() {
            Ok(Opcode::Report) => {
                let state = reported(header.meeting, frame.message()?).filter(may_be_told);
                report(&state.ok_or(Malformed::Value)?);
                Ok(Outcome::Acknowledge { domain, reply, header, info: false })
            }
            Ok(Opcode::ReportInfo) => {
                let states = frame.page()?.records::<TerminalState>()?;
                if !states.clone().all(|state| may_be_told(&state)) {
                    return Err(Malformed::Value);
                }
                states.for_each(|state| report(&state));
                Ok(Outcome::Acknowledge { domain, reply, header, info: true })
            }
            Ok(Opcode::Probe) => {
                let Message::Probe { sent_ns, sequence } = frame.message()? else { return Err(Malformed::Opcode) };
                let message = Message::ProbeEcho { sent_ns, sequence };
                Ok(Outcome::Echo { domain, reply, header: header.answer(Status::Ok), message })
            }
            // ANSWER bears whatever opcode was asked with: the control thread knows what it asked.
            Ok(opcode) if is_for_control(opcode) || frame.is_error_answer() => {
                let posted = shared.inbox.post(received.arrived.unwrap_or(now), |buffer| {
                    let length = received.bytes.len().min(buffer.len());
                    buffer[..length].copy_from_slice(&received.bytes[..length]);
                    length
                });
                counters.count(if posted { Counter::ToControl } else { Counter::ControlOverflow });
                *for_control = true;
                Ok(Outcome::Nothing)
            }
            Ok(_) => Ok(Outcome::Count(Counter::Misdirected)),
            Err(malformed) => Err(malformed),
        }
    }

    /// Acknowledges at once where that is asked for, else with the next page to the domain.
    fn acknowledge(&mut self, domain: usize, reply: Envelope, header: Header, info: bool) {
        for i in 0..self.answers.len() {
            let ack = self.answers[i];
            if header.flags.has(FlagsHeader::ACK_NOW) && ack.status == Status::Ok {
                let (terminal, version) = (ack.terminal, ack.version);
                let message = if info {
                    Message::ReportInfoAck { terminal, version }
                } else {
                    Message::ReportAck { terminal, version }
                };
                let sent = self.send(domain, reply, header.answer(Status::Ok), message);
                self.counters.count(if sent { Counter::Acknowledged } else { Counter::AcknowledgementsDropped });
            } else {
                let epoch = self.shared.epoch();
                let peer = self.shared.peers.peer(domain);
                let flushed = self.acknowledgements.push(domain, peer, reply, ack, epoch, &mut self.ring);
                self.note(flushed);
            }
        }
        self.answers.clear();
    }

    fn send(&mut self, domain: usize, reply: Envelope, header: Header, message: Message) -> bool {
        let key = &self.shared.peers.peer(domain).outbound;
        let sent = self.ring.transmit(|buffer| encode_message(buffer, &reply, &header, &message, key));
        if sent {
            self.counters.count(Counter::Sent);
            self.unsent = true;
        }
        sent
    }
}

/// The state that a REPORT tells; none of another message. Its short information ends at its last byte that is not 0.
fn reported(meeting: MeetingId, message: Message) -> Option<TerminalState> {
    let Message::Report { terminal, version, business, decode, role, flags, channel, stream, info: short } = message
    else {
        return None;
    };
    let mut info = [0; INFO_BYTES_MAX];
    info[..INFO_BYTES_SHORT].copy_from_slice(&short);
    let info_len = short.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u8 + 1);
    Some(TerminalState { meeting, terminal, version, business, decode, role, flags, channel, stream, info_len, info })
}

/// Records of at least 32 bytes in a page of 1,008: the most answers to one frame.
const REPORTS_PER_PAGE: usize = 1008 / 32;

/// What is asked of a dispatch server, or answered to it, beyond reports and probes.
const fn is_for_control(opcode: Opcode) -> bool {
    matches!(
        opcode,
        Opcode::ConnectAck
            | Opcode::Heartbeat
            | Opcode::HeartbeatAck
            | Opcode::Info
            | Opcode::TakeoverAck
            | Opcode::TakeoverBatchAck
            | Opcode::State
            | Opcode::Audit
            | Opcode::MeetingStartAck
            | Opcode::MemberAddAck
            | Opcode::MemberRemoveAck
            | Opcode::RoleSetAck
            | Opcode::LayoutSetAck
            | Opcode::FlagsSetAck
            | Opcode::MeetingEndAck
            | Opcode::WindowSetAck
            | Opcode::StreamSetAck
            | Opcode::InfoSetAck
            | Opcode::MemberCallAck
            | Opcode::TerminalReleaseAck
            | Opcode::Topology
            | Opcode::PathSetAck
    )
}

/// Puts one state into the table. Gives the status to acknowledge with; none where the terminal shall repeat itself.
fn report(
    writer: &mut Writer,
    state: &TerminalState,
    counters: &Counters,
    settled: impl FnOnce() -> bool,
) -> Option<Status> {
    let TerminalState { terminal, meeting, version, business, decode, role, flags, channel, stream, .. } = *state;
    let reported =
        writer.report(terminal, meeting, version, business, decode, role, flags, channel, stream, state.info());
    let (counter, status) = match reported {
        Reported::Applied => (Counter::ReportsApplied, Some(Status::Ok)),
        Reported::Known => (Counter::ReportsKnown, Some(Status::Ok)),
        // While a domain is being recovered from the database, its terminals come to the table one after the other:
        // "unknown" would be said too soon.
        Reported::UnknownTerminal if settled() => (Counter::ReportsUnknown, Some(Status::UnknownTerminal)),
        Reported::OtherMeeting(_) => (Counter::ReportsUnknown, Some(Status::UnknownMeeting)),
        Reported::UnknownTerminal | Reported::Contended | Reported::Full | Reported::Damaged => {
            (Counter::ReportsDeferred, None)
        }
    };
    counters.count(counter);
    status
}
