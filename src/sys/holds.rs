//! Holds: what one process at a time has, and the kernel takes back from the dead.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with, sockopt,
};
use rustix::process::geteuid;

/// Askers of a held name that are answered, over all the time that it is held (net.core.somaxconn's usual value).
const BACKLOG: i32 = 4096;
/// Whoever can open a lock file can lock it, and lock out who should.
const LOCK_MODE: u32 = 0o600;

/// What came of asking for a hold.
#[derive(Debug)]
pub enum Asked<T> {
    /// It is ours.
    Ours(T),
    /// Another process has it: its id, where the kernel tells.
    Held(Option<u32>),
}

/// A name that one process of this network namespace has at a time. It is a listening socket in the abstract
/// namespace, which lives in the network namespace as interfaces do, leaves no file behind, and knows its owner.
#[derive(Debug)]
pub struct NetworkName {
    _socket: OwnedFd,
}

impl NetworkName {
    /// Asks for a name.
    ///
    /// # Errors
    /// The system's.
    pub fn ask(name: &str) -> io::Result<Asked<Self>> {
        let address = SocketAddrUnix::new_abstract_name(name.as_bytes())?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = || socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let own = socket()?;
        match bind(&own, &address) {
            Ok(()) => {
                // Nobody accepts: who asks is gone again, but stays in the backlog for as long as this is held.
                listen(&own, BACKLOG)?;
                Ok(Asked::Ours(Self { _socket: own }))
            }
            Err(rustix::io::Errno::ADDRINUSE) => {
                let asking = socket()?;
                // Where it is let go in between, or too many have asked, nobody is named, and whoever asks may ask again.
                let holder = connect(&asking, &address).and_then(|()| sockopt::socket_peercred(&asking)).ok();
                // Any user can take a name first. Only of those who may is it worth saying that they have it.
                let holder = holder.filter(|holder| holder.uid.is_root() || holder.uid == geteuid());
                Ok(Asked::Held(holder.map(|holder| holder.pid.as_raw_nonzero().get() as u32)))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// A file that one process has locked, with its id in it.
#[derive(Debug)]
pub struct LockFile {
    _file: File,
}

impl LockFile {
    /// Asks for the lock, and makes the file where there is none. The file stays: taking it away would let two
    /// processes lock two files of one name.
    ///
    /// # Errors
    /// The system's.
    pub fn ask(path: &Path) -> io::Result<Asked<Self>> {
        let file = File::options().read(true).write(true).create(true).truncate(false).mode(LOCK_MODE).open(path)?;
        // One that is there already may have been made by another version.
        file.set_permissions(Permissions::from_mode(LOCK_MODE))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                file.set_len(0)?;
                file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)?;
                Ok(Asked::Ours(Self { _file: file }))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let holder = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
                Ok(Asked::Held(holder))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Who took the lock of this file that is held now, as `/proc/locks` tells. The process may be dead, and the lock live on in
/// another that inherited its descriptor.
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

/// Lines such as `1: FLOCK  ADVISORY  WRITE 708 00:14:1234 0 EOF` (Documentation/filesystems/proc.rst).
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
    fn a_name_is_held_by_one_and_freed_by_its_end() {
        let _none_copied = copies::forbidden();
        let name = format!("baton.test.{}", std::process::id());
        let Asked::Ours(held) = NetworkName::ask(&name).unwrap() else { panic!("nobody else has it") };
        let Asked::Held(holder) = NetworkName::ask(&name).unwrap() else { panic!("it is held") };
        assert_eq!(holder, Some(std::process::id()));
        for _ in 0..8 {
            let Asked::Held(Some(_)) = NetworkName::ask(&name).unwrap() else { panic!("nobody who asks waits") };
        }
        drop(held);
        assert!(matches!(NetworkName::ask(&name).unwrap(), Asked::Ours(_)));
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
