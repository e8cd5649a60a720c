//! How operations read and change the table.

use crate::cms::{Refusal, RefusalKind};
use crate::database::{KeyParameters, Member};
use crate::table::{Part, Table, TableError, Terminal, Writer};
use crate::wire::{Address, Domain, Epoch, MeetingId, MeetingState};

/// How often a change of the table is tried while another writer holds the record.
const TRIES: usize = 1000;

/// Tries a change again while another writer holds the record: a worker holds it while it writes
/// some words. The table itself yields the processor between its own tries.
pub(super) fn insist<T>(mut attempt: impl FnMut() -> Result<T, TableError>) -> Result<T, TableError> {
    for _ in 1..TRIES {
        match attempt() {
            Err(TableError::Contended) => {}
            done => return done,
        }
    }
    attempt()
}

/// A terminal that is in this meeting, and the domain of its part.
pub(super) fn place(table: &Table, meeting: MeetingId, terminal: Address) -> Option<(Terminal, Domain)> {
    table.membership(terminal).filter(|(state, _)| state.meeting == meeting)
}

/// The chairmen of these parts, by the part that each is a member of: the other parts are not told
/// of a change, and keep the one that they were started with. More than one only between two
/// commands.
pub(super) fn chairmen(table: &Table, parts: &[Part]) -> Vec<Address> {
    let is_there = |part: &&Part| {
        let place = place(table, part.meeting, part.chairman);
        place.map_or(part.chairman.domain(), |(_, domain)| Some(domain)) == Some(part.domain)
    };
    parts.iter().filter(is_there).map(|part| part.chairman).collect()
}

/// A part as it is before its autonomous server has answered: under no epoch, so that no audit
/// counts it.
pub(super) fn part_of(parameters: &KeyParameters, domain: Domain, state: MeetingState) -> Part {
    Part {
        meeting: parameters.meeting,
        domain,
        version: parameters.part(domain).map_or(0, |part| part.version),
        epoch: Epoch::NONE,
        state,
        level: parameters.level,
        layout: parameters.layout,
        participants: 0,
        chairman: parameters.chairman,
        in_doubt: false,
        // It may be there already, and be something else.
        is_unlisted: true,
        run: parameters.run,
    }
}

/// Whether a part's start or end was begun and is not done.
pub(super) fn is_begun(part: &Part) -> bool {
    matches!(part.state, MeetingState::Starting | MeetingState::Ending | MeetingState::Ended)
}

/// Since when a member is in its meeting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Joined {
    Now,
    /// It was there before, and its state has this version.
    Before(u32),
}

/// Enters a member.
pub(super) fn join(
    writer: &mut Writer,
    meeting: MeetingId,
    domain: Domain,
    member: &Member,
) -> Result<Joined, Refusal> {
    let terminal = member.terminal;
    if let Some(state) = writer.table().terminal(terminal).filter(|state| state.meeting == meeting) {
        return Ok(Joined::Before(state.version));
    }
    let mut state = Terminal::new(terminal, meeting, member.role);
    state.flags = member.flags;
    state.window = member.window;
    match insist(|| writer.join(meeting, domain, &state)) {
        Ok(()) => Ok(Joined::Now),
        Err(TableError::Exists) => Ok(Joined::Before(0)),
        Err(TableError::Conflict(other)) => {
            let what = format!("{terminal} is in meeting {other}");
            let remedy = format!("take it out there first: baton meeting remove {other} {terminal}");
            Err(Refusal::new(RefusalKind::Conflict, what, remedy))
        }
        Err(error) => Err(refused_by_table(error)),
    }
}

pub(super) fn refused_by_table(error: TableError) -> Refusal {
    match error {
        TableError::Full(_) => {
            let remedy = "end conferences, or create a larger table: `baton run --meetings … --terminals …`";
            Refusal::new(RefusalKind::Capacity, error.to_string(), remedy)
        }
        TableError::Contended => Refusal::new(RefusalKind::Busy, error.to_string(), "ask again"),
        _ => Refusal::new(RefusalKind::Internal, error.to_string(), "report it, with the log"),
    }
}
