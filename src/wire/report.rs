//! REPORT, the frame of the hot path: its body is read in one go, as it lies in the frame.

use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::message::BODY_BYTES;
use super::{Address, Business, Decode, Flags, Info, MeetingId, Role, StreamKind, TerminalState};
use crate::limits::{INFO_BYTES_MAX, INFO_BYTES_SHORT};

/// The body of a REPORT as it lies in the frame.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct ReportBytes {
    terminal: U64,
    version: U32,
    business: u8,
    decode: u8,
    role: u8,
    flags: u8,
    channel: u8,
    stream: u8,
    info: [u8; INFO_BYTES_SHORT],
}

const _: () = assert!(size_of::<ReportBytes>() == BODY_BYTES);

impl ReportBytes {
    /// Terminal and version.
    #[inline(always)]
    pub fn reports_on(&self) -> (Address, u32) {
        (Address::from_number(self.terminal.get()), self.version.get())
    }

    /// The report of a member of this meeting; none if a value is not one of its kind.
    #[inline(always)]
    pub fn report(&self, meeting: MeetingId) -> Option<Report> {
        Some(Report {
            meeting,
            terminal: Address::from_number(self.terminal.get()),
            version: self.version.get(),
            business: Business::from_wire(self.business)?,
            decode: Decode::from_wire(self.decode)?,
            role: Role::from_wire(self.role)?,
            flags: Flags(self.flags),
            channel: self.channel,
            stream: StreamKind::from_wire(self.stream)?,
            info: self.info,
        })
    }
}

/// A REPORT's content: a terminal's state with short information.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are those of docs/wire.md's REPORT")]
pub struct Report {
    /// The meeting that it is a member of; [`MeetingId::NONE`] for the one that it is in.
    pub meeting: MeetingId,
    pub terminal: Address,
    pub version: u32,
    pub business: Business,
    pub decode: Decode,
    pub role: Role,
    pub flags: Flags,
    pub channel: u8,
    pub stream: StreamKind,
    /// Additional information, which ends at its last byte that is not 0.
    pub info: [u8; INFO_BYTES_SHORT],
}

impl Report {
    /// Bytes of the information up to the last that is not 0.
    #[inline]
    pub fn info_len(&self) -> u8 {
        let [a, b, c, d, e, f] = self.info;
        8 - u64::from_le_bytes([a, b, c, d, e, f, 0, 0]).leading_zeros() as u8 / 8
    }
}

impl From<&Report> for TerminalState {
    fn from(report: &Report) -> Self {
        let mut info = [0; INFO_BYTES_MAX];
        info[..INFO_BYTES_SHORT].copy_from_slice(&report.info);
        let Report { meeting, terminal, version, business, decode, role, flags, channel, stream, .. } = *report;
        let info = Info::of_padded(info, report.info_len());
        Self { meeting, terminal, version, business, decode, role, flags, channel, stream, info }
    }
}
