//! The bytes of a file that nobody changes, read where they lie.
//!
//! What always holds: the file is immutable while it has its name. Who writes another one writes it
//! beside and renames it (`sys::durable`), and what was mapped stays what it was. Pages of it come
//! into memory as they are read, and the kernel may take them back at any time: a file of any
//! length costs no memory.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use memmap2::{Advice, Mmap};
use rkyv::util::AlignedVec;

/// A file's bytes, from an address that is a multiple of 16.
pub struct FileBytes(Backing);

enum Backing {
    Map(Mmap, PathBuf),
    Heap(AlignedVec<16>),
}

/// Opens a file for reading. What is no file, such as a pipe, a folder or a device, is an error and
/// is not waited for.
///
/// # Errors
/// The system's.
pub fn open_file(path: &Path) -> io::Result<File> {
    // A pipe without a writer would be waited for otherwise; of a file the flag means nothing.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
    }
    Ok(file)
}

impl FileBytes {
    /// Maps a file for reading.
    ///
    /// # Errors
    /// As of [`open_file`].
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = open_file(path)?;
        // There is no mapping of no bytes.
        if file.metadata()?.len() == 0 {
            return Ok(Self::heap(&[]));
        }
        // SAFETY: the bytes of the slice must not change while it is borrowed. Baton writes to no
        // snapshot that has its name: it writes another file and renames it, which leaves the
        // mapped one as it is. The file's mode leaves it to its owner and to root to do otherwise;
        // were it cut by one of them, touching what is gone would be a SIGBUS, which ends the
        // process and breaks nothing in it.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self(Backing::Map(map, path.to_owned())))
    }

    /// The same bytes on the heap, for tests and simulations.
    pub fn heap(bytes: &[u8]) -> Self {
        let mut aligned = AlignedVec::with_capacity(bytes.len());
        aligned.extend_from_slice(bytes);
        Self(Backing::Heap(aligned))
    }

    /// Which file it was, where it is one.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Backing::Map(_, path) => Some(path),
            Backing::Heap(_) => None,
        }
    }

    /// All of them.
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Backing::Map(map, _) => map,
            Backing::Heap(bytes) => bytes,
        }
    }

    /// Has some of them read from the disk now. A disk that fails is an error here, and not the
    /// SIGBUS that the first read of such a page would be.
    ///
    /// # Errors
    /// The system's.
    pub fn fetch(&self, range: Range<usize>) -> io::Result<()> {
        let Backing::Map(map, _) = &self.0 else { return Ok(()) };
        match map.advise_range(Advice::PopulateRead, range.start, range.len()) {
            // Linux has it since 5.14. Without it the pages come as they are read.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            other => other,
        }
    }
}

impl fmt::Debug for FileBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileBytes({} bytes)", self.as_slice().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_where_it_lies_and_stays_what_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, [7; 9000]).unwrap();
        let bytes = FileBytes::open(&path).unwrap();
        bytes.fetch(5000..9000).unwrap();
        std::fs::write(folder.path().join("other"), "other").unwrap();
        std::fs::rename(folder.path().join("other"), &path).unwrap();
        assert_eq!(bytes.as_slice(), [7; 9000]);
        assert_eq!(bytes.as_slice().as_ptr().addr() % 16, 0);
        assert_eq!(FileBytes::open(&path).unwrap().as_slice(), b"other");
        std::fs::write(&path, "").unwrap();
        assert_eq!(FileBytes::open(&path).unwrap().as_slice(), b"");
        assert!(FileBytes::open(folder.path()).is_err() && FileBytes::open(&folder.path().join("none")).is_err());
    }
}
