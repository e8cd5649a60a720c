//! A file that is replaced durably: written beside its place, flushed, renamed, and its folder
//! flushed.
//!
//! What always holds: whenever the power is cut, or the process killed, the name leads to the old
//! file or to the new one, whole. After [`replace`] has returned without an error it leads to the
//! new one. Snapshots and histogram logs are written so.
//!
//! The table's own file is not: it is memory that no reboot outlives, and a rename alone keeps it
//! whole when a process dies (`table::file::resize`, the keeper's `.filling`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};

/// What becomes of a file that has the name already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Existing {
    /// What is there is written over.
    Replaced,
    /// It stays, and that is an error.
    Kept,
}

/// A file that was not replaced: a step that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}: {error}")]
pub struct ReplaceError {
    /// What was tried.
    pub step: &'static str,
    /// What the system said.
    pub error: io::Error,
}

/// What [`replace`] asks of a file system: steps between which the power may be cut. Tests put a
/// disk that loses and reorders in the place of [`Files`].
pub trait FileSystem {
    /// A new empty file, instead of one that has that name.
    ///
    /// # Errors
    /// The system's.
    fn create(&mut self, path: &Path) -> io::Result<()>;
    /// Appends to the file.
    ///
    /// # Errors
    /// The system's.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Writes over the file's first bytes.
    ///
    /// # Errors
    /// The system's.
    fn write_first(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes durable what the file holds.
    ///
    /// # Errors
    /// The system's.
    fn sync(&mut self) -> io::Result<()>;
    /// Gives a file another's name.
    ///
    /// # Errors
    /// The system's.
    fn rename(&mut self, from: &Path, to: &Path, existing: Existing) -> io::Result<()>;
    /// Makes a folder's names durable.
    ///
    /// # Errors
    /// The system's.
    fn sync_folder(&mut self, folder: &Path) -> io::Result<()>;
}

/// The real file system, and the file that is being written.
#[derive(Debug, Default)]
pub struct Files {
    file: Option<File>,
    is_locked: bool,
}

impl Files {
    /// Each file has an exclusive `flock` of ours from before it has a byte.
    pub fn locked() -> Self {
        Self { file: None, is_locked: true }
    }

    /// The file that was written, open for appending.
    pub fn into_file(self) -> Option<File> {
        self.file
    }

    fn file(&mut self) -> io::Result<&mut File> {
        self.file.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl FileSystem for Files {
    fn create(&mut self, path: &Path) -> io::Result<()> {
        // Unlinked and not emptied: where a power cut tore a rename, it is the last file's other
        // name.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // It follows no link that somebody else may have laid there meanwhile. One that stays open
        // is appended to from then on; in such a file nothing can be written over.
        let file = OpenOptions::new().write(true).append(self.is_locked).create_new(true).open(path)?;
        if self.is_locked {
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        }
        self.file = Some(file);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file()?.write_all(bytes)
    }

    fn write_first(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file()?.write_all_at(bytes, 0)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file()?.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path, existing: Existing) -> io::Result<()> {
        match existing {
            // Not by renameat2, which an engine may not call.
            Existing::Replaced => fs::rename(from, to),
            Existing::Kept => Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?),
        }
    }

    fn sync_folder(&mut self, folder: &Path) -> io::Result<()> {
        sync_folder(folder)
    }
}

/// Puts a file of these pieces, one behind the other, at `path`. Until it is whole it is at
/// `beside`, in the same folder.
///
/// # Errors
/// A step failed. What is at `path` is the old file or the new one, whole; something may be left at
/// `beside`.
pub fn replace(
    files: &mut impl FileSystem,
    path: &Path,
    beside: &Path,
    existing: Existing,
    pieces: &[&[u8]],
) -> Result<(), ReplaceError> {
    replace_with(files, path, beside, existing, |files| {
        let written = pieces.iter().try_for_each(|piece| files.write(piece));
        written.map_err(|error| ReplaceError { step: "write it", error })
    })
}

/// As [`replace`], with a file that `fill` writes.
///
/// # Errors
/// See [`replace`]; and those of `fill`.
pub fn replace_with<F: FileSystem, T, E: From<ReplaceError>>(
    files: &mut F,
    path: &Path,
    beside: &Path,
    existing: Existing,
    fill: impl FnOnce(&mut F) -> Result<T, E>,
) -> Result<T, E> {
    let failed = |step| move |error| ReplaceError { step, error };
    files.create(beside).map_err(failed("create the file beside it"))?;
    let filled = fill(files)?;
    files.sync().map_err(failed("make it durable"))?;
    files.rename(beside, path, existing).map_err(failed("put it in its place"))?;
    // The name is durable with its folder.
    files.sync_folder(folder_of(path)).map_err(failed("make its name durable"))?;
    Ok(filled)
}

/// As [`replace_with`], on the real file system, with a name beside it that is this process's own.
/// Where a step fails, nothing is left there.
///
/// # Errors
/// See [`replace_with`].
pub fn replace_file<T, E: From<ReplaceError>>(
    path: &Path,
    existing: Existing,
    fill: impl FnOnce(&mut Files) -> Result<T, E>,
) -> Result<T, E> {
    let beside = beside(path);
    let replaced = replace_with(&mut Files::default(), path, &beside, existing, fill);
    if replaced.is_err() {
        let _ = fs::remove_file(&beside);
    }
    replaced
}

/// Where this process writes what is to be at this path.
pub fn beside(path: &Path) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    beside.into()
}

/// The folder that a path's name is in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a folder's names durable. No flush of a file does that.
///
/// # Errors
/// The system's.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_kept_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let put = |existing, pieces: &[&[u8]], first: &[u8]| {
            replace_file(&path, existing, |files| {
                let written = pieces.iter().try_for_each(|piece| files.write(piece));
                let written = written.and_then(|()| files.write_first(first));
                written.map_err(|error| ReplaceError { step: "write it", error })
            })
        };
        put(Existing::Kept, &[b"-----", b" ", b"one"], b"first").unwrap();
        let refused = put(Existing::Kept, &[b"second"], b"").unwrap_err();
        assert_eq!((refused.step, refused.error.kind()), ("put it in its place", io::ErrorKind::AlreadyExists));
        assert_eq!(fs::read(&path).unwrap(), b"first one");
        put(Existing::Replaced, &[b"third"], b"").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"third");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
