//! The testbed that the demonstration and the benches run on: two network namespaces with a veth
//! pair between them, folders, huge pages.
//!
//! All of it bears the testbed's name and is found by it, so that it can be cleared away in every
//! case: by the testbed when it is dropped, or by name when its process was killed
//! (`scripts/demo.sh`, `scripts/bench.sh`).

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::command::{CommandFailed, command};
use super::huge_pages;
use super::netns::{self, Ends, NetnsError, Pair};
use crate::output::tell;
use crate::sys::signals::StopSignals;
use crate::wire::Mac;

/// What the names of all testbeds begin with; nothing else is ever cleared.
const PREFIX: &str = "baton-demo-";
/// The interface in either namespace.
pub const INTERFACE: &str = "v2v0";
/// Huge pages of 2 MiB that are asked for by default: room for the UMEM of both sides.
pub const HUGE_PAGES: u64 = 48;
/// How long a mount may be busy with processes that were killed.
const UNMOUNT_PATIENCE: Duration = Duration::from_secs(1);

/// Which end of the veth pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Where the dispatch server runs.
    Dispatch,
    /// Where the autonomous servers run.
    Servers,
}

impl Side {
    /// Its interface's Ethernet address.
    pub const fn mac(self) -> Mac {
        Mac([0x02, 0, 0, 0, 0, if matches!(self, Self::Dispatch) { 1 } else { 2 }])
    }
}

/// A testbed that could not be set up, or not be cleared away.
#[derive(Debug, thiserror::Error)]
pub enum TestbedError {
    /// The namespaces and the veth pair.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// `mount` or `umount`.
    #[error(transparent)]
    Command(#[from] CommandFailed),
    /// A folder or file.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// They could not be asked for, or not be given back.
    #[error("huge pages: {0}")]
    HugePages(io::Error),
    /// Only a testbed is ever cleared away.
    #[error("`{0}` is no testbed's name: baton-demo- and a number")]
    Name(String),
}

/// A testbed, until it is dropped.
#[derive(Debug)]
pub struct Testbed {
    name: String,
    /// None until it is made.
    pair: Option<Pair>,
    huge_pages: u64,
    /// None: this one.
    program: Option<PathBuf>,
}

impl Testbed {
    /// Sets up the testbed of this name.
    ///
    /// # Errors
    /// What was set up by then is cleared away.
    pub fn set(name: &str) -> Result<Self, TestbedError> {
        Self::set_with(name, HUGE_PAGES)
    }

    /// As [`Self::set`], with so many huge pages asked for. Fewer, or none, are no error: the UMEM
    /// lies in small pages then.
    ///
    /// # Errors
    /// As there.
    pub fn set_with(name: &str, huge_pages: u64) -> Result<Self, TestbedError> {
        // What an earlier testbed of the same name may have left. Process ids come round again.
        clear(name)?;
        let mut testbed = Self { name: name.to_owned(), pair: None, huge_pages: 0, program: None };
        for folder in [testbed.run(), testbed.shm(), testbed.data()] {
            fs::create_dir_all(&folder).map_err(|error| file(&folder, error))?;
            // The engine is nobody and writes here; what it must not read is in files of their own
            // mode.
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).map_err(|error| file(&folder, error))?;
        }
        testbed.huge_pages = huge_pages::borrow(name, huge_pages).map_err(TestbedError::HugePages)?;
        let macs = Some([Side::Dispatch.mac(), Side::Servers.mac()]);
        let ends = Ends { interfaces: [INTERFACE; 2], macs, queues: 1 };
        testbed.pair = Some(Pair::with(namespaces(name), &ends)?);
        Ok(testbed)
    }

    /// Has processes run this program instead of the one that set the testbed up.
    pub fn set_program(&mut self, program: PathBuf) {
        self.program = Some(program);
    }

    /// What processes on it run.
    pub fn program(&self) -> io::Result<PathBuf> {
        self.program.clone().map_or_else(std::env::current_exe, Ok)
    }

    /// The network namespace of a side.
    pub fn namespace(&self, side: Side) -> String {
        let [dispatch, servers] = namespaces(&self.name);
        if side == Side::Dispatch { dispatch } else { servers }
    }

    /// Sockets and pins: gone with a reboot.
    pub fn run(&self) -> PathBuf {
        run(&self.name)
    }

    /// The table's memory: gone with a reboot.
    pub fn shm(&self) -> PathBuf {
        shm(&self.name)
    }

    /// Database, snapshot, configuration and logs: what a disk keeps.
    pub fn data(&self) -> PathBuf {
        data(&self.name)
    }

    /// The table's file.
    pub fn table(&self) -> PathBuf {
        self.shm().join("table")
    }

    /// The database's file.
    pub fn database(&self) -> PathBuf {
        self.data().join("database").join("baton.redb")
    }

    /// Has the table's folder be of huge pages. They have to have been borrowed.
    pub fn mount_huge_pages(&self) -> Result<(), TestbedError> {
        huge_pages::mount(&self.shm()).map_err(TestbedError::HugePages)
    }

    /// Undoes [`Self::mount_huge_pages`].
    pub fn unmount_huge_pages(&self) -> Result<(), TestbedError> {
        unmount_below(&self.shm())
    }

    /// How many huge pages the kernel lent.
    pub fn huge_pages(&self) -> u64 {
        self.huge_pages
    }

    /// What a reboot takes: the table's memory, sockets, and all that is pinned.
    pub fn forget_memory(&self) -> Result<(), TestbedError> {
        unmount_below(&self.run())?;
        for folder in [self.shm(), self.run()] {
            for entry in fs::read_dir(&folder).map_err(|error| file(&folder, error))? {
                remove(&entry.map_err(|error| file(&folder, error))?.path())?;
            }
        }
        Ok(())
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        // First, with the processes in it: they have mounts and files below.
        drop(self.pair.take());
        if let Err(error) = clear(&self.name) {
            tell!("baton: not everything could be cleared away: {error}");
        }
    }
}

/// Clears away what is left of the testbed of this name; nothing left is fine.
///
/// # Errors
/// The name is no testbed's, or something is left.
pub fn clear(name: &str) -> Result<(), TestbedError> {
    check(name)?;
    netns::clear(&namespaces(name))?;
    unmount_below(&run(name))?;
    unmount_below(&shm(name))?;
    huge_pages::give_back(name).map_err(TestbedError::HugePages)?;
    [run(name), shm(name), data(name)].iter().try_for_each(|folder| remove(folder))
}

fn check(name: &str) -> Result<(), TestbedError> {
    let number = name.strip_prefix(PREFIX).filter(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()));
    number.map(|_| ()).ok_or_else(|| TestbedError::Name(name.to_owned()))
}

/// The name of a testbed of this process.
pub fn own_name() -> String {
    format!("{PREFIX}{}", std::process::id())
}

/// Of the dispatch server, and of the autonomous servers.
fn namespaces(name: &str) -> [String; 2] {
    [format!("{name}-dispatch"), format!("{name}-servers")]
}

fn run(name: &str) -> PathBuf {
    Path::new("/run").join(name)
}

fn shm(name: &str) -> PathBuf {
    Path::new("/dev/shm").join(name)
}

fn data(name: &str) -> PathBuf {
    std::env::temp_dir().join(name)
}

/// The keeper mounts a BPF file system in its folder; killed, it cannot unmount it.
fn unmount_below(folder: &Path) -> Result<(), TestbedError> {
    let mounts = Path::new("/proc/self/mounts");
    let listed = fs::read_to_string(mounts).map_err(|error| file(mounts, error))?;
    let points: Vec<_> = listed.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    // The last mounted first: one may lie in another.
    for point in points.into_iter().rev().filter(|point| Path::new(point).starts_with(folder)) {
        unmount(point)?;
    }
    Ok(())
}

/// A process that had files there and was killed may not have ended yet. One that stays for longer
/// keeps what it has mapped, and no other finds it any more.
fn unmount(point: &str) -> Result<(), TestbedError> {
    let begun = Instant::now();
    while begun.elapsed() < UNMOUNT_PATIENCE {
        if command("umount", &[point]).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(command("umount", &["--lazy", point]).map(drop)?)
}

fn remove(path: &Path) -> Result<(), TestbedError> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file(path, error)),
        _ => Ok(()),
    }
}

fn file(path: &Path, error: io::Error) -> TestbedError {
    TestbedError::File { path: path.to_owned(), error }
}

/// Has SIGINT and SIGTERM clear the testbed away before they end this process. That ends the
/// processes in it.
pub fn clear_on_interrupt(testbed: String) {
    let signals = match StopSignals::install() {
        Ok(signals) => signals,
        Err(error) => return tell!("baton: interrupts cannot be caught: {error}"),
    };
    std::thread::spawn(move || {
        let mut events = [PollFd::new(&signals, PollFlags::IN)];
        while poll(&mut events, None) == Err(rustix::io::Errno::INTR) {}
        tell!("\nbaton: interrupted; clearing the testbed away");
        if let Err(error) = clear(&testbed) {
            tell!("baton: {error}");
        }
        // The status of a process that an interrupt ended, as shells know it.
        std::process::exit(130);
    });
}

#[cfg(test)]
mod tests {
    use super::super::need_root;
    use super::*;

    #[test]
    fn only_a_testbed_is_ever_cleared() {
        for name in ["", "baton-demo-", "baton-demo-1/../..", "eth0", "baton-demo-12a"] {
            assert!(matches!(clear(name), Err(TestbedError::Name(_))), "{name}");
        }
        assert!(check(&own_name()).is_ok());
    }

    #[test]
    fn a_testbed_leaves_nothing_behind() {
        need_root("network namespaces");
        let _copies = crate::sys::process::copies::made();
        let before = huge_pages::count().unwrap();
        // Not this process's own name, which another test of it may use.
        let name = format!("{PREFIX}{}00", std::process::id());
        let testbed = Testbed::set(&name).unwrap();
        let namespaces = namespaces(&name);
        for namespace in &namespaces {
            let shown = command("ip", &["-n", namespace, "-o", "link", "show", INTERFACE]).unwrap();
            assert!(shown.contains("state UP"), "{shown}");
        }
        fs::write(testbed.shm().join("table"), "of a run").unwrap();
        testbed.forget_memory().unwrap();
        assert!(!testbed.shm().join("table").exists());
        drop(testbed);
        for namespace in namespaces {
            assert!(!Path::new("/run/netns").join(namespace).exists());
        }
        for folder in [run(&name), shm(&name), data(&name)] {
            assert!(!folder.exists(), "{}", folder.display());
        }
        assert_eq!(huge_pages::count().unwrap(), before);
    }
}
