//! The processes of a run: who writes, who succeeds, and the servers behind some. Each is killed,
//! never asked to stop, and none outlives the run: a guard kills what a run that was itself killed
//! has left, and takes its folders away.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use baton::sys::{clock, process};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use serde::{Deserialize, Serialize};

use crate::records::Tally;
use crate::stores::{Failure, Kind, Reading};

/// Milliseconds that a killed group has to be gone.
const DEATH_TRIES_MAX: u32 = 30_000;

/// What a successor says once it has read everything; nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Said {
    /// Its `main` began.
    pub main_ns: u64,
    /// The first meeting was read.
    pub first_ns: u64,
    /// The last meeting was.
    pub meetings_ns: u64,
    /// The last member was.
    pub members_ns: u64,
    /// Meetings and members that it read, and the sum over them.
    pub read: (u64, u64, u64),
}

/// A process of our own, over one store: fills it, or succeeds to it. Runs until it is killed.
pub fn child(kind: Kind, folder: &Path, meetings: u64, fill: bool) -> Result<(), Failure> {
    let main_ns = clock::now().0;
    process::tie_to_parent()?;
    let mut store = kind.open(folder, fill.then_some(meetings))?;
    if fill {
        store.fill(meetings)?;
    } else {
        let mut reading = Reading::default();
        store.read(meetings, &mut reading)?;
        let Reading { tally, first_ns, meetings_ns, members_ns, .. } = reading;
        let read = (tally.meetings, tally.members, tally.sum());
        println!("{}", serde_json::to_string(&Said { main_ns, first_ns, meetings_ns, members_ns, read })?);
        store.touch()?;
    }
    println!("written");
    // With the store open, as a process that serves has it.
    loop {
        thread::park();
    }
}

/// A child that was started and will be killed.
pub struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    /// Starts one.
    pub fn start(kind: Kind, folder: &Path, meetings: u64, fill: bool) -> Result<Self, Failure> {
        let mut command = Command::new("/proc/self/exe");
        command.arg("child").arg(kind.to_string()).arg(folder).arg(meetings.to_string());
        command.args(fill.then_some("--fill")).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let lines = BufReader::new(child.stdout.take().expect("it is piped"));
        Ok(Self { child, lines })
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        if line.is_empty() { Err("it ended before it was done".into()) } else { Ok(line.trim_end().to_owned()) }
    }

    /// Waits for what a successor has to say.
    pub fn said(&mut self) -> Result<Said, Failure> {
        Ok(serde_json::from_str(&self.line()?)?)
    }

    /// Waits until its write is acknowledged.
    pub fn written(&mut self) -> Result<(), Failure> {
        let line = self.line()?;
        if line == "written" { Ok(()) } else { Err(line.into()) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SIGKILL. A child that is gone already needs neither.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server and what it has forked: a process group, killed as one.
pub struct Server<'a> {
    child: Child,
    guard: &'a Guard,
}

impl<'a> Server<'a> {
    /// Starts one; what it says goes to a file in the folder.
    pub fn start(mut command: Command, folder: &Path, guard: &'a Guard) -> Result<Self, Failure> {
        let log = File::options().create(true).append(true).open(folder.join("log"))?;
        command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let name = command.get_program().to_owned();
        let child = command
            .spawn()
            .map_err(|error| format!("{}: {error}; scripts/setup-peers.sh installs it", name.display()))?;
        guard.say("group", &child.id().to_string())?;
        Ok(Self { child, guard })
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        kill_group(self.child.id());
        let _ = self.child.wait();
        // What it forked dies on its own time, and holds its sockets until then: the next server is
        // not to meet them.
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        for _ in 0..DEATH_TRIES_MAX {
            if group.is_none_or(|group| test_kill_process_group(group).is_err()) {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        let _ = self.guard.say("ended", &self.child.id().to_string());
    }
}

fn kill_group(id: u32) {
    if let Some(group) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        // Its leader is ours and not yet waited for, or died with us: the number is nobody else's.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// What clears away behind a run, however it ends: a process that waits for the end of a pipe.
pub struct Guard {
    pipe: ChildStdin,
    child: Child,
}

impl Guard {
    /// Starts it, out of reach of a terminal's signals.
    pub fn start() -> Result<Self, Failure> {
        let mut child = Command::new("/proc/self/exe").arg("guard").stdin(Stdio::piped()).process_group(0).spawn()?;
        Ok(Self { pipe: child.stdin.take().expect("it is piped"), child })
    }

    fn say(&self, what: &str, of: &str) -> io::Result<()> {
        writeln!(&self.pipe, "{what} {of}")
    }

    /// A folder of this run alone, in another.
    pub fn folder(&self, within: &Path) -> Result<tempfile::TempDir, Failure> {
        let folder = tempfile::Builder::new().prefix("baton-peers-").tempdir_in(within)?;
        self.say("folder", folder.path().to_str().ok_or("a temporary folder whose name is text")?)?;
        Ok(folder)
    }

    /// Lets it see the end, and waits for it.
    pub fn end(self) -> Result<(), Failure> {
        let Self { pipe, mut child } = self;
        drop(pipe);
        child.wait()?;
        Ok(())
    }
}

/// The guard's own work.
pub fn guard() -> Result<(), Failure> {
    let (mut groups, mut folders) = (Vec::new(), Vec::new());
    for line in io::stdin().lines() {
        let line = line?;
        match line.split_once(' ') {
            Some(("group", id)) => groups.push(id.parse::<u32>()?),
            Some(("ended", id)) => groups.retain(|group| id.parse() != Ok(*group)),
            Some(("folder", path)) => folders.push(PathBuf::from(path)),
            _ => return Err(format!("the guard was told {line:?}").into()),
        }
    }
    groups.into_iter().for_each(kill_group);
    for folder in folders {
        // Gone already where the run came to its end.
        let _ = fs::remove_dir_all(folder);
    }
    Ok(())
}

/// Whether a successor read what was written.
pub fn check(kind: Kind, meetings: u64, said: &Said, expected: &Tally) -> Result<(), Failure> {
    let expected = if kind.holds_members() { (meetings, expected.members, expected.sum()) } else { (meetings, 0, 0) };
    if said.read == expected {
        Ok(())
    } else {
        Err(format!("{kind}: read (meetings, members, sum) {:?}, and {expected:?} were written", said.read).into())
    }
}
