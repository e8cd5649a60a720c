//! What is archived: parts and their members as records of fixed length, so that reading one is
//! reading a few words where they lie.

use crate::table::{Part, Terminal};
use crate::wire::{
    Address, Business, Decode, Domain, Epoch, Flags, Info, Layout, Level, MeetingId, MeetingState, Role, Run,
    StreamKind,
};

/// Parts of one domain and level, by ascending meeting, with their members.
#[derive(rkyv::Archive, rkyv::Serialize, Default)]
#[rkyv(derive(Debug))]
pub(super) struct Segment {
    pub parts: Vec<PartRecord>,
    /// Of the first part, then of the second, and so on.
    pub members: Vec<MemberRecord>,
    /// Additional information of all of them.
    pub info: Vec<u8>,
}

/// Domain and level are the segment's.
#[derive(rkyv::Archive, rkyv::Serialize)]
#[rkyv(derive(Debug))]
pub(super) struct PartRecord {
    meeting: u64,
    version: u64,
    epoch: u64,
    chairman: u64,
    run: u64,
    /// Where its members begin, and how many they are.
    first: u32,
    members: u32,
    state: u8,
    layout: u8,
    marks: u8,
}

#[derive(rkyv::Archive, rkyv::Serialize)]
#[rkyv(derive(Debug))]
pub(super) struct MemberRecord {
    terminal: u64,
    version: u32,
    /// Where its information begins.
    info: u32,
    info_len: u8,
    business: u8,
    decode: u8,
    role: u8,
    flags: u8,
    channel: u8,
    stream: u8,
    window: u8,
}

/// Where the segments are, and what the table was.
#[derive(rkyv::Archive, rkyv::Serialize)]
#[rkyv(derive(Debug))]
pub(super) struct Directory {
    pub boot_id: u128,
    pub epoch: u64,
    pub generation_end: u32,
    /// The capacity.
    pub meetings: u32,
    pub terminals: u32,
    pub segments: Vec<SegmentRecord>,
}

#[derive(rkyv::Archive, rkyv::Serialize)]
#[rkyv(derive(Debug))]
pub(super) struct SegmentRecord {
    pub digest: [u8; 32],
    /// Of its archive; zeros follow up to the next multiple of [`super::ALIGNMENT`].
    pub length: u64,
    pub domain: u64,
    pub parts: u32,
    pub members: u32,
    pub level: u8,
}

/// A segment, a part of it and the directory, where they lie.
pub(super) type SegmentView = rkyv::Archived<Segment>;
pub(super) type PartView = rkyv::Archived<PartRecord>;
pub(super) type DirectoryView = rkyv::Archived<Directory>;

/// [`PartRecord::marks`]: the part was in doubt, or it changed while its members were read.
const IN_DOUBT: u8 = 1;
/// Level, layout and chairman were the whole conference's.
const UNLISTED: u8 = 2;

impl Segment {
    /// Adds a part, with its members.
    pub fn add(&mut self, part: &Part, members: &[Terminal]) {
        let marks = if part.in_doubt { IN_DOUBT } else { 0 } | if part.is_unlisted { UNLISTED } else { 0 };
        self.parts.push(PartRecord {
            meeting: part.meeting.0,
            version: part.version,
            epoch: part.epoch.0,
            chairman: part.chairman.number(),
            run: part.run.0,
            first: self.members.len() as u32,
            members: members.len() as u32,
            state: part.state.wire(),
            layout: part.layout.windows(),
            marks,
        });
        for member in members {
            self.members.push(MemberRecord {
                terminal: member.terminal.number(),
                version: member.version,
                info: self.info.len() as u32,
                info_len: member.info.len() as u8,
                business: member.business.wire(),
                decode: member.decode.wire(),
                role: member.role.wire(),
                flags: member.flags.0,
                channel: member.channel,
                stream: member.stream.wire(),
                window: member.window,
            });
            self.info.extend_from_slice(&member.info);
        }
    }

    /// Empties it, and keeps its memory.
    pub fn clear(&mut self) {
        self.parts.clear();
        self.members.clear();
        self.info.clear();
    }
}

impl ArchivedPartRecord {
    pub fn meeting(&self) -> MeetingId {
        MeetingId(self.meeting.to_native())
    }

    /// The part; none where a value is not of its kind.
    pub fn part(&self, domain: Domain, level: Level) -> Option<Part> {
        Some(Part {
            meeting: self.meeting(),
            domain,
            version: self.version.to_native(),
            epoch: Epoch(self.epoch.to_native()),
            state: MeetingState::from_wire(self.state)?,
            level,
            layout: Layout::new(self.layout)?,
            participants: u16::try_from(self.members.to_native()).ok()?,
            chairman: Address::from_number(self.chairman.to_native()),
            in_doubt: self.marks & IN_DOUBT != 0,
            is_unlisted: self.marks & UNLISTED != 0,
            run: Run(self.run.to_native()),
        })
    }
}

impl ArchivedMemberRecord {
    pub fn address(&self) -> Address {
        Address::from_number(self.terminal.to_native())
    }
}

impl ArchivedSegment {
    /// The members of one of its parts; none where they are not all there.
    pub fn members_of(&self, part: &ArchivedPartRecord) -> Option<&[ArchivedMemberRecord]> {
        let first = part.first.to_native() as usize;
        self.members.get(first..first.checked_add(part.members.to_native() as usize)?)
    }

    /// A member; none where a value is not of its kind.
    pub fn terminal(&self, meeting: MeetingId, member: &ArchivedMemberRecord) -> Option<Terminal> {
        let first = member.info.to_native() as usize;
        let info = self.info.get(first..first + usize::from(member.info_len))?;
        let info = Info::new(info);
        (info.len() == usize::from(member.info_len)).then_some(())?;
        Some(Terminal {
            terminal: member.address(),
            meeting,
            version: member.version.to_native(),
            business: Business::from_wire(member.business)?,
            decode: Decode::from_wire(member.decode)?,
            role: Role::from_wire(member.role)?,
            flags: Flags(member.flags),
            channel: member.channel,
            stream: StreamKind::from_wire(member.stream)?,
            window: member.window,
            info,
        })
    }

    /// What in it is not of its kind, or not in its place.
    pub fn flaw(&self, domain: Domain, level: Level) -> Option<String> {
        let mut first = 0;
        for part in self.parts.iter() {
            let meeting = part.meeting();
            let Some(members) = self.members_of(part).filter(|_| part.first.to_native() == first) else {
                return Some(format!("{meeting:?} has members that are another's, or not there"));
            };
            first += part.members.to_native();
            if part.part(domain, level).is_none() {
                return Some(format!("{meeting:?} has a value that is not of its kind"));
            }
            if members.iter().any(|member| self.terminal(meeting, member).is_none()) {
                return Some(format!("{meeting:?} has a member of no kind"));
            }
        }
        (first as usize != self.members.len()).then(|| "members of no part".into())
    }
}

#[cfg(test)]
impl Segment {
    /// Gives its first member a role of this number.
    pub fn break_role(&mut self, role: u8) {
        self.members[0].role = role;
    }

    /// Has its first part count a member that is not there.
    pub fn break_count(&mut self) {
        self.parts[0].members += 1;
    }
}
