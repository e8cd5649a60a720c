//! The payload of a packet: its header, a body or a page, and the tag. Its length is its kind's.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::malformed::Malformed;
use super::message::BODY_BYTES;
use super::page::PAGE_BYTES;
use super::pdu::HeaderBytes;
use super::records::PageBytes;
use super::tag::TAG_BYTES;

const HEADER_BYTES: usize = 24;
const PROTOCOL_BYTES: usize = HEADER_BYTES + BODY_BYTES + TAG_BYTES;
pub(super) const DATA_BYTES: usize = HEADER_BYTES + size_of::<PageBytes>() + PAGE_BYTES + TAG_BYTES;
const _: () = assert!(size_of::<HeaderBytes>() == HEADER_BYTES);
const _: () = assert!(PROTOCOL_BYTES == 64 && DATA_BYTES == 32 + 1024);
const _: () = assert!(size_of::<ProtocolBytes>() == PROTOCOL_BYTES && size_of::<DataBytes>() == DATA_BYTES);

/// The low seven bits of the type byte. The high one says metro, that is, whether there is a label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PacketType {
    /// 64 bytes of payload.
    Protocol,
    /// 1056 bytes of payload, to one.
    Unicast,
    /// 1056 bytes of payload, to many.
    Multicast,
}

impl PacketType {
    const METRO: u8 = 0x80;

    pub(super) fn read(byte: u8) -> Option<(Self, bool)> {
        let packet = match byte & !Self::METRO {
            1 => Self::Protocol,
            2 => Self::Unicast,
            3 => Self::Multicast,
            _ => return None,
        };
        Some((packet, byte & Self::METRO != 0))
    }

    pub(super) fn byte(self, metro: bool) -> u8 {
        let kind = match self {
            Self::Protocol => 1,
            Self::Unicast => 2,
            Self::Multicast => 3,
        };
        if metro { kind | Self::METRO } else { kind }
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct ProtocolBytes {
    pub header: HeaderBytes,
    pub body: [u8; BODY_BYTES],
    pub tag: [u8; TAG_BYTES],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct DataBytes {
    pub header: HeaderBytes,
    pub page: [u8; size_of::<PageBytes>() + PAGE_BYTES],
    pub tag: [u8; TAG_BYTES],
}

/// A payload, as long as its kind is.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    Protocol(&'a ProtocolBytes),
    Unicast(&'a DataBytes),
    Multicast(&'a DataBytes),
}

impl<'a> Payload<'a> {
    #[inline(always)]
    pub fn read(packet: PacketType, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let data = || DataBytes::ref_from_prefix(bytes).map(|(data, _)| data).map_err(|_| Malformed::Short);
        match packet {
            PacketType::Protocol => {
                ProtocolBytes::ref_from_prefix(bytes).map(|(it, _)| Self::Protocol(it)).map_err(|_| Malformed::Short)
            }
            PacketType::Unicast => data().map(Self::Unicast),
            PacketType::Multicast => data().map(Self::Multicast),
        }
    }

    #[inline]
    pub fn header(self) -> &'a HeaderBytes {
        match self {
            Self::Protocol(ProtocolBytes { header, .. }) => header,
            Self::Unicast(DataBytes { header, .. }) | Self::Multicast(DataBytes { header, .. }) => header,
        }
    }

    /// What is between header and tag.
    #[inline]
    pub fn body(self) -> &'a [u8] {
        match self {
            Self::Protocol(ProtocolBytes { body, .. }) => body,
            Self::Unicast(DataBytes { page, .. }) | Self::Multicast(DataBytes { page, .. }) => page,
        }
    }

    #[inline]
    pub fn tag(self) -> &'a [u8; TAG_BYTES] {
        match self {
            Self::Protocol(ProtocolBytes { tag, .. }) => tag,
            Self::Unicast(DataBytes { tag, .. }) | Self::Multicast(DataBytes { tag, .. }) => tag,
        }
    }

    /// All but the tag.
    #[inline]
    pub fn tagged(self) -> &'a [u8] {
        match self {
            Self::Protocol(it) => &it.as_bytes()[..PROTOCOL_BYTES - TAG_BYTES],
            Self::Unicast(it) | Self::Multicast(it) => &it.as_bytes()[..DATA_BYTES - TAG_BYTES],
        }
    }

    #[inline]
    pub const fn packet_type(self) -> PacketType {
        match self {
            Self::Protocol(_) => PacketType::Protocol,
            Self::Unicast(_) => PacketType::Unicast,
            Self::Multicast(_) => PacketType::Multicast,
        }
    }
}
