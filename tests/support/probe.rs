//! Frames that a test tells apart.

use baton::wire::{
    DEFAULT_ETHERTYPE, Envelope, Epoch, FlagsHeader, Frame, Header, Key, Mac, MeetingId, Message, Transaction,
    encode_message,
};

/// A probe of a meeting, by whose number it is told from others.
pub fn write(buffer: &mut [u8], meeting: u64, sequence: u64) -> usize {
    let macs = (Mac([0xff; 6]), Mac([2, 0, 0, 0, 0, 1]));
    write_between(buffer, macs, ("1/0", "2/1"), (meeting, sequence))
}

/// A probe that a dispatch server at 1/65535 answers: to a MAC address from another, from this V2V
/// address.
pub fn write_to_server(buffer: &mut [u8], macs: (Mac, Mac), from: &str, (meeting, sequence): (u64, u64)) -> usize {
    write_between(buffer, macs, ("1/65535", from), (meeting, sequence))
}

fn write_between(
    buffer: &mut [u8],
    (dst_mac, src_mac): (Mac, Mac),
    (to, from): (&str, &str),
    (meeting, sequence): (u64, u64),
) -> usize {
    let (to, from) = (to.parse().unwrap(), from.parse().unwrap());
    let envelope = Envelope { dst_mac, src_mac, vlan: None, ethertype: DEFAULT_ETHERTYPE, to, from, label: None };
    let header = Header {
        status: 0,
        flags: FlagsHeader::default(),
        transaction: Transaction(sequence as u32),
        epoch: Epoch::default(),
        meeting: MeetingId(meeting),
    };
    encode_message(buffer, &envelope, &header, &Message::Probe { sent_ns: 0, sequence }, &Key::Unauthenticated)
}

/// Meeting and sequence of such a frame.
pub fn read(bytes: &[u8]) -> (u64, u64) {
    let frame = Frame::parse(bytes, DEFAULT_ETHERTYPE).expect("only V2V frames are steered here");
    match frame.message() {
        Ok(Message::Probe { sequence, .. }) => (frame.header().meeting.0, sequence),
        other => panic!("only probes are sent here, not {other:?}"),
    }
}
