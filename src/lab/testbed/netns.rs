//! Where the demonstration and the benchmarks play, and with whom: two network namespaces, the veth
//! pair between them, folders, huge pages; the dispatch server and the autonomous servers on it,
//! operators, and the comparison of both sides.
//!
//! All of it bears the stage's name and is found again by it, so that it can be cleared by whoever
//! is left: by the stage itself when it is dropped, or by `demo.sh` when this process was killed.

use crate::output::tell;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use crate::sys::signals::StopSignals;
use crate::wire::Mac;

/// What the names of all stages begin with; nothing else is ever cleared.
const PREFIX: &str = "baton-demo-";
/// The interface in either namespace.
pub const INTERFACE: &str = "v2v0";
/// Huge pages of 2 MiB that are asked for unless somebody wants others: room for the UMEM of both
/// sides.
pub const HUGE_PAGES: u64 = 48;
/// How long a mount may be busy with processes that were killed.
const UNMOUNT_PATIENCE: Duration = Duration::from_secs(1);
const HUGE_PAGES_FILE: &str = "/proc/sys/vm/nr_hugepages";

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

    const fn name(self) -> &'static str {
        match self {
            Self::Dispatch => "dispatch",
            Self::Servers => "servers",
        }
    }
}

/// A stage that could not be set.
#[derive(Debug, thiserror::Error)]
pub enum TestbedError {
    /// A command that the stage is set with failed.
    #[error("`{command}` failed: {said}")]
    Command {
        /// As it was called.
        command: String,
        /// What it said.
        said: String,
    },
    /// A folder or file.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Only what a stage has set may be cleared.
    #[error("`{0}` is no stage's name: baton-demo- and a number")]
    Name(String),
}

/// A stage that is set, until it is dropped.
#[derive(Debug)]
pub struct Testbed {
    name: String,
    huge_pages: u64,
    /// None: this one.
    program: Option<PathBuf>,
}

impl Testbed {
    /// Sets the stage of this name.
    pub fn set(name: &str) -> Result<Self, TestbedError> {
        Self::set_with(name, HUGE_PAGES)
    }

    /// As [`Self::set`], with so many huge pages asked for.
    pub fn set_with(name: &str, huge_pages: u64) -> Result<Self, TestbedError> {
        check(name)?;
        // What an earlier stage of the same name may have left. Process ids come round again.
        clear(name)?;
        let mut stage = Self { name: name.to_owned(), huge_pages: 0, program: None };
        for folder in [stage.run(), stage.shm(), stage.data()] {
            fs::create_dir_all(&folder).map_err(|error| file(&folder, error))?;
            // The engine is nobody and writes here; what it must not read is in files of their own
            // mode.
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).map_err(|error| file(&folder, error))?;
        }
        stage.huge_pages = borrow_huge_pages(&stage.data(), huge_pages)?;
        let (dispatch, servers) = (stage.namespace(Side::Dispatch), stage.namespace(Side::Servers));
        for namespace in [&dispatch, &servers] {
            command("ip", &["netns", "add", namespace])?;
        }
        // Made inside the namespaces, so the name cannot clash with an interface of the machine.
        let pair = ["link", "add", INTERFACE, "netns", &dispatch, "type", "veth", "peer", "name", INTERFACE, "netns"];
        command("ip", &[&pair[..], &[&servers]].concat())?;
        for side in [Side::Dispatch, Side::Servers] {
            let (namespace, mac) = (stage.namespace(side), side.mac().to_string());
            let set = |what: &[&str]| command("ip", &[&["-n", &namespace, "link", "set", INTERFACE], what].concat());
            // No IPv6 chatter: what crosses the pair is V2V alone.
            set(&["addrgenmode", "none"])?;
            set(&["address", &mac])?;
            set(&["up"])?;
        }
        Ok(stage)
    }

    /// Has processes run this program instead of the one that sets the stage.
    pub fn set_program(&mut self, program: PathBuf) {
        self.program = Some(program);
    }

    /// What processes on it run.
    pub fn program(&self) -> io::Result<PathBuf> {
        self.program.clone().map_or_else(std::env::current_exe, Ok)
    }

    /// The network namespace of a side.
    pub fn namespace(&self, side: Side) -> String {
        namespace(&self.name, side)
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
        let folder = self.shm().display().to_string();
        // The engine is nobody, and the keeper hands it the open file.
        command("mount", &["-t", "hugetlbfs", "-o", "pagesize=2M,mode=0755", "none", &folder]).map(drop)
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
        if let Err(error) = clear(&self.name) {
            tell!("baton: not everything could be cleared away: {error}");
        }
    }
}

/// Clears whatever is left of the stage of this name; nothing left is fine.
pub fn clear(name: &str) -> Result<(), TestbedError> {
    check(name)?;
    for side in [Side::Dispatch, Side::Servers] {
        let namespace = namespace(name, side);
        if !Path::new("/run/netns").join(&namespace).exists() {
            continue;
        }
        // Whoever is in a namespace of the stage was started for it.
        for pid in command("ip", &["netns", "pids", &namespace])?.split_whitespace() {
            if let Some(pid) = pid.parse().ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        command("ip", &["netns", "del", &namespace])?;
    }
    unmount_below(&run(name))?;
    unmount_below(&shm(name))?;
    give_back_huge_pages(&data(name))?;
    [run(name), shm(name), data(name)].iter().try_for_each(|folder| remove(folder))
}

fn check(name: &str) -> Result<(), TestbedError> {
    let number = name.strip_prefix(PREFIX).filter(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()));
    number.map(|_| ()).ok_or_else(|| TestbedError::Name(name.to_owned()))
}

/// The name of a stage of this process.
pub fn own_name() -> String {
    format!("{PREFIX}{}", std::process::id())
}

fn namespace(name: &str, side: Side) -> String {
    format!("{name}-{}", side.name())
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

/// Among the data: how many pages to give back.
const HUGE_PAGES_NOTE: &str = "huge_pages";

fn huge_pages_now() -> Result<u64, TestbedError> {
    let path = Path::new(HUGE_PAGES_FILE);
    let text = fs::read_to_string(path).map_err(|error| file(path, error))?;
    Ok(text.trim().parse().unwrap_or(0))
}

/// Asks for huge pages; gives how many there are more. Too little contiguous memory is no error:
/// the UMEM then lies in small pages.
fn borrow_huge_pages(data: &Path, wanted: u64) -> Result<u64, TestbedError> {
    let before = huge_pages_now()?;
    let path = Path::new(HUGE_PAGES_FILE);
    fs::write(path, (before + wanted).to_string()).map_err(|error| file(path, error))?;
    let borrowed = huge_pages_now()?.saturating_sub(before);
    let note = data.join(HUGE_PAGES_NOTE);
    fs::write(&note, borrowed.to_string()).map_err(|error| file(&note, error))?;
    Ok(borrowed)
}

fn give_back_huge_pages(data: &Path) -> Result<(), TestbedError> {
    let Ok(note) = fs::read_to_string(data.join(HUGE_PAGES_NOTE)) else { return Ok(()) };
    let borrowed: u64 = note.trim().parse().unwrap_or(0);
    let path = Path::new(HUGE_PAGES_FILE);
    let left = huge_pages_now()?.saturating_sub(borrowed);
    fs::write(path, left.to_string()).map_err(|error| file(path, error))
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

/// Who had files there and was killed may still be on his way out. Whoever stays for longer keeps
/// what he has mapped, and nobody finds it any more.
fn unmount(point: &str) -> Result<(), TestbedError> {
    let begun = Instant::now();
    while begun.elapsed() < UNMOUNT_PATIENCE {
        if command("umount", &[point]).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    command("umount", &["--lazy", point]).map(drop)
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

/// Runs a command; gives what it printed, or what it complained of.
fn command(program: &str, arguments: &[&str]) -> Result<String, TestbedError> {
    let failed = |said: String| TestbedError::Command { command: format!("{program} {}", arguments.join(" ")), said };
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(format!("{error}; scripts/setup.sh installs what is missing")))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

/// Interrupted or terminated, whoever plays clears his stage all the same, which ends the processes
/// on it.
pub fn clear_on_interrupt(stage: String) {
    let signals = match StopSignals::install() {
        Ok(signals) => signals,
        Err(error) => return tell!("baton: interrupts cannot be caught: {error}"),
    };
    std::thread::spawn(move || {
        let mut events = [PollFd::new(&signals, PollFlags::IN)];
        while poll(&mut events, None) == Err(rustix::io::Errno::INTR) {}
        tell!("\nbaton: interrupted; clearing the stage");
        if let Err(error) = clear(&stage) {
            tell!("baton: {error}");
        }
        // The status of a process that an interrupt ended, as shells know it.
        std::process::exit(130);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stage_is_ever_cleared() {
        for name in ["", "baton-demo-", "baton-demo-1/../..", "eth0", "baton-demo-12a"] {
            assert!(matches!(clear(name), Err(TestbedError::Name(_))), "{name}");
        }
        assert!(check(&own_name()).is_ok());
    }

    #[test]
    fn a_stage_leaves_nothing_behind() {
        let _copies = crate::sys::process::copies::made();
        let before = huge_pages_now().unwrap();
        // Not this process's own name, which another test of it may use.
        let name = format!("{PREFIX}{}00", std::process::id());
        let stage = Testbed::set(&name).unwrap();
        let namespaces = [stage.namespace(Side::Dispatch), stage.namespace(Side::Servers)];
        for namespace in &namespaces {
            let shown = command("ip", &["-n", namespace, "-o", "link", "show", INTERFACE]).unwrap();
            assert!(shown.contains("state UP"), "{shown}");
        }
        fs::write(stage.shm().join("table"), "of a run").unwrap();
        stage.forget_memory().unwrap();
        assert!(!stage.shm().join("table").exists());
        drop(stage);
        for namespace in namespaces {
            assert!(!Path::new("/run/netns").join(namespace).exists());
        }
        for folder in [run(&name), shm(&name), data(&name)] {
            assert!(!folder.exists(), "{}", folder.display());
        }
        assert_eq!(huge_pages_now().unwrap(), before);
    }
}
