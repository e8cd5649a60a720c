//! Meetings that are there from the beginning, by rule and not by command: a million conferences in
//! a second.
//!
//! Conference `n` has the id `n + 1` and is held by one domain, each in turn. Its members are the
//! next terminals of that domain, the first of them its chairman; all are in the meeting, have
//! reported once and been acknowledged. The same rule fills the dispatch server's table in
//! benchmarks, so that both sides begin with the same.

use super::meeting::Meeting;
use super::members::Members;
use super::numbering::Numbering;
use crate::limits::{INFO_BYTES_SHORT, MEMBERS_MAX};
use crate::table::{Part, TableError, Terminal, Writer};
use crate::wire::{
    Address, Business, Decode, Domain, Epoch, Flags, Info, Layout, Level, MeetingId, MeetingState, MeetingSummary,
    Role, Run, StreamKind, TerminalState, mix,
};

/// The epoch under which the meetings are: the first of a fresh database.
const EPOCH: Epoch = Epoch::new(1, 1);

/// All that is there from the beginning, over all domains.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Preload {
    meetings: u32,
    members: u16,
    terminals: u32,
    domains: u32,
}

/// What of it is in one domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PreloadedDomain {
    all: Preload,
    /// Counted from 0.
    position: u32,
    domain: Domain,
    numbering: Numbering,
}

impl Preload {
    /// So many meetings of as many members each, `terminals` in all: the last meeting has what is
    /// left for it.
    ///
    /// # Errors
    /// What cannot be, in a sentence.
    pub fn new(meetings: u32, members: u16, terminals: Option<u32>, domains: u32) -> Result<Self, String> {
        if domains == 0 || members == 0 || usize::from(members) > MEMBERS_MAX {
            return Err(format!("{members} members over {domains} domains: 1 to {MEMBERS_MAX}, over 1 or more"));
        }
        let full = u64::from(meetings) * u64::from(members);
        let terminals = terminals.map_or(full, u64::from);
        let whole = full - if meetings > 0 { u64::from(members) } else { 0 };
        match u32::try_from(terminals) {
            Ok(terminals) if u64::from(terminals) <= full && (meetings == 0 || u64::from(terminals) > whole) => {
                Ok(Self { meetings, members, terminals, domains })
            }
            _ => Err(format!("{terminals} terminals are not {meetings} meetings of {members}, the last of fewer")),
        }
    }

    /// Meetings, over all domains.
    pub const fn meetings(&self) -> u32 {
        self.meetings
    }

    /// Terminals in them.
    pub const fn terminals(&self) -> u32 {
        self.terminals
    }

    /// The epoch that they are under.
    pub const fn epoch(&self) -> Epoch {
        EPOCH
    }

    /// What is in the domain at this position, counted from 0, whose terminals begin with this
    /// device.
    pub fn domain(&self, position: u32, domain: Domain, first_device: u16) -> PreloadedDomain {
        let one = PreloadedDomain { all: *self, position, domain, numbering: Numbering::new(domain, first_device, 0) };
        let last =
            one.len().checked_sub(1).map_or(0, |last| last * u32::from(self.members) + u32::from(one.size(last)));
        PreloadedDomain { numbering: Numbering::new(domain, first_device, last), ..one }
    }
}

impl PreloadedDomain {
    /// Meetings in the domain.
    pub const fn len(&self) -> u32 {
        (self.all.meetings + self.all.domains - 1 - self.position) / self.all.domains
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Terminals in its meetings.
    pub const fn terminals(&self) -> u32 {
        self.numbering.count() as u32
    }

    /// The domains without a server of their own that some of its terminals are in.
    pub fn behind(&self) -> impl Iterator<Item = Domain> + use<> {
        self.numbering.behind()
    }

    /// The epoch that its meetings are under.
    pub const fn epoch(&self) -> Epoch {
        EPOCH
    }

    /// Which it is.
    pub const fn domain(&self) -> Domain {
        self.domain
    }

    /// Its meetings, by ascending id.
    pub fn meetings(&self) -> impl Iterator<Item = MeetingSummary> + '_ {
        self.held().map(|(id, meeting)| meeting.summary(id))
    }

    /// Members of its `nth` meeting as they are, by ascending address.
    pub fn members(&self, nth: u32) -> impl Iterator<Item = TerminalState> + use<> {
        let (one, first) = (*self, nth * u32::from(self.all.members));
        (first..first + u32::from(self.size(nth))).map(move |index| one.state(index as usize))
    }

    /// Enters them into a table, as the dispatch server that controls them would have them.
    ///
    /// # Errors
    /// The table's: it is full, or has some of them.
    pub fn enter(&self, writer: &mut Writer) -> Result<(), TableError> {
        for (nth, meeting) in (0..).zip(self.meetings()) {
            writer.insert_part(&Part::listed(self.domain, &meeting))?;
            for state in self.members(nth) {
                writer.join(meeting.meeting, self.domain, &Terminal::from(&state))?;
            }
        }
        Ok(())
    }

    pub(super) fn held(&self) -> impl Iterator<Item = (MeetingId, Meeting)> + '_ {
        (0..self.len()).map(|nth| {
            let number = self.number(nth);
            let (first, count) = (nth * u32::from(self.all.members), self.size(nth));
            let meeting = Meeting {
                // As if it had been started, and its members added one by one.
                version: 1 + u64::from(count),
                controller: EPOCH,
                state: MeetingState::InMeeting,
                level: Level::new((number % 5) as u8 + 1).expect("one of the five levels"),
                layout: Layout::new([4, 9, 16, 1][number as usize % 4]).expect("a layout"),
                chairman: self.numbering.address(first as usize),
                // Any but 0, and the same for everybody who enters this preload somewhere.
                run: Run(mix(u64::from(number) + 1)),
                members: Members::Run { first, count },
            };
            (MeetingId(u64::from(number) + 1), meeting)
        })
    }

    /// A terminal that is a member from the beginning.
    pub(super) fn state(&self, index: usize) -> TerminalState {
        let members = usize::from(self.all.members);
        let number = self.number((index / members) as u32);
        let role = if index.is_multiple_of(members) { Role::Chairman } else { Role::Participant };
        TerminalState {
            meeting: MeetingId(u64::from(number) + 1),
            version: 1,
            business: Business::InMeeting,
            decode: Decode::Decoding,
            role,
            ..idle(self.numbering.address(index))
        }
    }

    /// The number over all domains of the domain's `nth` meeting.
    const fn number(&self, nth: u32) -> u32 {
        nth * self.all.domains + self.position
    }

    /// Members of its `nth` meeting.
    fn size(&self, nth: u32) -> u16 {
        let before = self.number(nth) * u32::from(self.all.members);
        self.all.terminals.saturating_sub(before).min(self.all.members.into()) as u16
    }
}

/// A terminal of which nothing was ever asked.
pub(super) const fn idle(terminal: Address) -> TerminalState {
    TerminalState {
        meeting: MeetingId::NONE,
        terminal,
        version: 0,
        business: Business::Idle,
        decode: Decode::Stopped,
        role: Role::Participant,
        flags: Flags(Flags::ONLINE.0 | Flags::AUDIO.0),
        channel: 0,
        stream: StreamKind::Sub,
        // As long as a REPORT's field, so that a state says the same by whichever opcode it is
        // told.
        info: Info::zeros(INFO_BYTES_SHORT),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rule_gives_every_meeting_and_terminal_once() {
        let preload = Preload::new(20_736, 10, Some(207_359), 44).unwrap();
        let (mut meetings, mut terminals) = (BTreeSet::new(), BTreeSet::new());
        for position in 0..44 {
            let domain = Domain::new(u64::from(position) + 1).unwrap();
            let one = preload.domain(position, domain, 1001);
            for (nth, summary) in (0..).zip(one.meetings()) {
                let members: Vec<_> = one.members(nth).collect();
                assert_eq!(members.len(), usize::from(summary.participants));
                assert_eq!((members[0].terminal, members[0].role), (summary.chairman, Role::Chairman));
                assert!(members.iter().all(|it| it.meeting == summary.meeting && it.terminal.domain() == Some(domain)));
                terminals.extend(members.iter().map(|it| it.terminal));
                meetings.insert(summary.meeting);
            }
        }
        assert_eq!((meetings.len(), terminals.len()), (20_736, 207_359));
        assert_eq!((meetings.first(), meetings.last()), (Some(&MeetingId(1)), Some(&MeetingId(20_736))));
    }

    #[test]
    fn what_does_not_add_up_is_refused() {
        for (meetings, members, terminals, domains) in
            [(10, 10, Some(101), 4), (10, 10, Some(90), 4), (10, 0, None, 4), (10, 10, None, 0), (1 << 30, 10, None, 4)]
        {
            assert!(Preload::new(meetings, members, terminals, domains).is_err());
        }
        assert!(Preload::new(3, 10, None, 4).unwrap().domain(3, Domain::new(4).unwrap(), 1).is_empty());
    }
}
