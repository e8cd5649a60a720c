//! The bodies of protocol payloads: 24 bytes after the header, fields front to back without gaps.

use zerocopy::byteorder::big_endian::{U16, U32, U64};

use super::malformed::Malformed;
use super::{
    Address, Business, Decode, Domain, Epoch, Flags, Layout, Level, MeetingId, MeetingState, Opcode, Role, Run, Status,
    StreamKind,
};
use crate::limits::INFO_BYTES_SHORT;

/// Bytes of the body of a protocol payload.
pub(super) const BODY_BYTES: usize = 24;

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
    /// `boot_generation` is the low 16 bits of CONNECT_ACK's. `age` counts from the last authentic
    /// frame under that epoch, in 0.1 ms, 65535 for more. These three and `highest_epoch` are 0 in
    /// D's answers.
    HeartbeatAck {
        sent_ns: u64,
        held: u32,
        boot_generation: u16,
        age: u16,
        highest_epoch: Epoch,
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
        run: Run,
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
    /// The answer to a change of a whole meeting (START, LAYOUT_SET, END): `opcode` is the
    /// answer's.
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
    /// An answer whose status is neither OK nor ALREADY: `value` is the highest epoch seen
    /// (STALE_EPOCH), the nanoseconds to wait (BUSY), else 0. `opcode` is the raw number, because
    /// we may not know it.
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
            Opcode::HeartbeatAck => Self::HeartbeatAck {
                sent_ns: u64_at(body, 0),
                held: u32_at(body, 8),
                boot_generation: u16_at(body, 12),
                age: u16_at(body, 14),
                highest_epoch: Epoch(u64_at(body, 16)),
            },
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
                run: Run(u64_at(body, 12)),
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
            Self::HeartbeatAck { sent_ns, held, boot_generation, age, highest_epoch } => {
                put(&sent_ns.to_be_bytes());
                put(&held.to_be_bytes());
                put(&boot_generation.to_be_bytes());
                put(&age.to_be_bytes());
                put(&highest_epoch.0.to_be_bytes());
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
            Self::MeetingStart { level, layout, chairman, participants, run } => {
                put(&[level.number(), layout.windows()]);
                put(&chairman.number().to_be_bytes());
                put(&participants.to_be_bytes());
                put(&run.0.to_be_bytes());
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

/// The bytes of a body at an offset, which this file's layouts keep within it.
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
