//! TerminalState, the one record whose length varies: with its additional information.

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::malformed::Malformed;
use super::records::{PAGE_BYTES, Record};
use super::{Address, Business, Decode, Flags, MeetingId, Role, StreamKind};
use crate::limits::INFO_BYTES_MAX;

/// STATE, REPORT_INFO and INFO_SET: one terminal's state, with additional information of up to 64
/// bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TerminalState {
    /// The meeting that it is in; [`MeetingId::NONE`] where it is in none.
    pub meeting: MeetingId,
    /// Whose state.
    pub terminal: Address,
    /// Counts the terminal's changes.
    pub version: u32,
    /// What it is busy with.
    pub business: Business,
    /// What its decoder does.
    pub decode: Decode,
    /// Its part in the conference.
    pub role: Role,
    /// Muted, hand raised and so on.
    pub flags: Flags,
    /// The channel that it decodes on.
    pub channel: u8,
    /// Which stream it takes.
    pub stream: StreamKind,
    /// Bytes of `info` that count, at most 64.
    pub info_len: u8,
    /// Additional information; zero behind `info_len`.
    pub info: [u8; INFO_BYTES_MAX],
}

impl TerminalState {
    /// The additional information.
    pub fn info(&self) -> &[u8] {
        &self.info[..usize::from(self.info_len).min(INFO_BYTES_MAX)]
    }
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
        let mut info = [0; INFO_BYTES_MAX];
        info[..info_len].copy_from_slice(&info_bytes[..info_len]);
        let state = || {
            Ok(Self {
                meeting: MeetingId(l.meeting.get()),
                terminal: Address::from_number(l.terminal.get()),
                version: l.version.get(),
                business: Business::from_wire(l.business).ok_or(Malformed::Value)?,
                decode: Decode::from_wire(l.decode).ok_or(Malformed::Value)?,
                role: Role::from_wire(l.role).ok_or(Malformed::Value)?,
                flags: Flags(l.flags),
                channel: l.channel,
                stream: StreamKind::from_wire(l.stream).ok_or(Malformed::Value)?,
                info_len: info_len as u8,
                info,
            })
        };
        Ok((state(), rest))
    }

    fn write(&self, bytes: &mut [u8]) -> Option<usize> {
        let info = self.info();
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
