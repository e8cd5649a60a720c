//! The hand-over from one process to another, over real sockets; and the lifecycle, in a time of
//! its own.

mod lifecycle;
mod lifecycle_case;
mod lifecycle_cases;
mod lifecycle_check;
mod lifecycle_engine;
mod lifecycle_upgrades;
mod lifecycle_world;

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use crate::cascade::Hop;
use crate::config::{Config, Overrides};
use crate::handover::Attached;
use crate::handover::compat::{HANDOVER, Identity};
use crate::handover::protocol::{
    self, Death, Frames, HandoverError, KeeperLine, Manifest, Notice, Order, Role, Served, TableOrigin,
};
use crate::limits::{DOMAINS_MAX, INTERFACES_MAX, WORKERS_MAX};
use crate::sys::af_xdp;
use crate::sys::fd_passing;
use crate::sys::interface::Interface;
use crate::wire::{Domain, Mac};

/// The largest that a configuration can make it.
fn manifest() -> Manifest {
    let mut text = String::from("[interface]\nname = \"eth0\"\n");
    for number in 0..DOMAINS_MAX as u64 {
        text += &format!(
            "[[domain]]\nnumber = {}\nmac = \"02:00:00:00:01:6e\"\nvlan = 4094\nlabel = 65535\nsecret = \"{}\"\n",
            crate::wire::Domain::MAX - number,
            "ab".repeat(32)
        );
    }
    Manifest {
        version: HANDOVER,
        keeper: Identity::ours(),
        role: Role::Active,
        incarnation: 3,
        config: Config::parse(Path::new("test"), &text, &Overrides::default()).unwrap(),
        table: TableOrigin::Fresh { why: "there was none".into() },
        predecessor: Some(Death { pid: 7, noticed_ns: 8, how: "killed (SIGKILL)".into() }),
        active: Some(7),
        sent_ns: 9,
        next_hops: vec![(Domain::new(2).unwrap(), Hop { interface: 1, mac: Mac([2, 0, 0, 0, 0, 9]) })],
        interfaces: (0..INTERFACES_MAX as u32).map(served).collect(),
    }
}

/// An interface with its share of the most that there can be.
fn served(index: u32) -> Served {
    let xdp =
        af_xdp::Settings::new(Interface { name: format!("eth{index}"), index }, (WORKERS_MAX / INTERFACES_MAX) as u32);
    Served { mac: Mac([2, 0, 0, 0, 0, index as u8]), mode: Attached::Native, xdp }
}

/// Files in the place of an interface's descriptors.
fn frames_of(number: usize, interface: &Served) -> Frames<OwnedFd> {
    let sockets = (0..interface.xdp.sockets()).map(|socket| named(&format!("socket {number}.{socket}"))).collect();
    Frames { umem: named(&format!("umem {number}")), sockets }
}

/// A file that says which it is.
fn named(name: &str) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(name.as_bytes()).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    file.into()
}

fn name_of(descriptor: OwnedFd) -> String {
    let mut text = String::new();
    std::fs::File::from(descriptor).read_to_string(&mut text).unwrap();
    text
}

#[test]
fn the_largest_estate_arrives_whole_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let api: OwnedFd = UnixListener::bind(&path).unwrap().into();
    let (table, succession) = (named("table"), named("succession"));
    let (ours, theirs) = fd_passing::pair().unwrap();
    let sent = manifest();
    assert_eq!(sent.sockets(), WORKERS_MAX);
    let frames: Vec<_> = (0..INTERFACES_MAX).map(|n| frames_of(n, &sent.interfaces[n])).collect();
    let lent = frames.iter().map(|Frames { umem, sockets }| {
        let sockets = sockets.iter().map(AsFd::as_fd).collect();
        Frames { umem: umem.as_fd(), sockets }
    });
    let lent: Vec<_> = lent.collect();
    protocol::send(ours.as_fd(), &sent, [table.as_fd(), succession.as_fd(), api.as_fd()], &lent).unwrap();

    let got = protocol::receive_from(theirs).unwrap();
    assert_eq!(serde_json::to_value(&got.manifest).unwrap(), serde_json::to_value(&sent).unwrap());
    assert_eq!([got.table, got.succession].map(name_of), ["table", "succession"]);
    for (n, Frames { umem, sockets }) in got.frames.into_iter().enumerate() {
        assert_eq!(name_of(umem), format!("umem {n}"));
        for (socket, descriptor) in sockets.into_iter().enumerate() {
            assert_eq!(name_of(descriptor), format!("socket {n}.{socket}"));
        }
    }
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"ask").unwrap();
    drop(client);
    let mut asked = String::new();
    got.api.accept().unwrap().0.read_to_string(&mut asked).unwrap();
    assert_eq!(asked, "ask");
}

/// Longer than any packet: a buffer of the kernel's, in one piece, would not be found at the moment
/// of a death.
#[test]
fn a_manifest_of_any_length_arrives() {
    let (ours, theirs) = fd_passing::pair().unwrap();
    let interfaces: Vec<_> = manifest().interfaces[..1].to_vec();
    let predecessor = Some(Death { pid: 7, noticed_ns: 8, how: "x".repeat(8 << 20) });
    let sent = Manifest { interfaces, predecessor, ..manifest() };
    let [table, succession, api] = ["table", "succession", "api"].map(named);
    let frames = frames_of(0, &sent.interfaces[0]);
    let sockets = frames.sockets.iter().map(AsFd::as_fd).collect();
    let frames = [Frames { umem: frames.umem.as_fd(), sockets }];
    protocol::send(ours.as_fd(), &sent, [table.as_fd(), succession.as_fd(), api.as_fd()], &frames).unwrap();
    let got = protocol::receive_from(theirs).unwrap();
    assert_eq!(got.manifest.predecessor, sent.predecessor);
}

#[test]
fn a_keeper_that_is_gone_before_it_hands_over_is_no_error_of_another_kind() {
    let (ours, theirs) = fd_passing::pair().unwrap();
    drop(ours);
    assert!(matches!(protocol::receive_from(theirs), Err(HandoverError::Closed)));
}

#[test]
fn a_manifest_of_another_version_is_refused_before_it_is_read() {
    let (ours, theirs) = fd_passing::pair().unwrap();
    fd_passing::send(ours.as_fd(), br#"{"version":99,"what":"ever"}"#, &[]).unwrap();
    let Err(error) = protocol::receive_from(theirs) else { panic!("it is foreign") };
    assert!(error.to_string().contains("start the keeper again"), "{error}");
    let mut buffer = [0; 4096];
    let bytes = fd_passing::receive(ours.as_fd(), &mut buffer, 0, false).unwrap().bytes;
    let said: Notice = serde_json::from_slice(&buffer[..bytes]).unwrap();
    assert_eq!(said, Notice::Failed { why: error.to_string() }, "the keeper hears why");
}

#[test]
fn missing_descriptors_are_refused() {
    let (ours, theirs) = fd_passing::pair().unwrap();
    let table = named("table");
    fd_passing::send(ours.as_fd(), &serde_json::to_vec(&manifest()).unwrap(), &[table.as_fd()]).unwrap();
    assert!(matches!(protocol::receive_from(theirs), Err(HandoverError::Foreign(_))));
}

#[test]
fn an_input_that_is_no_socket_says_how_engines_are_started() {
    let Err(error) = protocol::receive_from(named("a file")) else { panic!("it is no socket") };
    assert!(error.to_string().contains("`baton run`"), "{error}");
}

#[test]
fn notices_and_orders_pass_and_the_end_of_the_line_is_seen() {
    let (ours, theirs) = fd_passing::pair().unwrap();
    let line = KeeperLine::from(theirs);
    let mut buffer = [0; 4096];
    for notice in [
        Notice::Standing { program: Identity::ours() },
        Notice::Ready,
        Notice::Complete,
        Notice::Failed { why: "no".into() },
        Notice::Fenced { epoch: 5 },
    ] {
        line.tell(&notice).unwrap();
        let bytes = fd_passing::receive(ours.as_fd(), &mut buffer, 0, false).unwrap().bytes;
        assert_eq!(serde_json::from_slice::<Notice>(&buffer[..bytes]).unwrap(), notice);
    }
    fd_passing::send(ours.as_fd(), &serde_json::to_vec(&Order::Stop).unwrap(), &[]).unwrap();
    assert_eq!(line.order().unwrap(), Order::Stop);
    assert!(!line.is_closed());
    drop(ours);
    assert!(line.is_closed());
    assert_eq!(line.order().unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    assert!(line.tell(&Notice::Ready).is_err());
}
