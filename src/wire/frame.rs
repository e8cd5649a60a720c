//! A frame: Ethernet, V2V addresses, PDU, tag.

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::address::{ADDRESSES_BYTES, LABEL_BYTES};
use super::malformed::Malformed;
use super::page::PAGE_BYTES;
use super::payload::{DATA_BYTES, PacketType, Payload, ProtocolBytes};
use super::pdu::{HeaderBytes, VERSION};
use super::records::PageBytes;
use super::report::ReportBytes;
use super::tag::{Covered, TAG_BYTES};
use super::{Address, FlagsHeader, Header, Key, Mac, Message, Opcode, Page, Record, Report, Status};

/// IEEE local experimental EtherType 1: the setting's default. Deployed devices differ per site.
pub const DEFAULT_ETHERTYPE: u16 = 0x88B5;
const ETHERTYPE_VLAN: u16 = 0x8100;

const ETHERNET_BYTES: usize = 14;
const VLAN_BYTES: usize = 4;
const _: () =
    assert!(crate::limits::FRAME_BYTES_MAX == ETHERNET_BYTES + VLAN_BYTES + ADDRESSES_BYTES + LABEL_BYTES + DATA_BYTES);

/// A frame's addresses, on this Ethernet and in the V2V network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// The next hop, which need not be the device with the address `to`.
    pub dst_mac: Mac,
    /// The last hop, which need not be the device with the address `from`.
    pub src_mac: Mac,
    /// The 802.1Q tag control information with its priority, if there is a tag.
    pub vlan: Option<u16>,
    /// The EtherType of V2V frames at this site.
    pub ethertype: u16,
    /// The packet's destination address (DA).
    pub to: Address,
    /// The packet's source address (SA).
    pub from: Address,
    /// The label, in the metro form.
    pub label: Option<u16>,
}

impl Envelope {
    /// The envelope of the answer: back to the sender's MAC, with the same VLAN tag and label.
    pub const fn reply(&self) -> Self {
        Self { dst_mac: self.src_mac, src_mac: self.dst_mac, to: self.from, from: self.to, ..*self }
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct EthernetBytes {
    dst: [u8; 6],
    src: [u8; 6],
    ethertype: U16,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct VlanBytes {
    tci: U16,
    ethertype: U16,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct AddressBytes {
    to: U64,
    from: U64,
    reserved: [u8; 2],
}

const _: () = assert!(size_of::<AddressBytes>() == ADDRESSES_BYTES);
/// A frame whose packet is complete. None of it may be trusted before [`Self::authentic`] returns
/// true.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    ethernet: &'a EthernetBytes,
    addresses: &'a AddressBytes,
    payload: Payload<'a>,
    ethertype: u16,
    vlan: Option<u16>,
    label: Option<u16>,
}

impl<'a> Frame<'a> {
    /// Finds the packet in the bytes that arrived. Bytes after it (Ethernet's padding) are ignored.
    #[inline(always)]
    pub fn parse(bytes: &'a [u8], ethertype: u16) -> Result<Self, Malformed> {
        let (ethernet, mut rest) = EthernetBytes::ref_from_prefix(bytes).map_err(|_| Malformed::Short)?;
        let mut found = ethernet.ethertype.get();
        let mut vlan = None;
        if found == ETHERTYPE_VLAN {
            let (tag, behind) = VlanBytes::ref_from_prefix(rest).map_err(|_| Malformed::Short)?;
            vlan = Some(tag.tci.get());
            found = tag.ethertype.get();
            rest = behind;
        }
        if found != ethertype {
            return Err(Malformed::EtherType);
        }
        let (addresses, mut payload) = AddressBytes::ref_from_prefix(rest).map_err(|_| Malformed::Short)?;
        let (packet, metro) = PacketType::read(addresses.to.as_bytes()[0]).ok_or(Malformed::PacketType)?;
        let mut label = None;
        if metro {
            let (bytes, behind) = U32::ref_from_prefix(payload).map_err(|_| Malformed::Short)?;
            label = Some(bytes.get() as u16);
            payload = behind;
        }
        let payload = Payload::read(packet, payload)?;
        Ok(Self { ethernet, addresses, payload, ethertype, vlan, label })
    }

    /// Its addresses.
    pub fn envelope(&self) -> Envelope {
        Envelope {
            dst_mac: Mac(self.ethernet.dst),
            src_mac: self.src_mac(),
            vlan: self.vlan,
            ethertype: self.ethertype,
            to: self.to(),
            from: self.from(),
            label: self.label,
        }
    }

    /// The last hop's MAC.
    #[inline]
    pub fn src_mac(&self) -> Mac {
        Mac(self.ethernet.src)
    }

    /// The destination address (DA).
    #[inline]
    pub fn to(&self) -> Address {
        Address::from_number(self.addresses.to.get())
    }

    /// The source address (SA).
    #[inline]
    pub fn from(&self) -> Address {
        Address::from_number(self.addresses.from.get())
    }

    /// As the first header says.
    pub const fn packet_type(&self) -> PacketType {
        self.payload.packet_type()
    }

    /// Whether its tag proves that a holder of the key sent it in the key's direction. Takes
    /// constant time.
    #[must_use]
    #[inline]
    pub fn authentic(&self, key: &Key) -> bool {
        self.bears(key.tag(&self.covered()))
    }

    /// What its tag covers.
    #[inline]
    pub(crate) fn covered(&self) -> Covered<'a> {
        Covered { addresses: zerocopy::transmute_ref!(self.addresses), behind: self.payload.tagged() }
    }

    /// Whether this is its tag. Takes constant time.
    #[must_use]
    #[inline]
    pub(crate) fn bears(&self, tag: [u8; TAG_BYTES]) -> bool {
        let difference = u128::from_ne_bytes(tag) ^ u128::from_ne_bytes(*self.payload.tag());
        std::hint::black_box(difference) == 0
    }

    /// The 24 bytes that both payloads begin with, also of an unknown version or opcode.
    #[inline]
    pub fn header(&self) -> Header {
        self.header_bytes().header()
    }

    /// The opcode's number, known or not.
    #[inline]
    pub fn opcode_raw(&self) -> u8 {
        self.header_bytes().opcode
    }

    /// Terminal and version, if it looks like a REPORT: enough to prefetch what entering it will
    /// touch. Only [`Self::message`] tells that it is a valid one.
    #[inline]
    pub fn reports_on(&self) -> Option<(Address, u32)> {
        Some(self.report_bytes()?.reports_on())
    }

    /// Whether it has a REPORT's opcode, in a REPORT's kind of payload.
    #[inline]
    pub fn looks_like_report(&self) -> bool {
        self.report_bytes().is_some()
    }

    #[inline]
    fn report_bytes(&self) -> Option<&'a ReportBytes> {
        match self.payload {
            Payload::Protocol(ProtocolBytes { header, body, .. }) if header.opcode == Opcode::Report.wire() => {
                Some(zerocopy::transmute_ref!(body))
            }
            _ => None,
        }
    }

    /// The opcode, if version and opcode are known and the payload is of the opcode's kind.
    #[inline(always)]
    pub fn opcode(&self) -> Result<Opcode, Malformed> {
        let header = self.header_bytes();
        if header.version != VERSION {
            return Err(Malformed::Version);
        }
        let opcode = Opcode::from_wire(header.opcode).ok_or(Malformed::Opcode)?;
        match (opcode.is_page(), self.payload) {
            (true, Payload::Unicast(_) | Payload::Multicast(_)) | (false, Payload::Protocol(_)) => Ok(opcode),
            _ if self.is_refusal() => Ok(opcode),
            _ => Err(Malformed::Payload),
        }
    }

    /// Whether its status is a refusal. A refusal has a protocol payload's body and no page, also
    /// if its opcode has a page otherwise (STALE_EPOCH to a TAKEOVER_BATCH); we send it in a
    /// protocol payload, and read it in either.
    fn is_refusal(&self) -> bool {
        Status::from_wire(self.header_bytes().status).is_some_and(|status| !status.is_success())
    }

    /// Whether this is an error answer to an opcode or version that its sender did not know (ANSWER
    /// in `flags`).
    pub fn is_error_answer(&self) -> bool {
        self.header().flags.has(FlagsHeader::ANSWER)
    }

    /// The body of a protocol payload, or of a refusal.
    #[inline]
    pub fn message(&self) -> Result<Message, Malformed> {
        let opcode = self.opcode()?;
        if self.packet_type() != PacketType::Protocol && !self.is_refusal() {
            return Err(Malformed::Payload);
        }
        let body = self.payload.body().first_chunk().ok_or(Malformed::Short)?;
        Message::read(opcode, self.header_bytes().status, body)
    }

    /// A REPORT with its header's meeting, read in one go, for the hot path; [`Self::message`]
    /// reads the same.
    #[inline(always)]
    pub fn report(&self) -> Result<Report, Malformed> {
        let header = self.header_bytes();
        if header.version != VERSION {
            return Err(Malformed::Version);
        }
        let body = self.report_bytes().ok_or(Malformed::Payload)?;
        if !Status::from_wire(header.status).is_some_and(Status::is_success) {
            return Err(Malformed::Value);
        }
        body.report(header.header().meeting).ok_or(Malformed::Value)
    }

    /// The page of a data payload. A refusal has none: see [`Self::message`].
    pub fn page(&self) -> Result<Page<'a>, Malformed> {
        if !self.opcode()?.is_page() || self.packet_type() == PacketType::Protocol || self.is_refusal() {
            return Err(Malformed::Payload);
        }
        Page::parse(self.payload.body())
    }

    #[inline]
    fn header_bytes(&self) -> &'a HeaderBytes {
        self.payload.header()
    }
}

/// Writes a frame with a protocol payload; returns its length.
///
/// # Panics
/// If `buffer` is shorter than [`crate::limits::FRAME_BYTES_MAX`].
pub fn encode_message(buffer: &mut [u8], envelope: &Envelope, header: &Header, message: &Message, key: &Key) -> usize {
    let mut writer = Writer::begin(buffer, envelope, PacketType::Protocol);
    writer.put(HeaderBytes::new(message.opcode(), header).as_bytes());
    writer.put(&message.body());
    writer.finish(key)
}

/// Writes a frame with one page of records, with as many of `records` as fit; returns its length
/// and how many it took.
///
/// # Panics
/// If `buffer` is shorter than [`crate::limits::FRAME_BYTES_MAX`], or the record type is not the
/// opcode's.
pub fn encode_page<R: Record>(
    buffer: &mut [u8],
    envelope: &Envelope,
    opcode: Opcode,
    header: &Header,
    (page, pages): (u16, u16),
    records: impl IntoIterator<Item = R>,
    key: &Key,
) -> (usize, usize) {
    assert!(opcode.is_page(), "{opcode} has no records");
    let mut writer = Writer::begin(buffer, envelope, PacketType::Unicast);
    writer.put(HeaderBytes::new(opcode.wire(), header).as_bytes());
    let mut body = [0; PAGE_BYTES];
    let mut count = 0;
    if let Some(bytes) = R::BYTES {
        for (room, record) in body.chunks_exact_mut(bytes).zip(records) {
            let Some(_) = record.write(room) else { break };
            count += 1;
        }
    } else {
        let mut used = 0;
        for record in records {
            let Some(bytes) = record.write(&mut body[used..]) else { break };
            used += bytes;
            count += 1;
        }
    }
    writer.put(PageBytes::new(page, pages, count as u16, R::BYTES.unwrap_or(0) as u16).as_bytes());
    writer.put(&body);
    (writer.finish(key), count)
}

/// What the tag of a frame that was written here covers. That it was written under another key than
/// it is to be sent by does not matter.
///
/// # Panics
/// If it is not a whole frame.
pub(crate) fn unsealed(frame: &[u8]) -> Covered<'_> {
    let packet = match frame[12..].first_chunk().map(|bytes| u16::from_be_bytes(*bytes)) {
        Some(ETHERTYPE_VLAN) => size_of::<EthernetBytes>() + size_of::<VlanBytes>(),
        _ => size_of::<EthernetBytes>(),
    };
    let covered = &frame[packet..frame.len() - TAG_BYTES];
    let has_label = PacketType::read(covered[0]).is_some_and(|(_, metro)| metro);
    Covered::of(covered, has_label)
}

/// Puts a frame's tag in its place.
///
/// # Panics
/// If it is not a whole frame.
pub(crate) fn seal_with(frame: &mut [u8], tag: [u8; TAG_BYTES]) {
    *frame.last_chunk_mut().expect("a whole frame") = tag;
}

/// Fills a buffer front to back, and adds the tag.
struct Writer<'a> {
    buffer: &'a mut [u8],
    at: usize,
    packet: usize,
    has_label: bool,
}

impl<'a> Writer<'a> {
    fn begin(buffer: &'a mut [u8], envelope: &Envelope, packet: PacketType) -> Self {
        assert!(buffer.len() >= crate::limits::FRAME_BYTES_MAX, "the buffer holds any frame");
        let mut writer = Self { buffer, at: 0, packet: 0, has_label: envelope.label.is_some() };
        writer.put(&envelope.dst_mac.0);
        writer.put(&envelope.src_mac.0);
        if let Some(tci) = envelope.vlan {
            writer.put(&ETHERTYPE_VLAN.to_be_bytes());
            writer.put(&tci.to_be_bytes());
        }
        writer.put(&envelope.ethertype.to_be_bytes());
        writer.packet = writer.at;
        let kind = u64::from(packet.byte(envelope.label.is_some())) << 56;
        writer.put(&(envelope.to.number() | kind).to_be_bytes());
        writer.put(&envelope.from.number().to_be_bytes());
        writer.put(&[0, 0]);
        if let Some(label) = envelope.label {
            writer.put(&u32::from(label).to_be_bytes());
        }
        writer
    }

    fn put(&mut self, bytes: &[u8]) {
        self.buffer[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn finish(mut self, key: &Key) -> usize {
        let tag = key.tag(&Covered::of(&self.buffer[self.packet..self.at], self.has_label));
        self.put(&tag);
        self.at
    }
}
