//! Every frame of `tests/vectors/wire.json`: each field that the file states is checked, and a good
//! frame's types make the same bytes again.

use serde_json::{Map, Value};

use super::super::*;
use crate::limits::FRAME_BYTES_MAX;

struct Vectors {
    file: Map<String, Value>,
    ethertype: u16,
}

/// One frame of the file, and what the file says of it.
struct Vector {
    name: String,
    bytes: Vec<u8>,
    fields: Map<String, Value>,
}

impl Vectors {
    fn read() -> Self {
        let file = serde_json::from_str(include_str!("../../../tests/vectors/wire.json")).unwrap();
        let Value::Object(file) = file else { panic!("the vectors are an object") };
        let ethertype = file["ethertype"].as_u64().unwrap() as u16;
        Self { file, ethertype }
    }

    fn list(&self, kind: &str) -> Vec<Vector> {
        let frames = self.file[kind].as_array().unwrap();
        frames
            .iter()
            .map(|frame| {
                let mut fields = frame.as_object().unwrap().clone();
                let name = fields.remove("name").unwrap().as_str().unwrap().to_owned();
                let bytes = hex(fields.remove("frame").unwrap().as_str().unwrap());
                fields.remove("why");
                Vector { name, bytes, fields }
            })
            .collect()
    }

    fn named(&self, name: &str) -> Vec<u8> {
        self.list("good").into_iter().find(|vector| vector.name == name).unwrap().bytes
    }

    fn address(&self, who: &str) -> Address {
        Address::from_number(self.file[who].as_u64().unwrap())
    }

    fn key(&self, direction: Direction) -> Key {
        let secret = Secret(hex(self.file["secret"].as_str().unwrap()).try_into().unwrap());
        Key::derive(Some(&secret), direction)
    }

    /// The key of the direction in which a frame goes: D sends from the dispatch server's address.
    fn key_of(&self, frame: &Frame<'_>) -> Key {
        let from_dispatch = frame.envelope().from == self.address("dispatch");
        self.key(if from_dispatch { Direction::Dispatch } else { Direction::Autonomous })
    }
}

fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2));
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The same frame made again from the types that were read out of it.
fn encoded(frame: &Frame<'_>, key: &Key) -> Vec<u8> {
    let mut buffer = [0xAA; FRAME_BYTES_MAX];
    let (envelope, header, opcode) = (frame.envelope(), frame.header(), frame.opcode().unwrap());
    let length = if frame.packet_type() == PacketType::Protocol {
        encode_message(&mut buffer, &envelope, &header, &frame.message().unwrap(), key)
    } else {
        let page = frame.page().unwrap();
        let place = (page.page, page.pages);
        let buffer = &mut buffer;
        let (length, taken) = match opcode {
            Opcode::Info => {
                let records = page.records::<MeetingSummary>().unwrap().flatten();
                encode_page(buffer, &envelope, opcode, &header, place, records, key)
            }
            Opcode::TakeoverBatch => {
                let records = page.records::<TakeoverEntry>().unwrap().flatten();
                encode_page(buffer, &envelope, opcode, &header, place, records, key)
            }
            Opcode::TakeoverBatchAck => {
                let records = page.records::<TakeoverResult>().unwrap().flatten();
                encode_page(buffer, &envelope, opcode, &header, place, records, key)
            }
            Opcode::State => {
                let records = page.records::<TerminalState>().unwrap().flatten();
                encode_page(buffer, &envelope, opcode, &header, place, records, key)
            }
            Opcode::ReportAckBatch => {
                let records = page.records::<ReportAck>().unwrap().flatten();
                encode_page(buffer, &envelope, opcode, &header, place, records, key)
            }
            other => panic!("the vectors hold no {other}"),
        };
        assert_eq!(taken, usize::from(page.count));
        length
    };
    buffer[..length].to_vec()
}

/// The value in our types of the field that the file calls `name`.
fn field(name: &str, frame: &Frame<'_>, key: &Key) -> Value {
    let header = frame.header();
    let page = || frame.page().unwrap();
    let summaries = || page().records::<MeetingSummary>().unwrap().flatten();
    let message = || frame.message().unwrap();
    match (name, frame.opcode().unwrap()) {
        ("opcode", _) => frame.opcode_raw().into(),
        ("authentic", _) => frame.authentic(key).into(),
        ("tag_zero", _) => frame.authentic(&Key::Unauthenticated).into(),
        ("transaction", _) => header.transaction.0.into(),
        ("epoch", _) => header.epoch.0.into(),
        ("meeting", _) => header.meeting.0.into(),
        ("status", _) => header.status.into(),
        ("flags_header", _) => header.flags.0.into(),
        ("vlan", _) => frame.envelope().vlan.unwrap().into(),
        ("label", _) => frame.envelope().label.unwrap().into(),
        ("page", _) => page().page.into(),
        ("pages", _) => page().pages.into(),
        ("records", _) => page().count.into(),
        ("run", Opcode::Info) => summaries().next().unwrap().run.0.into(),
        ("participants", Opcode::Info) => summaries().next().unwrap().participants.into(),
        ("layout", Opcode::Info) => summaries().next().unwrap().layout.windows().into(),
        ("chairman", Opcode::Info) => summaries().next().unwrap().chairman.number().into(),
        ("first_meeting", Opcode::TakeoverBatch) => {
            page().records::<TakeoverEntry>().unwrap().flatten().next().unwrap().meeting.0.into()
        }
        ("last_meeting", Opcode::TakeoverBatch) => {
            page().records::<TakeoverEntry>().unwrap().flatten().last().unwrap().meeting.0.into()
        }
        ("statuses", Opcode::TakeoverBatchAck) => {
            page().records::<TakeoverResult>().unwrap().flatten().map(|result| result.status.wire()).collect()
        }
        ("statuses", Opcode::ReportAckBatch) => {
            page().records::<ReportAck>().unwrap().flatten().map(|ack| ack.status.wire()).collect()
        }
        ("versions", Opcode::ReportAckBatch) => {
            page().records::<ReportAck>().unwrap().flatten().map(|ack| ack.version).collect()
        }
        ("info_lengths", Opcode::State) => {
            page().records::<TerminalState>().unwrap().flatten().map(|state| state.info.len()).collect()
        }
        (name, _) => message_field(name, &message()),
    }
}

fn message_field(name: &str, message: &Message) -> Value {
    match (name, *message) {
        ("highest_epoch", Message::ConnectAck { highest_epoch, .. } | Message::HeartbeatAck { highest_epoch, .. }) => {
            highest_epoch.0.into()
        }
        ("held", Message::HeartbeatAck { held, .. }) => held.into(),
        ("boot_generation", Message::HeartbeatAck { boot_generation, .. }) => boot_generation.into(),
        ("age_us", Message::HeartbeatAck { age, .. }) => (u32::from(age) * 100).into(),
        ("level", Message::MeetingStart { level, .. }) => level.number().into(),
        ("layout", Message::MeetingStart { layout, .. }) => layout.windows().into(),
        ("chairman", Message::MeetingStart { chairman, .. }) => chairman.number().into(),
        ("participants", Message::MeetingStart { participants, .. }) => participants.into(),
        ("run", Message::MeetingStart { run, .. }) => run.0.into(),
        ("boot_generation", Message::ConnectAck { boot_generation, .. }) => boot_generation.into(),
        ("held", Message::ConnectAck { held, .. }) => held.into(),
        ("window", Message::ConnectAck { window, .. }) => window.into(),
        ("version", Message::Takeover { version }) => version.into(),
        ("highest_epoch", Message::Refused { status: Status::StaleEpoch, value, .. }) => value.into(),
        ("count", Message::Audit { count, .. }) => count.into(),
        ("digest", Message::Audit { digest, .. }) => digest.into(),
        ("terminal", Message::Report { terminal, .. }) => terminal.number().into(),
        ("version", Message::Report { version, .. }) => version.into(),
        ("business", Message::Report { business, .. }) => business.wire().into(),
        ("decode", Message::Report { decode, .. }) => decode.wire().into(),
        ("role", Message::Report { role, .. }) => role.wire().into(),
        ("flags", Message::Report { flags, .. }) => flags.0.into(),
        ("channel", Message::Report { channel, .. }) => channel.into(),
        ("stream", Message::Report { stream, .. }) => stream.wire().into(),
        ("info_hex", Message::Report { info, .. }) => {
            info.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
        }
        (name, message) => panic!("`{name}` is no field of {message:?}: teach this test"),
    }
}

#[test]
fn every_field_of_a_good_frame_is_read() {
    let vectors = Vectors::read();
    let good = vectors.list("good");
    assert!(!good.is_empty());
    for vector in good {
        let frame = Frame::parse(&vector.bytes, vectors.ethertype).unwrap();
        let key = vectors.key_of(&frame);
        for (name, expected) in &vector.fields {
            assert_eq!(&field(name, &frame, &key), expected, "{}: {name}", vector.name);
        }
    }
}

#[test]
fn a_good_frame_is_made_again_byte_for_byte() {
    let vectors = Vectors::read();
    for vector in vectors.list("good") {
        let frame = Frame::parse(&vector.bytes, vectors.ethertype).unwrap();
        let is_zero = vector.fields.contains_key("tag_zero");
        let key = if is_zero { Key::Unauthenticated } else { vectors.key_of(&frame) };
        let made = encoded(&frame, &key);
        let again = Frame::parse(&made, vectors.ethertype).unwrap();
        assert!(again.authentic(&key), "{}", vector.name);
        assert_eq!(made == vector.bytes, frame.authentic(&key), "{}: the same bytes but where forged", vector.name);
    }
}

#[test]
fn a_bad_frame_is_told_by_its_kind() {
    let vectors = Vectors::read();
    let bad = vectors.list("bad");
    assert!(!bad.is_empty());
    for vector in bad {
        let expected = match vector.name.as_str() {
            name if name.starts_with("cut_") => Malformed::Short,
            "other_ethertype" => Malformed::EtherType,
            "unknown_packet_type" => Malformed::PacketType,
            "version_9" => Malformed::Version,
            "opcode_ff" => Malformed::Opcode,
            "records_beyond_page" | "page_beyond_pages" => Malformed::Page,
            "info_len_65" | "info_past_end" => Malformed::Record,
            other => panic!("`{other}` is a new bad frame: teach this test"),
        };
        let read = Frame::parse(&vector.bytes, vectors.ethertype).and_then(|frame| match frame.opcode()? {
            Opcode::Info => frame.page()?.records::<MeetingSummary>()?.try_fold(0, |count, it| it.map(|_| count + 1)),
            Opcode::State => frame.page()?.records::<TerminalState>()?.try_fold(0, |count, it| it.map(|_| count + 1)),
            Opcode::TakeoverBatch => {
                frame.page()?.records::<TakeoverEntry>()?.try_fold(0, |count, it| it.map(|_| count + 1))
            }
            _ => frame.message().map(|_| 0),
        });
        assert_eq!(read, Err(expected), "{}", vector.name);
    }
}

/// What an autonomous server needs to answer UNSUPPORTED_VERSION: the frame is authentic, and its
/// header can be echoed.
#[test]
fn the_header_of_another_version_is_still_there_for_the_answer() {
    let vectors = Vectors::read();
    let version_9 = vectors.list("bad").into_iter().find(|vector| vector.name == "version_9").unwrap();
    let frame = Frame::parse(&version_9.bytes, vectors.ethertype).unwrap();
    assert!(frame.authentic(&vectors.key_of(&frame)));
    assert_eq!(frame.opcode_raw(), Opcode::Takeover.wire());
    assert_eq!(frame.header().transaction, Transaction(2));
    assert_eq!(Malformed::Version.status(), Status::UnsupportedVersion);
}

#[test]
fn keys_are_derived_as_the_file_says() {
    let vectors = Vectors::read();
    for (direction, name) in [(Direction::Dispatch, "key_dispatch"), (Direction::Autonomous, "key_autonomous")] {
        let expected = TagKey::new(hex(vectors.file[name].as_str().unwrap()).try_into().unwrap());
        assert_eq!(vectors.key(direction), Key::Keyed(Box::new(expected)), "{name}");
    }
}

#[test]
fn the_digest_is_the_sum_over_the_meetings() {
    let meetings = [(77, 9), (78, 1), (1 << 63, u64::MAX)];
    let digest = meetings
        .iter()
        .fold(0_u64, |sum, &(meeting, version)| sum.wrapping_add(digest_of(MeetingId(meeting), version)));
    let vectors = Vectors::read();
    let bytes = vectors.named("audit");
    let frame = Frame::parse(&bytes, vectors.ethertype).unwrap();
    assert_eq!(frame.message(), Ok(Message::Audit { count: 3, digest }));
}

/// Hops swap the label, so the tag does not cover it, nor the MACs; it covers the rest of the
/// packet.
#[test]
fn a_tag_covers_the_packet_but_for_its_label() {
    let vectors = Vectors::read();
    let bytes = vectors.named("info_two_pages_second");
    let key = vectors.key(Direction::Autonomous);
    let authentic = |bytes: &[u8]| Frame::parse(bytes, vectors.ethertype).is_ok_and(|frame| frame.authentic(&key));
    let (macs, label) = (0..12, 32..36);
    for at in (0..bytes.len()).filter(|at| !(12..14).contains(at)) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let uncovered = macs.contains(&at) || label.contains(&at);
        assert_eq!(authentic(&changed), uncovered, "byte {at}");
    }
}

#[test]
fn an_answer_goes_back_the_way_its_request_came() {
    let vectors = Vectors::read();
    let bytes = vectors.named("report_vlan");
    let frame = Frame::parse(&bytes, vectors.ethertype).unwrap();
    let (asked, answer) = (frame.envelope(), frame.envelope().reply());
    assert_eq!((answer.dst_mac, answer.src_mac), (asked.src_mac, asked.dst_mac));
    assert_eq!((answer.to, answer.from), (vectors.address("terminal"), vectors.address("dispatch")));
    assert_eq!(answer.vlan, Some(100 | 5 << 13), "tag and priority are kept");
}
