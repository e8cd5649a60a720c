//! Engines that live but make no progress, or wait for something that does not come: each is killed
//! and replaced. Real processes, really stopped.

mod support;

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use baton::handover::protocol::Notice;
use baton::sys::fd_passing;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open};
use support::netns::{Pair, Side, veth_pair};
use support::server::{Place, Server, gone, kill};

/// Half of the default, because the tests wait for it.
const HANG_MS: u64 = 500;

fn start(pair: &Pair, place: &Place) -> Server {
    Server::start(pair, Side::Left, &place.configure("left", &format!("hang_ms = {HANG_MS}")), &[])
}

/// A server with its engine and standby.
fn with_standby(pair: &Pair, place: &Place) -> (Server, u32, u32) {
    let mut server = start(pair, place);
    let (engine, standby) = (server.engine(), server.standby());
    (server, engine, standby)
}

/// An engine's end of its channel to the keeper, to speak in its name.
fn line_of(engine: u32) -> OwnedFd {
    let process = pidfd_open(Pid::from_raw(engine as i32).unwrap(), PidfdFlags::empty()).unwrap();
    pidfd_getfd(process, 0, PidfdGetfdFlags::empty()).unwrap()
}

fn say(line: &OwnedFd, notice: &Notice) {
    fd_passing::send(line.as_fd(), &serde_json::to_vec(notice).unwrap(), &[]).unwrap();
}

fn status(place: &Place) -> Option<serde_json::Value> {
    asked(place, &["status", "--json"])
}

fn asked(place: &Place, words: &[&str]) -> Option<serde_json::Value> {
    let mut baton = Command::new(env!("CARGO_BIN_EXE_baton"));
    let said = baton.args(words).arg("--socket").arg(place.path("run/api.sock")).output().unwrap().stdout;
    serde_json::from_slice(&said).ok()
}

#[test]
fn an_engine_that_is_stopped_is_killed_and_its_standby_takes_over() {
    let (pair, place) = (veth_pair(1), Place::new());
    let (mut server, engine, standby) = with_standby(&pair, &place);
    kill(engine, Signal::STOP);
    let said = server.line_with(&format!("engine {engine} hangs"));
    assert!(said.contains("has stood still for 500 ms (`hang_ms` in [runtime]): it is killed"), "{said}");
    assert_eq!(server.engine(), standby);
    gone(engine);
    // Its successor counts control as lost from the time when it stood still, and the logs say so.
    let last = asked(&place, &["recovery", "last", "--json"]).expect("the new engine answers");
    let death = &last["predecessor"];
    assert_eq!(
        (death["pid"].as_u64(), death["how"].as_str()),
        (Some(engine.into()), Some("hung, and was killed")),
        "{last}"
    );
    let ahead = last["began_ns"].as_u64().unwrap() - death["noticed_ns"].as_u64().unwrap();
    assert!(ahead >= HANG_MS * 1_000_000 / 2, "{ahead} ns: {last}");
    server.standby();
}

#[test]
fn where_the_standby_hangs_too_a_new_engine_is_started() {
    let (pair, place) = (veth_pair(1), Place::new());
    let (mut server, engine, standby) = with_standby(&pair, &place);
    kill(standby, Signal::STOP);
    kill(engine, Signal::STOP);
    let successor = server.engine();
    assert!(successor != engine && successor != standby, "{}", server.heard);
    assert!(
        server.heard.contains(&format!("engine {standby} was to follow a dead engine and has not taken over in time"))
    );
    [engine, standby].into_iter().for_each(gone);
}

#[test]
fn an_engine_that_never_comes_to_control_is_replaced() {
    let (pair, place) = (veth_pair(1), Place::new());
    let (mut server, engine, standby) = with_standby(&pair, &place);
    thread::sleep(Duration::from_millis(300));
    kill(standby, Signal::KILL);
    kill(engine, Signal::KILL);
    let executes =
        |id: u32| fs::read_to_string(format!("/proc/{id}/cmdline")).is_ok_and(|line| line.contains("engine"));
    let late = loop {
        let started = server.children().into_iter().find(|&id| id != engine && id != standby && executes(id));
        if let Some(late) = started {
            break late;
        }
        thread::sleep(Duration::from_micros(200));
    };
    kill(late, Signal::STOP);
    // It may have gained control before it was stopped; then it hangs.
    server.line_with(&format!("engine {late} "));
    let successor = server.engine();
    let successor = if successor == late { server.engine() } else { successor };
    assert_ne!(successor, late);
    gone(late);
}

#[test]
fn an_engine_that_says_that_it_failed_and_does_not_end_is_killed() {
    let (pair, place) = (veth_pair(1), Place::new());
    let (mut server, engine, _) = with_standby(&pair, &place);
    say(&line_of(engine), &Notice::Failed { why: "for no reason".into() });
    server.line_with(&format!("engine {engine} does not end: it is killed"));
    gone(engine);
    assert_ne!(server.engine(), engine);
}

#[test]
fn an_engine_that_says_that_it_was_replaced_and_does_not_end_takes_its_keeper_along() {
    let (pair, place) = (veth_pair(1), Place::new());
    let (mut server, engine, standby) = with_standby(&pair, &place);
    say(&line_of(engine), &Notice::Fenced { epoch: 0x7_0000_0001 });
    assert_ne!(server.code(), 0);
    assert!(server.heard.contains("another dispatch server controls"), "{}", server.heard);
    [engine, standby].into_iter().for_each(gone);
}

/// A machine that was paused: the keeper was not scheduled either, and continues first.
#[test]
fn a_keeper_that_was_stopped_itself_lets_its_engine_go_on() {
    let (pair, place) = (veth_pair(1), Place::new());
    let (server, engine, standby) = with_standby(&pair, &place);
    for _ in 0..3 {
        kill(engine, Signal::STOP);
        server.signal(Signal::STOP);
        thread::sleep(Duration::from_millis(3 * HANG_MS));
        server.signal(Signal::CONT);
        kill(engine, Signal::CONT);
        thread::sleep(Duration::from_millis(HANG_MS));
    }
    assert_eq!(server.children().iter().filter(|&&id| id == engine || id == standby).count(), 2, "both go on");
}

#[test]
fn a_server_whose_log_nobody_ever_reads_runs_and_says_later_what_it_could_not() {
    let (pair, place) = (veth_pair(1), Place::new());
    let (mut reader, writer) = std::io::pipe().unwrap();
    // Full from the beginning: no line finds room.
    fcntl_setfl(&writer, OFlags::NONBLOCK | fcntl_getfl(&writer).unwrap()).unwrap();
    while rustix::io::write(&writer, &[b'.'; 4096]).is_ok() {}
    fcntl_setfl(&writer, fcntl_getfl(&writer).unwrap() - OFlags::NONBLOCK).unwrap();
    let mut keeper = Command::new("nsenter")
        .arg(format!("--net={}", pair.path(Side::Left).display()))
        .args([env!("CARGO_BIN_EXE_baton"), "run", "--config"])
        .arg(place.configure("left", ""))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(writer)
        .spawn()
        .unwrap();
    let mut engines = Vec::new();
    for _ in 0..200 {
        if let Some(pid) = status(&place).and_then(|status| status["pid"].as_u64())
            && !engines.contains(&pid)
        {
            engines.push(pid);
            if engines.len() == 3 {
                break;
            }
            kill(pid as u32, Signal::KILL);
        }
        thread::sleep(Duration::from_millis(50));
    }
    // This thread reads the pipe to its end, while the keeper writes its last messages.
    kill(keeper.id(), Signal::TERM);
    let mut said = Vec::new();
    reader.read_to_end(&mut said).unwrap();
    let said = String::from_utf8_lossy(&said).into_owned();
    let status = keeper.wait().unwrap();
    assert_eq!(engines.len(), 3, "engines controlled one after the other: {said}");
    assert!(status.success(), "{status}");
    assert!(said.contains("of the log were dropped here, because nobody read it"), "{}", said.trim_start_matches('.'));
}

#[test]
fn a_terminal_that_is_closed_stops_the_server_in_order() {
    let (pair, place) = (veth_pair(1), Place::new());
    let (mut server, engine, standby) = with_standby(&pair, &place);
    server.signal(Signal::HUP);
    assert_eq!(server.code(), 0, "{}", server.heard);
    assert!(server.heard.contains("snapshot written"), "{}", server.heard);
    assert_eq!(server.heard.matches(" stopping").count(), 1, "{}", server.heard);
    [engine, standby].into_iter().for_each(gone);
}
