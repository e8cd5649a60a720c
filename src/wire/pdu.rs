//! The protocol data unit: the 24 bytes that both payloads begin with, and the opcodes.
//!
//! ```text
//! 0         1        2        3       4              8            16            24
//! │ version │ opcode │ status │ flags │ transaction  │ epoch (8)  │ meeting (8) │ body 24 (protocol) │ tag 16 │
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};
use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::transaction::Transaction;
use super::values::wire_enum;
use super::{MeetingId, Status};
use crate::limits;

/// The protocol version that this implementation speaks.
pub const VERSION: u8 = 2;

wire_enum! {
    /// What a frame is: a request or an answer. D is the dispatch server, A an autonomous server, T
    /// a terminal.
    Opcode {
        Connect = 0x01 "connect",
        ConnectAck = 0x02 "connect_ack",
        Heartbeat = 0x03 "heartbeat",
        HeartbeatAck = 0x04 "heartbeat_ack",
        InfoQuery = 0x10 "info_query",
        Info = 0x11 "info",
        Takeover = 0x12 "takeover",
        TakeoverAck = 0x13 "takeover_ack",
        TakeoverBatch = 0x14 "takeover_batch",
        TakeoverBatchAck = 0x15 "takeover_batch_ack",
        StateQuery = 0x16 "state_query",
        State = 0x17 "state",
        ReplayDone = 0x18 "replay_done",
        Audit = 0x19 "audit",
        MeetingStart = 0x20 "meeting_start",
        MeetingStartAck = 0x21 "meeting_start_ack",
        MemberAdd = 0x22 "member_add",
        MemberAddAck = 0x23 "member_add_ack",
        MemberRemove = 0x24 "member_remove",
        MemberRemoveAck = 0x25 "member_remove_ack",
        RoleSet = 0x26 "role_set",
        RoleSetAck = 0x27 "role_set_ack",
        LayoutSet = 0x28 "layout_set",
        LayoutSetAck = 0x29 "layout_set_ack",
        FlagsSet = 0x2A "flags_set",
        FlagsSetAck = 0x2B "flags_set_ack",
        MeetingEnd = 0x2C "meeting_end",
        MeetingEndAck = 0x2D "meeting_end_ack",
        WindowSet = 0x2E "window_set",
        WindowSetAck = 0x2F "window_set_ack",
        Report = 0x30 "report",
        ReportAck = 0x31 "report_ack",
        ReportInfo = 0x32 "report_info",
        ReportInfoAck = 0x33 "report_info_ack",
        ReportAckBatch = 0x34 "report_ack_batch",
        Probe = 0x3E "probe",
        ProbeEcho = 0x3F "probe_echo",
        StreamSet = 0x40 "stream_set",
        StreamSetAck = 0x41 "stream_set_ack",
        InfoSet = 0x42 "info_set",
        InfoSetAck = 0x43 "info_set_ack",
        MemberCall = 0x44 "member_call",
        MemberCallAck = 0x45 "member_call_ack",
        TerminalRelease = 0x46 "terminal_release",
        TerminalReleaseAck = 0x47 "terminal_release_ack",
        TopologyQuery = 0x50 "topology_query",
        Topology = 0x51 "topology",
        PathSet = 0x52 "path_set",
        PathSetAck = 0x53 "path_set_ack",
    }
}

impl Opcode {
    /// Whether it travels in the data payload, as a page of records.
    pub const fn is_page(self) -> bool {
        matches!(
            self,
            Self::Info
                | Self::TakeoverBatch
                | Self::TakeoverBatchAck
                | Self::State
                | Self::ReportInfo
                | Self::ReportAckBatch
                | Self::InfoSet
                | Self::Topology
        )
    }

    /// The opcode of the answer to this request; none if this is an answer or has none.
    pub const fn answer(self) -> Option<Self> {
        Some(match self {
            Self::Connect => Self::ConnectAck,
            Self::Heartbeat => Self::HeartbeatAck,
            Self::InfoQuery => Self::Info,
            Self::Takeover => Self::TakeoverAck,
            Self::TakeoverBatch => Self::TakeoverBatchAck,
            Self::StateQuery => Self::State,
            Self::ReplayDone => Self::Audit,
            Self::MeetingStart => Self::MeetingStartAck,
            Self::MemberAdd => Self::MemberAddAck,
            Self::MemberRemove => Self::MemberRemoveAck,
            Self::RoleSet => Self::RoleSetAck,
            Self::LayoutSet => Self::LayoutSetAck,
            Self::FlagsSet => Self::FlagsSetAck,
            Self::MeetingEnd => Self::MeetingEndAck,
            Self::WindowSet => Self::WindowSetAck,
            Self::Report => Self::ReportAck,
            Self::ReportInfo => Self::ReportInfoAck,
            Self::Probe => Self::ProbeEcho,
            Self::StreamSet => Self::StreamSetAck,
            Self::InfoSet => Self::InfoSetAck,
            Self::MemberCall => Self::MemberCallAck,
            Self::TerminalRelease => Self::TerminalReleaseAck,
            Self::TopologyQuery => Self::Topology,
            Self::PathSet => Self::PathSetAck,
            _ => return None,
        })
    }
}

/// Term (high 32 bits), generation (16 bits) and nonce (low 16 bits) of the dispatch server that
/// controls, compared as one number. The nonce is drawn at random with each block of generations
/// that is reserved, so that two servers do not share an epoch if they come from one backup, from a
/// disk that was rolled back, or from two empty databases.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// In what autonomous servers and terminals send without a request.
    pub const NONE: Self = Self(0);

    /// The epoch of a term and a generation, with nonce 0.
    pub const fn new(term: u32, generation: u16) -> Self {
        Self((term as u64) << 32 | (generation as u64) << 16)
    }

    /// The same term and generation under another nonce.
    pub const fn with_nonce(self, nonce: u16) -> Self {
        Self(self.0 & !0xFFFF | nonce as u64)
    }

    /// Bits 32 to 63.
    pub const fn term(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Whether a server of this term may be given one above it. An epoch that is further above than
    /// terms can have been counted is forged or damaged: a server that passed it would have no
    /// terms left.
    pub const fn is_passable(self, term: u32) -> bool {
        self.term() <= term.saturating_add(limits::TERMS_PASSED_MAX)
    }

    /// Bits 16 to 31: each engine that takes over has a higher one.
    pub const fn generation(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Bits 0 to 15: drawn at random for each block of generations.
    pub const fn nonce(self) -> u16 {
        self.0 as u16
    }
}

/// Term and generation in decimal, the nonce in hexadecimal: `3.7.beef`.
impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{:04x}", self.term(), self.generation(), self.nonce())
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {self}")
    }
}

/// The header's own flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlagsHeader(pub u8);

impl FlagsHeader {
    /// A REPORT or REPORT_INFO asks for an answer of its own at once.
    pub const ACK_NOW: Self = Self(1);
    /// An error answer to an opcode or version that is not known.
    pub const ANSWER: Self = Self(1 << 7);

    /// Whether all of `other` is set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What both payloads begin with. Version and opcode are read separately: see
/// [`super::Frame::header`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// 0 in requests; see [`Status`].
    pub status: u8,
    /// ACK_NOW, ANSWER.
    pub flags: FlagsHeader,
    /// Echoed by the answer.
    pub transaction: Transaction,
    /// Of the dispatch server that controls.
    pub epoch: Epoch,
    /// [`MeetingId::NONE`] if the frame concerns no single meeting.
    pub meeting: MeetingId,
}

impl Header {
    /// A request's header, without flags.
    pub const fn request(transaction: Transaction, epoch: Epoch, meeting: MeetingId) -> Self {
        Self { status: 0, flags: FlagsHeader(0), transaction, epoch, meeting }
    }

    /// The header of the answer to this request.
    pub const fn answer(self, status: Status) -> Self {
        Self { status: status.wire(), flags: FlagsHeader(0), ..self }
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct HeaderBytes {
    pub version: u8,
    pub opcode: u8,
    pub status: u8,
    pub flags: u8,
    pub transaction: U32,
    pub epoch: U64,
    pub meeting: U64,
}

impl HeaderBytes {
    pub fn new(opcode: u8, header: &Header) -> Self {
        Self {
            version: VERSION,
            opcode,
            status: header.status,
            flags: header.flags.0,
            transaction: U32::new(header.transaction.0),
            epoch: U64::new(header.epoch.0),
            meeting: U64::new(header.meeting.0),
        }
    }

    pub fn header(&self) -> Header {
        Header {
            status: self.status,
            flags: FlagsHeader(self.flags),
            transaction: Transaction(self.transaction.get()),
            epoch: Epoch(self.epoch.get()),
            meeting: MeetingId(self.meeting.get()),
        }
    }
}
