//! Exclusive locks: resources that one process at a time has, and that the kernel releases when it
//! dies.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;

/// A process that can open a lock file can lock it, and so lock out the process that needs it.
const LOCK_MODE: u32 = 0o600;

/// The result of asking for an exclusive lock.
#[derive(Debug)]
pub enum Asked<T> {
    /// The lock was granted; it is held until the value is dropped.
    Ours(T),
    /// Another process has it: its id, if the kernel tells.
    Held(Option<u32>),
}

/// The folder of the locks on interfaces, for every network namespace and every keeper of this
/// machine.
pub const FOLDER: &str = "/run/baton-holds";

/// Exclusive use of an interface of this network namespace: a locked file in a folder that only
/// root may write to. An abstract Unix name would go away with the namespace by itself, but any
/// process could take it first.
#[derive(Debug)]
pub struct InterfaceHold {
    path: PathBuf,
    _lock: LockFile,
}

impl InterfaceHold {
    /// Asks for the interface with this index, in this folder, which is made if it does not exist.
    ///
    /// # Errors
    /// The system's; the folder belongs to another user, or others may write to it.
    pub fn ask(folder: &Path, index: u32) -> io::Result<Asked<Self>> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let metadata = std::fs::metadata(folder)?;
        if metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
            let whose = format!("{} belongs to another user, or others may write to it; remove it", folder.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, whose));
        }
        let namespace = std::fs::metadata("/proc/thread-self/ns/net")?.ino();
        let path = folder.join(format!("{namespace}-{index}"));
        loop {
            match LockFile::ask(&path)? {
                // A previous holder may have removed its file between our opening and locking it.
                Asked::Ours(lock) if !lock.is_at(&path)? => {}
                Asked::Ours(lock) => return Ok(Asked::Ours(Self { path, _lock: lock })),
                Asked::Held(holder) => return Ok(Asked::Held(holder)),
            }
        }
    }
}

impl Drop for InterfaceHold {
    fn drop(&mut self) {
        // Removed while it is locked: a process that locks it later checks whether the file is
        // still there.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A file that one process has locked; it contains that process's id.
#[derive(Debug)]
pub struct LockFile {
    file: File,
}

impl LockFile {
    /// Asks for the lock, and makes the file if it does not exist. The file stays: removing it
    /// would let two processes lock two files of one name.
    ///
    /// # Errors
    /// The system's.
    pub fn ask(path: &Path) -> io::Result<Asked<Self>> {
        let file = File::options().read(true).write(true).create(true).truncate(false).mode(LOCK_MODE).open(path)?;
        // A file that exists already may have been made by another version.
        file.set_permissions(Permissions::from_mode(LOCK_MODE))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                file.set_len(0)?;
                file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)?;
                Ok(Asked::Ours(Self { file }))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let holder = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
                Ok(Asked::Held(holder))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether this file still has the name.
    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let own = self.file.metadata()?;
        match std::fs::metadata(path) {
            Ok(there) => Ok((own.dev(), own.ino()) == (there.dev(), there.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The process that took the lock that is now held on this file, according to `/proc/locks`. The
/// process may be dead while the lock lives on in another process that inherited its descriptor.
///
/// # Errors
/// The system's.
pub fn lock_taker(file: impl AsFd) -> io::Result<Option<u32>> {
    let metadata = File::from(file.as_fd().try_clone_to_owned()?).metadata()?;
    let device = metadata.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let place = format!("{major:02x}:{minor:02x}:{}", metadata.ino());
    Ok(taker_in(&std::fs::read_to_string("/proc/locks")?, &place))
}

/// Lines such as `1: FLOCK  ADVISORY WRITE 708 00:14:1234 0 EOF`
///                          (Documentation/filesystems/proc.rst).
fn taker_in(locks: &str, place: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        match fields[..] {
            [_, "FLOCK", _, _, taker, at, ..] if at == place => taker.parse().ok(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::copies;

    #[test]
    fn an_interface_is_held_by_one_and_freed_by_its_end() {
        let _none_copied = copies::forbidden();
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("holds");
        let ask = |index| InterfaceHold::ask(&folder, index).unwrap();
        let Asked::Ours(held) = ask(7) else { panic!("nobody else has it") };
        for _ in 0..8 {
            let Asked::Held(Some(holder)) = ask(7) else { panic!("it is held") };
            assert_eq!(holder, std::process::id());
        }
        assert!(matches!(ask(8), Asked::Ours(_)), "another interface is another's");
        drop(held);
        assert!(matches!(ask(7), Asked::Ours(_)));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "nothing is left of those that are over");
    }

    #[test]
    fn holds_lie_in_no_folder_that_others_can_write_to() {
        let top = tempfile::tempdir().unwrap();
        std::fs::set_permissions(top.path(), Permissions::from_mode(0o777)).unwrap();
        assert_eq!(InterfaceHold::ask(top.path(), 7).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_lock_file_names_its_holder() {
        let _none_copied = copies::forbidden();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let Asked::Ours(held) = LockFile::ask(&path).unwrap() else { panic!("nobody else has it") };
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, LOCK_MODE);
        let Asked::Held(holder) = LockFile::ask(&path).unwrap() else { panic!("it is held") };
        assert_eq!(holder, Some(std::process::id()));
        drop(held);
        assert!(matches!(LockFile::ask(&path).unwrap(), Asked::Ours(_)));
    }

    #[test]
    fn the_taker_of_a_lock_is_told() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(lock_taker(&file).unwrap(), None);
        flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert_eq!(lock_taker(&file).unwrap(), Some(std::process::id()));
        let locks = "1: POSIX  ADVISORY  WRITE 7 00:14:99 0 EOF\n2: FLOCK  ADVISORY  WRITE 708 00:14:99 0 EOF\n";
        assert_eq!(taker_in(locks, "00:14:99"), Some(708));
        assert_eq!(taker_in(locks, "00:14:9"), None);
    }
}
