//! Frames that a test tells apart.

use baton::wire::{
    DEFAULT_ETHERTYPE, Envelope, Epoch, FlagsHeader, Frame, Header, Key, Mac, MeetingId, Message, Transaction,
    encode_message,
};

/// A probe of a meeting, by whose number it is told from others.
pub fn write(buffer: &mut [u8], meeting: u64, sequence: u64) -> usize {
    let envelope = Envelope {
        dst_mac: Mac([0xff; 6]),
        src_mac: Mac([2, 0, 0, 0, 0, 1]),
        vlan: None,
        ethertype: DEFAULT_ETHERTYPE,
        to: "1/0".parse().unwrap(),
        from: "2/1".parse().unwrap(),
        label: None,
    };
    let header = Header {
        status: 0,
        flags: FlagsHeader::default(),
        transaction: Transaction(sequence as u32),
        epoch: Epoch::default(),
        meeting: MeetingId(meeting),
    };
    encode_message(buffer, &envelope, &header, &Message::Probe { sent_ns: 0, sequence }, &Key::Laboratory)
}

/// Meeting and sequence of such a frame.
pub fn read(bytes: &[u8]) -> (u64, u64) {
    let frame = Frame::parse(bytes, DEFAULT_ETHERTYPE).expect("only V2V frames are steered here");
    match frame.message() {
        Ok(Message::Probe { sequence, .. }) => (frame.header().meeting.0, sequence),
        other => panic!("only probes are sent here, not {other:?}"),
    }
}
