//! The frames that everybody gets: reports of a million terminals, no two of a stream the same, and
//! each of a terminal newer than the one before it.

use std::path::Path;
use std::sync::Arc;

use baton::limits::FRAME_BYTES_MAX;
use baton::sys::mapping::boot_id;
use baton::table::{Capacity, OwnerId, Part, Table, Terminal};
use baton::wire::{
    Address, Business, DEFAULT_ETHERTYPE, Decode, Direction, Domain, Envelope, Epoch, Flags, Header, Key, Layout,
    Level, Mac, MeetingId, MeetingState, Message, Role, Run, Secret, StreamKind, Transaction, encode_message, mix,
};

use crate::Failure;
use crate::generator::{FRAMES, Generator};

/// A power of two, so that frames' numbers wrap where terminals' do.
const TERMINALS: u32 = 1 << 20;
const OF_DOMAIN: u32 = 1 << 15;
/// Reports of a terminal in a stream, at most.
const VERSIONS: u32 = FRAMES as u32 / TERMINALS;

/// Where a report has its transaction, which is its number in the stream plus one, and bytes of it
/// with that: after Ethernet 14, addresses 18, and four bytes of the header.
const NUMBER_AT: usize = 36;
pub const NUMBERED: usize = NUMBER_AT + 4;

pub fn domains() -> impl Iterator<Item = Domain> {
    (0..TERMINALS / OF_DOMAIN).map(|n| domain(n * OF_DOMAIN))
}

fn domain(n: u32) -> Domain {
    Domain::new(u64::from(n / OF_DOMAIN) + 100).expect("a handful of domains")
}

fn terminal(n: u32) -> Address {
    domain(n).device((n % OF_DOMAIN) as u16 + 1)
}

/// The dispatch server's address.
pub fn server() -> Address {
    Domain::new(1).expect("a domain").server()
}

pub fn secret() -> Secret {
    Secret([7; 32])
}

/// A table with a meeting for each terminal. Its name is gone at once, and its memory with the
/// process.
pub fn table(folder: &Path) -> Result<Arc<Table>, Failure> {
    let path = folder.join(format!("baton-dataplane-{}", std::process::id()));
    Table::create_at(&path, Capacity { meetings: TERMINALS + 64, terminals: TERMINALS + 64 }, boot_id()?)?;
    let table = Table::open_at(&path);
    std::fs::remove_file(&path)?;
    let table = Arc::new(table?);
    let mut writer = table.writer(OwnerId::CONTROL);
    for n in 0..TERMINALS {
        let (meeting, domain) = (MeetingId(u64::from(n) + 1), domain(n));
        writer.insert_part(&Part {
            meeting,
            domain,
            version: 1,
            epoch: Epoch::new(1, 1),
            state: MeetingState::InMeeting,
            level: Level::HIGHEST,
            layout: Layout::new(4).expect("4 windows are a layout"),
            participants: 0,
            chairman: terminal(n),
            in_doubt: false,
            is_unlisted: false,
            run: Run(1),
        })?;
        writer.join(meeting, domain, &Terminal::new(terminal(n), meeting, Role::Participant))?;
    }
    drop(writer);
    Ok(table)
}

/// Writes the first so many frames of a stream: reports of all terminals in an order without a
/// pattern, newer than those of the streams before.
pub fn write(generator: &mut Generator, count: u32, tagged: bool, stream: u32) {
    let key = Key::derive(tagged.then(secret).as_ref(), Direction::Autonomous);
    let mut buffer = [0; FRAME_BYTES_MAX];
    generator.fill(count, |number, bytes| {
        // An odd factor makes this a permutation of the terminals.
        let n = number.wrapping_mul(0x9E37_79B1) & (TERMINALS - 1);
        let terminal = terminal(n);
        let envelope = Envelope {
            dst_mac: Mac([0xff; 6]),
            src_mac: Mac([2, 0, 0, 0, 0, 2]),
            vlan: None,
            ethertype: DEFAULT_ETHERTYPE,
            to: server(),
            from: terminal,
            label: None,
        };
        let header = Header::request(Transaction(number + 1), Epoch::new(1, 1), MeetingId(u64::from(n) + 1));
        let message = Message::Report {
            terminal,
            version: 1 + stream * VERSIONS + number / TERMINALS,
            business: Business::InMeeting,
            decode: Decode::Decoding,
            role: Role::Participant,
            flags: Flags::ONLINE,
            channel: mix(u64::from(n)) as u8,
            stream: StreamKind::Main,
            info: *b"bench\0",
        };
        let length = encode_message(&mut buffer, &envelope, &header, &message, &key);
        bytes.copy_from_slice(&buffer[..length]);
    });
}

/// The number of a frame in its stream.
pub fn number(frame: &[u8]) -> Option<u32> {
    let transaction = frame.get(NUMBER_AT..NUMBERED)?.first_chunk()?;
    u32::from_be_bytes(*transaction).checked_sub(1)
}
