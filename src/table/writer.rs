//! Changes.

use super::{Part, TableError, Terminal};
use crate::wire::{Address, Business, Decode, Domain, Flags, MeetingId, Role, StreamKind};

/// What became of a report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reported {
    /// It is in the table.
    Applied,
    /// The table has this version or a later one.
    Known,
    /// No part has this terminal.
    UnknownTerminal,
    /// It is a member of this other meeting; nothing was changed.
    OtherMeeting(MeetingId),
    /// Another writer has it just now; the report will come again.
    Contended,
    /// No room for its additional information.
    Full,
    /// Its record is damaged.
    Damaged,
}

/// The right to write, of one thread.
#[derive(Debug)]
pub struct Writer {
    table: std::sync::Arc<super::Table>,
}

#[expect(unused_variables, reason = "the bodies land next")]
impl Writer {
    /// The table that it writes to.
    pub fn table(&self) -> &std::sync::Arc<super::Table> {
        &self.table
    }

    /// Enters a new part, without members.
    pub fn insert_part(&mut self, part: &Part) -> Result<(), TableError> {
        unreachable!()
    }

    /// Changes a part; false where there is none. Meeting, domain and participants stay.
    pub fn update_part(
        &mut self,
        meeting: MeetingId,
        domain: Domain,
        change: impl FnOnce(&mut Part),
    ) -> Result<bool, TableError> {
        unreachable!()
    }

    /// Takes a part out, and its members with it; false where there is none.
    pub fn remove_part(&mut self, meeting: MeetingId, domain: Domain) -> Result<bool, TableError> {
        unreachable!()
    }

    /// Enters a terminal as a member of a part; its own `meeting` field counts for nothing.
    pub fn join(&mut self, meeting: MeetingId, domain: Domain, terminal: &Terminal) -> Result<(), TableError> {
        unreachable!()
    }

    /// Takes a terminal out; false where it is not a member of that meeting.
    pub fn leave(&mut self, meeting: MeetingId, terminal: Address) -> Result<bool, TableError> {
        unreachable!()
    }

    /// Changes a terminal where `change` says that it did; false where there is none or `change` declined. Address and
    /// meeting stay.
    pub fn update_terminal(
        &mut self,
        terminal: Address,
        change: impl FnOnce(&mut Terminal) -> bool,
    ) -> Result<bool, TableError> {
        unreachable!()
    }

    /// Enters a terminal's report, if it is newer: the hot path. Neither allocates, nor locks, nor waits.
    /// [`MeetingId::NONE`] stands for whatever meeting the terminal is in.
    #[expect(clippy::too_many_arguments, reason = "they are the fields of REPORT")]
    pub fn report(
        &mut self,
        terminal: Address,
        meeting: MeetingId,
        version: u32,
        business: Business,
        decode: Decode,
        role: Role,
        flags: Flags,
        channel: u8,
        stream: StreamKind,
        info: &[u8],
    ) -> Reported {
        unreachable!()
    }
}
