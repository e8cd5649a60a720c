//! A database behind the table: it was closed for a while, or is an older one, or a new one in
//! place of one that was lost.

use super::database::KeyStore;
use super::table_store::TableStore;
use crate::table::Part;
use crate::wire::MeetingState;

impl<S: KeyStore> TableStore<'_, S> {
    /// Has the database hold what the table holds of a part, if it holds another version of it,
    /// other members, or nothing.
    pub fn write_what_is_not_kept(&mut self, part: &Part) {
        let is_settled =
            matches!(part.state, MeetingState::InMeeting | MeetingState::Recovering | MeetingState::Missing);
        if !is_settled || (self.is_busy)(part.meeting) {
            return;
        }
        let kept = self.store.kept(part.meeting, part.domain);
        // Members of the domains behind it are filed under those; a change of theirs changes the
        // version.
        let members = self.table().members(part.meeting, part.domain);
        let own = members.filter(|member| member.terminal.domain() == Some(part.domain)).count();
        let is = (part.version, own as u64);
        // What cannot be read now is left to the next recovery.
        if let Ok(kept) = kept
            && kept != Some(is)
        {
            self.write_back(part, &[]);
        }
    }
}
