//! TerminalState, the only record of variable length: it ends with additional information.

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::malformed::Malformed;
use super::page::{PAGE_BYTES, Record};
use super::{Address, Business, Decode, Flags, Info, MeetingId, Role, StreamKind};
use crate::limits::INFO_BYTES_MAX;

/// STATE, REPORT_INFO and INFO_SET: one terminal's state, with additional information of up to 64
/// bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are those of docs/wire.md's TerminalState")]
pub struct TerminalState {
    /// The meeting that it is in; [`MeetingId::NONE`] where it is in none.
    pub meeting: MeetingId,
    pub terminal: Address,
    pub version: u32,
    pub business: Business,
    pub decode: Decode,
    pub role: Role,
    pub flags: Flags,
    pub channel: u8,
    pub stream: StreamKind,
    pub info: Info,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct TerminalStateBytes {
    meeting: U64,
    terminal: U64,
    version: U32,
    business: u8,
    decode: u8,
    role: u8,
    flags: u8,
    channel: u8,
    stream: u8,
    info_len: U16,
    zero: [u8; 4],
}

const _: () = assert!(size_of::<TerminalStateBytes>() == 32);

impl TerminalStateBytes {
    fn state(&self, info: Info) -> Result<TerminalState, Malformed> {
        Ok(TerminalState {
            meeting: MeetingId(self.meeting.get()),
            terminal: Address::from_number(self.terminal.get()),
            version: self.version.get(),
            business: Business::from_wire(self.business).ok_or(Malformed::Value)?,
            decode: Decode::from_wire(self.decode).ok_or(Malformed::Value)?,
            role: Role::from_wire(self.role).ok_or(Malformed::Value)?,
            flags: Flags(self.flags),
            channel: self.channel,
            stream: StreamKind::from_wire(self.stream).ok_or(Malformed::Value)?,
            info,
        })
    }
}

impl Record for TerminalState {
    const BYTES: Option<usize> = None;
    const PER_PAGE: usize = PAGE_BYTES / (32 + INFO_BYTES_MAX);

    fn read(bytes: &[u8]) -> Result<(Result<Self, Malformed>, &[u8]), Malformed> {
        let (l, rest) = TerminalStateBytes::ref_from_prefix(bytes).map_err(|_| Malformed::Record)?;
        let info_len = usize::from(l.info_len.get());
        if info_len > INFO_BYTES_MAX {
            return Err(Malformed::Record);
        }
        let (info_bytes, rest) = rest.split_at_checked(info_len.next_multiple_of(8)).ok_or(Malformed::Record)?;
        Ok((l.state(Info::new(&info_bytes[..info_len])), rest))
    }

    fn write(&self, bytes: &mut [u8]) -> Option<usize> {
        let info = &self.info;
        let head = TerminalStateBytes {
            meeting: U64::new(self.meeting.0),
            terminal: U64::new(self.terminal.number()),
            version: U32::new(self.version),
            business: self.business.wire(),
            decode: self.decode.wire(),
            role: self.role.wire(),
            flags: self.flags.0,
            channel: self.channel,
            stream: self.stream.wire(),
            info_len: U16::new(info.len() as u16),
            zero: [0; 4],
        };
        let padded = info.len().next_multiple_of(8);
        let (front, behind) = bytes.get_mut(..32 + padded)?.split_at_mut(32);
        head.write_to(front).ok()?;
        behind[..info.len()].copy_from_slice(info);
        behind[info.len()..].fill(0);
        Some(32 + padded)
    }
}
