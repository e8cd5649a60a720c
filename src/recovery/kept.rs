//! A database behind the table: it was closed or could not be written for a while, or is an older
//! one, or a new one in place of one that was lost.

use super::{KeyStore, TableStore};
use crate::database::{Change, Member, PartParameters};
use crate::table::Part;
use crate::wire::MeetingState;

impl<S: KeyStore> TableStore<'_, S> {
    /// Has the database hold what the table holds of a part, if it holds another version or state
    /// of it, other members, or nothing. False where an operation has the part: what it has written
    /// ahead is its own to finish, and then the part is looked at once more.
    pub fn write_what_is_not_kept(&mut self, part: &Part) -> bool {
        let is_settled =
            matches!(part.state, MeetingState::InMeeting | MeetingState::Recovering | MeetingState::Missing);
        if !is_settled || (self.is_busy)(part.meeting) {
            return false;
        }
        // Members of the domains behind it are filed under those; a change of theirs changes the
        // version.
        let members = self.table().members(part.meeting, part.domain);
        let own = members.filter(|member| member.terminal.domain() == Some(part.domain));
        let digest = own.map(|member| Member::digest(member.terminal, member.role.wire())).fold(0, u64::wrapping_add);
        let kept = match self.store.kept(part.meeting, part.domain) {
            Ok(kept) => kept,
            // What cannot be read now is left to the next recovery.
            Err(_) => return true,
        };
        let is_kept = |(kept, members): (PartParameters, u64)| {
            let is_state = part.state == MeetingState::Recovering || kept.state == part.state;
            kept.version == part.version && members == digest && is_state
        };
        if kept.is_some_and(is_kept) {
            return true;
        }
        // No operation has it, so what was written ahead is of one whose end was not written.
        if kept.is_some_and(|(kept, _)| matches!(kept.state, MeetingState::Starting | MeetingState::Ending)) {
            let row = PartParameters { domain: part.domain, version: part.version, state: part.state };
            self.store.write(vec![Change::Part(part.meeting, row)]);
        }
        self.write_back(part, &[]);
        true
    }
}
