//! Frames by their sequence number: the same number gives the same frame.

use crate::lab::sim::Random;
use crate::limits::{FRAME_BYTES_MAX, INFO_BYTES_MAX, LOAD_FRAME_BYTES_MAX};
use crate::time::Nanos;
use crate::wire::{
    Address, Business, Decode, Domain, Envelope, Epoch, Flags, FlagsHeader, Header, Info, Mac, MeetingId, Message,
    Opcode, StreamKind, TerminalState, Transaction, encode_message, encode_page,
};

use super::every;
use super::frames::{header, report};
use super::population::{Party, Speaker};
use super::{Class, Kind, Population};

const ETHERNET_BYTES: usize = 14;
/// Addresses and reserved bytes, before the header that both payloads begin with.
const ADDRESSES_BYTES: usize = 18;
const HEADER_BYTES: usize = 24;
/// Without 802.1Q tag and label, each of which adds four bytes.
const PROTOCOL_FRAME_BYTES: usize = ETHERNET_BYTES + ADDRESSES_BYTES + 64;
const DATA_FRAME_BYTES: usize = ETHERNET_BYTES + ADDRESSES_BYTES + 1056;
/// The tag is the last field of a frame.
const TAG_BYTES: usize = 16;
/// The greatest length of garbage if no length is configured.
const GARBAGE_BYTES: usize = 256;
/// Keeps the transactions of unsolicited answers in a range that a dispatch server uses only for
/// its heartbeats, so that such an answer matches no request.
const STRAY_MASK: u32 = 0x0FFF_FFFF;

/// Writes the frames of a load.
#[derive(Clone, Debug)]
pub struct Composer {
    /// The terminals that send.
    pub population: Population,
    /// The kind of frames.
    pub kind: Kind,
    /// Bytes of a frame, filled with zeros after its packet; none: the packet's length. Garbage is
    /// at most this long.
    pub size: Option<usize>,
    /// The V2V address of the dispatch server.
    pub dispatch: Address,
    /// The MAC address of the dispatch server.
    pub dst_mac: Mac,
    /// The MAC address of the sender.
    pub src_mac: Mac,
    /// The EtherType of V2V frames on this site.
    pub ethertype: u16,
    /// The version of every terminal's first report. A report that the server knows already is
    /// acknowledged all the same, and changes nothing.
    pub first_version: u32,
    /// Whether reports ask for an answer of their own at once.
    pub ack_now: bool,
    /// For garbage: the same seed gives the same bytes.
    pub seed: u64,
}

impl Composer {
    /// Checks the requested size.
    ///
    /// # Errors
    /// In words, if frames cannot have that size.
    pub fn check(&self) -> Result<(), String> {
        let Some(size) = self.size else { return Ok(()) };
        let (least, what) = match self.kind {
            Kind::Garbage => (ETHERNET_BYTES, "an Ethernet header"),
            Kind::Reports | Kind::Probes | Kind::Commands | Kind::Forgeries => {
                (self.prefix_max() + HEADER_BYTES + 40, "a frame with a protocol payload")
            }
            Kind::Infos | Kind::Mix | Kind::All => (self.prefix_max() + 1056, "a frame with a data payload"),
        };
        if (least..=LOAD_FRAME_BYTES_MAX).contains(&size) {
            return Ok(());
        }
        Err(format!(
            "frames of {size} bytes: {what} has {least}, Ethernet carries {LOAD_FRAME_BYTES_MAX}; only garbage is shorter"
        ))
    }

    /// Writes the frame of a sequence number; returns its length. A probe gets `sent` as its time
    /// of sending.
    ///
    /// # Panics
    /// If `buffer` is shorter than [`LOAD_FRAME_BYTES_MAX`].
    pub fn frame(&self, sequence: u64, sent: Nanos, buffer: &mut [u8]) -> usize {
        let buffer = &mut buffer[..LOAD_FRAME_BYTES_MAX];
        let speaker = self.population.speaker(sequence);
        let terminal = speaker.address;
        let key = &speaker.party.outbound;
        let envelope = self.envelope(speaker.party, terminal);
        let length = match self.kind.class(sequence) {
            Class::Report => {
                let message = report(&self.state(&speaker, sequence));
                encode_message(buffer, &envelope, &self.report_header(speaker.meeting), &message, key)
            }
            Class::Info => {
                let state = self.state(&speaker, sequence);
                let header = self.report_header(MeetingId::NONE);
                encode_page(buffer, &envelope, Opcode::ReportInfo, &header, (0, 1), [state], key).0
            }
            Class::Probe => {
                let message = Message::Probe { sent_ns: sent.0, sequence };
                encode_message(buffer, &envelope, &header(sequence, MeetingId::NONE), &message, key)
            }
            Class::Heartbeat => {
                let envelope = self.envelope(speaker.party, speaker.party.domain.server());
                let message = Message::Heartbeat { sent_ns: sent.0 };
                encode_message(buffer, &envelope, &header(sequence, MeetingId::NONE), &message, key)
            }
            Class::Stray => {
                let envelope = self.envelope(speaker.party, speaker.party.domain.server());
                let header = header(sequence & u64::from(STRAY_MASK), speaker.meeting);
                let message = Message::MemberAck { opcode: Opcode::MemberAddAck, version: 1, terminal };
                encode_message(buffer, &envelope, &header, &message, key)
            }
            Class::Example => {
                let state = self.state(&speaker, sequence);
                every::write(&speaker, &state, envelope, sequence, sent, buffer)
            }
            Class::Forgery => self.forgery(sequence, &speaker, envelope, buffer),
            Class::Garbage => return self.garbage(sequence, &speaker, envelope, buffer),
        };
        let size = self.size.unwrap_or(length).max(length);
        buffer[length..size].fill(0);
        size
    }

    /// The sequence number that an acknowledgement answers, if it belongs to this load.
    pub(super) fn sequence_of(&self, terminal: Address, version: u32) -> Option<u64> {
        let turn = version.wrapping_sub(self.first_version);
        let number = self.population.number(terminal)?;
        Some(u64::from(turn) * u64::from(self.population.terminals()) + number)
    }

    /// The version in a terminal's report of this sequence number.
    pub(super) fn version(&self, sequence: u64) -> u32 {
        self.first_version.wrapping_add((sequence / u64::from(self.population.terminals())) as u32)
    }

    pub(super) fn envelope(&self, party: &Party, from: Address) -> Envelope {
        let Self { dst_mac, src_mac, ethertype, dispatch, .. } = *self;
        Envelope { dst_mac, src_mac, vlan: party.vlan, ethertype, to: dispatch, from, label: party.label }
    }

    fn state(&self, speaker: &Speaker<'_>, sequence: u64) -> TerminalState {
        let version = self.version(sequence);
        // Letters, so that the last byte is not zero, which a reader might take for padding.
        let info = Info::new(&[b'a' + (sequence % 26) as u8; INFO_BYTES_MAX]);
        TerminalState {
            meeting: speaker.meeting,
            terminal: speaker.address,
            version,
            business: Business::InMeeting,
            decode: Decode::Decoding,
            role: speaker.role,
            flags: Flags(
                Flags::ONLINE.0 | if version.is_multiple_of(2) { Flags::AUDIO.0 } else { Flags::HAND_RAISED.0 },
            ),
            channel: version as u8,
            stream: StreamKind::Sub,
            info,
        }
    }

    fn report_header(&self, meeting: MeetingId) -> Header {
        let flags = if self.ack_now { FlagsHeader::ACK_NOW } else { FlagsHeader::default() };
        Header { flags, ..Header::request(Transaction(0), Epoch::NONE, meeting) }
    }

    /// A complete report that is not authentic, for one of four reasons in turn.
    fn forgery(&self, sequence: u64, speaker: &Speaker<'_>, mut envelope: Envelope, buffer: &mut [u8]) -> usize {
        let (header, message) = (self.report_header(speaker.meeting), report(&self.state(speaker, sequence)));
        match sequence % 4 {
            0 => {}
            1 => envelope.from = self.strange_domain().device(envelope.from.device()),
            // Another terminal of the domain: only the autonomous server may report on others.
            2 => envelope.from = speaker.party.domain.device((envelope.from.device() ^ 0x4000).max(1)),
            _ => envelope.to = Address::from_number(self.dispatch.number() ^ 1),
        }
        let length = encode_message(buffer, &envelope, &header, &message, &speaker.party.outbound);
        if sequence.is_multiple_of(4) {
            buffer[length - TAG_BYTES] ^= 0x55;
        }
        length
    }

    /// The highest domain number that this load does not use.
    fn strange_domain(&self) -> Domain {
        let numbers = (1..=Domain::MAX).rev().filter_map(Domain::new);
        numbers.into_iter().find(|&domain| self.population.find(domain).is_none()).expect("a load names few domains")
    }

    fn garbage(&self, sequence: u64, speaker: &Speaker<'_>, envelope: Envelope, buffer: &mut [u8]) -> usize {
        let mut random = Random::new(self.seed ^ sequence.rotate_left(32));
        let size = self.size.unwrap_or(GARBAGE_BYTES);
        let length = ETHERNET_BYTES + random.below((size - ETHERNET_BYTES + 1) as u64) as usize;
        let (header, message) = (self.report_header(speaker.meeting), report(&self.state(speaker, sequence)));
        let whole = encode_message(buffer, &envelope, &header, &message, &speaker.party.outbound);
        match sequence % 4 {
            // Only an Ethernet header.
            0 => noise(&mut random, &mut buffer[ETHERNET_BYTES..length]),
            // A packet of a known type with random content.
            1 => noise(&mut random, &mut buffer[ETHERNET_BYTES + 1..length.max(ETHERNET_BYTES + 1)]),
            // Truncated.
            2 => return length.min(whole - 1).min(size),
            // Complete, except for some bytes.
            _ => {
                for _ in 0..=random.below(4) {
                    let at = ETHERNET_BYTES + random.below((whole - ETHERNET_BYTES) as u64) as usize;
                    buffer[at] ^= random.number() as u8 | 1;
                }
                return whole.min(size);
            }
        }
        length
    }

    /// Number of bytes before the payload in frames of a party.
    pub(super) fn prefix(&self, party: &Party) -> usize {
        ETHERNET_BYTES
            + ADDRESSES_BYTES
            + if party.vlan.is_some() { 4 } else { 0 }
            + if party.label.is_some() { 4 } else { 0 }
    }

    fn prefix_max(&self) -> usize {
        self.population.parties().iter().map(|party| self.prefix(party)).max().unwrap_or(ETHERNET_BYTES)
    }

    /// Number of bytes before the payload in every party's frames; none if parties differ.
    pub(super) fn prefix_common(&self) -> Option<usize> {
        let first = self.prefix(self.population.parties().first()?);
        self.population.parties().iter().all(|party| self.prefix(party) == first).then_some(first)
    }

    /// The offset of the tag in data frames, if this load has such frames and they all have it at
    /// the same offset.
    pub(super) fn tag_at(&self) -> Option<usize> {
        let data = matches!(self.kind, Kind::Infos | Kind::Mix | Kind::All);
        self.prefix_common().filter(|_| data).map(|prefix| prefix + 1056 - TAG_BYTES)
    }
}

const _: () = assert!(FRAME_BYTES_MAX <= LOAD_FRAME_BYTES_MAX);
const _: () = assert!(PROTOCOL_FRAME_BYTES == 96 && DATA_FRAME_BYTES == 1088);

fn noise(random: &mut Random, bytes: &mut [u8]) {
    for run in bytes.chunks_mut(8) {
        let noise = random.number().to_ne_bytes();
        run.copy_from_slice(&noise[..run.len()]);
    }
}
