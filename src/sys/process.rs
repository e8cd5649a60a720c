//! Processes: started without privileges, and observed until they end; users by name.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{DumpableBehavior, Pid, PidfdFlags, Signal, pidfd_open};

/// A user of this system.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    /// The user's name, or the number as text.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The number of the user's primary group.
    pub gid: u32,
}

impl User {
    /// The user with this name in `/etc/passwd`, or with this number.
    ///
    /// # Errors
    /// `NotFound`: there is none; otherwise the file cannot be read.
    pub fn find(name: &str) -> io::Result<Self> {
        let users = std::fs::read_to_string("/etc/passwd")?;
        Self::find_in(&users, name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn find_in(users: &str, name: &str) -> Option<Self> {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (user, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            let meant = user == name || uid == name;
            Some(Self { name: user.into(), uid: uid.parse().ok()?, gid: gid.parse().ok()? }).filter(|_| meant)
        })
    }

    /// The first folder on the way to `path`, including `path`, that this user may not enter; none
    /// if the way is open. Only permission bits are checked: access control lists may say
    /// otherwise.
    ///
    /// # Errors
    /// A folder on the way does not exist, or cannot be examined.
    pub fn barred(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        let whole = std::path::absolute(path)?;
        let mut way: Vec<_> = whole.ancestors().collect();
        way.reverse();
        for folder in way {
            if !self.may(&std::fs::metadata(folder)?, 0o1) {
                return Ok(Some(folder.into()));
            }
        }
        Ok(None)
    }

    /// Whether the permission bits grant this user `bits` (4 read, 2 write, 1 enter).
    pub fn may(&self, metadata: &std::fs::Metadata, bits: u32) -> bool {
        let shift = match () {
            () if self.uid == 0 => return true,
            () if metadata.uid() == self.uid => 6,
            () if metadata.gid() == self.gid => 3,
            () => 0,
        };
        metadata.mode() >> shift & bits == bits
    }
}

fn baton(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.arg0("baton").args(arguments);
    for variable in super::sd_notify::VARIABLES {
        command.env_remove(variable);
    }
    command
}

/// Whether this process is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A child process, and the descriptor that tells when it has ended.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pidfd: OwnedFd,
}

impl Process {
    /// Starts the running program again with these arguments. Its standard input is `stdin`. It is
    /// in a process group of its own, so that Ctrl-C reaches only its parent, which then stops it
    /// in order.
    ///
    /// # Errors
    /// The system's.
    pub fn start_self(arguments: &[&str], stdin: OwnedFd, user: Option<&User>) -> io::Result<Self> {
        // Not by its path, which may lead to another version by now.
        Self::start(baton(Path::new("/proc/self/exe"), arguments), stdin, user)
    }

    /// As [`Self::start_self`], but starts the program behind this descriptor, which may have been
    /// opened only as a path (`O_PATH`).
    ///
    /// # Errors
    /// The system's: the file is not executable, or not a program.
    pub fn start_opened(program: BorrowedFd<'_>, arguments: &[&str], stdin: OwnedFd) -> io::Result<Self> {
        // The child has the descriptor too until it executes the program, so this path works there.
        let path = PathBuf::from(format!("/proc/self/fd/{}", program.as_raw_fd()));
        Self::start(baton(&path, arguments), stdin, None)
    }

    /// Starts a program; as this user and with only that user's group, if one is given, which needs
    /// root.
    ///
    /// # Errors
    /// The system's.
    pub fn start(mut command: Command, stdin: OwnedFd, user: Option<&User>) -> io::Result<Self> {
        command.stdin(Stdio::from(stdin)).process_group(0);
        if let Some(user) = user {
            // The standard library drops supplementary groups when it changes the user.
            command.uid(user.uid).gid(user.gid);
        }
        let mut child = command.spawn()?;
        let pid = Pid::from_child(&child);
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Self { child, pidfd }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error.into())
            }
        }
    }

    /// Its process id, also after it has ended.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has. Then every thread of it has left its address space for good: the
    /// kernel makes a pidfd readable (`do_notify_pidfd`, kernel/signal.c) only when the last thread
    /// is past `exit_mm`.
    ///
    /// # Errors
    /// The system's.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Kills it. It may not have [ended](Self::ended) yet when this returns.
    pub fn kill(&mut self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Process {
    /// A child does not outlive the value that is responsible for it.
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.kill();
            let _ = self.child.wait();
        }
    }
}

/// Whether there is a process of this id that has not ended. One that has ended and that its parent
/// has not heard of yet is still listed.
pub fn lives(id: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !has_ended(&stat))
}

/// Reads a line such as `4711 (a name) Z 1 …`. A name can contain anything, including parentheses.
fn has_ended(stat: &str) -> bool {
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    matches!(state, Some('Z' | 'X' | 'x'))
}

/// Ties this process to its parent: it is killed when the parent dies, gains no privilege from
/// programs that it executes, and hides its memory, which holds secrets, from other processes of
/// its user, because many may run as `nobody`.
///
/// # Errors
/// The system's.
pub fn tie_to_parent() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// A child has a copy of every descriptor until it executes its program, and what ends with the
/// last copy of a descriptor lives until then. A test of such an end must prevent the other tests
/// of its process from starting a child in that time.
#[cfg(test)]
pub(crate) mod copies {
    use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

    static STARTING: RwLock<()> = RwLock::new(());

    /// To hold in a test that starts processes.
    pub(crate) fn made() -> RwLockReadGuard<'static, ()> {
        STARTING.read()
    }

    /// To hold in a test of something that ends with a descriptor.
    pub(crate) fn forbidden() -> RwLockWriteGuard<'static, ()> {
        STARTING.write()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/bash\nbroken\nnobody:x:65534:65533:nobody:/:/usr/sbin/nologin\n";

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let nobody = User { name: "nobody".into(), uid: 65534, gid: 65533 };
        assert_eq!(User::find_in(USERS, "nobody"), Some(nobody.clone()));
        assert_eq!(User::find_in(USERS, "65534"), Some(nobody));
        assert_eq!(User::find_in(USERS, "broken"), None);
        assert_eq!(User::find_in(USERS, ""), None);
    }

    #[test]
    fn a_closed_folder_on_the_way_is_named() {
        use std::os::unix::fs::PermissionsExt;
        let top = tempfile::tempdir().unwrap();
        std::fs::set_permissions(top.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let (closed, below) = (top.path().join("closed"), top.path().join("closed/below"));
        std::fs::create_dir_all(&below).unwrap();
        let stranger = User { name: "stranger".into(), uid: 54_321, gid: 54_321 };
        assert_eq!(stranger.barred(&below).unwrap(), None);
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(stranger.barred(&below).unwrap(), Some(closed));
        let root = User { name: "root".into(), uid: 0, gid: 0 };
        assert_eq!(root.barred(&below).unwrap(), None);
    }

    #[test]
    fn the_dead_that_are_still_listed_are_dead() {
        let _copies = copies::made();
        assert!(lives(std::process::id()));
        let mut child = Command::new("true").spawn().unwrap();
        while lives(child.id()) {
            std::thread::yield_now();
        }
        assert!(Path::new(&format!("/proc/{}", child.id())).exists(), "nobody has asked how it ended");
        child.wait().unwrap();
        assert!(has_ended("7 (a) Z (b) Z 1"));
        assert!(!has_ended("7 (a) Z (b) S 1"));
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let _copies = copies::made();
        let (ours, theirs) = crate::sys::fd_passing::pair().unwrap();
        let mut command = Command::new("sleep");
        command.arg("1000");
        let process = Process::start(command, theirs, None).unwrap();
        let id = process.id();
        assert!(Path::new(&format!("/proc/{id}")).exists());
        drop(process);
        assert!(!Path::new(&format!("/proc/{id}")).exists());
        drop(ours);
    }
}
