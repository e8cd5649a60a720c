//! The records that every store holds: terminals, as a table has them, ten to a meeting.

use baton::table::{Part, Terminal};
use baton::wire::{
    Address, Business, Decode, Domain, Epoch, Flags, Info, Layout, Level, MeetingId, MeetingState, Role, Run,
    StreamKind, mix,
};

/// Terminals of a meeting.
pub const MEMBERS: u32 = 10;
/// Terminals of a domain: its devices are numbered with 16 bits.
const TERMINALS_OF_DOMAIN: u32 = 50_000;

/// The domain of terminal `n`, from 0.
pub fn domain(n: u32) -> Domain {
    Domain::new(u64::from(n / TERMINALS_OF_DOMAIN) + 1).expect("a handful of domains")
}

/// The address of terminal `n`.
pub fn address(n: u32) -> Address {
    domain(n).device((n % TERMINALS_OF_DOMAIN) as u16 + 1)
}

/// The meeting of terminal `n`.
pub fn meeting(n: u32) -> MeetingId {
    MeetingId(u64::from(n / MEMBERS) + 1)
}

/// The part that terminal `n`'s meeting has in its domain.
pub fn part(n: u32) -> Part {
    Part {
        meeting: meeting(n),
        domain: domain(n),
        version: 1,
        epoch: Epoch::new(1, 1),
        state: MeetingState::InMeeting,
        level: Level::HIGHEST,
        layout: Layout::new(4).expect("4 windows are a layout"),
        participants: 0,
        chairman: address(n),
        in_doubt: false,
        is_unlisted: false,
        run: Run(1),
    }
}

/// The record of terminal `n` before its first report.
pub fn terminal(n: u32) -> Terminal {
    Terminal::new(address(n), meeting(n), Role::Participant)
}

/// What a terminal reports: everything follows from who and the version.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    pub version: u32,
    pub business: Business,
    pub decode: Decode,
    pub role: Role,
    pub flags: Flags,
    pub channel: u8,
    pub stream: StreamKind,
    pub info: [u8; 6],
}

impl Report {
    pub fn new(terminal: Address, version: u32) -> Self {
        let [a, b, c, d, e, f, ..] = (terminal.number() ^ u64::from(version)).to_le_bytes();
        Self {
            version,
            business: Business::InMeeting,
            decode: Decode::Decoding,
            role: Role::Participant,
            flags: Flags(version as u8),
            channel: terminal.number() as u8,
            stream: StreamKind::Main,
            info: [a, b, c, d, e, f],
        }
    }

    /// What a store does that holds terminals as they are: the same as
    /// [`baton::table::Writer::report`], but for crash safety.
    #[inline]
    pub fn apply(&self, terminal: &mut Terminal) -> bool {
        if !is_newer(self.version, terminal.version) {
            return false;
        }
        terminal.version = self.version;
        terminal.business = self.business;
        terminal.decode = self.decode;
        terminal.role = self.role;
        terminal.flags = self.flags;
        terminal.channel = self.channel;
        terminal.stream = self.stream;
        terminal.info = Info::new(&self.info);
        true
    }
}

/// Serial arithmetic, as reports count.
fn is_newer(version: u32, than: u32) -> bool {
    version != 0 && (than == 0 || (version.wrapping_sub(than) as i32) > 0)
}

/// The terminals in an order without a pattern, the same in every run.
pub fn shuffled(count: u32) -> Vec<Address> {
    let mut order: Vec<u32> = (0..count).collect();
    let mut seed = 0x5eed;
    for at in (1..order.len()).rev() {
        seed = mix(seed);
        order.swap(at, (seed % (at as u64 + 1)) as usize);
    }
    order.into_iter().map(address).collect()
}
