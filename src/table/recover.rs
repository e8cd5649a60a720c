//! Recovery after writers have died: what their cells name is finished or undone.
//!
//! A cell names everything that its owner may have left half done, so recovery reads the cells, not
//! the table, and its work does not grow with the table. Recovery may be killed too: each step can
//! be repeated, and the notes are cleared last.

use super::claims::Named;
use super::extents::give_back;
use super::intent::{Cell, Operation};
use super::layout::Words;
use super::levels::fit_levels;
use super::membership::{Structure, claim_part, members, set_bit};
use super::sums::fit_columns;
use super::{OwnerId, Table, TableError};
use crate::limits::OWNERS_MAX;

/// What [`Table::recover`] found in the cells of dead writers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// Claims that dead writers still held.
    pub claims: u32,
    /// Operations over several slots that were finished.
    pub finished: u32,
    /// Operations over several slots that were undone.
    pub undone: u32,
    /// Extents that were freed.
    pub extents: u32,
}

impl Table {
    /// Finishes or undoes what dead writers had begun. Call it before any writer starts, and only
    /// with proof that all earlier writers are dead: the lock of the table's file.
    pub fn recover(&self) -> Recovered {
        recover(self.words())
    }
}

fn recover(words: Words<'_>) -> Recovered {
    let mut recovered = Recovered::default();
    let owners = || (0..OWNERS_MAX as u8).map(OwnerId);
    for owner in owners() {
        let cell = Cell(words.cell(owner));
        let named = [cell.part().map(Named::Part), cell.terminal().map(Named::Terminal)];
        for control in named.into_iter().flatten().filter_map(|named| named.control(words)) {
            recovered.claims += u32::from(control.evict(owner));
        }
    }
    // Released whichever number holds it, even one that no writer has: all writers are dead. A
    // claim that no cell names is found by the slot's next writer (`claims`). The structure's claim
    // is released with the last cell.
    recovered.claims += u32::from(words.epoch().is_claimed() && words.epoch().evict_seen(words.epoch().seen()));
    for owner in owners() {
        let cell = Cell(words.cell(owner));
        if let (Some(slot), Some(extent)) = (cell.terminal(), cell.extent()) {
            // Before the operations, whose notes overwrite these. An extent that a slot owns and
            // its record does not name was being taken or freed.
            let named = matches!(words.read_terminal(slot), Ok(Some((_, raw))) if raw.extent() == Some(extent));
            recovered.extents += u32::from(!named && give_back(words, Some(extent), slot));
        }
    }
    for owner in owners() {
        let structure = Structure::inherit(words, owner);
        match structure.cell.operation().map(|operation| finish(&structure, operation)) {
            Some(true) => recovered.finished += 1,
            Some(false) => recovered.undone += 1,
            None => {}
        }
    }
    // After the operations, which decide what is in a slot.
    for slot in owners().filter_map(|owner| Cell(words.cell(owner)).part()) {
        if let Ok(record) = words.read_part(slot) {
            let record = record.map(|(_, part)| part);
            fit_levels(words, slot, record.map(|part| part.level));
            fit_columns(words, slot, record.as_ref());
        }
    }
    owners().for_each(|owner| Cell(words.cell(owner)).clear());
    recovered
}

/// Finishes one operation; false if it had not reached its deciding store, and left nothing.
fn finish(structure: &Structure<'_>, operation: Operation) -> bool {
    let (words, cell) = (structure.words, structure.cell);
    if operation == Operation::DiscardTerminal {
        let finished = cell.terminal().is_some_and(|slot| discard_noted(structure, slot));
        if let Some(part) = cell.part() {
            structure.repair_members(part);
        }
        cell.end();
        return finished;
    }
    let Some(part) = cell.part() else { return false };
    let terminal = cell.terminal();
    let finished = match operation {
        Operation::InsertPart => match words.read_part(part) {
            // The record is there. The client was not answered, and finds the part when it asks
            // again.
            Ok(Some((_, record))) => {
                let entered = structure.enter_part(part, &record);
                if !entered {
                    take_out(structure, part);
                }
                entered
            }
            _ => false,
        },
        Operation::RemovePart => {
            take_out_noted(structure, terminal, part);
            structure.repair_members(part);
            take_out(structure, part);
            true
        }
        Operation::DiscardPart => {
            take_out_noted(structure, terminal, part);
            match words.read_part(part) {
                Ok(None) => {
                    structure.vacate_part(part);
                    true
                }
                _ => structure.discard_part(part) == Ok(true),
            }
        }
        Operation::DiscardTerminal => unreachable!("it was done above, for it may name no part"),
        Operation::Join => match terminal.map(|slot| (slot, words.read_member(slot))) {
            Some((slot, Ok(Some((_, member))))) if member.part == part => {
                if !members(words, part).any(|member| member == slot) {
                    structure.link(slot, part);
                }
                structure.repair_members(part);
                let entered = structure.enter_terminal(slot, &member);
                if !entered {
                    let _ = structure.take_out_terminal(slot, part);
                }
                entered
            }
            _ => false,
        },
        Operation::Leave => {
            match terminal.map(|slot| (slot, words.read_terminal(slot))) {
                Some((slot, Ok(Some(_)))) => drop(structure.take_out_terminal(slot, part)),
                Some((slot, Ok(None))) => set_bit(words.terminal_bits(), slot, false),
                _ => {}
            }
            structure.repair_members(part);
            true
        }
    };
    cell.end();
    finished
}

/// Removes a damaged terminal; false if it is whole.
fn discard_noted(structure: &Structure<'_>, slot: u32) -> bool {
    if let Ok(None) = structure.words.read_terminal(slot) {
        set_bit(structure.words.terminal_bits(), slot, false);
        return true;
    }
    structure.discard_terminal(slot) == Ok(true)
}

/// Removes the member that the dead writer was removing with its part.
fn take_out_noted(structure: &Structure<'_>, terminal: Option<u32>, part: u32) {
    let words = structure.words;
    if let Some(slot) = terminal.filter(|&slot| matches!(words.read_terminal(slot), Ok(None))) {
        set_bit(words.terminal_bits(), slot, false);
    } else if let Some(slot) = terminal {
        // It may be out of the chain already, where no walk would meet it.
        let _ = structure.take_out_member(slot, part);
    }
}

fn take_out(structure: &Structure<'_>, part: u32) {
    // There is no contention, so the only error is a damaged record, of which only the slot is
    // known.
    let claimed: Result<_, TableError> =
        structure.take_out_members(part).and_then(|()| claim_part(structure.words, part, structure.owner));
    match claimed {
        Ok((Some(record), claim)) => structure.take_out_part(part, &record, claim),
        Ok((None, _)) => structure.vacate_part(part),
        Err(_) => {}
    }
}
