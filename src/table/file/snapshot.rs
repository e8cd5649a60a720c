//! Snapshots: the table as an immutable file on disk, which warms the next table after a reboot.
//! What is in one, and how it is read where it lies, is in `table::archive`.
//!
//! A snapshot is written beside its place, made durable, and renamed: the file is whole, old or
//! new. Each process writes a file of its own there, because an engine may still be writing its
//! last snapshot while its successor writes the first. Writing needs memory for a few thousand
//! members, whatever the table's size.
//!
//! Taking one stops no writer. It is not one instant of the table, and need not be: where it and
//! the database, or it and an autonomous server, disagree, those are right.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::sys::durable::{Existing, FileSystem, ReplaceError, folder_of, replace_file};
use crate::sys::file_bytes::FileBytes;
use crate::sys::mapping::BootId;
use crate::table::archive::{self, Archive, Written};
use crate::table::{Capacity, Part, Table, Terminal};
use crate::wire::Epoch;

pub use crate::table::archive::SnapshotFault;

/// No snapshot takes as long to write: an older file was left by a killed process.
const LEFT_AFTER: Duration = Duration::from_secs(600);

/// Why a snapshot was not written or not read. An existing one is unchanged.
#[derive(Debug, thiserror::Error)]
#[error("snapshot {}: {what}", path.display())]
#[expect(missing_docs, reason = "the file, and what is wrong with it")]
pub struct SnapshotError {
    pub path: PathBuf,
    pub what: SnapshotFault,
}

impl From<ReplaceError> for SnapshotFault {
    fn from(ReplaceError { step, error }: ReplaceError) -> Self {
        Self::Io { step, error }
    }
}

/// All that a table or a snapshot holds, as one value: to compare them. What serves reads a
/// snapshot where it lies.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "as the methods of [`Table`] of these names document them")]
pub struct Snapshot {
    pub boot_id: BootId,
    pub epoch: Epoch,
    pub generation_end: u32,
    pub capacity: Capacity,
    /// Its parts, each with its members, in the order of meetings and domains. None is marked as in
    /// doubt.
    pub parts: Vec<(Part, Vec<Terminal>)>,
}

impl Snapshot {
    /// What a table holds now.
    pub fn of(table: &Table) -> Self {
        let members = |part: Part| (part, table.members(part.meeting, part.domain).collect());
        Self {
            boot_id: table.boot_id(),
            epoch: table.epoch(),
            generation_end: table.generation_end(),
            capacity: table.capacity(),
            parts: sorted(table.parts().map(members).collect()),
        }
    }

    /// What a snapshot holds.
    ///
    /// # Errors
    /// Some of it is damaged.
    pub fn read(archive: &Archive) -> Result<Self, SnapshotFault> {
        let mut parts = Vec::new();
        archive.for_each(|part| parts.extend(part.part().map(|record| (record, part.members().collect()))))?;
        let &archive::Whence { boot_id, epoch, generation_end, capacity, .. } = archive.whence();
        Ok(Self { boot_id, epoch, generation_end, capacity, parts: sorted(parts) })
    }
}

fn sorted(mut parts: Vec<(Part, Vec<Terminal>)>) -> Vec<(Part, Vec<Terminal>)> {
    parts.sort_by_key(|(part, _)| (part.meeting, part.domain));
    for (part, members) in &mut parts {
        members.sort_by_key(|member| member.terminal);
        part.participants = members.len() as u16;
        (part.in_doubt, part.is_unlisted) = (false, false);
    }
    parts
}

/// Writes a snapshot of a table, durably, in the place of the last one.
///
/// # Errors
/// The last one is as it was.
pub fn write(table: &Table, path: &Path) -> Result<Written, SnapshotError> {
    sweep(path);
    let written = replace_file(path, Existing::Replaced, |files| fill(table, files));
    written.map_err(|what| SnapshotError { path: path.to_owned(), what })
}

/// Maps a snapshot. It is read where it lies, and checked as it is read.
///
/// # Errors
/// It is none that this program can read. The file is not changed.
pub fn open(path: &Path) -> Result<Archive, SnapshotError> {
    let mapped = FileBytes::open(path).map_err(not_opened);
    mapped.and_then(Archive::open).map_err(|what| SnapshotError { path: path.to_owned(), what })
}

/// Why a file was not opened: a folder, a pipe or a device is no snapshot.
pub(super) fn not_opened(error: io::Error) -> SnapshotFault {
    match error.kind() {
        io::ErrorKind::InvalidInput => SnapshotFault::NotASnapshot,
        _ => failed("open it")(error),
    }
}

/// Reads all of a snapshot. The file is not changed.
///
/// # Errors
/// It is none that this program can read, or damaged.
pub fn read(path: &Path) -> Result<Snapshot, SnapshotError> {
    Snapshot::read(&open(path)?).map_err(|what| SnapshotError { path: path.to_owned(), what })
}

/// Removes the files that killed processes have left beside the snapshot: those not written to for
/// long. A failure to remove them is no reason to write no snapshot.
fn sweep(path: &Path) {
    let (Some(name), Ok(beside)) = (path.file_name().and_then(OsStr::to_str), fs::read_dir(folder_of(path))) else {
        return;
    };
    for entry in beside.flatten() {
        let found = entry.file_name();
        let left =
            found.to_str().is_some_and(|found| found.starts_with(&format!("{name}.")) && found.ends_with(".new"));
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if left && age().is_some_and(|age| age >= LEFT_AFTER) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Writes a snapshot on this file system.
#[cfg(test)]
pub(in crate::table) fn write_to(
    files: &mut impl FileSystem,
    table: &Table,
    path: &Path,
) -> Result<Written, SnapshotFault> {
    use crate::sys::durable::{beside, replace_with};
    replace_with(files, path, &beside(path), Existing::Replaced, |files| fill(table, files))
}

/// Writes a table into the file that was begun.
pub(super) fn fill(table: &Table, files: &mut impl FileSystem) -> Result<Written, SnapshotFault> {
    let (written, head) = archive::write(table, &mut |bytes| files.write(bytes).map_err(failed("write it")))?;
    files.write_first(&head).map_err(failed("write its header"))?;
    Ok(written)
}

/// The whole content of a snapshot's file, for tests that change it.
#[cfg(test)]
pub(in crate::table) fn parse(bytes: &[u8]) -> Result<Snapshot, SnapshotFault> {
    Snapshot::read(&Archive::open(FileBytes::heap(bytes))?)
}

pub(super) fn failed(step: &'static str) -> impl FnOnce(io::Error) -> SnapshotFault {
    move |error| SnapshotFault::Io { step, error }
}
