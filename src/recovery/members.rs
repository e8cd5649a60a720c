//! An autonomous server's list of the members of a part, written over those of the table.

use super::database::KeyStore;
use super::store::{Listed, Written};
use super::table_store::TableStore;
use crate::table::{Part, TableError, Terminal, is_newer};
use crate::wire::{Address, Domain, MeetingId, MeetingState, TerminalState};

/// Where a terminal of a list is afterwards.
enum Placed {
    /// In its meeting, as before or new.
    Here,
    /// In its meeting, and no longer in this one.
    MovedFrom(MeetingId),
    /// In this other meeting, where something newer put it; or none, where it is in another
    /// domain's hands.
    Elsewhere(Option<MeetingId>),
}

impl<S: KeyStore> TableStore<'_, S> {
    /// Writes a list over the members of a part. `keep` has the database hold what the table holds
    /// then, and the terminals that moved here no longer where they were.
    pub(super) fn write_list(
        &mut self,
        domain: Domain,
        meeting: MeetingId,
        listed: &Listed<'_>,
        others: &mut Vec<MeetingId>,
        keep: impl FnOnce(&mut Self, &Part, &[(MeetingId, Address)]),
    ) -> Written {
        if (self.is_busy)(meeting) {
            return Written::Later;
        }
        let Some(part) = self.table().part(meeting, domain) else { return Written::Whole };
        // The operation that finishes it has its members, written ahead; in its autonomous server
        // only some of them may be yet.
        if matches!(part.state, MeetingState::Starting | MeetingState::Ending) {
            return Written::Whole;
        }
        // A list that is half applied may have as many members as a whole one.
        if !part.in_doubt && !self.set_doubt(meeting, domain, true) {
            return Written::Later;
        }
        let Listed { terminals, unread, is_cut, asked } = *listed;
        // Those that cannot be read are none of the members that are gone over next.
        if self.writer.discard_damaged_members(meeting, domain).is_err() {
            return Written::Later;
        }
        let mut written = Written::Whole;
        let mut all_here = unread.is_empty() && !is_cut;
        let mut moved: Vec<(MeetingId, Address)> = Vec::new();
        let is_listed = |member: &Address| {
            terminals.binary_search_by_key(member, |state| state.terminal).is_ok()
                || unread.binary_search(member).is_ok()
        };
        let members = self.table().members(meeting, domain).map(|member| member.terminal);
        let left: Vec<Address> = members.filter(|member| !is_cut && !is_listed(member)).collect();
        for terminal in left {
            match self.writer.leave(meeting, terminal) {
                Ok(_) => {}
                Err(_) => return Written::Later,
            }
        }
        for state in terminals {
            let at = asked.binary_search_by_key(&state.terminal, |(terminal, _)| *terminal);
            let asked = at.ok().map(|at| asked[at].1);
            match self.write_terminal(domain, meeting, state, asked) {
                Ok(Placed::Here) => {}
                Ok(Placed::MovedFrom(before)) => moved.push((before, state.terminal)),
                Ok(Placed::Elsewhere(other)) => {
                    all_here = false;
                    others.extend(other.into_iter().flat_map(|other| [other, meeting]));
                }
                Err(TableError::Contended | TableError::Conflict(_)) => {
                    self.write_moved(&moved);
                    return Written::Later;
                }
                Err(_) => written = Written::Full,
            }
        }
        others.extend(moved.iter().map(|(before, _)| *before));
        others.sort_unstable();
        others.dedup();
        if written == Written::Whole && all_here && !self.set_doubt(meeting, domain, false) {
            self.write_moved(&moved);
            return Written::Later;
        }
        keep(self, &part, &moved);
        written
    }

    /// Makes one terminal what its autonomous server says it is, unless it has reported something
    /// newer since that was asked. `asked` is its version then, if it was a member. A terminal that
    /// another domain's part has is left there, and so is that part.
    fn write_terminal(
        &mut self,
        domain: Domain,
        meeting: MeetingId,
        state: &TerminalState,
        asked: Option<u32>,
    ) -> Result<Placed, TableError> {
        let mut terminal = Terminal::from(state);
        let known = self.table().membership(state.terminal);
        match known {
            Some((_, other)) if other != domain => return Ok(Placed::Elsewhere(None)),
            Some((known, _)) if known.meeting == meeting => {
                let change = |known: &mut Terminal| {
                    // A version that is the one of our question has not been reported since: the
                    // answer is younger, wherever it began to count.
                    let counts = asked == Some(known.version)
                        || state.version == known.version
                        || is_newer(state.version, known.version);
                    if counts {
                        known.set_state(state);
                    }
                    counts
                };
                return self.writer.update_terminal(state.terminal, change).map(|_| Placed::Here);
            }
            // It has reported out of the other one since: this answer is one that was remembered.
            Some((known, _)) if is_newer(known.version, state.version) => {
                return Ok(Placed::Elsewhere(Some(known.meeting)));
            }
            // A terminal is in one meeting: the other one's list, older or newer, does not have it.
            // Which of the two is the older one the other's autonomous server has to say once more.
            Some((known, other)) => {
                if !self.set_doubt(known.meeting, other, true) {
                    return Err(TableError::Contended);
                }
                self.writer.leave(known.meeting, state.terminal)?;
                terminal.window = known.window;
            }
            None => {}
        }
        if known.is_none() && !self.writer.may_list(domain) {
            return Err(TableError::Full("terminals for this domain, which has its share"));
        }
        let placed = known.map_or(Placed::Here, |(known, _)| Placed::MovedFrom(known.meeting));
        self.writer.join(meeting, domain, &terminal).map(|()| placed)
    }
}
