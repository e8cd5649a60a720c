//! Both sides held against each other: what the table and the database say, and what the autonomous
//! servers hold.

use std::collections::BTreeMap;

use super::Cluster;
use crate::database::KeyParameters;
use crate::limits::INFO_BYTES_SHORT;
use crate::table::Part;
use crate::wire::{Address, Domain, Epoch, Info, MeetingId, MeetingState, TerminalState};

/// Everything that one side knows. Of a terminal that is what both know: its window the dispatch
/// server alone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Picture {
    /// Parts of meetings, none in doubt: that is the table's alone.
    pub parts: BTreeMap<(MeetingId, Domain), Part>,
    /// Members.
    pub terminals: BTreeMap<Address, TerminalState>,
}

/// Conferences and terminals' states in the database.
pub type Agreed = (Vec<KeyParameters>, BTreeMap<Address, TerminalState>);

fn believed(part: Part) -> Part {
    Part { in_doubt: false, is_unlisted: false, ..part }
}

/// A state without the zeros that fill a REPORT's field up: nobody can tell them from information.
fn unpadded(mut state: TerminalState) -> TerminalState {
    if state.info.len() <= INFO_BYTES_SHORT {
        let end = state.info.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        state.info = Info::new(&state.info[..end]);
    }
    state
}

impl Cluster {
    /// What the table says.
    pub fn picture_of_table(&self) -> Picture {
        Picture {
            parts: self.table.parts().map(|part| ((part.meeting, part.domain), believed(part))).collect(),
            terminals: self
                .table
                .terminals()
                .map(|terminal| (terminal.terminal, unpadded((&terminal).into())))
                .collect(),
        }
    }

    /// What the autonomous servers say of what is not an orphan.
    pub fn picture_of_servers(&self, orphans: &[MeetingId]) -> Picture {
        let mut picture = Picture::default();
        for site in &self.sites {
            for summary in site.server.meetings().filter(|summary| !orphans.contains(&summary.meeting)) {
                let part = Part::listed(site.server.domain(), &summary);
                picture.parts.insert((part.meeting, part.domain), part);
                for member in site.server.members(summary.meeting) {
                    let state = site.server.terminal(member).expect("a member is a terminal");
                    picture.terminals.insert(member, unpadded(state));
                }
            }
        }
        picture
    }

    /// What is in the database: conferences, and the states of their members.
    pub fn picture_of_database(&self) -> Agreed {
        let database = &self.disk.database;
        let mut meetings = Vec::new();
        database.for_each_meeting(|meeting| meetings.push(meeting)).expect("memory can be read");
        let members = meetings.iter().flat_map(|meeting| &meeting.members);
        let states = members.filter_map(|member| database.terminal(member.terminal).expect("memory can be read"));
        let terminals = states.map(|state| (state.terminal, unpadded(state))).collect();
        (meetings, terminals)
    }

    /// Where the table is not what the autonomous servers are, but for parts that they lack, which
    /// are missing in it, and for these orphans.
    pub fn differences_of_table(&self, orphans: &[MeetingId]) -> Vec<String> {
        let mut found = Vec::new();
        let (ours, theirs) = (self.picture_of_table(), self.picture_of_servers(orphans));
        let mut missing = Vec::new();
        for (key, part) in &ours.parts {
            let (meeting, domain) = key;
            match theirs.parts.get(key) {
                Some(other) if part != other => found.push(format!("{meeting} in {domain}: {part:?}, there {other:?}")),
                Some(_) => {}
                None if (part.state, part.epoch) == (MeetingState::Missing, Epoch::NONE) => missing.push(*key),
                None => found.push(format!("{meeting} in {domain} is not there, and not missing here: {part:?}")),
            }
        }
        for ((meeting, domain), part) in &theirs.parts {
            if part.epoch != self.epoch {
                found.push(format!("{meeting} in {domain} is under another's control, {}", part.epoch));
            }
            if !ours.parts.contains_key(&(*meeting, *domain)) {
                found.push(format!("{meeting} in {domain} is there, and not here"));
            }
        }
        for (address, terminal) in &ours.terminals {
            let is_missing =
                |(meeting, domain): &(_, _)| terminal.meeting == *meeting && address.domain() == Some(*domain);
            match theirs.terminals.get(address) {
                Some(other) if terminal != other => found.push(format!("{terminal:?}, there {other:?}")),
                Some(_) => {}
                // A member of a part that is missing stays known: the part is not ended for that.
                None if missing.iter().any(is_missing) => {}
                None => found.push(format!("{address} is a member here, and not there: {terminal:?}")),
            }
        }
        for address in theirs.terminals.keys().filter(|address| !ours.terminals.contains_key(address)) {
            found.push(format!("{address} is a member there, and not here"));
        }
        found
    }

    /// The parts in meeting whose members are still to be asked for.
    pub fn parts_in_doubt(&self) -> Vec<(MeetingId, Domain)> {
        let parts = self.table.parts().filter(|part| part.state == MeetingState::InMeeting && part.in_doubt);
        parts.map(|part| (part.meeting, part.domain)).collect()
    }

    /// Where the database does not hold of a part what the table holds.
    pub fn differences_of_database(&self) -> Vec<String> {
        let mut found = Vec::new();
        let (meetings, _) = self.picture_of_database();
        for part in self.table.parts() {
            let (meeting, domain) = (part.meeting, part.domain);
            let parameters = meetings.iter().find(|parameters| parameters.meeting == meeting);
            let Some((parameters, stored)) = parameters.and_then(|whole| Some((whole, whole.part(domain)?))) else {
                found.push(format!("{meeting} in {domain} is not in the database"));
                continue;
            };
            if (stored.version, stored.state) != (part.version, part.state) {
                found.push(format!("{meeting} in {domain}: the database has {stored:?}, the table {part:?}"));
            }
            let kept: Vec<_> = parameters.members_in(domain).map(|member| (member.terminal, member.window)).collect();
            let members = self.table.members(meeting, domain);
            let mut held: Vec<_> = members.map(|terminal| (terminal.terminal, terminal.window)).collect();
            held.sort_unstable();
            if kept != held {
                found.push(format!("{meeting} in {domain}: the database has members {kept:?}, the table {held:?}"));
            }
        }
        found
    }
}
