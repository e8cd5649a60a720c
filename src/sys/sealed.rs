//! Memory files that nobody can change any more: messages of any length between processes.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};

const SEALED: SealFlags = SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::SEAL);

/// A file with this content. Only `/proc` shows its `name`.
///
/// # Errors
/// The system's.
pub fn write(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.write_all(bytes)?;
    fcntl_add_seals(&file, SEALED)?;
    Ok(file.into())
}

/// The content of such a file, if it is one and not longer than this.
///
/// # Errors
/// `InvalidData` if it could still be changed, or is longer; the system's.
pub fn read(file: OwnedFd, longest: u64) -> io::Result<Vec<u8>> {
    let foreign = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    if !fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SEALED)) {
        return foreign("a file that could still be changed");
    }
    let mut file = File::from(file);
    file.rewind()?;
    let mut bytes = Vec::new();
    (&mut file).take(longest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > longest { foreign("a file that is too long") } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_was_written_is_read_and_cannot_be_changed() {
        let file = write("test", b"words").unwrap();
        let mut copy = File::from(file.as_fd().try_clone_to_owned().unwrap());
        assert!(copy.write_all(b"x").is_err() && copy.set_len(0).is_err());
        assert_eq!(read(file.try_clone().unwrap(), 5).unwrap(), b"words");
        assert_eq!(read(file, 4).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_file_that_could_still_be_changed_is_refused() {
        let open = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        assert_eq!(read(open, 5).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let file = tempfile::tempfile().unwrap();
        assert_eq!(read(file.into(), 5).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
