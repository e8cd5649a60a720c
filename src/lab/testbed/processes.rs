//! The processes of the demonstration: `baton run` in one namespace, `baton sim` in the other.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{Side, Testbed};
use crate::sys::clock;
use crate::time::Nanos;

/// A process that could not be started, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started or watched.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        error: io::Error,
    },
    /// It ended by itself.
    #[error("{name} ended by itself ({status}); its last words:\n{last_words}")]
    Ended {
        /// Which.
        name: &'static str,
        /// How.
        status: ExitStatus,
        /// The end of its log.
        last_words: String,
    },
    /// The keeper has no engine.
    #[error("the keeper (process {0}) has no engine")]
    NoEngine(u32),
}

/// A process of ours, killed when it is dropped.
pub struct ChildProcess {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl ChildProcess {
    /// Starts the testbed's program with these arguments, on one side of it and, where CPUs are
    /// given, on those alone. It is killed when this process ends.
    pub fn start(
        testbed: &Testbed,
        side: Side,
        name: &'static str,
        cpus: Option<&str>,
        arguments: &[String],
    ) -> Result<Self, ProcessError> {
        let system = |what: String| move |error| ProcessError::System { what, error };
        let program = testbed.program().map_err(system("this program's own path".into()))?;
        let log = testbed.data().join(format!("{name}.log"));
        let file = || -> io::Result<File> { OpenOptions::new().create(true).append(true).open(&log) };
        let (out, err) = (file(), file());
        let open = || system(log.display().to_string());
        let pinned = cpus.map(|cpus| ["taskset", "--cpu-list", cpus]);
        // nsenter, taskset and setpriv replace themselves, so the child's process id is the
        // program's own. nsenter, unlike `ip netns exec`, stays in this mount namespace, and what
        // the keeper mounts outlives the keeper.
        let child = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", testbed.namespace(side)))
            .args(pinned.iter().flatten())
            .args(["setpriv", "--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out.map_err(open())?)
            .stderr(err.map_err(open())?)
            // Ctrl-C is for the demonstration, which then ends the others.
            .process_group(0)
            .spawn()
            .map_err(system(format!("starting {name} by nsenter and setpriv (util-linux)")))?;
        Ok(Self { name, child, log })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error if it has ended.
    pub fn must_live(&mut self) -> Result<(), ProcessError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.ended(status)),
            Err(error) => Err(ProcessError::System { what: format!("waiting for {}", self.name), error }),
        }
    }

    /// Sends a signal; gives the time just before.
    pub fn signal(&self, signal: Signal) -> Result<Nanos, ProcessError> {
        signal_to(self.pid(), signal)
    }

    /// Waits until it has ended, as a service manager does.
    pub fn wait(&mut self) -> Result<ExitStatus, ProcessError> {
        self.child.wait().map_err(|error| ProcessError::System { what: format!("waiting for {}", self.name), error })
    }

    /// An error that tells of its end.
    pub fn ended(&self, status: ExitStatus) -> ProcessError {
        ProcessError::Ended { name: self.name, status, last_words: last_words(&self.log) }
    }

    /// The engines of a keeper: the children of the one child that it has, its starter.
    pub fn engines(&self) -> Vec<u32> {
        children_of(self.pid()).into_iter().flat_map(children_of).collect()
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn children_of(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Sends a signal to a process that we, or a child of ours, started; gives the time just before.
pub fn signal_to(pid: u32, signal: Signal) -> Result<Nanos, ProcessError> {
    let what = || format!("signal {signal:?} to process {pid}");
    let target = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id of the system's");
    let before = clock::now();
    kill_process(target, signal).map_err(|error| ProcessError::System { what: what(), error: error.into() })?;
    Ok(before)
}

/// The last lines of a log.
pub fn last_words(log: &Path) -> String {
    const LINES: usize = 12;
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].iter().map(|line| format!("    {line}\n")).collect()
}
