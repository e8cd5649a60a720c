//! Probes of the kernel's packet generator: the payload of a UDP datagram.
//!
//! ```text
//! 0                4                8             12                  16
//! │ magic be9be955 │ sequence (u32) │ seconds u32 │ microseconds u32  │ other bytes
//! ```
//!
//! Read as a V2V packet, the magic's first byte is the packet type `0xBE`, so both kinds of frame
//! can share a ring.

use std::time::Duration;

use zerocopy::byteorder::big_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::malformed::Malformed;

/// One probe. Loss, order and delay are computed from these.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GeneratorProbe {
    /// Counts the generator's frames, and wraps.
    pub sequence: u32,
    /// The generator's wall clock (`CLOCK_REALTIME`) as it sent, since 1970.
    pub sent: Duration,
}

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct ProbeBytes {
    magic: [u8; 4],
    sequence: U32,
    seconds: U32,
    microseconds: U32,
}

impl GeneratorProbe {
    /// The first word of the generator's payloads.
    pub const MAGIC: [u8; 4] = [0xBE, 0x9B, 0xE9, 0x55];

    /// The probe in an Ethernet frame, as steering takes it from the interface: IPv4, and UDP to
    /// this port. None for any other frame.
    pub fn in_frame(frame: &[u8], port: u16) -> Option<Self> {
        const TAGGED: [u8; 2] = [0x81, 0x00];
        const IPV4: [u8; 2] = [0x08, 0x00];
        const UDP: u8 = 17;
        let ethertype = if frame.get(12..14)? == TAGGED { 16 } else { 12 };
        let ip = frame.get(ethertype..)?.strip_prefix(&IPV4)?;
        let (version, words) = (ip.first()? >> 4, ip.first()? & 0xF);
        let udp = ip.get(usize::from(words) * 4..)?;
        let meant = version == 4 && *ip.get(9)? == UDP && udp.get(2..4)? == port.to_be_bytes();
        Self::parse(udp.get(8..)?).ok().filter(|_| meant)
    }

    /// Reads the payload of a UDP datagram: [`Malformed::PacketType`] if it does not have the
    /// magic, and [`Malformed::Value`] if its microseconds are a second or more.
    ///
    /// ```
    /// use baton::wire::GeneratorProbe;
    ///
    /// let payload = [0xbe, 0x9b, 0xe9, 0x55, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0, 9];
    /// let probe = GeneratorProbe::parse(&payload).unwrap();
    /// assert_eq!(probe.sequence, 7);
    /// assert_eq!(probe.sent.as_micros(), 2_000_009);
    /// ```
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let (probe, _) = ProbeBytes::ref_from_prefix(payload).map_err(|_| Malformed::Short)?;
        if probe.magic != Self::MAGIC {
            return Err(Malformed::PacketType);
        }
        let microseconds = probe.microseconds.get();
        if microseconds >= 1_000_000 {
            return Err(Malformed::Value);
        }
        Ok(Self {
            sequence: probe.sequence.get(),
            sent: Duration::new(probe.seconds.get().into(), microseconds * 1000),
        })
    }
}
