//! What workers found wrong with the table: said once, and put right where that can be done.

use super::event::Event;
use super::event::WorkerChange;
use super::output::Output;
use super::records::Records;
use crate::limits::FULL_NAMED_MAX;
use crate::recovery::Recovery;
use crate::wire::{Address, Domain, MeetingId};

/// Terminals that were said to find no room for their additional information.
#[derive(Default)]
pub(super) struct Troubles(Vec<Address>);

impl Troubles {
    /// An alarm for each terminal, once. All are counted (`reports_full`), and the first of them
    /// are named.
    pub fn name_full(&mut self, terminal: Address, records: &Records, output: &mut Output) {
        if self.0.contains(&terminal) || self.0.len() >= FULL_NAMED_MAX {
            return;
        }
        output.event(Event::Full { terminal, room: records.writer.table().information_max() });
        self.0.push(terminal);
        if self.0.len() == FULL_NAMED_MAX {
            output.event(Event::FullNamed);
            output.changes.push_back(WorkerChange::NamedEnough);
        }
    }
}

/// Has what of a domain's parts cannot be read though both sides agree restored from the database.
/// What is still unreadable when they agree again is thrown away: the database does not know it,
/// and its members must not be kept from other conferences by one that nobody has. If its
/// autonomous server has it, it is listed then as an orphan.
pub(super) fn heal_parts(domain: Domain, records: &mut Records, recovery: &mut Recovery, output: &mut Output) {
    let table = records.writer.table();
    if !records.database.is_open() || table.unreadable() == 0 {
        return;
    }
    if table.damaged_parts_in(domain).next().is_none() {
        return recovery.is_mended(domain);
    }
    if recovery.mend(domain) {
        return;
    }
    recovery.is_mended(domain);
    match records.writer.discard_damaged_parts_in(domain) {
        Ok(discarded) => {
            for meeting in discarded {
                output.event(Event::PartDiscarded(domain, meeting));
            }
        }
        Err(error) => output.event(Event::PartsNotDiscarded(domain, error)),
    }
}

/// Throws the damaged record of a terminal away. Its part is in doubt from then on: gives which
/// that was, so that its autonomous server is asked.
pub(super) fn discard_terminal(
    terminal: Address,
    records: &mut Records,
    output: &mut Output,
) -> Option<(MeetingId, Domain)> {
    match records.writer.discard_damaged_terminal(terminal) {
        Ok(Some(discarded)) => {
            let meeting = discarded.member_of.map(|(meeting, _)| meeting);
            output.event(Event::TerminalDiscarded(terminal, meeting));
            discarded.member_of
        }
        Ok(None) => None,
        // Its next report brings it here again.
        Err(error) => {
            output.event(Event::TerminalNotDiscarded(terminal, error));
            None
        }
    }
}
