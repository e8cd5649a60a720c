//! Verification does not disturb a table in use, and tells a writer's change from a flaw.

use crate::wire::MeetingId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};

use super::file::{Folder, furnish, furnished};
use super::{domain, part, report};
use crate::limits::LOOKS;
use crate::sys::mapping::killed_after;
use crate::table::file::{Counts, Inspection};
use crate::table::membership::set_bit;
use crate::table::*;
use crate::wire::{Epoch, Role};

/// Stops the writers, also where the test fails.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn nobody() -> impl FnMut(u64, u64) {
    |_, _| {}
}

#[test]
fn an_inspection_reaches_no_store() {
    let table = Arc::new(Table::on_heap(Capacity { meetings: 8, terminals: 16 }));
    furnish(&table);
    let inspection = Inspection::over(Arc::into_inner(table).unwrap());
    let folder = Folder::new();
    let looked = killed_after(0, || {
        let counts = Counts::of(inspection.parts());
        let in_domain = Counts::of(inspection.parts_in(domain(2)));
        let members =
            inspection.parts_of(MeetingId(1)).map(|part| inspection.members(MeetingId(1), part.domain).count());
        let members: usize = members.sum();
        let head = (inspection.boot_id(), inspection.epoch(), inspection.generation_end(), inspection.capacity());
        let snapshot = inspection.write_snapshot(&folder.file("snapshot")).unwrap();
        let flaws = inspection.verify(&mut nobody());
        let living = inspection.verify_living(&mut nobody(), || {});
        let counted = (inspection.extents(), inspection.count_terminals(), inspection.count_unreadable(&mut nobody()));
        (counts.parts, in_domain.members, members, head.3, snapshot.parts, flaws.len(), living, counted)
    });
    let (parts, in_domain, members, capacity, archived, flaws, living, counted) = looked.expect("a store is a death");
    assert_eq!((parts, in_domain, members, archived), (3, 6, 6, 3));
    assert_eq!((capacity, flaws, living), (Capacity { meetings: 8, terminals: 16 }, 0, Looked::default()));
    assert_eq!(counted, ((6, 64), 6, 0), "10 to 60 bytes are in extents");
    // And a store would have killed it.
    let table = Arc::new(Table::on_heap(Capacity { meetings: 1, terminals: 1 }));
    assert!(killed_after(0, || table.set_reservation(Epoch::new(1, 1), 2)).is_none());
}

#[test]
fn an_inspected_file_is_mapped_for_reading_alone() {
    let folder = Folder::new();
    let path = folder.file("table");
    drop(furnished(&path));
    let inspection = Table::inspect(&path).unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let lines: Vec<_> = maps.lines().filter(|line| line.ends_with(path.to_str().unwrap())).collect();
    assert!(matches!(lines[..], [line] if line.contains(" r--s ")), "{lines:?}");
    assert_eq!(inspection.holder().unwrap(), None);
    let server = Table::open_at(&path).unwrap();
    assert!(server.mapping().try_lock().unwrap());
    assert_eq!(inspection.holder().unwrap(), Some(std::process::id()));
}

#[test]
fn what_a_living_writer_is_at_is_no_flaw_and_what_stands_still_is_one() {
    let table = Arc::new(Table::on_heap(Capacity { meetings: 64, terminals: 256 }));
    let reported = AtomicU32::new(0);
    let stop = AtomicBool::new(false);
    let mut control = table.writer(OwnerId::CONTROL);
    for number in 1..=2 {
        control.insert_part(&part(1000, number)).unwrap();
        for device in 1..=20 {
            let terminal = Terminal::new(domain(number).device(device), MeetingId(1000), Role::Participant);
            control.join(MeetingId(1000), domain(number), &terminal).unwrap();
        }
    }
    let (slot, ..) = table.words().find_part(MeetingId(1000), domain(2)).unwrap().unwrap();
    std::thread::scope(|scope| {
        let stopping = Stopping(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for meeting in 1..=20 {
                    control.insert_part(&part(meeting, 3)).unwrap();
                    for device in 0..4 {
                        let address = domain(3).device(meeting as u16 * 4 + device);
                        let terminal = Terminal::new(address, MeetingId(meeting), Role::Participant);
                        control.join(MeetingId(meeting), domain(3), &terminal).unwrap();
                    }
                }
                for meeting in 1..=20 {
                    assert_eq!(control.remove_part(MeetingId(meeting), domain(3)), Ok(true));
                }
            }
        });
        let mut worker = table.writer(OwnerId::worker(0));
        let (stop, reported) = (&stop, &reported);
        let reporting = move || {
            let mut version = 0;
            while !stop.load(Ordering::Relaxed) {
                version += 1;
                reported.store(version, Ordering::Relaxed);
                // Long and short in turn: extents are taken and freed.
                let info = &[7; 64][..if version % 2 == 0 { 64 } else { 3 }];
                report(&mut worker, domain(1).device(1 + version as u16 % 20), version, info);
            }
        };
        scope.spawn(reporting);
        // Both writers have to make progress meanwhile: one that gets no processor would leave the
        // table at rest.
        let so_far = || (table.words().sequence().load(Ordering::Relaxed), reported.load(Ordering::Relaxed));
        let wait = || {
            let before = so_far();
            while so_far().0 == before.0 || so_far().1 == before.1 {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        };
        let mut momentary = 0;
        for _ in 0..300 {
            let looked = table.verify_living(&mut nobody(), wait);
            momentary += looked.momentary;
            assert_eq!(looked.flaws, Vec::<String>::new());
        }
        // Damage that no writer causes: a part whose count is one too high.
        let link = table.words().part_link(slot).unwrap();
        link.store(link.load(Ordering::Relaxed) + (1 << 32), Ordering::Release);
        let mut found = 0;
        for _ in 0..10 {
            let looked = table.verify_living(&mut nobody(), wait);
            assert!(looked.flaws.len() <= 1, "{looked:?}");
            found += looked.flaws.iter().filter(|flaw| flaw.contains("has 20 members, says 21")).count();
        }
        drop(stopping);
        assert!(found > 0, "it stands still among all that moves");
        println!("{momentary} moments, found {found} of 10");
        assert!(momentary > 0, "the writers were met");
    });
}

#[test]
fn a_flaw_of_a_living_table_has_been_seen_as_often_as_is_said() {
    let table = Arc::new(Table::on_heap(Capacity { meetings: 8, terminals: 16 }));
    furnish(&table);
    let bits = table.words().part_bits();
    set_bit(bits, 1, false);
    let mut looks = 1;
    let looked = table.verify_living(&mut nobody(), || looks += 1);
    assert_eq!((looks, looked.flaws.len(), looked.undecided), (LOOKS, 1, 0), "{looked:?}");
    // It is repaired between two looks: it was a passing state.
    set_bit(bits, 1, false);
    let looked = table.verify_living(&mut nobody(), || set_bit(bits, 1, true));
    assert_eq!((looked.flaws, looked.momentary), (vec![], 1));
}

#[test]
fn entries_that_name_nobody_or_twice_are_flaws() {
    let table = Arc::new(Table::on_heap(Capacity { meetings: 8, terminals: 16 }));
    furnish(&table);
    let words = table.words();
    let (slot, _, raw) = words.find_terminal(domain(2).device(1)).unwrap().unwrap();
    let hash = crate::table::terminals::terminal_hash(raw.address());
    assert!(words.terminal_index().insert(hash, slot));
    let flaws = table.verify();
    assert!(matches!(&flaws[..], [flaw] if flaw.contains("index of Terminals names slot")), "{flaws:?}");
    assert!(words.terminal_index().remove(hash, slot));
    assert_eq!(table.verify(), Vec::<String>::new());
    assert!(words.part_index().insert(12345, 7));
    assert!(words.meeting_index().insert(54321, 1));
    let flaws = table.verify();
    assert_eq!(flaws.iter().filter(|flaw| flaw.contains("and should not")).count(), 2, "{flaws:?}");
}
