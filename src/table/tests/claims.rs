//! Damaged control words: they say that a slot is claimed, and no writer has it.

use crate::wire::MeetingId;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::kill::{assert_usable, control, dump, furnished};
use super::{domain, report};
use crate::table::claims::{Named, evict_nobody};
use crate::table::intent::Cell;
use crate::table::*;

/// Writes a claim into the control word of a slot.
fn claim(table: &Table, slot: Named, number: u64) {
    let control = slot.control(table.words()).unwrap().word();
    control.store(control.load(Ordering::Relaxed) & !0xff | number, Ordering::Relaxed);
}

/// As the word has them: the control thread's own, a worker's, one above all, and the highest.
const NUMBERS: [u64; 4] = [1, 3, OWNERS_MAX as u64 + 1, 255];

fn damaged(number: u64) -> Arc<Table> {
    let table = furnished();
    let words = table.words();
    let (part, ..) = words.find_part(MeetingId(1), domain(1)).unwrap().unwrap();
    claim(&table, Named::Part(part), number);
    for device in 1..=3 {
        let (slot, ..) = words.find_terminal(domain(1).device(device)).unwrap().unwrap();
        claim(&table, Named::Terminal(slot), number);
    }
    table
}

#[test]
fn a_claim_that_no_cell_names_keeps_nobody_out() {
    for number in NUMBERS {
        let table = damaged(number);
        table.recover();
        let mut control = control(&table);
        assert_eq!(control.update_part(MeetingId(1), domain(1), |part| part.version += 1), Ok(true), "{number}");
        let update = |terminal: &mut Terminal| std::mem::replace(&mut terminal.channel, 200) != 200;
        assert_eq!(control.update_terminal(domain(1).device(1), update), Ok(true), "{number}");
        assert_eq!(control.leave(MeetingId(1), domain(1).device(2)), Ok(true), "{number}");
        let mut worker = table.writer(OwnerId::worker(5));
        let reported = report(&mut worker, domain(1).device(3), 7, b"seven");
        // Only the control thread judges a claim by its own number.
        let expected = if number == 1 { Reported::Contended } else { Reported::Applied };
        assert_eq!(reported, expected, "{number}");
        assert_eq!(control.update_terminal(domain(1).device(3), update), Ok(true), "{number}");
        drop(control);
        let found = dump(&table);
        assert_eq!(table.verify(), Vec::<String>::new(), "{number}");
        assert_usable(&table, &found, "a claim by nobody");
    }
}

#[test]
fn a_part_with_such_a_claim_goes_and_the_epoch_and_the_structure_are_free_again() {
    for number in NUMBERS {
        let table = damaged(number);
        table.words().structure().store(number, Ordering::Relaxed);
        table.mapping().words()[crate::table::layout::EPOCH.start].fetch_or(number, Ordering::Relaxed);
        assert!(table.recover().claims >= 1, "{number}");
        assert_eq!(control(&table).remove_part(MeetingId(1), domain(1)), Ok(true), "{number}");
        assert!(table.bump_generation().is_some(), "{number}");
        assert_eq!(table.verify(), Vec::<String>::new(), "{number}");
    }
}

#[test]
fn a_claim_that_a_cell_names_is_its_owners() {
    let table = furnished();
    let words = table.words();
    let (slot, ..) = words.find_terminal(domain(1).device(1)).unwrap().unwrap();
    claim(&table, Named::Terminal(slot), 3);
    Cell(words.cell(OwnerId(2))).note_terminal(slot);
    assert!(!evict_nobody(words, Named::Terminal(slot), OwnerId::CONTROL));
    Cell(words.cell(OwnerId(2))).note_terminal(slot + 1);
    assert!(evict_nobody(words, Named::Terminal(slot), OwnerId::CONTROL));
    assert!(!evict_nobody(words, Named::Terminal(slot), OwnerId::CONTROL));
}
