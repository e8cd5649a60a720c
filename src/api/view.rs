//! What clients read: straight from the table, whose readers take no lock, so that a listing costs
//! the control thread nothing. Names are in the database alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use crate::database::{Database, DatabaseError};
use crate::table::{Part, Table, TableDump, Terminal};
use crate::wire::{Address, Domain, Epoch, Layout, Level, MeetingId, MeetingState};

/// Table and database, to be read from any thread.
#[derive(Clone, Debug)]
pub struct View {
    table: Arc<Table>,
    database: Arc<OnceLock<Database>>,
}

/// A conference in a listing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as in `KeyParameters`")]
pub struct MeetingRow {
    pub meeting: MeetingId,
    /// What people call it; empty also while the database is not open.
    #[serde(default)]
    pub name: String,
    /// When it was asked for, milliseconds since 1970; 0 where that is not known.
    #[serde(default)]
    pub created_ms: u64,
    /// Of all parts, the state that most wants attention.
    pub state: MeetingState,
    pub level: Level,
    /// Windows on the screen.
    pub layout: Layout,
    pub chairman: Option<Address>,
    /// Members in all domains.
    pub participants: u32,
    /// One per autonomous server.
    pub parts: Vec<Part>,
}

/// A conference with its members.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MeetingView {
    /// As in a listing.
    #[serde(flatten)]
    pub meeting: MeetingRow,
    /// By ascending address.
    pub members: Vec<Terminal>,
}

/// How many parts of meetings there are, by what they are in.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Census {
    /// By the name of the state; those without parts too.
    pub states: BTreeMap<&'static str, u64>,
    /// By domain: all, those taken over under the epoch, those that the autonomous server does not
    /// have.
    pub domains: BTreeMap<Domain, [u64; 3]>,
}

impl View {
    /// A view of this table; names come with [`Self::set_database`].
    pub fn new(table: Arc<Table>) -> Self {
        Self { table, database: Arc::default() }
    }

    /// The database is open. Only the first call counts.
    pub fn set_database(&self, database: Database) {
        let _ = self.database.set(database);
    }

    /// The parts, as they are under the epoch of the table.
    fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        let epoch = self.table.epoch();
        self.table.parts().map(move |part| under(epoch, part))
    }

    /// Every conference, by ascending id.
    pub fn list(&self) -> Result<Vec<MeetingRow>, DatabaseError> {
        let mut names = match self.database.get() {
            Some(database) => database.names()?,
            None => HashMap::new(),
        };
        let mut meetings = BTreeMap::<MeetingId, Vec<Part>>::new();
        for part in self.parts() {
            meetings.entry(part.meeting).or_default().push(part);
        }
        let rows = meetings.into_iter().filter_map(|(meeting, parts)| {
            let (name, created_ms) = names.remove(&meeting).unwrap_or_default();
            row(name, created_ms, parts)
        });
        Ok(rows.collect())
    }

    /// One conference; none where there is no such one.
    pub fn show(&self, meeting: MeetingId) -> Result<Option<MeetingView>, DatabaseError> {
        let epoch = self.table.epoch();
        let parts: Vec<_> = self.table.parts_of(meeting).map(|part| under(epoch, part)).collect();
        let mut members: Vec<_> = parts.iter().flat_map(|part| self.table.members(meeting, part.domain)).collect();
        members.sort_by_key(|member| member.terminal);
        let name = self.database.get().map(|database| database.name(meeting)).transpose()?.flatten();
        let (name, created_ms) = name.unwrap_or_default();
        Ok(row(name, created_ms, parts).map(|meeting| MeetingView { meeting, members }))
    }

    /// Counts the parts of meetings.
    pub fn census(&self, epoch: Epoch) -> Census {
        let mut census = Census::default();
        census.states.extend(MeetingState::ALL.iter().map(|state| (state.name(), 0)));
        for part in self.parts() {
            *census.states.entry(part.state.name()).or_default() += 1;
            let [all, taken_over, missing] = census.domains.entry(part.domain).or_default();
            *all += 1;
            *taken_over += u64::from(part.epoch == epoch);
            *missing += u64::from(part.state == MeetingState::Missing);
        }
        census
    }

    /// Everything that the table holds.
    pub fn dump(&self) -> TableDump {
        let mut parts: Vec<_> = self.parts().collect();
        parts.sort_by_key(|part| (part.meeting, part.domain));
        let mut terminals: Vec<_> = self.table.terminals().collect();
        terminals.sort_by_key(|terminal| terminal.terminal);
        TableDump { epoch: self.table.epoch(), parts, terminals }
    }
}

/// A part that was not taken over under this epoch, or not yet, is not controlled, even if it was
/// in meeting before.
fn under(epoch: Epoch, part: Part) -> Part {
    let state = match part.state {
        MeetingState::InMeeting if part.epoch != epoch => MeetingState::Recovering,
        state => state,
    };
    Part { state, ..part }
}

fn row(name: String, created_ms: u64, mut parts: Vec<Part>) -> Option<MeetingRow> {
    parts.sort_by_key(|part| part.domain);
    let first = parts.first()?;
    // What most wants attention stands last; a conference of which all is well is in meeting.
    let urgency = |state| match state {
        MeetingState::InMeeting => 0,
        MeetingState::None | MeetingState::Prepared | MeetingState::Ended => 1,
        MeetingState::Starting | MeetingState::Ending => 2,
        MeetingState::Recovering => 3,
        MeetingState::Missing => 4,
    };
    let state = parts.iter().map(|part| part.state).max_by_key(|&state| urgency(state))?;
    Some(MeetingRow {
        meeting: first.meeting,
        name,
        created_ms,
        state,
        level: first.level,
        layout: first.layout,
        // Only the part of the chairman's own domain is told of another one.
        chairman: parts.iter().find(|part| part.chairman.domain() == Some(part.domain)).map(|part| part.chairman),
        participants: parts.iter().map(|part| u32::from(part.participants)).sum(),
        parts,
    })
}
