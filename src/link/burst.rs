//! What one frame of a burst is worked on with, while the bytes of all of them are borrowed from
//! the ring.

use super::acks::Acknowledgements;
use super::peers::Peer;
use super::ring::{Received, Ring};
use super::shared::Shared;
use super::troubles::Trouble;
use crate::cascade::Hop;
use crate::limits::{BURST, BUSY_PER_BURST};
use crate::table::{Reported, SlotHint, Sought, Writer};
use crate::telemetry::{Counter, Counters};
use crate::time::Nanos;
use crate::wire::{
    Address, FlagsHeader, Frame, GeneratorProbe, Malformed, MeetingId, Message, Opcode, ReportAck, Status,
    TerminalState,
};

/// What a burst leads to. It is written only when the frames' bytes are not borrowed any more: the
/// ring has both.
pub(super) struct Answers {
    /// Acknowledgements that wait for more, with their domain, for which the domain's page had
    /// no room.
    pub batched: Vec<(usize, ReportAck)>,
    /// What is answered at once.
    pub prompt: Vec<Prompt>,
}

/// An answer to one frame at once.
#[derive(Clone, Copy)]
pub(super) struct Prompt {
    /// The frame.
    pub held: usize,
    pub domain: usize,
    pub says: Says,
}

#[derive(Clone, Copy)]
pub(super) enum Says {
    Acknowledged(ReportAck),
    /// The same of a REPORT_INFO.
    InfoAcknowledged(ReportAck),
    Echo {
        sent_ns: u64,
        sequence: u64,
    },
    Busy,
}

/// A frame of a known domain to us.
pub(super) struct Opened<'a> {
    pub held: usize,
    pub frame: Frame<'a>,
    /// Whose it says that it is.
    pub peer: &'a Peer,
    /// Whose state it has, and where that is; of a REPORT.
    pub sought: Option<Sought>,
    pub near: SlotHint,
    /// Its tag was compared, and is right.
    pub is_authentic: bool,
}

/// Finds the packet in a frame, and whose it is; or how to count it.
#[inline(always)]
pub(super) fn open<'a>(received: Received<'a>, shared: &'a Shared) -> Result<(Frame<'a>, &'a Peer), Counter> {
    let is_probe = |port| GeneratorProbe::in_frame(received.bytes, port).is_some();
    let frame = match Frame::parse(received.bytes, shared.ethertype) {
        Err(Malformed::EtherType) if shared.probe_port.is_some_and(is_probe) => return Err(Counter::GeneratorProbes),
        frame => frame?,
    };
    if frame.to() != shared.address {
        return Err(Counter::Misaddressed);
    }
    let peer = frame.from().domain().and_then(|domain| shared.peers.find(domain));
    peer.map(|(_, peer)| (frame, peer)).ok_or(Counter::UnknownDomain)
}

/// What frames are worked on with while the ring's bytes are borrowed.
pub(super) struct Burst<'w, R> {
    pub ring: &'w R,
    pub now: Nanos,
    pub writer: &'w mut Writer,
    pub shared: &'w Shared,
    /// The interface that the worker's frames come by.
    pub interface: u8,
    pub counters: &'w Counters,
    pub acknowledgements: &'w mut Acknowledgements,
    pub answers: &'w mut Answers,
    /// Set where there is something for the control thread: the worker wakes it after the burst.
    pub for_control: &'w mut bool,
    /// Frames of reports that were taken.
    pub reports: u64,
}

impl Answers {
    /// Room for all that one burst can lead to.
    pub fn new() -> Self {
        let batched = Vec::with_capacity(BURST * REPORTS_PER_PAGE);
        Self { batched, prompt: Vec::with_capacity(BURST * REPORTS_PER_PAGE + BUSY_PER_BURST) }
    }
}

impl<R: Ring> Burst<'_, R> {
    /// Whether it is a report that would change nothing.
    pub fn is_known(&self, opened: &Opened<'_>) -> bool {
        let reports_on = opened.frame.reports_on();
        reports_on.is_some_and(|(terminal, version)| self.writer.table().is_known_at(opened.near, terminal, version))
    }

    /// Does what a frame says; or how to count it.
    #[inline]
    pub fn take(&mut self, opened: &Opened<'_>) -> Result<(), Counter> {
        let Opened { frame, peer, near, .. } = opened;
        if !opened.is_authentic {
            return Err(Counter::Unauthentic);
        }
        let from = frame.from();
        if peer.note(Hop { interface: self.interface, mac: frame.src_mac() }) {
            *self.for_control = true;
        }
        let speakers = self.shared.peers.speakers();
        // Version 0 is of a terminal that has not reported.
        let may_be_told = |terminal, version| version != 0 && speakers.speaks_for(from, terminal);
        if peer.is_fenced() && matches!(frame.opcode(), Ok(Opcode::Report | Opcode::ReportInfo)) {
            return Err(Counter::Fenced);
        }
        if frame.looks_like_report() {
            let report = frame.report()?;
            if !may_be_told(report.terminal, report.version) {
                return Err(Malformed::Value.into());
            }
            let reported = self.writer.report_at(*near, &report);
            let of = (report.terminal, report.version);
            self.acknowledge(opened, report.meeting, of, reported, Says::Acknowledged);
            self.reports += 1;
            return Ok(());
        }
        match frame.opcode() {
            Ok(Opcode::ReportInfo) => {
                let states = frame.page()?.records::<TerminalState>()?;
                for state in states {
                    let Some(state) = state.ok().filter(|state| may_be_told(state.terminal, state.version)) else {
                        // Dropped and counted; the rest of the page counts.
                        self.counters.count(Malformed::Value.into());
                        continue;
                    };
                    let reported = self.writer.report_state(&state);
                    let of = (state.terminal, state.version);
                    self.acknowledge(opened, state.meeting, of, reported, Says::InfoAcknowledged);
                }
                self.reports += 1;
            }
            Ok(Opcode::Probe) => {
                let Message::Probe { sent_ns, sequence } = frame.message()? else {
                    return Err(Malformed::Opcode.into());
                };
                self.prompt(opened, Says::Echo { sent_ns, sequence });
            }
            // ANSWER bears the opcode that was asked with: the control thread knows what it asked.
            Ok(opcode) if speakers.may_send(from, opcode) => self.hand_on(opened),
            Ok(_) if frame.is_error_answer() && speakers.server(from).is_some() => self.hand_on(opened),
            Ok(_) => return Err(Counter::Misdirected),
            Err(malformed) => return Err(malformed.into()),
        }
        Ok(())
    }

    /// Has a state acknowledged that was reported: at once where that is asked for, else with the
    /// next page to the domain; or not at all, where the terminal shall repeat itself.
    #[inline(always)]
    fn acknowledge(
        &mut self,
        opened: &Opened<'_>,
        meeting: MeetingId,
        (terminal, version): (Address, u32),
        reported: Reported,
        says: fn(ReportAck) -> Says,
    ) {
        let (counter, status) = match reported {
            Reported::Applied => (Counter::ReportsApplied, Some(Status::Ok)),
            other => self.not_applied(opened.peer, meeting, terminal, other),
        };
        self.counters.count(counter);
        let Some(status) = status else { return };
        let ack = ReportAck { terminal, version, status };
        if status == Status::Ok && opened.frame.header().flags.has(FlagsHeader::ACK_NOW) {
            return self.prompt(opened, says(ack));
        }
        if !self.acknowledgements.take(opened.peer.place, ack) {
            self.answers.batched.push((opened.peer.place, ack));
        }
    }

    /// What is counted and said of a state that is not entered. Has the control thread asked about
    /// a meeting that the terminal reports out of and the table does not have it in.
    #[inline(never)]
    fn not_applied(
        &mut self,
        peer: &Peer,
        meeting: MeetingId,
        terminal: Address,
        reported: Reported,
    ) -> (Counter, Option<Status>) {
        let shared = self.shared;
        let note_stray = |held| {
            if meeting != MeetingId::NONE {
                peer.note_stray(meeting, held);
            }
        };
        match reported {
            Reported::Applied => (Counter::ReportsApplied, Some(Status::Ok)),
            Reported::Known => (Counter::ReportsKnown, Some(Status::Ok)),
            // While a domain is being recovered from the database, its terminals come to the table
            // one after the other: "unknown" would be said too soon.
            Reported::UnknownTerminal if shared.is_settled(peer.place) => {
                note_stray(MeetingId::NONE);
                (Counter::ReportsUnknown, Some(Status::UnknownTerminal))
            }
            Reported::OtherMeeting(held) => {
                note_stray(held);
                (Counter::ReportsUnknown, Some(Status::UnknownMeeting))
            }
            // It is not entered, and repeating it changes nothing until there is room: its terminal
            // has to know.
            Reported::Full => {
                *self.for_control |= shared.troubles.tell(Trouble::Full(terminal));
                (Counter::ReportsFull, Some(Status::Capacity))
            }
            // Not answered: it is true again when the control thread has thrown the record away.
            Reported::Damaged => {
                *self.for_control |= shared.troubles.tell(Trouble::Damaged(terminal));
                (Counter::ReportsDeferred, None)
            }
            Reported::UnknownTerminal | Reported::Contended => (Counter::ReportsDeferred, None),
        }
    }

    pub fn prompt(&mut self, opened: &Opened<'_>, says: Says) {
        self.answers.prompt.push(Prompt { held: opened.held, domain: opened.peer.place, says });
    }

    /// Hands a frame to the control thread. Its destination there is the address of the interface
    /// that it came by, also where it was sent to a group: the answer leaves by that interface.
    fn hand_on(&mut self, opened: &Opened<'_>) {
        let Received { bytes, arrived } = self.ring.received(opened.held);
        let posted = self.shared.inbox.post(arrived.unwrap_or(self.now), |buffer| {
            let length = bytes.len().min(buffer.len());
            buffer[..length].copy_from_slice(&bytes[..length]);
            if let (Some(own), Some(to)) = (self.shared.peers.own_mac(self.interface), buffer.first_chunk_mut()) {
                *to = own.0;
            }
            length
        });
        self.counters.count(if posted { Counter::ToControl } else { Counter::ControlOverflow });
        *self.for_control = true;
    }
}

/// Records of at least 32 bytes in a page of 1,008: the most answers to one frame.
const REPORTS_PER_PAGE: usize = 1008 / 32;
