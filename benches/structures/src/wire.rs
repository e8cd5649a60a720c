//! The bench of the wire format: the messages that most frames are, read and written, with tags and
//! without.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use baton::limits::{ACKNOWLEDGEMENTS_PER_PAGE, FRAME_BYTES_MAX};
use baton::sla::median;
use baton::wire::{
    Business, DEFAULT_ETHERTYPE, Decode, Direction, Domain, Envelope, Epoch, Flags, Frame, Header, Key, Mac, MeetingId,
    Message, Opcode, ReportAck, Role, Secret, Status, StreamKind, TakeoverEntry, Transaction, encode_message,
    encode_page,
};
use clap::Args;
use serde::Serialize;

use crate::Failure;
use crate::count::{self, Count};
use crate::report::{self, Machine, Target};

/// Operations in one round.
const TIMES: u32 = 20_000;
/// Entries of a full TAKEOVER_BATCH: 16 bytes each in a page of 1,008.
const ENTRIES: u64 = 63;

/// What may be chosen.
#[derive(Args)]
pub struct Options {
    /// Rounds; all operations take their turn in each.
    #[arg(long, default_value_t = 11)]
    rounds: u32,
    /// Writes every figure there.
    #[arg(long)]
    json: Option<PathBuf>,
}

const MESSAGES: [Opcode; 3] = [Opcode::Report, Opcode::ReportAckBatch, Opcode::TakeoverBatch];

#[derive(Debug, Serialize)]
struct Row {
    operation: String,
    frame_bytes: usize,
    nanoseconds: Vec<f64>,
    count: Count,
}

#[derive(Serialize)]
struct Everything {
    bench: &'static str,
    machine: Machine,
    results: Vec<Row>,
    targets: Vec<Target>,
}

fn key(tagged: bool) -> Key {
    Key::derive(tagged.then_some(&Secret([7; 32])), Direction::Autonomous)
}

fn envelope() -> Envelope {
    let domain = Domain::new(366).expect("a domain");
    Envelope {
        dst_mac: Mac([2, 0, 0, 0, 0, 1]),
        src_mac: Mac([2, 0, 0, 0, 0, 2]),
        vlan: None,
        ethertype: DEFAULT_ETHERTYPE,
        to: Domain::new(1).expect("a domain").server(),
        from: domain.server(),
        label: None,
    }
}

/// Writes a full frame of this kind.
fn write(buffer: &mut [u8], opcode: Opcode, key: &Key) -> usize {
    let envelope = envelope();
    let domain = Domain::new(366).expect("a domain");
    let header = Header::request(Transaction(77), Epoch::new(3, 9), MeetingId(4711));
    match opcode {
        Opcode::Report => {
            let message = Message::Report {
                terminal: domain.device(1001),
                version: 17,
                business: Business::InMeeting,
                decode: Decode::Decoding,
                role: Role::Participant,
                flags: Flags::ONLINE,
                channel: 3,
                stream: StreamKind::Main,
                info: *b"bench\0",
            };
            encode_message(buffer, &envelope, &header, &message, key)
        }
        Opcode::ReportAckBatch => {
            let acks = (0..ACKNOWLEDGEMENTS_PER_PAGE as u16).map(|n| ReportAck {
                terminal: domain.device(n + 1),
                version: 17,
                status: Status::Ok,
            });
            encode_page(buffer, &envelope, opcode, &header, (0, 1), acks, key).0
        }
        _ => {
            let entries = (1..=ENTRIES).map(|n| TakeoverEntry { meeting: MeetingId(n), version: n });
            encode_page(buffer, &envelope, opcode, &header, (0, 1), entries, key).0
        }
    }
}

/// Reads a frame as who receives it does: form, tag, and every record. Gives something that all of
/// it went into.
fn read(bytes: &[u8], key: &Key) -> u64 {
    let frame = Frame::parse(bytes, DEFAULT_ETHERTYPE).expect("the frame is good");
    assert!(frame.authentic(key));
    match frame.opcode().expect("the opcode is known") {
        Opcode::Report => match frame.message().expect("the message is good") {
            Message::Report { terminal, version, .. } => terminal.number() + u64::from(version),
            _ => 0,
        },
        Opcode::ReportAckBatch => {
            let records = frame.page().and_then(|page| page.records::<ReportAck>()).expect("the page is good");
            records.flatten().map(|ack| ack.terminal.number() + u64::from(ack.version)).sum()
        }
        _ => {
            let records = frame.page().and_then(|page| page.records::<TakeoverEntry>()).expect("the page is good");
            records.flatten().map(|entry| entry.meeting.0 + entry.version).sum()
        }
    }
}

/// The operation of a name: `read` or `write`, the message, and whether it bears a tag. None where
/// it is no such name.
pub fn operation(name: &str) -> Option<Box<dyn FnMut()>> {
    let mut parts = name.split(' ');
    let (what, message, tag) = (parts.next()?, parts.next()?, parts.next()?);
    let opcode = MESSAGES.into_iter().find(|opcode| format!("{opcode:?}") == message)?;
    let key = key(tag == "tagged");
    let mut buffer = [0; FRAME_BYTES_MAX];
    let length = write(&mut buffer, opcode, &key);
    match what {
        "read" => Some(Box::new(move || {
            black_box(read(black_box(&buffer[..length]), &key));
        })),
        "write" => Some(Box::new(move || {
            black_box(write(black_box(&mut buffer), opcode, &key));
        })),
        _ => None,
    }
}

fn names() -> Vec<(String, usize)> {
    let mut names = Vec::new();
    for opcode in MESSAGES {
        let bytes = write(&mut [0; FRAME_BYTES_MAX], opcode, &key(true));
        for what in ["read", "write"] {
            for tag in ["untagged", "tagged"] {
                names.push((format!("{what} {opcode:?} {tag}"), bytes));
            }
        }
    }
    names
}

/// Runs it; whether every target holds.
pub fn run(options: &Options) -> Result<bool, Failure> {
    let machine = Machine::here()?;
    machine.say();
    let names = names();
    let mut rows = Vec::new();
    for (name, frame_bytes) in &names {
        let count = count::count(name)?;
        rows.push(Row { operation: name.clone(), frame_bytes: *frame_bytes, nanoseconds: Vec::new(), count });
    }
    let mut operations: Vec<_> = names.iter().filter_map(|(name, _)| operation(name)).collect();
    for round in 0..=options.rounds {
        for (row, once) in rows.iter_mut().zip(&mut operations) {
            let begun = Instant::now();
            (0..TIMES).for_each(|_| once());
            if round > 0 {
                row.nanoseconds.push(begun.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES));
            }
        }
    }
    println!("{:<34} {:>6} {:>10} {:>13} {:>12}", "a frame", "bytes", "ns", "instructions", "allocations");
    for row in &rows {
        println!(
            "{:<34} {:>6} {:>10.1} {:>13.0} {:>12.2}",
            row.operation,
            row.frame_bytes,
            median(row.nanoseconds.clone()),
            row.count.instructions,
            row.count.allocations
        );
    }
    let most = rows.iter().map(|row| row.count.allocations).fold(0.0, f64::max);
    let targets = vec![Target::at_most("allocations of any frame", most, "allocations", 0.0)];
    let holds = report::judge(&targets);
    report::write(options.json.as_deref(), &Everything { bench: "structures wire", machine, results: rows, targets })?;
    Ok(holds)
}
