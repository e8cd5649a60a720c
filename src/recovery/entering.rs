//! Parts that come into the table from elsewhere than an operation: from the database, and with
//! what a snapshot remembers of their members.

use super::database::{Held, KeyStore, Unreadable};
use super::store::{Cursor, Meet};
use super::table_store::TableStore;
use crate::database::{KeyParameters, LastCommit, Member, PartParameters};
use crate::limits::{DOUBT_LOOKS, FILL_BATCH};
use crate::table::{self, Part, TableError, Terminal, is_newer};
use crate::wire::{Address, Domain, Epoch, MeetingId, MeetingState, TakeoverEntry, TerminalState};

impl<S: KeyStore> TableStore<'_, S> {
    /// Puts a part into the table by what the database says of it. Until its last member is in it
    /// is `prepared`, which to a lookup is not there: a death in the midst must not leave a part
    /// that looks whole. It is in doubt, for the autonomous server may have gone on since.
    /// Of its members' states the newer one counts, of the database's and those that are
    /// `remembered`.
    pub(super) fn restore(
        &mut self,
        domain: Domain,
        parameters: &KeyParameters,
        part: &PartParameters,
        remembered: impl Fn(Address) -> Option<Terminal>,
    ) -> Result<(), TableError> {
        let meeting = parameters.meeting;
        let state = match part.state {
            unfinished @ (MeetingState::Starting | MeetingState::Ending) => unfinished,
            _ => MeetingState::Recovering,
        };
        let part = Part {
            meeting,
            domain,
            version: part.version,
            epoch: Epoch::NONE,
            state: MeetingState::Prepared,
            level: parameters.level,
            layout: parameters.layout,
            participants: 0,
            chairman: parameters.chairman,
            in_doubt: true,
            is_unlisted: true,
            run: parameters.run,
        };
        match self.insert_part(&part) {
            Ok(()) | Err(TableError::Exists) => {}
            Err(error) => return Err(error),
        }
        let stored = self.store.last_commit().ok();
        let is_here = |member: &&Member| self.speakers.owner(member.terminal) == Some(domain);
        for member in parameters.members.iter().filter(is_here) {
            let nothing = || Terminal::new(member.terminal, meeting, member.role);
            let mut terminal = remembered(member.terminal).unwrap_or_else(nothing);
            freshen(&mut terminal, stored.as_ref());
            (terminal.role, terminal.flags, terminal.window) = (member.role, member.flags, member.window);
            match self.writer.join(meeting, domain, &terminal) {
                // The meeting that has it was told so later: the autonomous server's list will say
                // who is right. A damaged record is not worth its meeting, which comes back without
                // it.
                Ok(()) | Err(TableError::Exists | TableError::Conflict(_) | TableError::Damaged) => {}
                Err(error) => return Err(error),
            }
        }
        // All of it: an engine that died may have begun to enter it as something else.
        self.writer.update_part(meeting, domain, |record| *record = Part { state, ..part }).map(drop)
    }

    /// Enters a part, in the place of one whose record is damaged where there is one.
    pub(super) fn insert_part(&mut self, part: &Part) -> Result<(), TableError> {
        match self.writer.insert_part(part) {
            Err(TableError::Damaged) if self.writer.discard_damaged(part.meeting, part.domain)? => {
                self.replaced.push((part.meeting, part.domain));
                self.writer.insert_part(part)
            }
            other => other,
        }
    }

    /// Puts the next parts of a domain that the database has, and the table has not, into the
    /// table: some, from the meeting that `next` names on. False where there are no more.
    pub fn fill(&mut self, domain: Domain, next: &mut MeetingId) -> Result<bool, Unreadable> {
        let found = self.store.meetings_in(domain, *next, FILL_BATCH)?;
        let is_last = found.len() < FILL_BATCH;
        for meeting in found {
            if self.part(meeting, domain).is_none()
                && let Held::Alive(parameters) = self.store.meeting(meeting)?
                && let Some(&part) = parameters.part(domain)
            {
                // Without room its autonomous server's listing says so.
                let _ = self.restore(domain, &parameters, &part, |_| None);
            }
            // Behind what was done: what cannot be read now is come back to. The highest number is
            // nobody's id.
            *next = MeetingId(meeting.0.saturating_add(1));
        }
        Ok(!is_last)
    }

    /// Walks over the parts of a domain for which `is_wanted`, of a bounded number.
    pub(super) fn walk_wanted(
        &self,
        domain: Domain,
        cursor: &mut Cursor,
        is_wanted: impl Fn(&Part) -> bool,
        meet: Meet<'_>,
    ) -> bool {
        let mut at = table::Cursor(cursor.0);
        let mut looks = 0;
        let more = self.table().walk_by_level(domain, &mut at, |at, part| {
            looks += 1;
            let is_gone = matches!(part.state, MeetingState::None | MeetingState::Prepared | MeetingState::Ended);
            let entry = TakeoverEntry { meeting: part.meeting, version: part.version };
            (is_gone || !is_wanted(&part) || meet(entry, Cursor(at.0))) && looks < DOUBT_LOOKS
        });
        cursor.0 = at.0;
        more
    }
}

/// Gives a terminal the state that the database has of it in the same meeting, if that is newer.
pub(super) fn freshen(terminal: &mut Terminal, stored: Option<&LastCommit>) {
    let stored = stored.and_then(|stored| stored.terminal(terminal.terminal).ok().flatten());
    let is_newer =
        |state: &TerminalState| state.meeting == terminal.meeting && is_newer(state.version, terminal.version);
    if let Some(state) = stored.filter(is_newer) {
        terminal.set_state(&state);
    }
}
