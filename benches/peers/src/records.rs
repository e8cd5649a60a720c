//! The records that every store holds: a meeting's key parameters, and its members'. Made from the
//! meeting's number, so that who writes and who checks need not share them.

use std::ops::AddAssign;

use baton::wire::{Address, Domain, Flags, Layout, Level, MeetingId, MeetingState, Role};

/// Members of a meeting.
pub const MEMBERS: u32 = 10;
/// Meetings of one domain: its devices are numbered with 16 bits.
const MEETINGS_OF_DOMAIN: u64 = 5_000;

/// A meeting's key parameters, without its members.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meeting {
    /// The number that every peer stores it under.
    pub id: u64,
    /// The domain whose autonomous server holds it.
    pub domain: u64,
    /// Its chairman's address.
    pub chairman: u64,
    /// Counts its changes.
    pub version: u64,
    /// As on the wire.
    pub state: u8,
    /// From 1, the highest, to 5.
    pub level: u8,
    /// Windows on the screen.
    pub layout: u8,
}

/// What a successor needs of a meeting to take it over: which, at which version, and before which
/// others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// The meeting's id.
    pub id: u64,
    /// Counts its changes.
    pub version: u64,
    /// From 1, the highest, to 5.
    pub level: u8,
}

/// A member's key parameters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// The meeting's id.
    pub meeting: u64,
    /// Its address.
    pub terminal: u64,
    /// As on the wire.
    pub role: u8,
    /// Muted and so on.
    pub flags: u8,
    /// The window that it is shown in.
    pub window: u8,
}

impl Meeting {
    /// Bytes of a record in stores that take bytes; the id is its key.
    pub const BYTES: usize = 27;

    /// Meeting number `n`, from 0.
    pub fn number(n: u64) -> Self {
        let domain = domain_of(n);
        Self {
            id: n + 1,
            domain: domain.number(),
            chairman: terminal_of(n, 0).number(),
            version: n % 1_000 + 1,
            state: MeetingState::InMeeting.wire(),
            level: Level::new((n % 5) as u8 + 1).expect("1 to 5").number(),
            layout: Layout::new((n % 13) as u8 + 1).expect("1 to 13").windows(),
        }
    }

    /// What of it is read first.
    pub fn key(&self) -> Key {
        Key { id: self.id, version: self.version, level: self.level }
    }

    /// Its record: words in little-endian order.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.domain.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.chairman.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.version.to_le_bytes());
        bytes[24..].copy_from_slice(&[self.state, self.level, self.layout]);
        bytes
    }

    /// The meeting in a record; none where it is none.
    pub fn decode(id: u64, bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        Some(Self {
            id,
            domain: word(bytes, 0),
            chairman: word(bytes, 8),
            version: word(bytes, 16),
            state: bytes[24],
            level: bytes[25],
            layout: bytes[26],
        })
    }
}

impl Member {
    /// Bytes of a member in stores that take bytes; a meeting's members are one record.
    pub const BYTES: usize = 11;
    /// Bytes of a meeting's members.
    pub const RECORD_BYTES: usize = Self::BYTES * MEMBERS as usize;

    /// The members of meeting number `n`.
    pub fn of(n: u64) -> impl Iterator<Item = Self> {
        (0..MEMBERS).map(move |member| Self {
            meeting: n + 1,
            terminal: terminal_of(n, member).number(),
            role: if member == 0 { Role::Chairman } else { Role::Participant }.wire(),
            flags: if member % 3 == 0 { Flags::ONLINE.0 } else { Flags::ONLINE.0 | Flags::MUTED.0 },
            window: member as u8,
        })
    }

    /// The record of all members of meeting number `n`.
    pub fn encode_all(n: u64) -> [u8; Self::RECORD_BYTES] {
        let mut bytes = [0; Self::RECORD_BYTES];
        for (to, member) in bytes.chunks_exact_mut(Self::BYTES).zip(Self::of(n)) {
            to[..8].copy_from_slice(&member.terminal.to_le_bytes());
            to[8..].copy_from_slice(&[member.role, member.flags, member.window]);
        }
        bytes
    }

    /// The members in a meeting's record.
    pub fn decode_all(meeting: u64, bytes: &[u8]) -> impl Iterator<Item = Self> + '_ {
        bytes.as_chunks::<{ Self::BYTES }>().0.iter().map(move |bytes| Self {
            meeting,
            terminal: word(bytes, 0),
            role: bytes[8],
            flags: bytes[9],
            window: bytes[10],
        })
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn domain_of(n: u64) -> Domain {
    Domain::new(366 + n / MEETINGS_OF_DOMAIN).expect("far below 2^40 domains")
}

fn terminal_of(n: u64, member: u32) -> Address {
    domain_of(n).device((n % MEETINGS_OF_DOMAIN * u64::from(MEMBERS)) as u16 + member as u16 + 1)
}

/// The id as Baton has it.
pub fn meeting_id(n: u64) -> MeetingId {
    MeetingId(n + 1)
}

/// What was read: how many, and a sum over every field that is read of each, in any order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// How many conferences were read back.
    pub meetings: u64,
    /// How many members were read back, over all conferences.
    pub members: u64,
    sum: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.meetings += other.meetings;
        self.members += other.members;
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

impl Tally {
    /// What a reader of a full store must come to.
    pub fn expected(meetings: u64) -> Self {
        let mut tally = Self::default();
        for n in 0..meetings {
            tally.meeting(Meeting::number(n).key());
            Member::of(n).for_each(|member| tally.member(&member));
        }
        tally
    }

    /// Counts a meeting.
    #[inline]
    pub fn meeting(&mut self, key: Key) {
        self.meetings += 1;
        self.add([key.id, key.version, u64::from(key.level), 0]);
    }

    /// Counts a member.
    #[inline]
    pub fn member(&mut self, member: &Member) {
        self.members += 1;
        let kind = u64::from(member.role) | u64::from(member.flags) << 8 | u64::from(member.window) << 16;
        self.add([member.meeting, member.terminal, kind, 0]);
    }

    /// Of all that was added so far: equal where the same was read.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    #[inline]
    fn add(&mut self, [a, b, c, d]: [u64; 4]) {
        let one = (a ^ b.rotate_left(24)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let two = (c ^ d.rotate_left(40)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        self.sum = self.sum.wrapping_add(one ^ two.rotate_left(32));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        for n in [0, 1, 4_999, 5_000, 999_999] {
            let meeting = Meeting::number(n);
            assert_eq!(Meeting::decode(meeting.id, &meeting.encode()), Some(meeting));
            assert!(Member::decode_all(n + 1, &Member::encode_all(n)).eq(Member::of(n)));
        }
        assert_eq!(Meeting::decode(1, &[0; Meeting::BYTES - 1]), None);
    }

    #[test]
    fn no_two_members_share_an_address() {
        let addresses: HashSet<_> = (0..20_000).flat_map(Member::of).map(|member| member.terminal).collect();
        assert_eq!(addresses.len(), 20_000 * MEMBERS as usize);
    }

    #[test]
    fn a_tally_tells_one_changed_field() {
        let of = |key: Key| {
            let mut tally = Tally::default();
            tally.meeting(key);
            tally.sum()
        };
        let key = Meeting::number(7).key();
        let changed = [Key { id: 9, ..key }, Key { version: 9, ..key }, Key { level: 9, ..key }];
        assert!(changed.iter().all(|&changed| of(changed) != of(key)));
    }
}
