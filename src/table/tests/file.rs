//! Tables and snapshots in files: a whole one is opened; any other is refused with the reason, and
//! left unchanged.

use crate::wire::MeetingId;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::walk::walked;
use super::{domain, part, report};
use crate::sys::mapping::BootId;
use crate::sys::process::copies;
use crate::table::file::snapshot::{self, Snapshot, SnapshotFault};
use crate::table::file::{OpenError, Refusal};
use crate::table::*;
use crate::wire::{Epoch, Info, Role};

const CAPACITY: Capacity = Capacity { meetings: 8, terminals: 16 };

pub(in crate::table) struct Folder(pub tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::Builder::new().prefix("baton-table-").tempdir_in("/dev/shm").unwrap())
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

pub(in crate::table) fn furnished(path: &Path) -> Arc<Table> {
    let table = Arc::new(Table::create_at(path, CAPACITY, BootId(77)).unwrap());
    furnish(&table);
    table
}

pub(in crate::table) fn furnish(table: &Arc<Table>) {
    table.set_reservation(Epoch::new(2, 30), 90);
    let mut control = table.writer(OwnerId::CONTROL);
    for number in 1..=3 {
        control.insert_part(&part(1, number)).unwrap();
    }
    for device in 1..=6 {
        let mut terminal = Terminal::new(domain(2).device(device), MeetingId(1), Role::Participant);
        terminal.info = Info::new(&[device as u8; 64][..usize::from(device) * 10]);
        control.join(MeetingId(1), domain(2), &terminal).unwrap();
    }
}

#[test]
fn a_table_is_there_again_when_it_is_opened() {
    let folder = Folder::new();
    let path = folder.file("table");
    let before = Snapshot::of(&furnished(&path));
    let table = Table::open_at(&path).unwrap();
    assert_eq!((table.boot_id(), table.capacity(), table.epoch()), (BootId(77), CAPACITY, Epoch::new(2, 30)));
    assert_eq!(Snapshot::of(&table), before);
    assert_eq!(table.recover(), Recovered::default());
}

#[test]
fn a_file_that_is_there_is_not_written_over() {
    let folder = Folder::new();
    let path = folder.file("table");
    fs::write(&path, "mine").unwrap();
    let refused = Table::create_at(&path, CAPACITY, BootId(1)).unwrap_err();
    assert!(refused.to_string().contains("exists already"), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), b"mine");
}

#[test]
fn the_lock_is_free_only_when_its_holders_are_gone() {
    let _none_copied = copies::forbidden();
    let folder = Folder::new();
    let path = folder.file("table");
    let first = furnished(&path);
    assert!(first.mapping().try_lock().unwrap());
    let second = Table::open_at(&path).unwrap();
    assert!(!second.mapping().try_lock().unwrap());
    // A descriptor that was passed on belongs to the same open file description: it holds the lock
    // too.
    let handed_on = first.mapping().fd().unwrap().try_clone_to_owned().unwrap();
    drop(first);
    assert!(!second.mapping().try_lock().unwrap());
    drop(handed_on);
    assert!(second.mapping().try_lock().unwrap());
}

#[test]
fn what_is_no_whole_table_is_refused_and_left_as_it_is() {
    let folder = Folder::new();
    let path = folder.file("table");
    drop(furnished(&path));
    let whole = fs::read(&path).unwrap();
    let flipped = |word: usize| {
        let mut bytes = whole.clone();
        bytes[word * 8] ^= 4;
        bytes
    };
    for bit in 0..7 * 64 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bytes).unwrap();
        let refused = Table::open_at(&path).unwrap_err();
        let fits = match refused {
            OpenError::Refused(Refusal::NotATable) => bit / 64 == 0,
            OpenError::Refused(Refusal::OtherLayout { .. }) => bit / 64 == 1,
            OpenError::Refused(Refusal::Header) => bit / 64 > 1,
            _ => false,
        };
        assert!(fits, "bit {bit} of the header");
    }
    let cut = whole[..whole.len() - 4096].to_vec();
    let odd = whole[..whole.len() - 3].to_vec();
    let longer = [&whole[..], &[0; 4096]].concat();
    let says = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let refused = Table::open_at(&path).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), bytes, "left as it was");
        match refused {
            OpenError::Refused(refusal) => refusal,
            other => panic!("{other}"),
        }
    };
    assert!(matches!(says(b""), Refusal::Length { .. }));
    assert!(matches!(says(&odd), Refusal::Length { .. }));
    assert!(matches!(says(&cut), Refusal::Length { .. }));
    assert!(matches!(says(&longer), Refusal::Length { .. }));
    assert!(matches!(says(&whole[..256]), Refusal::Length { .. }));
    assert_eq!(says(&[7; 4096]), Refusal::NotATable);
    assert_eq!(says(&flipped(0)), Refusal::NotATable);
    assert!(matches!(says(&flipped(1)), Refusal::OtherLayout { .. }));
    for word in 2..=6 {
        assert_eq!(says(&flipped(word)), Refusal::Header, "word {word}");
    }
    // The epoch is claimed by an owner that does not exist: no recovery would ever evict it.
    let mut nobody = whole.clone();
    nobody[16 * 8] = 0xFF;
    assert_eq!(says(&nobody), Refusal::Epoch);
    for word in 17..=30 {
        // One bank of the epoch's slot is current. The other is outdated, and its loss harmless.
        fs::write(&path, flipped(word)).unwrap();
        match Table::open_at(&path) {
            Err(OpenError::Refused(refusal)) => assert_eq!(refusal, Refusal::Epoch),
            opened => assert_eq!(opened.unwrap().epoch(), Epoch::new(2, 30)),
        }
    }
}

/// Whichever bit of the memory flips, the table returns errors and does not panic, and reads no
/// record that was not written.
#[test]
fn damage_is_an_error_and_never_a_panic_or_a_wrong_record() {
    let original = Arc::new(Table::on_heap(CAPACITY));
    furnish(&original);
    let expected = Snapshot::of(&original);
    let words = original.mapping().words();
    let mut unreadable = 0;
    for at in 16..words.len() {
        let before = words[at].load(Ordering::Relaxed);
        for damage in [1 << (at % 64), 1 << (at * 7 % 64), u64::MAX, 0x5555_5555_5555_5555] {
            let table = copy(&original);
            table.mapping().words()[at].store(before ^ damage, Ordering::Relaxed);
            if table.mapping().words()[16..31]
                .iter()
                .zip(&words[16..31])
                .any(|(a, b)| a.load(Ordering::Relaxed) != b.load(Ordering::Relaxed))
            {
                continue;
            }
            table.recover();
            for part in table.parts() {
                let known = |(known, _): &(Part, _)| Part { participants: part.participants, ..*known } == part;
                assert!(expected.parts.iter().any(known), "word {at}: {part:?}");
            }
            for (_, part) in (1..=4).flat_map(|number| walked(&table, number)) {
                let known = |(known, _): &(Part, _)| Part { participants: part.participants, ..*known } == part;
                assert!(expected.parts.iter().any(known), "word {at}: {part:?}");
            }
            for terminal in table.terminals() {
                let known = expected.parts.iter().any(|(_, members)| members.contains(&terminal));
                assert!(known, "word {at}: {terminal:?}");
            }
            table.verify();
            unreadable += table.unreadable();
            let mut control = table.writer(OwnerId::CONTROL);
            for device in 1..=7 {
                report(&mut control, domain(2).device(device), 5, &[1; 64][..usize::from(device) * 9]);
                let _ = control.leave(MeetingId(1), domain(2).device(device));
                let _ = control.join(
                    MeetingId(1),
                    domain(1),
                    &Terminal::new(domain(1).device(device), MeetingId(1), Role::Chairman),
                );
            }
            for number in 1..=4 {
                let _ = control.discard_damaged(MeetingId(1), domain(number));
                assert!(control.discard_damaged(MeetingId(1), domain(number)) != Ok(true), "word {at}");
                let _ = control.remove_part(MeetingId(1), domain(number));
                let _ = control.insert_part(&part(4, number));
            }
        }
    }
    assert!(unreadable > 0, "the damage was met");
}

fn copy(table: &Table) -> Arc<Table> {
    let mapping = crate::sys::mapping::Mapping::heap(table.mapping().bytes());
    for (to, from) in mapping.words().iter().zip(table.mapping().words()) {
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    Arc::new(Table::open(mapping).unwrap())
}

#[test]
fn a_snapshot_holds_what_the_table_held_and_the_next_one_takes_its_place() {
    let folder = Folder::new();
    let table = furnished(&folder.file("table"));
    let path = folder.file("snapshot");
    let written = snapshot::write(&table, &path).unwrap();
    assert_eq!((written.parts, written.terminals), (3, 6));
    assert_eq!(fs::metadata(&path).unwrap().len(), written.head.bytes);
    assert_eq!(snapshot::read(&path).unwrap(), Snapshot::of(&table));
    // What was mapped before stays what it was.
    let mapped = snapshot::open(&path).unwrap();
    let before = Snapshot::of(&table);
    table.writer(OwnerId::CONTROL).remove_part(MeetingId(1), domain(2)).unwrap();
    snapshot::write(&table, &path).unwrap();
    assert_eq!(snapshot::read(&path).unwrap(), Snapshot::of(&table));
    assert_eq!(Snapshot::read(&mapped).unwrap(), before);
    assert_eq!(fs::read_dir(folder.0.path()).unwrap().count(), 2, "nothing is left beside it");
}

/// An engine opens its snapshot before it controls: what is no file is refused, and not waited for.
#[test]
fn what_is_no_file_is_no_snapshot_and_is_not_waited_for() {
    let folder = Folder::new();
    fs::create_dir(folder.file("folder")).unwrap();
    fs::write(folder.file("empty"), "").unwrap();
    std::os::unix::fs::symlink("/dev/zero", folder.file("device")).unwrap();
    mknodat(CWD, folder.file("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    for name in ["empty", "device", "pipe", "folder"] {
        let (path, (say, hear)) = (folder.file(name), mpsc::channel());
        std::thread::spawn(move || say.send(snapshot::open(&path).map(drop)));
        let opened = hear.recv_timeout(Duration::from_secs(10)).unwrap_or_else(|_| panic!("{name}: it is waited for"));
        let refused = opened.unwrap_err();
        assert!(matches!(refused.what, SnapshotFault::NotASnapshot), "{name}: {refused}");
    }
}

/// It is cut at every length, and a bit of every byte is flipped.
#[test]
fn a_snapshot_that_is_not_whole_is_refused_and_left_as_it_is() {
    let folder = Folder::new();
    let path = folder.file("snapshot");
    snapshot::write(&furnished(&folder.file("table")), &path).unwrap();
    let whole = fs::read(&path).unwrap();
    let says = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let refused = snapshot::read(&path).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), bytes, "left as it was");
        assert!(refused.to_string().contains("snapshot"), "it is named: {refused}");
        refused.what
    };
    for length in 0..whole.len() {
        let refused = says(&whole[..length]);
        let fits = match length {
            0..64 => matches!(refused, SnapshotFault::NotASnapshot),
            _ => matches!(refused, SnapshotFault::Length { .. }),
        };
        assert!(fits, "{length}: {refused}");
    }
    assert!(matches!(says(&[&whole[..], &[0; 64]].concat()), SnapshotFault::Length { .. }));
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        let refused = says(&bytes);
        let fits = match at {
            0..8 => matches!(refused, SnapshotFault::NotASnapshot),
            8..24 => matches!(refused, SnapshotFault::OtherVersion { .. }),
            24..32 => matches!(refused, SnapshotFault::Length { .. }),
            _ => matches!(refused, SnapshotFault::Digest),
        };
        assert!(fits, "byte {at}: {refused}");
    }
    // The header of the first version, behind which was one archive.
    let mut older = whole.clone();
    older[8] = 1;
    assert!(matches!(says(&older), SnapshotFault::OtherVersion { version: 1, .. }));
    fs::remove_file(&path).unwrap();
    assert!(matches!(snapshot::read(&path).unwrap_err().what, SnapshotFault::Io { .. }));
}

/// An engine writes its last snapshot while its successor writes its first.
#[test]
fn a_snapshot_that_another_process_writes_is_not_met_and_what_the_dead_left_goes() {
    let folder = Folder::new();
    let (path, table) = (folder.file("snapshot"), furnished(&folder.file("table")));
    let (living, dead, other) =
        (folder.file("snapshot.1.new"), folder.file("snapshot.2.new"), folder.file("other.2.new"));
    for file in [&living, &dead, &other] {
        fs::write(file, "half").unwrap();
    }
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    for file in [&dead, &other] {
        fs::File::options().write(true).open(file).unwrap().set_modified(long_ago).unwrap();
    }
    snapshot::write(&table, &path).unwrap();
    assert_eq!(snapshot::read(&path).unwrap(), Snapshot::of(&table));
    assert_eq!(fs::read(&living).unwrap(), b"half");
    assert!(!dead.exists() && other.exists());
}
