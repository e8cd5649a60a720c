//! An autonomous server as wire.md has it, without I/O: frames and time in, frames out.

mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::answers::{Answer, Answers, Content, Pages, Request};
use super::meetings::Meetings;
use super::numbering::Numbering;
use super::probes::Probes;
use super::terminals::{Report, Terminals};
use super::ticker::Ticker;
use super::timeline::Timeline;
use super::{Counters, Random, Settings};
use crate::limits::INFO_BYTES_SHORT;
use crate::time::Nanos;
use crate::wire::{
    Direction, Domain, Envelope, Epoch, FlagsHeader, Frame, Header, Key, Malformed, MeetingId, Message, Opcode,
    ReportAck, Status, TakeoverEntry, TerminalState, Transaction, encode_message, encode_page,
};

/// Reports that one call of [`AutonomousServer::handle_timeout`] makes, at most.
const REPORTS_A_STEP: usize = 256;
/// Summaries that a page of INFO holds.
const SUMMARIES_A_PAGE: usize = 21;

/// An autonomous server with its terminals. Calls in turn: [`Self::handle_frame`] for each frame
/// that arrived, [`Self::handle_timeout`] when [`Self::poll_timeout`] says so, and after either
/// [`Self::poll_transmit`] until it gives nothing.
///
/// What always holds: the highest epoch seen never goes down; a request under a lower one changes
/// nothing; a request that comes again has no second effect.
pub struct AutonomousServer {
    settings: Settings,
    key_dispatch: Key,
    key_autonomous: Key,
    /// From whom, as the frames of the highest epoch came; what is sent unasked goes there.
    dispatch: Option<Envelope>,
    highest: Epoch,
    /// When the last authentic frame under that epoch came.
    heard: Option<Nanos>,
    boot_generation: u32,
    meetings: Meetings,
    terminals: Terminals,
    paths: BTreeMap<u16, (u16, Domain)>,
    answers: Answers,
    probes: Probes,
    timeline: Timeline,
    counters: Counters,
    random: Random,
    transaction: u32,
    busy_until: Nanos,
    quiesced: bool,
    pace_reports: Ticker,
    pace_probes: Ticker,
    pace_heartbeats: Ticker,
}

impl AutonomousServer {
    /// A server that holds what its settings say, and has seen no epoch but that of these meetings.
    pub fn new(settings: Settings, seed: u64) -> Self {
        let dispatch = settings.dispatch_mac.map(|dst_mac| Envelope {
            dst_mac,
            src_mac: settings.mac,
            vlan: settings.vlan,
            ethertype: settings.ethertype,
            to: settings.dispatch,
            from: settings.domain.server(),
            label: None,
        });
        let mut random = Random::new(seed);
        let preload = settings.preload.as_ref();
        let terminals = settings.terminals.max(preload.map_or(0, |preload| preload.terminals()));
        let numbering = Numbering::new(settings.domain, settings.first_device, terminals);
        let capacity = settings.meetings_max.max(preload.map_or(0, |preload| preload.len() as usize));
        Self {
            key_dispatch: Key::derive(settings.secret.as_ref(), Direction::Dispatch),
            key_autonomous: Key::derive(settings.secret.as_ref(), Direction::Autonomous),
            dispatch,
            highest: preload.map_or(Epoch::NONE, |preload| preload.epoch()),
            heard: None,
            boot_generation: 1,
            meetings: Meetings::new(capacity, numbering, preload),
            terminals: Terminals::new(&settings, numbering, random.number()),
            paths: BTreeMap::new(),
            answers: Answers::new(),
            probes: Probes::new(),
            timeline: Timeline::default(),
            counters: Counters::default(),
            random,
            transaction: 0,
            busy_until: Nanos(0),
            quiesced: false,
            pace_reports: Ticker::per_second(settings.reports_per_second),
            pace_probes: Ticker::per_second(settings.probes_per_second),
            pace_heartbeats: Ticker::every(settings.heartbeat),
            settings,
        }
    }

    /// A frame arrived at `now`, which on an interface is its arrival stamp.
    pub fn handle_frame(&mut self, now: Nanos, bytes: &[u8]) {
        match Frame::parse(bytes, self.settings.ethertype) {
            Ok(frame) => self.handle(now, &frame),
            Err(Malformed::EtherType) => self.counters.frames_foreign += 1,
            Err(_) => self.counters.frames_malformed += 1,
        }
    }

    /// As [`Self::handle_frame`], of a frame whose packet was found already.
    pub fn handle(&mut self, now: Nanos, frame: &Frame<'_>) {
        self.counters.frames_received += 1;
        if frame.envelope().to.domain() != Some(self.settings.domain) {
            self.counters.frames_foreign += 1;
        } else if !frame.authentic(&self.key_dispatch) {
            self.counters.frames_unauthentic += 1;
        } else if frame.is_error_answer() {
            self.counters.frames_unasked += 1;
        } else if let Err(wrong) = self.handle_authentic(now, frame) {
            self.handle_malformed(frame, wrong);
        }
    }

    /// What happens at its time happens.
    pub fn handle_timeout(&mut self, now: Nanos) {
        self.terminals.handle_timeout(now);
        if self.quiesced || self.dispatch.is_none() {
            return;
        }
        for _ in 0..REPORTS_A_STEP {
            if !self.pace_reports.tick(now) {
                break;
            }
            if !self.terminals.report_something(now) {
                self.counters.reports_held_back += 1;
            }
        }
    }

    /// When [`Self::handle_timeout`] and [`Self::poll_transmit`] have something to do again. A time
    /// gone by means now.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        let unasked = self.dispatch.is_some();
        let paces = [self.pace_heartbeats.next(), self.pace_probes.next(), self.pace_reports.next()];
        let paced = paces.into_iter().take(if self.quiesced { 1 } else { 3 }).flatten().filter(|_| unasked);
        let answers = (!self.answers.is_empty()).then_some(Nanos(0));
        paced.chain(answers).chain(self.terminals.poll_timeout().filter(|_| unasked)).min()
    }

    /// Whether [`Self::poll_transmit`] has a frame now.
    pub fn wants_transmit(&self, now: Nanos) -> bool {
        let unasked = self.terminals.wants_transmit(now)
            || self.pace_heartbeats.is_due(now)
            || (!self.quiesced && self.pace_probes.is_due(now));
        !self.answers.is_empty() || (unasked && self.dispatch.is_some())
    }

    /// Writes the next frame to be sent; gives its length.
    ///
    /// # Panics
    /// If `buffer` is shorter than [`crate::limits::FRAME_BYTES_MAX`].
    pub fn poll_transmit(&mut self, now: Nanos, buffer: &mut [u8]) -> Option<usize> {
        let length = match self.answers.poll_transmit(buffer, &self.key_autonomous) {
            Some(length) => length,
            None => self.poll_unasked(now, buffer)?,
        };
        self.counters.frames_sent += 1;
        Some(length)
    }

    fn poll_unasked(&mut self, now: Nanos, buffer: &mut [u8]) -> Option<usize> {
        let envelope = self.dispatch?;
        let key = &self.key_autonomous;
        if let Some(report) = self.terminals.poll_report(now, &mut self.counters) {
            return Some(encode_report(buffer, &envelope, &report, key));
        }
        let (from, message) = if self.pace_heartbeats.tick(now) {
            self.counters.heartbeats_sent += 1;
            (envelope.from, Message::Heartbeat { sent_ns: now.0 })
        } else if !self.quiesced && self.pace_probes.tick(now) {
            // From one terminal after another, for steering spreads what is of no meeting by its
            // source.
            let sequence = self.probes.send(&mut self.counters);
            let from = self.terminals.nth(sequence).unwrap_or(envelope.from);
            (from, Message::Probe { sent_ns: now.0, sequence })
        } else {
            return None;
        };
        self.transaction = self.transaction.wrapping_add(1);
        let header = Header::request(Transaction(self.transaction), Epoch::NONE, MeetingId::NONE);
        Some(encode_message(buffer, &Envelope { from, ..envelope }, &header, &message, key))
    }

    fn handle_authentic(&mut self, now: Nanos, frame: &Frame<'_>) -> Result<(), Malformed> {
        let header = frame.header();
        match frame.opcode()? {
            // Rule 5 of wire.md §6: a replaced controller must not tell a terminal that its report
            // is known.
            Opcode::ReportAck | Opcode::ReportInfoAck | Opcode::ReportAckBatch if header.epoch < self.highest => {
                self.counters.acks_stale += 1;
            }
            Opcode::ReportAck | Opcode::ReportInfoAck => match frame.message()? {
                Message::ReportAck { terminal, version } | Message::ReportInfoAck { terminal, version } => {
                    self.terminals.handle_ack(now, (terminal, version, Status::Ok), &mut self.counters);
                }
                _ => self.counters.reports_refused += 1,
            },
            Opcode::ReportAckBatch => {
                for ReportAck { terminal, version, status } in frame.page()?.records()?.flatten() {
                    self.terminals.handle_ack(now, (terminal, version, status), &mut self.counters);
                }
            }
            Opcode::HeartbeatAck => self.counters.heartbeats_answered += 1,
            Opcode::ProbeEcho => {
                if let Message::ProbeEcho { sent_ns, sequence } = frame.message()? {
                    self.probes.handle_echo(now, (Nanos(sent_ns), sequence), &mut self.counters);
                }
            }
            Opcode::Report | Opcode::ReportInfo => self.counters.frames_unasked += 1,
            opcode if opcode.answer().is_some() && header.status == 0 => self.handle_request(now, frame, opcode)?,
            _ => self.counters.frames_unasked += 1,
        }
        Ok(())
    }

    fn handle_request(&mut self, now: Nanos, frame: &Frame<'_>, opcode: Opcode) -> Result<(), Malformed> {
        self.counters.requests += 1;
        let (header, envelope) = (frame.header(), frame.envelope());
        let highest_before = self.highest;
        // Rule 2 of wire.md §6: these three are answered under any epoch.
        let any_epoch = matches!(opcode, Opcode::Connect | Opcode::Heartbeat | Opcode::Probe);
        if header.epoch < self.highest && !any_epoch {
            self.counters.requests_stale += 1;
            self.refuse(frame, opcode, Status::StaleEpoch, self.highest.0);
            return Ok(());
        }
        if header.epoch >= self.highest {
            self.highest = header.epoch;
            self.heard = Some(now);
            let to = self.dispatch.insert(envelope.reply());
            (to.from, to.src_mac) = (self.settings.domain.server(), self.settings.mac);
        }
        if envelope.to != self.settings.domain.server() && opcode != Opcode::Probe {
            return Err(Malformed::Value);
        }
        if header.epoch != Epoch::NONE {
            self.timeline.at(header.epoch, now);
        }
        let page = if opcode.is_page() { frame.page()?.page } else { 0 };
        let request = Request { from: envelope.from, epoch: header.epoch, transaction: header.transaction, page };
        // Heartbeats and probes change nothing, and may all bear one transaction.
        let remembers = !matches!(opcode, Opcode::Heartbeat | Opcode::Probe);
        if let Some((as_opcode, answer)) = self.answers.remembered(&request).filter(|_| remembers) {
            if *as_opcode != opcode {
                return Err(Malformed::Value);
            }
            self.counters.requests_repeated += 1;
            let answer = answer.clone();
            self.send(frame.envelope().reply(), answer);
            return Ok(());
        }
        if remembers && self.answers.is_bygone(&request) {
            return Err(Malformed::Value);
        }
        if remembers && (now < self.busy_until || self.random.chance(self.settings.busy_per_million)) {
            self.counters.requests_busy += 1;
            self.refuse(frame, opcode, Status::Busy, self.settings.retry_after.as_nanos() as u64);
            return Ok(());
        }
        let (status, content) = match self.perform(now, frame, opcode, highest_before)? {
            Ok(done) => done,
            Err(status) => (status, Content::Message(refused(opcode, status, 0))),
        };
        let answer = Answer { head: header.answer(status), content };
        if remembers {
            self.answers.remember(request, opcode, answer.clone());
        }
        self.send(frame.envelope().reply(), answer);
        Ok(())
    }

    /// Does what a new request under a valid epoch asks.
    fn perform(
        &mut self,
        now: Nanos,
        frame: &Frame<'_>,
        opcode: Opcode,
        highest_before: Epoch,
    ) -> Result<Result<(Status, Content), Status>, Malformed> {
        let Header { epoch, meeting, .. } = frame.header();
        match opcode {
            Opcode::TakeoverBatch => return self.take_over_page(now, frame, epoch).map(Ok),
            Opcode::InfoSet => {
                let mut records = frame.page()?.records::<TerminalState>()?;
                let (Some(Ok(new)), None) = (records.next(), records.next()) else { return Err(Malformed::Page) };
                let done = self.meetings.set_info(now, &new, &mut self.terminals);
                return Ok(done.map(|(status, message)| (status, Content::Message(message))));
            }
            _ => {}
        }
        let message = frame.message()?;
        let held = self.meetings.len() as u32;
        let seen = self.timeline.at(epoch, now);
        let answer = match message {
            Message::Connect { window } => {
                seen.connect_ns.get_or_insert(now.0);
                let (boot_generation, window) = (self.boot_generation, window.min(self.settings.window));
                Message::ConnectAck { highest_epoch: highest_before, boot_generation, held, window }
            }
            Message::Heartbeat { sent_ns } => Message::HeartbeatAck {
                sent_ns,
                held,
                boot_generation: self.boot_generation as u16,
                age: self
                    .heard
                    .map_or(u16::MAX, |heard| u16::try_from(now.since(heard).as_micros() / 100).unwrap_or(u16::MAX)),
                highest_epoch: self.highest,
            },
            Message::Probe { sent_ns, sequence } => Message::ProbeEcho { sent_ns, sequence },
            Message::InfoQuery { first } => {
                seen.info_query_ns.get_or_insert(now.0);
                let pages_max = usize::from(self.settings.info_pages_max.max(1));
                let records = self.meetings.from(first).take(pages_max * SUMMARIES_A_PAGE).collect();
                return Ok(Ok((Status::Ok, Content::Info(Arc::new(Pages::new(records))))));
            }
            Message::StateQuery => {
                seen.state_query_first_ns.get_or_insert(now.0);
                seen.state_query_last_ns = Some(now.0);
                return Ok(self.meetings.members(meeting, epoch).map(|members| {
                    let states = members.iter().filter_map(|&member| self.terminals.state(member));
                    (Status::Ok, Content::State(Arc::new(Pages::new(states.collect()))))
                }));
            }
            Message::TopologyQuery => {
                return Ok(Ok((Status::Ok, Content::Topology(Arc::new(Pages::new(self.settings.links.clone()))))));
            }
            Message::ReplayDone { count, digest } => {
                let (ours, digest_ours) = self.meetings.digest(epoch);
                seen.audit(now, (count, digest), (ours, digest_ours));
                Message::Audit { count: ours, digest: digest_ours }
            }
            Message::Takeover { version } => {
                let result = self.meetings.take_over(TakeoverEntry { meeting, version }, epoch);
                seen.takeover(now, std::iter::once((result.status, result.state)));
                let Some(held) = self.meetings.find(meeting) else { return Ok(Err(result.status)) };
                let (version, state, level, participants) =
                    (held.version, held.state, held.level, held.members.len() as u16);
                let answer = Message::TakeoverAck { version, state, level, participants };
                return Ok(Ok((result.status, Content::Message(answer))));
            }
            Message::PathSet { label_in, label_out, next } => {
                match next {
                    Some(next) => self.paths.insert(label_in, (label_out, next)),
                    None => self.paths.remove(&label_in),
                };
                Message::PathSetAck { label_in }
            }
            command => {
                seen.command_first_ns.get_or_insert(now.0);
                let done = self.meetings.command(now, meeting, epoch, &command, &mut self.terminals);
                return Ok(done.map(|(status, message)| (status, Content::Message(message))));
            }
        };
        Ok(Ok((Status::Ok, Content::Message(answer))))
    }

    fn take_over_page(&mut self, now: Nanos, frame: &Frame<'_>, epoch: Epoch) -> Result<(Status, Content), Malformed> {
        let page = frame.page()?;
        // Fixed fields, each of which may bear any value: no record of this kind is wrong.
        let entries = page.records::<TakeoverEntry>()?.flatten();
        let results: Arc<[_]> = entries.map(|entry| self.meetings.take_over(entry, epoch)).collect();
        let seen = self.timeline.at(epoch, now);
        seen.takeover(now, results.iter().map(|result| (result.status, result.state)));
        Ok((Status::Ok, Content::Results((page.page, page.pages), results)))
    }

    /// An authentic frame that no sense can be made of: its sender is told, unless it was an
    /// answer.
    fn handle_malformed(&mut self, frame: &Frame<'_>, wrong: Malformed) {
        self.counters.frames_malformed += 1;
        let (header, raw) = (frame.header(), frame.opcode_raw());
        let known = Opcode::from_wire(raw).filter(|_| wrong != Malformed::Version);
        let (opcode, flags) = match known {
            Some(opcode) => match opcode.answer() {
                Some(answer) if header.status == 0 => (answer.wire(), FlagsHeader::default()),
                _ => return,
            },
            None => (raw, FlagsHeader::ANSWER),
        };
        let status = wrong.status();
        let content = Content::Message(Message::Refused { opcode, status, value: 0 });
        self.send(frame.envelope().reply(), Answer { head: Header { flags, ..header.answer(status) }, content });
    }

    fn refuse(&mut self, frame: &Frame<'_>, opcode: Opcode, status: Status, value: u64) {
        let content = Content::Message(refused(opcode, status, value));
        self.send(frame.envelope().reply(), Answer { head: frame.header().answer(status), content });
    }

    fn send(&mut self, to: Envelope, answer: Answer) {
        let to = Envelope { src_mac: self.settings.mac, ..to };
        if !self.answers.send(to, answer) {
            self.counters.answers_dropped += 1;
        }
    }
}

fn refused(request: Opcode, status: Status, value: u64) -> Message {
    Message::Refused { opcode: request.answer().unwrap_or(request).wire(), status, value }
}

/// A terminal's frame, as its autonomous server relays it.
fn encode_report(buffer: &mut [u8], server: &Envelope, report: &Report, key: &Key) -> usize {
    let state = &report.state;
    let envelope = Envelope { from: state.terminal, ..*server };
    let flags = if report.ack_now { FlagsHeader::ACK_NOW } else { FlagsHeader::default() };
    // A version said again is the same request again.
    let header = Header { flags, ..Header::request(Transaction(state.version), Epoch::NONE, state.meeting) };
    match state.info.first_chunk::<INFO_BYTES_SHORT>() {
        Some(&info) if state.info.len() == INFO_BYTES_SHORT => {
            let &TerminalState { terminal, version, business, decode, role, flags, channel, stream, .. } = state;
            let message = Message::Report { terminal, version, business, decode, role, flags, channel, stream, info };
            encode_message(buffer, &envelope, &header, &message, key)
        }
        _ => encode_page(buffer, &envelope, Opcode::ReportInfo, &header, (0, 1), [*state], key).0,
    }
}
