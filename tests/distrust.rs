//! A keeper whose engine misbehaves: the engine's messages, what it leaves behind, and other
//! processes that want the keeper's resources.

mod support;

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;

use baton::cascade::Hop;
use baton::handover::protocol::Notice;
use baton::sys::fd_passing;
use baton::wire::{Domain, Mac};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open};
use support::netns::{Pair, Side, veth_pair};
use support::server::{Place, Server, gone, kill};

fn with_standby(pair: &Pair, place: &Place) -> (Server, u32, u32) {
    let mut server = Server::start(pair, Side::Left, &place.configure("left", ""), &[]);
    let (engine, standby) = (server.engine(), server.standby());
    (server, engine, standby)
}

/// An engine's end of its channel to the keeper, to speak in its name.
fn line_of(engine: u32) -> OwnedFd {
    let process = pidfd_open(Pid::from_raw(engine as i32).unwrap(), PidfdFlags::empty()).unwrap();
    pidfd_getfd(process, 0, PidfdGetfdFlags::empty()).unwrap()
}

/// Gives one packet after the other.
type Words<'a> = dyn Fn(u64) -> Vec<u8> + 'a;

/// Sends packets as often and as fast as the channel takes them, until its other end is closed.
fn repeat(line: &OwnedFd, words: &Words<'_>) {
    for number in 0.. {
        match fd_passing::send(line.as_fd(), &words(number), &[]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(_) => return,
            Ok(()) => {}
        }
        assert!(number < 100_000_000, "it is never ended for it");
    }
}

fn made_up(number: u64) -> Vec<u8> {
    let hop = Hop { interface: 0, mac: Mac([2, 0, 0, 0, 0, 9]) };
    serde_json::to_vec(&Notice::NextHop { domain: Domain::new(1 + number % 1_000_000).unwrap(), hop }).unwrap()
}

#[test]
fn an_engine_that_says_what_no_engine_says_is_killed_and_followed() {
    let (pair, place) = (veth_pair(1), Place::new());
    let (mut server, mut engine, mut standby) = with_standby(&pair, &place);
    let known = serde_json::to_vec(&Notice::NextHop {
        domain: Domain::new(366).unwrap(),
        hop: Hop { interface: 0, mac: Mac([2, 0, 0, 0, 1, 0x6e]) },
    });
    let known = known.unwrap();
    let all: [(&str, &Words<'_>); 4] = [
        ("said what makes no sense", &made_up),
        ("said what makes no sense", &|number| number.to_le_bytes().repeat(9)),
        ("said what makes no sense", &|_| serde_json::to_vec(&Notice::Ready).unwrap()),
        ("said more than an engine has to say", &|_| known.clone()),
    ];
    for (what, words) in all {
        // Long enough in control for its death to count as an accident.
        std::thread::sleep(std::time::Duration::from_millis(300));
        repeat(&line_of(engine), words);
        server.line_with(&format!("engine {engine} {what}: it is killed"));
        assert_eq!(server.engine(), standby, "{}", server.heard);
        gone(engine);
        // The next engine gets correct resources.
        (engine, standby) = (standby, server.standby());
    }
}

/// A file that the keeper has open, found by its link.
fn opened_by(process: u32, what: &str) -> PathBuf {
    let open = fs::read_dir(format!("/proc/{process}/fd")).unwrap().map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| fs::read_link(path).is_ok_and(|link| link.to_str().unwrap().contains(what));
    open.into_iter().find(is_it).unwrap_or_else(|| panic!("no {what} of {process}"))
}

#[test]
fn engines_have_no_descriptor_of_what_proves_their_death() {
    let (pair, place) = (veth_pair(1), Place::new());
    let (server, engine, standby) = with_standby(&pair, &place);
    for process in [engine, standby] {
        for entry in fs::read_dir(format!("/proc/{process}/fd")).unwrap() {
            let Ok(link) = fs::read_link(entry.unwrap().path()) else { continue };
            let link = link.to_str().unwrap();
            assert!(!link.contains("/table") && !link.contains("memfd:"), "engine {process} has {link}");
        }
    }
    drop(server);
}

#[test]
fn what_engines_come_to_nothing_by_is_made_anew() {
    let (pair, place) = (veth_pair(1), Place::new());
    let (mut server, engine, standby) = with_standby(&pair, &place);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let umem = opened_by(server.id(), "memfd:baton-umem");
    let inode = |path: &PathBuf| fs::metadata(path).unwrap().ino();
    let before = inode(&umem);
    // Its header: no engine that maps it from now on accepts it.
    let file = File::options().write(true).open(&umem).unwrap();
    file.write_all_at(&[0; 64], file.metadata().unwrap().len() - 64).unwrap();
    kill(standby, Signal::KILL);
    kill(engine, Signal::KILL);
    server.line_with("engines in a row came to nothing: sockets, frames' memory and locks are made anew");
    server.engine();
    assert_ne!(inode(&opened_by(server.id(), "memfd:baton-umem")), before);
    server.standby();
}

/// Any process may take an abstract name.
#[test]
fn nobody_keeps_a_server_from_starting_by_a_name() {
    let (pair, place) = (veth_pair(1), Place::new());
    let taken = pair.on(Side::Left, || {
        UnixListener::bind_addr(&SocketAddr::from_abstract_name(b"baton.keeper.left").unwrap()).unwrap()
    });
    let mut server = Server::start(&pair, Side::Left, &place.configure("left", ""), &[]);
    server.engine();
    drop(taken);
}

/// A wild store of the dead engine left a word in place of its lock that names a living thread:
/// nobody would ever get the lock.
#[test]
fn locks_that_nobody_gets_are_not_handed_on() {
    let (pair, place) = (veth_pair(1), Place::new());
    let (mut server, engine, standby) = with_standby(&pair, &place);
    let locks = File::options().write(true).open(opened_by(server.id(), "memfd:baton-succession")).unwrap();
    locks.write_all_at(&server.id().to_le_bytes(), 64).unwrap();
    kill(standby, Signal::KILL);
    gone(standby);
    kill(engine, Signal::KILL);
    let successor = server.engine();
    assert!(successor != engine && successor != standby, "{}", server.heard);
    assert!(!server.heard.contains("does not come to control"), "{}", server.heard);
}

#[test]
fn a_file_that_may_grow_no_further_is_an_error_with_words() {
    let (pair, place) = (veth_pair(1), Place::new());
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let program = folder.path().join("limited");
    fs::write(&program, format!("#!/bin/sh\nulimit -f 1\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_baton"))).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut server = Server::start_program(&program, &pair, Side::Left, &place.configure("left", ""), &[]);
    assert_eq!(server.code(), 1, "{}", server.heard);
    assert!(server.heard.contains("File too large"), "{}", server.heard);
}
