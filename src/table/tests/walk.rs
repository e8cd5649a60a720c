//! Walks over the parts of a domain, by level.

use crate::wire::MeetingId;
use std::collections::BTreeMap;

use super::{domain, part, table};
use crate::table::*;
use crate::wire::Level;

#[test]
fn a_walk_goes_on_where_it_stopped() {
    let table = table(300, 4);
    let mut control = table.writer(OwnerId::CONTROL);
    for meeting in 1..=200 {
        control.insert_part(&part(meeting, 1 + meeting % 3)).unwrap();
    }
    let mut cursor = Cursor::default();
    let mut seen = Vec::new();
    while let Some(part) = next(&table, &mut cursor) {
        seen.push(part.meeting.0);
        // What is taken out and entered behind the cursor does not disturb it.
        control.remove_part(part.meeting, part.domain).unwrap();
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=200).filter(|meeting| meeting % 3 == 0).collect::<Vec<_>>());
    assert_eq!(next(&table, &mut cursor), None);
}

/// The next part in domain 1.
fn next(table: &Table, cursor: &mut Cursor) -> Option<Part> {
    let mut met = None;
    let more = table.walk_by_level(domain(1), cursor, |_, part| {
        met = Some(part);
        false
    });
    assert_eq!(more, met.is_some());
    met
}

/// A domain's parts with their slots, as a walk by level meets them.
pub(super) fn walked(table: &Table, number: u64) -> Vec<(u32, Part)> {
    let mut cursor = Cursor::default();
    let mut met = Vec::new();
    let more = table.walk_by_level(domain(number), &mut cursor, |at, part| {
        met.push((at.0 as u32 - 1, part));
        true
    });
    assert!(!more);
    met
}

fn level(number: u64) -> Level {
    Level::new(number as u8).unwrap()
}

#[test]
fn a_walk_meets_the_highest_level_first() {
    let table = table(1000, 4);
    let mut control = table.writer(OwnerId::CONTROL);
    // The later it is entered, the higher it is, so that the order of slots is the opposite one.
    for meeting in 1..=500 {
        let level = level(5 - (meeting - 1) / 100);
        control.insert_part(&Part { level, ..part(meeting, 1 + meeting % 2) }).unwrap();
    }
    for number in 1..=2 {
        let met = walked(&table, number);
        assert_eq!(met.len(), 250);
        assert!(met.is_sorted_by_key(|(slot, part)| (part.level, *slot)), "{met:?}");
        assert!(met.iter().all(|(slot, part)| table.words().read_part(*slot).unwrap().unwrap().1 == *part));
    }
    assert_eq!(walked(&table, 3), []);
}

/// Parts of one walk whose level changes in the midst of it.
#[test]
fn what_sinks_during_a_walk_is_met_and_what_stays_is_met_once() {
    let table = table(200, 4);
    let mut control = table.writer(OwnerId::CONTROL);
    for meeting in 1..=150 {
        control.insert_part(&Part { level: level(1 + meeting % 3), ..part(meeting, 1) }).unwrap();
    }
    let mut cursor = Cursor::default();
    let mut met = BTreeMap::<u64, u32>::new();
    let mut step = 0;
    while let Some(part) = next(&table, &mut cursor) {
        *met.entry(part.meeting.0).or_default() += 1;
        step += 1;
        // From both ends, so that some sink in front of the walk and some behind it.
        for meeting in [step, 151_u64.saturating_sub(step)]
            .into_iter()
            .filter(|meeting| (1..=150).contains(meeting) && meeting % 5 == 0)
        {
            let sink = |part: &mut Part| part.level = level((u64::from(part.level.number()) + 2).min(5));
            assert_eq!(control.update_part(MeetingId(meeting), domain(1), sink), Ok(true));
        }
        assert!(step <= 300, "it ends");
    }
    for meeting in 1..=150 {
        let times = met.get(&meeting).copied().unwrap_or(0);
        assert!(if meeting % 5 == 0 { (1..=3).contains(&times) } else { times == 1 }, "{meeting}: {times} times");
    }
    assert_eq!(table.verify(), Vec::<String>::new());
}
