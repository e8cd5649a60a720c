//! Resizing: all or nothing, at whichever step it ends.
//!
//! A killed process leaves the folder as its last system call did. So the states after each step
//! are all that a death can leave, and they are checked here; `tests/table_command.rs` kills the
//! command itself.

use crate::wire::MeetingId;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::file::{Folder, furnish, furnished};
use crate::sys::mapping::BootId;
use crate::sys::process::copies;
use crate::table::file::resize::{ResizeError, Resized, Step, Wanted, resize};
use crate::table::file::snapshot::Snapshot;
use crate::table::*;
use crate::wire::Info;

const LARGER: Wanted = Wanted { meetings: Some(100), terminals: Some(1000), discard_old: false };
const ROOM: Capacity = Capacity { meetings: 100, terminals: 1000 };

fn silent(_: Step) {}

fn content(path: &Path) -> (Capacity, Snapshot) {
    let table = Table::open_at(path).unwrap();
    assert_eq!(table.verify(), Vec::<String>::new());
    let capacity = table.capacity();
    // All but the capacity.
    (capacity, Snapshot { capacity: ROOM, ..Snapshot::of(&table) })
}

fn names(folder: &Folder) -> Vec<String> {
    let entries = fs::read_dir(folder.0.path()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_larger_table_holds_what_the_old_one_held_whenever_it_dies() {
    let folder = Folder::new();
    let path = folder.file("table");
    drop(furnished(&path));
    let before = content(&path);
    let mut steps = Vec::new();
    let done = resize(&path, &LARGER, &mut |step| {
        let (capacity, held) = content(&path);
        assert_eq!(held, before.1, "after {step:?}");
        assert_eq!(capacity, if step == Step::Swapped { ROOM } else { before.0 });
        steps.push((step, names(&folder)));
    });
    let kept = folder.file("table.before-resize");
    let (bytes, after) = (Table::bytes(ROOM), ROOM);
    assert_eq!(
        done.unwrap(),
        Resized { before: before.0, after, parts: 3, terminals: 6, damaged: 0, bytes, kept: Some(kept.clone()) }
    );
    let folders: Vec<_> = steps.iter().map(|(step, names)| (*step, names.join(" "))).collect();
    let expected = [
        (Step::Named, "table table.resizing"),
        (Step::Kept, "table table.before-resize table.resizing"),
        (Step::Swapped, "table table.before-resize"),
    ];
    assert_eq!(folders, expected.map(|(step, names)| (step, names.to_owned())));
    assert_eq!(content(&kept), before);
    // And it can be used: more than the old one had room for.
    let table = Arc::new(Table::open_at(&path).unwrap());
    let mut control = table.writer(OwnerId::CONTROL);
    for number in 4..=100 {
        control.insert_part(&super::part(1, number)).unwrap();
    }
}

#[test]
fn a_resize_that_died_at_any_step_is_done_again() {
    let _none_copied = copies::forbidden();
    for dies in [Step::Named, Step::Kept] {
        let folder = Folder::new();
        let path = folder.file("table");
        drop(furnished(&path));
        let before = content(&path);
        let died = std::panic::catch_unwind(|| {
            let die = &mut |step| {
                if step == dies {
                    std::panic::resume_unwind(Box::new("died"))
                }
            };
            resize(&path, &LARGER, die)
        });
        assert!(died.is_err());
        assert_eq!(content(&path), before);
        assert!(names(&folder).len() > 1, "something was left: {:?}", names(&folder));
        resize(&path, &LARGER, &mut silent).unwrap();
        assert_eq!(content(&path), (ROOM, before.1));
        assert_eq!(names(&folder), ["table", "table.before-resize"]);
    }
}

#[test]
fn a_refused_resize_changes_nothing() {
    let _none_copied = copies::forbidden();
    let folder = Folder::new();
    let path = folder.file("table");
    let served = furnished(&path);
    let bytes = fs::read(&path).unwrap();
    let refused = |wanted: Wanted| {
        let before = names(&folder);
        let refused = resize(&path, &wanted, &mut silent).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), bytes, "{refused}");
        assert_eq!(names(&folder), before, "{refused}");
        refused
    };
    assert!(served.mapping().try_lock().unwrap());
    assert!(matches!(refused(LARGER), ResizeError::Held { pid: Some(pid), .. } if pid == std::process::id()));
    drop(served);
    let few = refused(Wanted { meetings: Some(2), ..Wanted::default() });
    assert!(matches!(few, ResizeError::TooSmall { what: "parts of meetings", holds: 3, room: 2, .. }), "{few}");
    let few = refused(Wanted { terminals: Some(5), ..Wanted::default() });
    assert!(matches!(few, ResizeError::TooSmall { what: "terminals", holds: 6, room: 5, .. }), "{few}");
    let none = refused(Wanted { terminals: Some(u32::MAX), ..Wanted::default() });
    assert!(none.to_string().contains("a table holds 1 to"), "{none}");
    // More than any tmpfs here has room for.
    let huge = refused(Wanted { meetings: Some(1 << 30), terminals: Some(1 << 30), discard_old: false });
    assert!(huge.to_string().contains("no room"), "{huge}");
    for way in ["table.before-resize", "table.resizing"] {
        fs::write(folder.file(way), "mine").unwrap();
        assert!(matches!(refused(LARGER), ResizeError::InTheWay(path) if path == folder.file(way)));
        assert_eq!(fs::read(folder.file(way)).unwrap(), b"mine");
        fs::remove_file(folder.file(way)).unwrap();
    }
}

#[test]
fn extents_that_the_new_table_has_not_are_missed_before_anything_is_changed() {
    let _none_copied = copies::forbidden();
    let folder = Folder::new();
    let path = folder.file("table");
    let table = Arc::new(Table::create_at(&path, Capacity { meetings: 8, terminals: 1000 }, BootId(77)).unwrap());
    let mut control = table.writer(OwnerId::CONTROL);
    let (meeting, home) = (MeetingId(1), super::domain(2));
    control.insert_part(&super::part(1, 2)).unwrap();
    for device in 1..=80 {
        let mut terminal = Terminal::new(home.device(device), meeting, crate::wire::Role::Participant);
        terminal.info = Info::new(&[1; 40]);
        control.join(meeting, home, &terminal).unwrap();
    }
    drop((control, table));
    let fewer = Wanted { terminals: Some(100), ..Wanted::default() };
    let refused = resize(&path, &fewer, &mut silent).unwrap_err();
    assert!(matches!(refused, ResizeError::Unfit { error: TableError::Full(_), .. }), "{refused}");
    assert_eq!(names(&folder), ["table"]);
    let discard = Wanted { meetings: Some(9), discard_old: true, ..Wanted::default() };
    assert_eq!(resize(&path, &discard, &mut silent).unwrap().kept, None);
    assert_eq!(names(&folder), ["table"]);
    assert_eq!(content(&path).1.parts[0].1.len(), 80);
}

#[test]
fn a_table_whose_writer_died_is_recovered_and_a_damaged_one_is_not_copied() {
    let _none_copied = copies::forbidden();
    let folder = Folder::new();
    let path = folder.file("table");
    let table = Arc::new(Table::create_at(&path, Capacity { meetings: 8, terminals: 16 }, BootId(7)).unwrap());
    furnish(&table);
    let mut control = table.writer(OwnerId::CONTROL);
    let died = crate::sys::mapping::killed_after(12, || control.insert_part(&super::part(1, 9)).unwrap());
    assert!(died.is_none());
    drop((control, table));
    let table = Table::open_at(&path).unwrap();
    assert_ne!(table.verify(), Vec::<String>::new());
    drop(table);
    resize(&path, &LARGER, &mut silent).unwrap();
    let (capacity, held) = content(&path);
    assert_eq!((capacity, held.generation_end), (ROOM, 90));
    assert!(held.parts.len() >= 3);

    let table = Table::open_at(&path).unwrap();
    let (slot, ..) = table.words().find_terminal(super::domain(2).device(1)).unwrap().unwrap();
    let slot = table.words().terminal_link(slot).unwrap();
    slot.store(slot.load(Ordering::Relaxed) ^ 1, Ordering::Relaxed);
    drop(table);
    let refused = resize(&path, &Wanted { discard_old: true, ..LARGER }, &mut silent).unwrap_err();
    assert!(matches!(refused, ResizeError::Flawed { .. }), "{refused}");
}
