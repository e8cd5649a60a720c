//! A power cut between any two steps of writing a snapshot, on a file system that loses, tears and
//! reorders all that was not made durable: the old or the new snapshot is read afterwards, whole.

use crate::wire::MeetingId;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{domain, part};
use crate::sys::durable::{Existing, FileSystem};
use crate::table::file::snapshot::{Snapshot, SnapshotFault, parse, write_to};
use crate::table::*;
use crate::wire::{Epoch, Info, Role, mix};

const SECTOR: usize = 512;
const PATH: &str = "/snapshots/snapshot";

/// A file system that stops after so many steps.
#[derive(Clone, Debug, Default)]
struct Disk {
    /// Each file's bytes as they are read now, and as they are durable.
    files: Vec<(Vec<u8>, Vec<u8>)>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    open: Option<usize>,
    steps_left: Option<usize>,
    /// Whether it reports data as durable that is not.
    lies: bool,
}

impl Disk {
    fn step(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.steps_left {
            *left = left.checked_sub(1).ok_or(io::ErrorKind::Interrupted)?;
        }
        Ok(())
    }

    fn file(&mut self) -> &mut (Vec<u8>, Vec<u8>) {
        let open = self.open.expect("a file was created");
        &mut self.files[open]
    }

    /// The disk after the power comes back.
    fn after_cut(&self, dice: &mut Dice) -> Self {
        let files: Vec<_> = self
            .files
            .iter()
            .map(|(now, durable)| {
                let left = tear(now, durable, dice);
                (left.clone(), left)
            })
            .collect();
        let mut names = self.durable_names.clone();
        // Each name for itself is as it was or as it is.
        for name in self.names.keys().chain(self.durable_names.keys()) {
            if dice.below(2) == 0 {
                match self.names.get(name) {
                    Some(&file) => drop(names.insert(name.clone(), file)),
                    None => drop(names.remove(name)),
                }
            }
        }
        Self { files, durable_names: names.clone(), names, ..Self::default() }
    }

    fn read(&self) -> Option<&[u8]> {
        self.names.get(Path::new(PATH)).map(|&file| &self.files[file].0[..])
    }
}

/// Each sector, and the length, as they are durable or as they were written; what is in neither is
/// zero.
fn tear(now: &[u8], durable: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut left = durable.to_vec();
    let length = match dice.below(3) {
        0 => durable.len(),
        1 => now.len(),
        _ => dice.below(now.len().max(durable.len()) + 1).max(now.len().min(durable.len())),
    };
    left.resize(length, 0);
    let kept = dice.below(9);
    for (at, sector) in left.chunks_mut(SECTOR).enumerate() {
        if dice.below(8) < kept {
            let written = now.get(at * SECTOR..).unwrap_or(&[]);
            let bytes = sector.len().min(written.len());
            sector[..bytes].copy_from_slice(&written[..bytes]);
        }
    }
    left
}

impl FileSystem for Disk {
    fn create(&mut self, path: &Path) -> io::Result<()> {
        self.step()?;
        let file = self.files.len();
        self.files.push(Default::default());
        self.names.insert(path.to_owned(), file);
        self.open = Some(file);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.step()?;
        self.file().0.extend_from_slice(bytes);
        Ok(())
    }

    fn write_first(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.step()?;
        self.file().0[..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.step()?;
        if !self.lies {
            let file = self.file();
            file.1 = file.0.clone();
        }
        Ok(())
    }

    fn rename(&mut self, from: &Path, to: &Path, existing: Existing) -> io::Result<()> {
        self.step()?;
        assert_eq!(existing, Existing::Replaced);
        let file = self.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn sync_folder(&mut self, folder: &Path) -> io::Result<()> {
        self.step()?;
        assert_eq!(Path::new(PATH).parent(), Some(folder));
        self.durable_names = self.names.clone();
        Ok(())
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mix(self.0) % end as u64) as usize
    }
}

fn dice() -> (u64, Dice) {
    let said = std::env::var("BATON_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = said.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64);
    println!("seed {seed} (BATON_SEED repeats it)");
    (seed, Dice(seed))
}

/// A table that changes, with this number: its snapshot is longer than the one before, or shorter.
fn table(number: usize) -> Arc<Table> {
    let table = Arc::new(Table::on_heap(Capacity { meetings: 4, terminals: 64 }));
    table.set_reservation(Epoch::new(1, 1 + number as u16), 1000);
    let mut control = table.writer(OwnerId::CONTROL);
    control.insert_part(&part(1 + number as u64, 1)).unwrap();
    for device in 1..=(number * 17 % 40) as u16 {
        let mut member = Terminal::new(domain(1).device(device), MeetingId(1 + number as u64), Role::Participant);
        member.info = Info::new(&[number as u8; 60]);
        control.join(member.meeting, domain(1), &member).unwrap();
    }
    drop(control);
    table
}

/// Steps of one writing: create, a header of zeros, a segment and the zeros behind it, the
/// directory and its length, the header, sync, rename, sync of the folder.
const STEPS: usize = 10;

/// It found that the file beside the snapshot was emptied, not unlinked: where a rename is torn so
/// that both names are there, that emptied the old snapshot too.
#[test]
fn a_power_cut_leaves_the_old_snapshot_or_the_new_one() {
    let (seed, mut dice) = dice();
    let tables: Vec<_> = (0..12).map(table).collect();
    let snapshots: Vec<_> = tables.iter().map(|table| Snapshot::of(table)).collect();
    let (mut old, mut new) = (0, 0);
    for round in 0..400 {
        let mut disk = Disk::default();
        let mut last: Option<usize> = None;
        // Power comes and goes over the same disk, so what an earlier cut left lying about is met
        // too.
        for (number, next) in snapshots.iter().enumerate() {
            let steps = dice.below(STEPS + 1);
            disk.steps_left = Some(steps);
            let written = write_to(&mut disk, &tables[number], Path::new(PATH));
            assert_eq!(written.is_ok(), steps == STEPS, "{written:?}");
            disk = disk.after_cut(&mut dice);
            let story = format!("seed {seed}, round {round}, snapshot {number} cut after step {steps}");
            let found = disk.read().map(|bytes| parse(bytes).unwrap_or_else(|error| panic!("{story}: {error}")));
            if found.as_ref() == Some(next) {
                assert!(steps >= STEPS - 1, "{story}: there before it was renamed");
                (last, new) = (Some(number), new + 1);
            } else {
                assert!(steps < STEPS, "{story}: it was promised");
                assert_eq!(found.as_ref(), last.map(|last| &snapshots[last]), "{story}");
                old += 1;
            }
        }
    }
    assert!(old > 0 && new > 0);
    println!("{old} times the old one, {new} times the new one");
}

/// A disk that lies about its flushes may lose a snapshot; it never makes one that was not taken.
#[test]
fn a_disk_that_lies_loses_a_snapshot_and_never_makes_a_wrong_one() {
    let (seed, mut dice) = dice();
    let tables: Vec<_> = (0..12).map(table).collect();
    let snapshots: Vec<_> = tables.iter().map(|table| Snapshot::of(table)).collect();
    let (mut whole, mut refused) = (0, 0);
    for round in 0..400 {
        let mut disk = Disk::default();
        for number in 0..tables.len() {
            (disk.steps_left, disk.lies) = (Some(dice.below(STEPS + 1)), true);
            let _ = write_to(&mut disk, &tables[number], Path::new(PATH));
            disk = disk.after_cut(&mut dice);
            match disk.read().map(parse) {
                None => {}
                Some(Ok(found)) => {
                    let story = format!("seed {seed}, round {round}, snapshot {number}: nobody took {found:?}");
                    assert!(snapshots[..=number].contains(&found), "{story}");
                    whole += 1;
                }
                Some(Err(
                    SnapshotFault::NotASnapshot
                    | SnapshotFault::OtherVersion { .. }
                    | SnapshotFault::Length { .. }
                    | SnapshotFault::Digest,
                )) => refused += 1,
                Some(Err(error)) => panic!("seed {seed}, round {round}, snapshot {number}: {error}"),
            }
        }
    }
    assert!(whole > 0 && refused > 0, "{whole} whole, {refused} refused");
}
