//! After the dead: what their cells name is finished or taken back.
//!
//! A cell names everything that its owner may have left half done, so recovery reads the cells, not
//! the table; its work does not grow with what the table holds. It may be killed itself: each step
//! can be done again, and the notes are cleared last.

use super::extents::give_back;
use super::intent::{Cell, Operation};
use super::layout::Words;
use super::levels::fit_levels;
use super::membership::{Structure, claim_part, members, set_bit};
use super::{OwnerId, TableError};
use crate::limits::OWNERS_MAX;

/// What [`super::Table::recover`] found in the cells of the dead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// Claims that the dead still held.
    pub claims: u32,
    /// Operations over several slots that were brought to their end.
    pub finished: u32,
    /// Operations over several slots that were taken back.
    pub undone: u32,
    /// Extents of additional information that were given back.
    pub extents: u32,
}

pub(super) fn recover(words: Words<'_>) -> Recovered {
    let mut recovered = Recovered::default();
    let owners = || (0..OWNERS_MAX as u8).map(OwnerId);
    for owner in owners() {
        let cell = Cell(words.cell(owner));
        let part = cell.part().and_then(|slot| words.part(slot));
        let terminal = cell.terminal().and_then(|slot| words.terminal(slot));
        for slot in [part, terminal].into_iter().flatten() {
            recovered.claims += u32::from(slot.evict(owner));
        }
    }
    // Whoever's it is, and though it be a number that is nobody's: all are dead. What else has a
    // claim that no cell names its next writer finds (`claims`). The structure's claim goes with
    // the last cell that is looked at.
    recovered.claims += u32::from(words.epoch().is_claimed() && words.epoch().evict_seen(words.epoch().seen()));
    for owner in owners() {
        let cell = Cell(words.cell(owner));
        if let (Some(slot), Some(extent)) = (cell.terminal(), cell.extent()) {
            // Before the operations, whose notes take the place of these. An extent that a slot
            // owns and its record does not name is one that was being taken or given back.
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
    // Behind the operations, which are the last to say what is in a slot.
    for slot in owners().filter_map(|owner| Cell(words.cell(owner)).part()) {
        if let Ok(record) = words.read_part(slot) {
            fit_levels(words, slot, record.map(|(_, part)| part.level));
        }
    }
    owners().for_each(|owner| Cell(words.cell(owner)).clear());
    recovered
}

/// Brings one operation to its end; false where it had not got to the store that makes it so, and
/// left nothing.
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
            // The record is there: whoever asked was not answered, and finds the part when it asks
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
        Operation::Join => match terminal.map(|slot| (slot, words.read_terminal(slot))) {
            Some((slot, Ok(Some((_, raw))))) if raw.part() == part => {
                if !members(words, part).any(|member| member == slot) {
                    structure.link(slot, part);
                }
                structure.repair_members(part);
                let entered = structure.enter_terminal(slot, &raw);
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

/// Throws a damaged terminal away; false where it is whole.
fn discard_noted(structure: &Structure<'_>, slot: u32) -> bool {
    if let Ok(None) = structure.words.read_terminal(slot) {
        set_bit(structure.words.terminal_bits(), slot, false);
        return true;
    }
    structure.discard_terminal(slot) == Ok(true)
}

/// Takes out the member that whoever took out a part was at.
fn take_out_noted(structure: &Structure<'_>, terminal: Option<u32>, part: u32) {
    let words = structure.words;
    if let Some(slot) = terminal.filter(|&slot| matches!(words.read_terminal(slot), Ok(None))) {
        set_bit(words.terminal_bits(), slot, false);
    } else if let Some(slot) = terminal {
        // The chain may have let go of it already, and no walk would meet it.
        let _ = structure.take_out_member(slot, part);
    }
}

fn take_out(structure: &Structure<'_>, part: u32) {
    // Nobody contends, so the only error is a damaged record, of which nothing more is known than
    // its slot.
    let claimed: Result<_, TableError> =
        structure.take_out_members(part).and_then(|()| claim_part(structure.words, part, structure.owner));
    match claimed {
        Ok((Some(record), claim)) => structure.take_out_part(part, &record, claim),
        Ok((None, _)) => structure.vacate_part(part),
        Err(_) => {}
    }
}
