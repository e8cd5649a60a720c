//! A dispatch server of real processes: `baton run` in a network namespace, its log read line by
//! line.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::netns::{Pair, Side};

/// Nothing here takes as long; what does has hung.
const PATIENCE: Duration = Duration::from_secs(30);

/// The files of a dispatch server: on tmpfs, where its user can get at them.
pub struct Place {
    folder: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("baton-test-").tempdir_in("/dev/shm").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a configuration with one domain on this interface; `more` is put behind it.
    pub fn configure(&self, interface: &str, more: &str) -> PathBuf {
        let file = self.path("baton.toml");
        let at = |name| self.path(name).display().to_string();
        let text = format!(
            "[interface]\nname = \"{interface}\"\nhuge_pages = false\n[[domain]]\nnumber = 366\ninsecure_no_authentication = true\n\
             mac = \"02:00:00:00:01:6e\"\n[table]\npath = \"{}\"\nmeetings = 1000\nterminals = 4000\n\
             [database]\npath = \"{}\"\n[runtime]\ndir = \"{}\"\n{more}\n",
            at("shm/table"),
            at("db/baton.redb"),
            at("run"),
        );
        fs::write(&file, text).unwrap();
        file
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A killed keeper leaves its BPF file system mounted.
        let _ = Command::new("umount").args(["-l", "-q"]).arg(self.path("run/bpf")).stderr(Stdio::null()).status();
    }
}

/// `baton run`. Killed when it is dropped.
pub struct Server {
    keeper: Child,
    log: Receiver<String>,
    /// The log so far.
    pub heard: String,
}

impl Server {
    /// Starts one in the namespace of a side.
    pub fn start(pair: &Pair, side: Side, configuration: &Path, arguments: &[&str]) -> Self {
        Self::start_program(Path::new(env!("CARGO_BIN_EXE_baton")), pair, side, configuration, arguments)
    }

    /// As [`Self::start`], from this file.
    pub fn start_program(program: &Path, pair: &Pair, side: Side, configuration: &Path, arguments: &[&str]) -> Self {
        let mut keeper = Command::new("nsenter")
            .arg(format!("--net={}", pair.path(side).display()))
            .arg(program)
            .args(["run", "--config"])
            .arg(configuration)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nsenter of util-linux");
        let lines = BufReader::new(keeper.stderr.take().unwrap()).lines();
        let (said, log) = channel();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| said.send(line)));
        Self { keeper, log, heard: String::new() }
    }

    /// The process id of the keeper.
    pub fn id(&self) -> u32 {
        self.keeper.id()
    }

    /// Waits for the next line that holds this.
    pub fn line_with(&mut self, what: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.log.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.heard += &line;
                    self.heard.push('\n');
                    if line.contains(what) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no `{what}` in time:\n{}", self.heard),
                Err(RecvTimeoutError::Disconnected) => panic!("no `{what}` before the end:\n{}", self.heard),
            }
        }
    }

    /// Waits until an engine controls, or the end; says whether one does.
    #[allow(dead_code, reason = "most tests know which it is")]
    pub fn controls_or_ends(&mut self) -> bool {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.log.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.heard += &line;
                    self.heard.push('\n');
                    if line.contains(" controls") {
                        return true;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("neither controls nor ends in time:\n{}", self.heard),
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// Stops listening: its next line is the last that anybody reads.
    pub fn stop_listening(&mut self) {
        self.log = channel().1;
    }

    /// Waits for the next engine that controls; gives its process id.
    pub fn engine(&mut self) -> u32 {
        // Other lines say who controls what, too.
        loop {
            let line = self.line_with(" controls");
            let words: Vec<_> = line.split_whitespace().collect();
            let at = words.iter().rposition(|word| *word == "controls").unwrap();
            if let Ok(id) = words[at - 1].parse() {
                return id;
            }
        }
    }

    /// Waits for the next engine that stands by; gives its process id.
    pub fn standby(&mut self) -> u32 {
        let line = self.line_with(" stands by");
        let words: Vec<_> = line.split_whitespace().collect();
        let at = words.iter().rposition(|word| *word == "stands").unwrap();
        words[at - 1].parse().unwrap_or_else(|_| panic!("a standby's process id in `{line}`"))
    }

    /// The process that starts its engines, if that lives yet.
    pub fn starter(&self) -> Option<u32> {
        children_of(self.id()).first().copied()
    }

    /// Its engines: the one in control, and the standby.
    pub fn children(&self) -> Vec<u32> {
        self.starter().map(children_of).unwrap_or_default()
    }

    /// Sends the keeper a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.id(), signal);
    }

    /// Whether its keeper has ended.
    pub fn has_ended(&mut self) -> bool {
        self.keeper.try_wait().unwrap().is_some()
    }

    /// Waits for its end, and hears the log out.
    pub fn end(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.keeper.try_wait().unwrap() {
                self.heard.extend(self.log.iter().map(|line| line + "\n"));
                return status;
            }
            assert!(Instant::now() < end, "the keeper does not end:\n{}", self.heard);
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end; gives its exit code.
    pub fn code(&mut self) -> i32 {
        let status = self.end();
        status.code().unwrap_or_else(|| panic!("ended by {:?}:\n{}", status.signal(), self.heard))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

fn children_of(id: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    text.split_whitespace().map(|id| id.parse().unwrap()).collect()
}

/// Sends a process a signal.
pub fn kill(id: u32, signal: Signal) {
    kill_process(Pid::from_raw(id as i32).unwrap(), signal).unwrap();
}

/// Waits until a process runs no more, reaped or not.
pub fn gone(id: u32) {
    let end = Instant::now() + PATIENCE;
    loop {
        let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else { return };
        if stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X'])) {
            return;
        }
        assert!(Instant::now() < end, "process {id} does not end");
        thread::sleep(Duration::from_millis(2));
    }
}
