//! Upgrades of a running server: `baton run` from a file that is replaced while it runs, on a veth
//! of its own.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::iter;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use baton::sdk::{Endpoint, EndpointSettings};
use baton::wire::{DEFAULT_ETHERTYPE, Epoch, Frame, Mac, Message};
use rustix::fs::FlockOperation;
use rustix::process::Signal;
use serde_json::Value;
use support::netns::{Pair, Side, veth_pair};
use support::probe::write_to_server;
use support::server::{Place, Server, gone, kill};

const PATIENCE: Duration = Duration::from_secs(30);
/// A trial that no test waits for.
const LONG: &str = "600";

/// A server that runs from a file of its own, with its standby.
struct Setup {
    server: Server,
    engine: u32,
    standby: u32,
    pair: Pair,
    place: Place,
    folder: tempfile::TempDir,
}

impl Setup {
    fn set() -> Self {
        // Not in the place: other users should not need access to it.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (pair, place) = (veth_pair(1), Place::new());
        let program = folder.path().join("baton");
        copy(env!("CARGO_BIN_EXE_baton"), &program);
        let configuration = place.configure("left", "");
        let mut server = Server::start_program(&program, &pair, Side::Left, &configuration, &[]);
        let engine = server.engine();
        let standby = server.standby();
        Self { server, engine, standby, pair, place, folder }
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("baton")
    }

    /// Replaces the program's file, as an installation does.
    fn install(&self, from: &str) {
        let new = self.folder.path().join("new");
        copy(from, &new);
        fs::rename(new, self.program()).unwrap();
    }

    fn baton(&self, arguments: &[&str]) -> Output {
        let socket = self.place.path("run/api.sock");
        Command::new(env!("CARGO_BIN_EXE_baton")).args(arguments).arg("--socket").arg(socket).output().unwrap()
    }

    fn upgrade(&self, within: &str) -> Output {
        self.baton(&["upgrade", "--json", "--within", within])
    }

    fn status(&self) -> Value {
        json(&self.baton(&["status", "--json"]))
    }

    /// Waits until the status shows this state of the last upgrade.
    fn upgrade_is(&self, state: &str) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if status["upgrade"]["state"] == state {
                return status;
            }
            assert!(Instant::now() < end, "not `{state}` in time: {status:#}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// After a refusal: the same processes are there, and the standby takes over as usual.
    fn goes_on(mut self) {
        let status = self.status();
        assert_eq!(status["pid"], self.engine, "{status:#}");
        assert_eq!(status["upgrade"]["state"], "none");
        assert_eq!(self.server.children().into_iter().collect::<BTreeSet<_>>(), [self.engine, self.standby].into());
        kill(self.engine, Signal::KILL);
        assert_eq!(self.server.engine(), self.standby);
    }
}

/// By a process of its own: a file that is open for writing cannot be executed, and a process that
/// another test is just starting has a copy of every descriptor of ours until it executes.
fn copy(from: &str, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn generation(status: &Value) -> u32 {
    Epoch(status["epoch"].as_u64().expect("an epoch is a number")).generation().into()
}

/// A probe, with which an autonomous server measures the path.
fn probe(buffer: &mut [u8], to: Mac, from: Mac, sequence: u64) -> usize {
    write_to_server(buffer, (to, from), "366/0", (0, sequence))
}

fn echoed(bytes: &[u8]) -> Option<u64> {
    match Frame::parse(bytes, DEFAULT_ETHERTYPE).ok()?.message().ok()? {
        Message::ProbeEcho { sequence, .. } => Some(sequence),
        _ => None,
    }
}

/// Sends probes until it is told to stop; returns how many, and which of them were not echoed.
fn probe_until(endpoint: &mut Endpoint, stop: &AtomicBool) -> (u64, BTreeSet<u64>) {
    let from = endpoint.mac();
    let (mut sent, mut open, mut end) = (0, BTreeSet::new(), None);
    loop {
        if end.is_none() && open.len() < 256 && endpoint.send(|buffer| probe(buffer, Mac([0xff; 6]), from, sent)) {
            open.insert(sent);
            sent += 1;
        }
        endpoint.flush().unwrap();
        let heard = |bytes: &[u8], _| {
            if let Some(sequence) = echoed(bytes) {
                open.remove(&sequence);
            }
        };
        endpoint.receive(Duration::from_micros(200), heard).unwrap();
        if end.is_none() && stop.load(Ordering::Relaxed) {
            end = Some(Instant::now() + PATIENCE);
        }
        if end.is_some_and(|end| open.is_empty() || Instant::now() > end) {
            return (sent, open);
        }
    }
}

#[test]
fn an_upgrade_hands_over_without_a_death_and_without_a_lost_frame_and_the_new_program_is_kept() {
    let mut setup = Setup::set();
    let before = setup.status();
    setup.install(env!("CARGO_BIN_EXE_baton"));
    let mut endpoint = setup.pair.on(Side::Right, || Endpoint::open("right", &EndpointSettings::default()).unwrap());
    let stop = AtomicBool::new(false);
    let after = json(&setup.upgrade("1"));
    let successor = after["pid"].as_u64().unwrap() as u32;
    assert!(successor != setup.engine && successor != setup.standby, "{after:#}");
    assert_eq!(generation(&after), generation(&before) + 1, "one engine followed one");
    assert_eq!(after["upgrade"]["state"], "trial");
    assert_eq!(after["program"]["path"], setup.program().to_str().unwrap());
    gone(setup.engine);
    let said = setup.server.line_with(&format!("engine {} handed over to engine {successor}", setup.engine));
    assert!(!said.contains("WARN") && !setup.server.heard.contains("killed"), "{}", setup.server.heard);

    // The trial ends, and the standby is of the new program too.
    setup.upgrade_is("kept");
    let standby = loop {
        let standby = setup.server.standby();
        if setup.server.heard.contains("its program is kept") {
            break standby;
        }
    };

    // Once more, under traffic.
    let (output, (sent, lost)) = thread::scope(|scope| {
        let traffic = scope.spawn(|| probe_until(&mut endpoint, &stop));
        thread::sleep(Duration::from_millis(200));
        let output = setup.upgrade(LONG);
        thread::sleep(Duration::from_millis(200));
        stop.store(true, Ordering::Relaxed);
        (output, traffic.join().unwrap())
    });
    let again = json(&output);
    assert!(again["pid"] != successor && again["pid"] != standby, "{again:#}");
    assert_eq!(generation(&again), generation(&after) + 1);
    assert!(sent > 100, "there was traffic: {sent} probes");
    assert!(lost.is_empty(), "{} of {sent} probes were not echoed: {lost:?}", lost.len());
    eprintln!("{sent} probes over a hand-over, all echoed");
}

#[test]
fn a_program_that_does_not_stand_by_is_refused_and_all_goes_on() {
    let setup = Setup::set();
    setup.install("/bin/false");
    let output = setup.upgrade(LONG);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no upgrade") && said.contains("exited with status 1"), "{said}");
    setup.goes_on();
}

#[test]
fn a_file_that_is_no_program_or_not_there_is_refused_by_its_name() {
    let setup = Setup::set();
    let refused = |why: &str| {
        let output = setup.upgrade(LONG);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(setup.program().to_str().unwrap()) && said.contains(why), "{said}");
    };
    setup.install(env!("CARGO_BIN_EXE_baton"));
    fs::set_permissions(setup.program(), fs::Permissions::from_mode(0o600)).unwrap();
    refused("Permission denied");
    fs::write(setup.program(), "no program").unwrap();
    fs::set_permissions(setup.program(), fs::Permissions::from_mode(0o755)).unwrap();
    refused("Exec format error");
    fs::remove_file(setup.program()).unwrap();
    refused("No such file");
    setup.goes_on();
}

#[test]
fn a_program_that_dies_in_its_trial_is_followed_by_the_one_before() {
    let mut setup = Setup::set();
    let before = setup.status();
    assert!(Path::new(before["program"]["path"].as_str().unwrap()) == setup.program(), "{before:#}");
    setup.install(env!("CARGO_BIN_EXE_baton"));
    let successor = json(&setup.upgrade(LONG))["pid"].as_u64().unwrap() as u32;
    setup.server.line_with("on trial");
    let standby = setup.server.standby();
    let output = setup.upgrade(LONG);
    assert!(String::from_utf8_lossy(&output.stderr).contains("on trial"), "one after the other");
    kill(successor, Signal::KILL);
    assert_eq!(setup.server.engine(), standby, "by the locks");
    let after = setup.upgrade_is("returned");
    assert_eq!(after["pid"], standby);
    assert!(after["upgrade"]["why"].as_str().unwrap().contains("killed (SIGKILL)"), "{after:#}");
    assert!(after["program"]["path"].as_str().unwrap().ends_with(" (deleted)"), "of the file before: {after:#}");
    assert_eq!(generation(&after), generation(&before) + 2);
    // The next is of the program before as well; what is on disk may be tried again.
    let next = setup.server.standby();
    assert!(fs::read_link(format!("/proc/{next}/exe")).unwrap().to_str().unwrap().ends_with(" (deleted)"));
    let again = json(&setup.upgrade(LONG));
    assert_eq!(again["upgrade"]["state"], "trial");
}

#[test]
fn an_engine_stays_when_its_heir_dies_before_it_has_handed_over() {
    let mut setup = Setup::set();
    setup.install(env!("CARGO_BIN_EXE_baton"));
    let socket = setup.place.path("run/api.sock");
    let spawn = |arguments: &[&str]| {
        let mut baton = Command::new(env!("CARGO_BIN_EXE_baton"));
        baton.args(arguments).arg("--socket").arg(&socket).stdout(Stdio::null()).stderr(Stdio::piped());
        baton.spawn().unwrap()
    };
    // No autonomous server answers: the engine has something to finish before it hands over.
    let mut starting = spawn(&["meeting", "start", "366/1001", "366/1002"]);
    let end = Instant::now() + PATIENCE;
    while setup.status()["operations"].as_u64() == Some(0) {
        assert!(Instant::now() < end, "no operation in time: {:#}", setup.status());
        thread::sleep(Duration::from_millis(5));
    }
    let upgrading = spawn(&["upgrade", "--within", LONG]);
    let successor = setup.server.standby();
    kill(successor, Signal::KILL);
    let output = upgrading.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let status = setup.upgrade_is("returned");
    assert_eq!(status["pid"], setup.engine, "{status:#}");
    thread::sleep(Duration::from_secs(2));
    assert_eq!(setup.status()["pid"], setup.engine, "it would have left by now");
    assert_eq!(setup.server.heard.matches(" controls").count(), 1, "{}", setup.server.heard);
    starting.kill().unwrap();
    starting.wait().unwrap();
}

/// If another process has the database, an engine waits for it with its remaining writes, also
/// after it has handed over.
#[test]
fn an_engine_that_handed_over_and_does_not_end_keeps_nobody_from_standing_by_and_is_killed() {
    let mut setup = Setup::set();
    let database = fs::File::open(setup.place.path("db/baton.redb")).unwrap();
    let mut engine = setup.engine;
    loop {
        kill(engine, Signal::KILL);
        let end = Instant::now() + Duration::from_secs(1);
        let taken = || rustix::fs::flock(&database, FlockOperation::NonBlockingLockExclusive).is_ok();
        let taken = iter::repeat_with(taken).take_while(|_| Instant::now() < end).any(|taken| taken);
        engine = setup.server.engine();
        setup.server.standby();
        if taken {
            break;
        }
    }
    let successor = json(&setup.upgrade(LONG))["pid"].as_u64().unwrap() as u32;
    while setup.server.engine() != successor {}
    setup.server.standby();
    assert!(setup.server.children().contains(&engine), "it has not ended, and is not waited for");
    setup.server.line_with(&format!("engine {engine} was followed and does not end: it is killed"));
    gone(engine);
    drop(database);
    assert_eq!(setup.status()["pid"], successor);
}

/// An engine that somebody kills says nothing about its program.
#[test]
fn a_kept_program_is_kept_though_its_engines_are_killed_one_after_the_other() {
    let mut setup = Setup::set();
    setup.install(env!("CARGO_BIN_EXE_baton"));
    let mut engine = json(&setup.upgrade("1"))["pid"].as_u64().unwrap() as u32;
    setup.upgrade_is("kept");
    while setup.server.engine() != engine {}
    for _ in 0..100 {
        kill(engine, Signal::KILL);
        engine = setup.server.engine();
        if setup.server.heard.contains("in a row came to nothing: the next starts in") {
            break;
        }
    }
    assert!(setup.server.heard.contains("in a row came to nothing: the next starts in"), "{}", setup.server.heard);
    assert_eq!(setup.upgrade_is("kept")["pid"], engine);
    assert!(!setup.server.heard.contains("keeper's own program again"), "{}", setup.server.heard);
}

#[test]
fn a_trial_of_no_time_is_refused() {
    let setup = Setup::set();
    let output = setup.upgrade("0");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    setup.goes_on();
}
