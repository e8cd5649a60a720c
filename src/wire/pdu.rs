//! The protocol data unit: the 24 bytes that both payloads begin with, the opcodes, and the bodies of protocol payloads.
//!
//! ```text
//! 0         1        2        3       4              8            16            24
//! │ version │ opcode │ status │ flags │ transaction  │ epoch (8)  │ meeting (8) │ body 24 (protocol) │ tag 16 │
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};
use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::frame::Malformed;
use super::{Address, Domain, MeetingId};
use crate::limits::INFO_BYTES_SHORT;

/// The version that this implementation speaks.
pub(super) const VERSION: u8 = 2;
/// Bytes of the body of a protocol payload.
pub(super) const BODY_BYTES: usize = 24;

/// An enumeration of the wire: closed, so that a value of another version is [`Malformed`] and never guessed at.
macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $value:literal $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum $name { $(#[doc = $text] $(#[$vdoc])* #[serde(rename = $text)] $variant = $value,)* }

        impl $name {
            /// Every value, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The value with this number on the wire.
            pub const fn from_wire(number: u8) -> Option<Self> {
                match number { $($value => Some(Self::$variant),)* _ => None }
            }

            /// Its number on the wire.
            pub const fn wire(self) -> u8 {
                self as u8
            }

            /// Its name, as people read and type it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|value| value.name() == text).ok_or_else(|| {
                    let known: Vec<_> = Self::ALL.iter().map(|value| value.name()).collect();
                    format!("`{text}` is none of: {}", known.join(", "))
                })
            }
        }
    };
}

wire_enum! {
    /// What a frame asks or answers. D the dispatch server, A an autonomous server, T a terminal.
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

    /// The opcode that properly answers this request; none where it is an answer itself or is answered by nothing.
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

wire_enum! {
    /// What an answer says of its request.
    Status {
        Ok = 0 "ok",
        UnknownMeeting = 1 "unknown meeting",
        /// The body bears the highest epoch seen.
        StaleEpoch = 2 "stale epoch",
        /// Never sent; counted.
        Unauthentic = 3 "unauthentic",
        /// The body bears the nanoseconds after which to ask again.
        Busy = 4 "busy",
        Malformed = 5 "malformed",
        UnsupportedVersion = 6 "unsupported version",
        /// As OK: it was so before.
        Already = 7 "already",
        Capacity = 8 "capacity",
        UnknownTerminal = 9 "unknown terminal",
        /// A meeting of a higher level has the terminal.
        Conflict = 10 "conflict",
    }
}

impl Status {
    /// Whether what was asked for is so now.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Ok | Self::Already)
    }
}

wire_enum! {
    /// The state of a meeting, or of its part in one domain.
    MeetingState {
        None = 0 "none",
        Prepared = 1 "prepared",
        Starting = 2 "starting",
        InMeeting = 3 "in meeting",
        Recovering = 4 "recovering",
        Ending = 5 "ending",
        Ended = 6 "ended",
        /// We hold it, the autonomous server does not.
        Missing = 7 "missing",
    }
}

wire_enum! {
    /// What a terminal is busy with.
    Business {
        Idle = 0 "idle",
        Invited = 1 "invited",
        InMeeting = 2 "in meeting",
        Left = 3 "left",
        LiveBroadcast = 4 "live broadcast",
        OnDemand = 5 "on demand",
        Offline = 6 "offline",
        Fault = 7 "fault",
    }
}

wire_enum! {
    /// What a terminal's decoder does.
    Decode {
        Stopped = 0 "stopped",
        Starting = 1 "starting",
        Decoding = 2 "decoding",
        Stalled = 3 "stalled",
        Failed = 4 "failed",
    }
}

wire_enum! {
    /// A member's part in a conference.
    Role {
        Participant = 0 "participant",
        Chairman = 1 "chairman",
        SpeakerOne = 2 "speaker one",
        SpeakerTwo = 3 "speaker two",
        SpeakerThree = 4 "speaker three",
    }
}

wire_enum! {
    /// Which of a terminal's streams.
    StreamKind {
        Sub = 0 "sub",
        Main = 1 "main",
    }
}

/// A terminal's flags: bit 0 muted, 1 hand raised, 2 recording, 3 online, 4 auxiliary stream, 5 has audio.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Flags(pub u8);

impl Flags {
    /// Muted.
    pub const MUTED: Self = Self(1);
    /// Hand raised.
    pub const HAND_RAISED: Self = Self(1 << 1);
    /// Recording.
    pub const RECORDING: Self = Self(1 << 2);
    /// Online.
    pub const ONLINE: Self = Self(1 << 3);
    /// Sends an auxiliary stream.
    pub const AUXILIARY: Self = Self(1 << 4);
    /// Has audio.
    pub const AUDIO: Self = Self(1 << 5);
    /// Each flag with its name.
    pub const NAMES: [(Self, &'static str); 6] = [
        (Self::MUTED, "muted"),
        (Self::HAND_RAISED, "hand raised"),
        (Self::RECORDING, "recording"),
        (Self::ONLINE, "online"),
        (Self::AUXILIARY, "auxiliary"),
        (Self::AUDIO, "audio"),
    ];

    /// These flags with the bits of `mask` replaced by those of `value`.
    pub const fn with(self, mask: Self, value: Self) -> Self {
        Self(self.0 & !mask.0 | value.0 & mask.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> =
            Self::NAMES.iter().filter(|(flag, _)| self.0 & flag.0 != 0).map(|&(_, name)| name).collect();
        write!(f, "Flags({})", names.join("|"))
    }
}

/// The number of windows on the screen: 1 to 13, 16 or 64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Layout(u8);

impl Layout {
    /// The layout of this many windows.
    pub const fn new(windows: u8) -> Option<Self> {
        if matches!(windows, 1..=13 | 16 | 64) { Some(Self(windows)) } else { None }
    }

    /// How many windows.
    pub const fn windows(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Layout {
    type Error = String;

    fn try_from(windows: u8) -> Result<Self, String> {
        Self::new(windows).ok_or_else(|| format!("{windows} windows is not a layout: 1 to 13, 16 or 64"))
    }
}

impl From<Layout> for u8 {
    fn from(layout: Layout) -> u8 {
        layout.0
    }
}

/// A meeting's level, 1 (highest) to 5.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Level(u8);

impl Level {
    /// The highest.
    pub const HIGHEST: Self = Self(1);
    /// The lowest.
    pub const LOWEST: Self = Self(5);

    /// The level of this number.
    pub const fn new(number: u8) -> Option<Self> {
        if matches!(number, 1..=5) { Some(Self(number)) } else { None }
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Level {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        Self::new(number).ok_or_else(|| format!("{number} is not a level: 1 (highest) to 5"))
    }
}

impl From<Level> for u8 {
    fn from(level: Level) -> u8 {
        level.0
    }
}

/// Term (high 32 bits) and generation (low 32 bits) of the dispatch server that controls, compared as one number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// What autonomous servers and terminals send unasked bears this.
    pub const NONE: Self = Self(0);

    /// The epoch of a term and a generation.
    pub const fn new(term: u32, generation: u32) -> Self {
        Self((term as u64) << 32 | generation as u64)
    }

    /// Its term.
    pub const fn term(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Its generation.
    pub const fn generation(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term(), self.generation())
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {self}")
    }
}

/// Chosen by whoever asks, echoed by whoever answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Transaction(pub u32);

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

/// What both payloads begin with. Version and opcode are apart: see [`super::Frame::header`].
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
    /// [`MeetingId::NONE`] where none is meant.
    pub meeting: MeetingId,
}

impl Header {
    /// A request's header.
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

/// The body of a protocol payload, by its opcode. The meeting is the header's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are the rows of wire.md's table of opcodes, under its names")]
pub enum Message {
    /// D→A: `window` takeover pages D wants outstanding.
    Connect {
        window: u16,
    },
    ConnectAck {
        highest_epoch: Epoch,
        boot_generation: u32,
        held: u32,
        window: u16,
    },
    Heartbeat {
        sent_ns: u64,
    },
    HeartbeatAck {
        sent_ns: u64,
        held: u32,
    },
    /// Meetings from `first` on, by ascending id.
    InfoQuery {
        first: MeetingId,
    },
    Takeover {
        version: u64,
    },
    TakeoverAck {
        version: u64,
        state: MeetingState,
        level: Level,
        participants: u16,
    },
    /// The header's meeting, or all that D controls.
    StateQuery,
    ReplayDone {
        count: u32,
        digest: u64,
    },
    Audit {
        count: u32,
        digest: u64,
    },
    MeetingStart {
        level: Level,
        layout: Layout,
        chairman: Address,
        participants: u16,
    },
    MemberAdd {
        terminal: Address,
        role: Role,
    },
    MemberRemove {
        terminal: Address,
    },
    RoleSet {
        terminal: Address,
        role: Role,
    },
    LayoutSet {
        layout: Layout,
    },
    FlagsSet {
        terminal: Address,
        mask: Flags,
        value: Flags,
    },
    MeetingEnd {
        reason: u8,
    },
    /// `window` from 0; 255 none.
    WindowSet {
        terminal: Address,
        window: u8,
    },
    StreamSet {
        terminal: Address,
        stream: StreamKind,
        channel: u8,
    },
    MemberCall {
        terminal: Address,
    },
    TerminalRelease {
        terminal: Address,
    },
    /// The answer to a change of a whole meeting (START, LAYOUT_SET, END): `opcode` is the answer's.
    MeetingAck {
        opcode: Opcode,
        version: u64,
    },
    /// The answer to a change of one member: `opcode` is the answer's.
    MemberAck {
        opcode: Opcode,
        version: u64,
        terminal: Address,
    },
    Report {
        terminal: Address,
        version: u32,
        business: Business,
        decode: Decode,
        role: Role,
        flags: Flags,
        channel: u8,
        stream: StreamKind,
        info: [u8; INFO_BYTES_SHORT],
    },
    ReportAck {
        terminal: Address,
        version: u32,
    },
    ReportInfoAck {
        terminal: Address,
        version: u32,
    },
    TopologyQuery,
    /// `next` none: remove the path.
    PathSet {
        label_in: u16,
        label_out: u16,
        next: Option<Domain>,
    },
    PathSetAck {
        label_in: u16,
    },
    Probe {
        sent_ns: u64,
        sequence: u64,
    },
    ProbeEcho {
        sent_ns: u64,
        sequence: u64,
    },
    /// An answer whose status is neither OK nor ALREADY: `value` is the highest epoch seen (STALE_EPOCH), the
    /// nanoseconds to wait (BUSY), else 0. `opcode` is the raw one, for it may be one that we do not know.
    Refused {
        opcode: u8,
        status: Status,
        value: u64,
    },
}

impl Message {
    /// Its opcode's number.
    pub const fn opcode(&self) -> u8 {
        let opcode = match self {
            Self::Connect { .. } => Opcode::Connect,
            Self::ConnectAck { .. } => Opcode::ConnectAck,
            Self::Heartbeat { .. } => Opcode::Heartbeat,
            Self::HeartbeatAck { .. } => Opcode::HeartbeatAck,
            Self::InfoQuery { .. } => Opcode::InfoQuery,
            Self::Takeover { .. } => Opcode::Takeover,
            Self::TakeoverAck { .. } => Opcode::TakeoverAck,
            Self::StateQuery => Opcode::StateQuery,
            Self::ReplayDone { .. } => Opcode::ReplayDone,
            Self::Audit { .. } => Opcode::Audit,
            Self::MeetingStart { .. } => Opcode::MeetingStart,
            Self::MemberAdd { .. } => Opcode::MemberAdd,
            Self::MemberRemove { .. } => Opcode::MemberRemove,
            Self::RoleSet { .. } => Opcode::RoleSet,
            Self::LayoutSet { .. } => Opcode::LayoutSet,
            Self::FlagsSet { .. } => Opcode::FlagsSet,
            Self::MeetingEnd { .. } => Opcode::MeetingEnd,
            Self::WindowSet { .. } => Opcode::WindowSet,
            Self::StreamSet { .. } => Opcode::StreamSet,
            Self::MemberCall { .. } => Opcode::MemberCall,
            Self::TerminalRelease { .. } => Opcode::TerminalRelease,
            Self::MeetingAck { opcode, .. } | Self::MemberAck { opcode, .. } => *opcode,
            Self::Report { .. } => Opcode::Report,
            Self::ReportAck { .. } => Opcode::ReportAck,
            Self::ReportInfoAck { .. } => Opcode::ReportInfoAck,
            Self::TopologyQuery => Opcode::TopologyQuery,
            Self::PathSet { .. } => Opcode::PathSet,
            Self::PathSetAck { .. } => Opcode::PathSetAck,
            Self::Probe { .. } => Opcode::Probe,
            Self::ProbeEcho { .. } => Opcode::ProbeEcho,
            Self::Refused { opcode, .. } => return *opcode,
        };
        opcode.wire()
    }

    /// Reads a body. Unused bytes are ignored.
    pub(super) fn read(opcode: Opcode, status: u8, body: &[u8; BODY_BYTES]) -> Result<Self, Malformed> {
        let status = Status::from_wire(status).ok_or(Malformed::Value)?;
        if !status.is_success() {
            return Ok(Self::Refused { opcode: opcode.wire(), status, value: u64_at(body, 0) });
        }
        let terminal = Address::from_number(u64_at(body, 0));
        Ok(match opcode {
            Opcode::Connect => Self::Connect { window: u16_at(body, 0) },
            Opcode::ConnectAck => Self::ConnectAck {
                highest_epoch: Epoch(u64_at(body, 0)),
                boot_generation: u32_at(body, 8),
                held: u32_at(body, 12),
                window: u16_at(body, 16),
            },
            Opcode::Heartbeat => Self::Heartbeat { sent_ns: u64_at(body, 0) },
            Opcode::HeartbeatAck => Self::HeartbeatAck { sent_ns: u64_at(body, 0), held: u32_at(body, 8) },
            Opcode::InfoQuery => Self::InfoQuery { first: MeetingId(u64_at(body, 0)) },
            Opcode::Takeover => Self::Takeover { version: u64_at(body, 0) },
            Opcode::TakeoverAck => Self::TakeoverAck {
                version: u64_at(body, 0),
                state: MeetingState::from_wire(body[8]).ok_or(Malformed::Value)?,
                level: Level::new(body[9]).ok_or(Malformed::Value)?,
                participants: u16_at(body, 10),
            },
            Opcode::StateQuery => Self::StateQuery,
            Opcode::ReplayDone => Self::ReplayDone { count: u32_at(body, 0), digest: u64_at(body, 4) },
            Opcode::Audit => Self::Audit { count: u32_at(body, 0), digest: u64_at(body, 4) },
            Opcode::MeetingStart => Self::MeetingStart {
                level: Level::new(body[0]).ok_or(Malformed::Value)?,
                layout: Layout::new(body[1]).ok_or(Malformed::Value)?,
                chairman: Address::from_number(u64_at(body, 2)),
                participants: u16_at(body, 10),
            },
            Opcode::MemberAdd => Self::MemberAdd { terminal, role: Role::from_wire(body[8]).ok_or(Malformed::Value)? },
            Opcode::MemberRemove => Self::MemberRemove { terminal },
            Opcode::RoleSet => Self::RoleSet { terminal, role: Role::from_wire(body[8]).ok_or(Malformed::Value)? },
            Opcode::LayoutSet => Self::LayoutSet { layout: Layout::new(body[0]).ok_or(Malformed::Value)? },
            Opcode::FlagsSet => Self::FlagsSet { terminal, mask: Flags(body[8]), value: Flags(body[9]) },
            Opcode::MeetingEnd => Self::MeetingEnd { reason: body[0] },
            Opcode::WindowSet => Self::WindowSet { terminal, window: body[8] },
            Opcode::StreamSet => Self::StreamSet {
                terminal,
                stream: StreamKind::from_wire(body[8]).ok_or(Malformed::Value)?,
                channel: body[9],
            },
            Opcode::MemberCall => Self::MemberCall { terminal },
            Opcode::TerminalRelease => Self::TerminalRelease { terminal },
            Opcode::MeetingStartAck | Opcode::LayoutSetAck | Opcode::MeetingEndAck => {
                Self::MeetingAck { opcode, version: u64_at(body, 0) }
            }
            Opcode::MemberAddAck
            | Opcode::MemberRemoveAck
            | Opcode::RoleSetAck
            | Opcode::FlagsSetAck
            | Opcode::WindowSetAck
            | Opcode::StreamSetAck
            | Opcode::InfoSetAck
            | Opcode::MemberCallAck
            | Opcode::TerminalReleaseAck => {
                let terminal = Address::from_number(u64_at(body, 8));
                Self::MemberAck { opcode, version: u64_at(body, 0), terminal }
            }
            Opcode::Report => Self::Report {
                terminal,
                version: u32_at(body, 8),
                business: Business::from_wire(body[12]).ok_or(Malformed::Value)?,
                decode: Decode::from_wire(body[13]).ok_or(Malformed::Value)?,
                role: Role::from_wire(body[14]).ok_or(Malformed::Value)?,
                flags: Flags(body[15]),
                channel: body[16],
                stream: StreamKind::from_wire(body[17]).ok_or(Malformed::Value)?,
                info: bytes_at(body, 18),
            },
            Opcode::ReportAck => Self::ReportAck { terminal, version: u32_at(body, 8) },
            Opcode::ReportInfoAck => Self::ReportInfoAck { terminal, version: u32_at(body, 8) },
            Opcode::TopologyQuery => Self::TopologyQuery,
            Opcode::PathSet => Self::PathSet {
                label_in: u16_at(body, 0),
                label_out: u16_at(body, 2),
                next: match u64_at(body, 4) {
                    0 => None,
                    number => Some(Domain::new(number).ok_or(Malformed::Value)?),
                },
            },
            Opcode::PathSetAck => Self::PathSetAck { label_in: u16_at(body, 0) },
            Opcode::Probe => Self::Probe { sent_ns: u64_at(body, 0), sequence: u64_at(body, 8) },
            Opcode::ProbeEcho => Self::ProbeEcho { sent_ns: u64_at(body, 0), sequence: u64_at(body, 8) },
            Opcode::Info
            | Opcode::TakeoverBatch
            | Opcode::TakeoverBatchAck
            | Opcode::State
            | Opcode::ReportInfo
            | Opcode::ReportAckBatch
            | Opcode::InfoSet
            | Opcode::Topology => return Err(Malformed::Payload),
        })
    }

    /// The body's bytes, the unused ones zero.
    pub(super) fn body(&self) -> [u8; BODY_BYTES] {
        let mut body = [0; BODY_BYTES];
        let mut rest = &mut body[..];
        let mut put = |bytes: &[u8]| {
            let (head, tail) = std::mem::take(&mut rest).split_at_mut(bytes.len());
            head.copy_from_slice(bytes);
            rest = tail;
        };
        match *self {
            Self::Connect { window } => put(&window.to_be_bytes()),
            Self::ConnectAck { highest_epoch, boot_generation, held, window } => {
                put(&highest_epoch.0.to_be_bytes());
                put(&boot_generation.to_be_bytes());
                put(&held.to_be_bytes());
                put(&window.to_be_bytes());
            }
            Self::Heartbeat { sent_ns } => put(&sent_ns.to_be_bytes()),
            Self::HeartbeatAck { sent_ns, held } => {
                put(&sent_ns.to_be_bytes());
                put(&held.to_be_bytes());
            }
            Self::InfoQuery { first } => put(&first.0.to_be_bytes()),
            Self::Takeover { version } | Self::MeetingAck { version, .. } => put(&version.to_be_bytes()),
            Self::TakeoverAck { version, state, level, participants } => {
                put(&version.to_be_bytes());
                put(&[state.wire(), level.number()]);
                put(&participants.to_be_bytes());
            }
            Self::StateQuery | Self::TopologyQuery => {}
            Self::ReplayDone { count, digest } | Self::Audit { count, digest } => {
                put(&count.to_be_bytes());
                put(&digest.to_be_bytes());
            }
            Self::MeetingStart { level, layout, chairman, participants } => {
                put(&[level.number(), layout.windows()]);
                put(&chairman.number().to_be_bytes());
                put(&participants.to_be_bytes());
            }
            Self::MemberAdd { terminal, role } | Self::RoleSet { terminal, role } => {
                put(&terminal.number().to_be_bytes());
                put(&[role.wire()]);
            }
            Self::MemberRemove { terminal } | Self::MemberCall { terminal } | Self::TerminalRelease { terminal } => {
                put(&terminal.number().to_be_bytes());
            }
            Self::LayoutSet { layout } => put(&[layout.windows()]),
            Self::FlagsSet { terminal, mask, value } => {
                put(&terminal.number().to_be_bytes());
                put(&[mask.0, value.0]);
            }
            Self::MeetingEnd { reason } => put(&[reason]),
            Self::WindowSet { terminal, window } => {
                put(&terminal.number().to_be_bytes());
                put(&[window]);
            }
            Self::StreamSet { terminal, stream, channel } => {
                put(&terminal.number().to_be_bytes());
                put(&[stream.wire(), channel]);
            }
            Self::MemberAck { version, terminal, .. } => {
                put(&version.to_be_bytes());
                put(&terminal.number().to_be_bytes());
            }
            Self::Report { terminal, version, business, decode, role, flags, channel, stream, info } => {
                put(&terminal.number().to_be_bytes());
                put(&version.to_be_bytes());
                put(&[business.wire(), decode.wire(), role.wire(), flags.0, channel, stream.wire()]);
                put(&info);
            }
            Self::ReportAck { terminal, version } | Self::ReportInfoAck { terminal, version } => {
                put(&terminal.number().to_be_bytes());
                put(&version.to_be_bytes());
            }
            Self::PathSet { label_in, label_out, next } => {
                put(&label_in.to_be_bytes());
                put(&label_out.to_be_bytes());
                put(&next.map_or(0, Domain::number).to_be_bytes());
            }
            Self::PathSetAck { label_in } => put(&label_in.to_be_bytes()),
            Self::Probe { sent_ns, sequence } | Self::ProbeEcho { sent_ns, sequence } => {
                put(&sent_ns.to_be_bytes());
                put(&sequence.to_be_bytes());
            }
            Self::Refused { value, .. } => put(&value.to_be_bytes()),
        }
        body
    }
}

/// The bytes of a body from a place that this file's layouts fix.
fn bytes_at<const N: usize>(body: &[u8; BODY_BYTES], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&body[at..at + N]);
    bytes
}

fn u16_at(body: &[u8; BODY_BYTES], at: usize) -> u16 {
    U16::from_bytes(bytes_at(body, at)).get()
}

fn u32_at(body: &[u8; BODY_BYTES], at: usize) -> u32 {
    U32::from_bytes(bytes_at(body, at)).get()
}

fn u64_at(body: &[u8; BODY_BYTES], at: usize) -> u64 {
    U64::from_bytes(bytes_at(body, at)).get()
}
