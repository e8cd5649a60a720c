//! What an operation changes in the table by itself, before or beside what autonomous servers
//! acknowledge.

use super::Operations;
use super::operation::Operation;
use crate::cms::{Refusal, RefusalKind};
use crate::database::{Change, KeyParameters, Member};
use crate::table::{Part, TableError, Terminal, Writer};
use crate::wire::{Domain, Epoch, MeetingId, MeetingState};

/// How often a change of the table is tried while another writer holds the record.
const TRIES: usize = 1000;

impl Operations {
    /// Enters the parts that are started and everybody who is added; all of it or nothing.
    pub(super) fn enter_into_table(
        &self,
        operation: &mut Operation,
        parameters: &KeyParameters,
        writer: &mut Writer,
    ) -> Result<(), Refusal> {
        let meeting = operation.meeting;
        let mut entered = Vec::new();
        let mut joined = Vec::new();
        let mut enter = || {
            for &domain in &operation.starting {
                let part = part_of(parameters, domain, MeetingState::Starting);
                match insist(|| writer.insert_part(&part)) {
                    Ok(()) => entered.push(domain),
                    Err(TableError::Exists) => {}
                    Err(error) => return Err(refused_by_table(error)),
                }
            }
            for (&domain, members) in &operation.adding {
                for member in members {
                    joined.push((member.terminal, join(writer, meeting, domain, member)?));
                }
            }
            Ok(())
        };
        let result = enter();
        joined.into_iter().for_each(|(terminal, joined)| operation.note_joined(terminal, joined));
        if result.is_err() {
            operation.starting = entered;
            take_back(operation, writer);
        }
        result
    }

    /// Enters everybody who is added, as far as that can be: a start that a death cut short was
    /// promised to nobody who is in another conference since.
    pub(super) fn enter_whom_it_can(&self, operation: &mut Operation, writer: &mut Writer) {
        let meeting = operation.meeting;
        let mut adding = std::mem::take(&mut operation.adding);
        for (&domain, members) in &mut adding {
            members.retain(|member| match join(writer, meeting, domain, member) {
                Ok(joined) => {
                    operation.note_joined(member.terminal, joined);
                    true
                }
                Err(refusal) => {
                    tracing::warn!(%meeting, terminal = %member.terminal, %refusal, "a start goes on without a member");
                    operation.changes.push(Change::RemoveMember(meeting, member.terminal));
                    false
                }
            });
        }
        operation.adding = adding;
    }
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
        run: parameters.run,
    }
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

/// Takes out of the table again whom and what an operation has entered.
pub(super) fn take_back(operation: &mut Operation, writer: &mut Writer) {
    let meeting = operation.meeting;
    for terminal in std::mem::take(&mut operation.joined) {
        warn(|| writer.leave(meeting, terminal));
    }
    for domain in std::mem::take(&mut operation.starting) {
        warn(|| writer.remove_part(meeting, domain));
    }
}

/// Tries a change again while another writer holds the record: a worker holds it for the writing of
/// some words.
pub(super) fn insist<T>(mut attempt: impl FnMut() -> Result<T, TableError>) -> Result<T, TableError> {
    for _ in 1..TRIES {
        match attempt() {
            Err(TableError::Contended) => std::thread::yield_now(),
            done => return done,
        }
    }
    attempt()
}

/// What cannot be entered into the table though it is so: the update of the next recovery brings
/// it.
pub(super) fn warn<T>(attempt: impl FnMut() -> Result<T, TableError>) {
    if let Err(error) = insist(attempt) {
        tracing::warn!(%error, "the table could not be changed");
    }
}

fn refused_by_table(error: TableError) -> Refusal {
    match error {
        TableError::Full(_) => {
            let remedy = "end conferences, or create a larger table: `baton run --meetings … --terminals …`";
            Refusal::new(RefusalKind::Capacity, error.to_string(), remedy)
        }
        TableError::Contended => Refusal::new(RefusalKind::Busy, error.to_string(), "ask again"),
        _ => Refusal::new(RefusalKind::Internal, error.to_string(), "report it, with the log"),
    }
}
