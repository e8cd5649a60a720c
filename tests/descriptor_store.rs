//! A keeper under a service manager: what it reports, and what it gets back. This test is the
//! manager, and speaks the protocol of sd_notify(3) and sd_listen_fds(3) with the real `baton run`,
//! which it really kills.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use baton::sdk::{Endpoint, EndpointSettings};
use baton::sys::fd_passing;
use baton::wire::{DEFAULT_ETHERTYPE, Frame, Mac, Message};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::Signal;
use support::netns::{Pair, Side, veth_pair};
use support::probe::write_to_server;
use support::server::{Place, gone, kill};

/// No step takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// Frames that are sent while no process of the server lives: they have to fit the ring, whose size
/// depends on the memory limit.
const UNATTENDED: u64 = 200;

/// A service manager with one service.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    store: BTreeMap<String, OwnedFd>,
    /// The service's messages since it was started, line by line.
    said: Vec<String>,
    log: PathBuf,
}

impl Manager {
    fn new(place: &Place) -> Self {
        let path = place.path("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        Self { socket, path, store: BTreeMap::new(), said: Vec::new(), log: place.path("log") }
    }

    /// Starts the service with all stored descriptors.
    fn start(&mut self, pair: &Pair, configuration: &Path) -> Service {
        self.said.clear();
        // Away from the numbers that the service expects.
        let passed: Vec<_> = self.store.values().map(|kept| fcntl_dupfd_cloexec(kept, 200).unwrap()).collect();
        let mut script = String::from("export LISTEN_PID=$$; exec");
        for (number, kept) in (3..).zip(&passed) {
            fcntl_setfd(kept, FdFlags::empty()).unwrap();
            script += &format!(" {number}<&{0} {0}<&-", kept.as_raw_fd());
        }
        script += " \"$@\"";
        let names: Vec<_> = self.store.keys().map(String::as_str).collect();
        let log = fs::File::options().create(true).append(true).open(&self.log).unwrap();
        let keeper = Command::new("nsenter")
            .arg(format!("--net={}", pair.path(Side::Left).display()))
            .args(["bash", "-c", &script, "bash", env!("CARGO_BIN_EXE_baton"), "run", "--store", "--config"])
            .arg(configuration)
            .env("NOTIFY_SOCKET", &self.path)
            .env("WATCHDOG_USEC", "200000")
            .env("LISTEN_FDS", names.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Service { keeper }
    }

    /// Waits until the service sends this.
    fn until(&mut self, what: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < end, "no `{what}`: {:?}\n{}", self.said, self.log());
            let before = self.said.len();
            self.listen();
            if let Some(line) = self.said[before..].iter().find(|line| line.starts_with(what)) {
                return line.clone();
            }
        }
    }

    fn listen(&mut self) {
        let mut buffer = [0; 4096];
        // A descriptor that is not stored is closed here, also that of a barrier.
        let Ok(received) = fd_passing::receive(self.socket.as_fd(), &mut buffer, 1, true) else { return };
        let text = std::str::from_utf8(&buffer[..received.bytes]).unwrap();
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        let name = lines.iter().find_map(|line| line.strip_prefix("FDNAME="));
        if lines.iter().any(|line| line == "FDSTORE=1") {
            let descriptor = received.descriptors.into_iter().next().expect("a descriptor to store");
            self.store.insert(name.expect("a name").to_owned(), descriptor);
        } else if lines.iter().any(|line| line == "FDSTOREREMOVE=1") {
            self.store.remove(name.expect("a name"));
        }
        self.said.extend(lines);
    }

    fn names(&self) -> Vec<&str> {
        self.store.keys().map(String::as_str).collect()
    }

    /// The stored sockets, by the kernel's numbers.
    fn sockets(&self) -> BTreeSet<u64> {
        let sockets = self.store.iter().filter(|(name, _)| name.starts_with("socket-"));
        sockets.map(|(_, socket)| rustix::fs::fstat(socket).unwrap().st_ino).collect()
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// The process of the service. Killed on drop.
struct Service {
    keeper: Child,
}

impl Service {
    fn children(id: u32) -> Vec<u32> {
        let text = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        text.split_whitespace().map(|id| id.parse().unwrap()).collect()
    }

    /// Starter and engines.
    fn others(&self) -> Vec<u32> {
        let starters = Self::children(self.keeper.id());
        let engines = starters.iter().flat_map(|&starter| Self::children(starter));
        engines.chain(starters.iter().copied()).collect()
    }

    fn end(&mut self, signal: Signal) -> Option<i32> {
        let others = self.others();
        assert!(others.len() >= 2, "a starter and an engine: {others:?}");
        kill(self.keeper.id(), signal);
        let code = self.keeper.wait().unwrap().code();
        others.into_iter().for_each(gone);
        code
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// A service under its manager, on one end of a pair of interfaces. The fields' order is that of
/// dropping: the process goes first.
struct Managed {
    service: Service,
    manager: Manager,
    configuration: PathBuf,
    place: Place,
    pair: Pair,
}

impl Managed {
    /// Starts it for the first time, and waits until it is ready.
    fn start() -> Self {
        Self::start_on(veth_pair(1), "\"left\"")
    }

    /// As [`Self::start`], on these interfaces of the pair.
    fn start_on(pair: Pair, interfaces: &str) -> Self {
        let place = Place::new();
        let configuration = place.configure("left", "");
        let mut manager = Manager::new(&place);
        replace(&configuration, "\"left\"", interfaces);
        let service = manager.start(&pair, &configuration);
        manager.until("READY=1");
        Self { service, manager, configuration, place, pair }
    }

    fn kill(&mut self) {
        self.service.end(Signal::KILL);
    }

    /// Starts it again with all stored descriptors, and waits until it is ready.
    fn start_again(&mut self) {
        self.service = self.manager.start(&self.pair, &self.configuration);
        self.manager.until("READY=1");
    }

    /// Which of these sockets its engine has.
    fn has_of(&self, sockets: &BTreeSet<u64>) -> BTreeSet<u64> {
        let status = self.manager.said.iter().rfind(|line| line.starts_with("STATUS=")).expect("it says how it does");
        let engine = status.split_whitespace().find_map(|word| word.parse().ok());
        sockets_of(engine.unwrap_or_else(|| panic!("an engine in `{status}`")), sockets)
    }
}

/// Replaces a text in a configuration.
fn replace(configuration: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(configuration).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(configuration, text.replace(from, to)).unwrap();
}

/// An autonomous server that only sends probes: it counts which of them are echoed.
struct Prober {
    endpoint: Endpoint,
    sent: u64,
    echoed: BTreeSet<u64>,
}

impl Prober {
    fn open(pair: &Pair) -> Self {
        let endpoint = pair.on(Side::Right, || Endpoint::open("right", &EndpointSettings::default()).unwrap());
        Self { endpoint, sent: 0, echoed: BTreeSet::new() }
    }

    fn send(&mut self) {
        let (sequence, mac) = (self.sent, self.endpoint.mac());
        let macs = (Mac([0xff; 6]), mac);
        let write = |buffer: &mut [u8]| write_to_server(buffer, macs, "366/0", (0, sequence));
        assert!(self.endpoint.send(write), "few frames are on their way");
        while !self.endpoint.flush().unwrap() {}
        self.sent += 1;
    }

    fn hear(&mut self) {
        let echoed = &mut self.echoed;
        let note = |bytes: &[u8], _| {
            if let Ok(frame) = Frame::parse(bytes, DEFAULT_ETHERTYPE)
                && let Ok(Message::ProbeEcho { sequence, .. }) = frame.message()
            {
                echoed.insert(sequence);
            }
        };
        self.endpoint.receive(Duration::from_millis(1), note).unwrap();
    }

    /// Sends some more, at a pace that fits any ring.
    fn more(&mut self, frames: u64) {
        for _ in 0..frames {
            self.send();
            self.hear();
        }
    }

    /// Waits until each frame that was sent was echoed.
    fn all_echoed(&mut self, log: impl Fn() -> String) {
        let end = Instant::now() + PATIENCE;
        while (self.echoed.len() as u64) < self.sent {
            self.hear();
            assert!(Instant::now() < end, "{} of {} frames echoed\n{}", self.echoed.len(), self.sent, log());
        }
    }
}

/// Which of these sockets a process has.
fn sockets_of(id: u32, among: &BTreeSet<u64>) -> BTreeSet<u64> {
    let descriptors = fs::read_dir(format!("/proc/{id}/fd")).unwrap();
    let links = descriptors.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    let numbers = links.filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
    numbers.filter(|number| among.contains(number)).collect()
}

#[test]
fn a_keeper_that_is_killed_or_restarted_loses_no_frame_and_no_client() {
    let mut managed = Managed::start();
    assert_eq!(managed.manager.names(), ["api", "manifest", "socket-0", "umem-0"]);
    let sockets = managed.manager.sockets();
    assert_eq!(sockets.len(), 1);
    managed.manager.until("WATCHDOG=1");

    let mut prober = Prober::open(&managed.pair);
    prober.more(50);
    prober.all_echoed(|| managed.manager.log());

    for (signal, code) in [(Signal::KILL, None), (Signal::TERM, Some(0)), (Signal::KILL, None)] {
        // Under traffic: the dying engine holds some frames.
        prober.more(100);
        (0..20).for_each(|_| prober.send());
        assert_eq!(managed.service.end(signal), code, "{}", managed.manager.log());
        let manager = &mut managed.manager;
        while manager.said.is_empty() || !manager.said.iter().any(|line| line == "STOPPING=1") && code.is_some() {
            manager.listen();
        }
        // No process of the server lives.
        (0..UNATTENDED).for_each(|_| prober.send());
        let mut client = UnixStream::connect(managed.place.path("run/api.sock")).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(b"GET /status HTTP/1.0\r\n\r\n").unwrap();

        managed.start_again();
        let said = &managed.manager.said;
        assert!(!said.iter().any(|line| line.starts_with("FDSTORE")), "all was there: {said:?}");
        assert_eq!(managed.has_of(&sockets), sockets, "the very same sockets");
        prober.all_echoed(|| managed.manager.log());
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    }
    assert!(!managed.manager.log().contains("not taken up"), "{}", managed.manager.log());
    eprintln!("{} frames over three deaths, all echoed", prober.sent);
}

#[test]
fn the_rings_of_several_interfaces_are_kept_as_one() {
    let pair = veth_pair(1);
    pair.join_again().unwrap();
    let mut managed = Managed::start_on(pair, "[\"left\", \"left2\"]");
    assert_eq!(managed.manager.names(), ["api", "manifest", "socket-0", "socket-1", "umem-0", "umem-1"]);
    let sockets = managed.manager.sockets();
    assert_eq!(sockets.len(), 2);

    managed.kill();
    managed.start_again();
    assert_eq!(managed.has_of(&sockets), sockets, "the very same sockets");

    // With only one of them configured, none of the stored rings can be used.
    managed.kill();
    replace(&managed.configuration, "[\"left\", \"left2\"]", "\"left\"");
    managed.start_again();
    assert_eq!(managed.manager.names(), ["api", "manifest", "socket-0", "umem-0"]);
    let log = managed.manager.log();
    assert!(log.contains("not taken up: the configuration has other rings now"), "{log}");
}

#[test]
fn what_does_not_fit_any_more_is_closed_and_opened_anew() {
    let mut managed = Managed::start();

    // A different size.
    managed.kill();
    let before = managed.manager.sockets();
    replace(&managed.configuration, "huge_pages = false", "huge_pages = false\nreceive_ring = 512");
    managed.start_again();
    let log = managed.manager.log();
    assert!(log.contains("not taken up: the configuration has other rings now"), "{log}");
    assert_eq!(managed.manager.names(), ["api", "manifest", "socket-0", "umem-0"]);
    assert!(managed.manager.sockets().is_disjoint(&before));
    let mut prober = Prober::open(&managed.pair);
    prober.more(50);
    prober.all_echoed(|| managed.manager.log());
    drop(prober);

    // A different interface with the same name.
    managed.kill();
    let before = managed.manager.sockets();
    let pair = &managed.pair;
    pair.ip(Side::Left, "link del left").unwrap();
    pair.ip(Side::Left, &format!("link add left type veth peer name right netns {}", pair.name(Side::Right))).unwrap();
    pair.ip(Side::Left, "link set left up").unwrap();
    pair.ip(Side::Right, "link set right up").unwrap();
    managed.start_again();
    let log = managed.manager.log();
    assert!(log.contains("not taken up: they are left number"), "{log}");
    assert!(managed.manager.sockets().is_disjoint(&before));

    // A socket is missing, and there is a descriptor of another version.
    managed.kill();
    let socket = managed.manager.store.remove("socket-0").unwrap();
    managed.manager.store.insert("ring-0".into(), socket);
    managed.start_again();
    let log = managed.manager.log();
    assert!(log.contains("not taken up: socket 0 is not among them"), "{log}");
    assert_eq!(managed.manager.names(), ["api", "manifest", "socket-0", "umem-0"]);
    managed.kill();
}

/// What a compromised engine can write to the frames' memory: an impossible owner for each chunk.
/// The file is chunks of 2,048 bytes, a word for each, and a header in the last 64 bytes; the
/// number of chunks is a multiple of 128.
fn damage(umem: &OwnedFd) {
    let file = fs::File::options().write(true).open(format!("/proc/self/fd/{}", umem.as_raw_fd())).unwrap();
    let chunks = (file.metadata().unwrap().len() - 64) / (2048 + 8) / 128 * 128;
    file.write_all_at(&vec![7; chunks as usize * 8], chunks * 2048).unwrap();
}

/// This failed at each start, for as long as the manager stored the descriptors that caused the
/// failure.
#[test]
fn rings_that_no_engine_can_work_with_are_not_kept_for_ever() {
    let mut managed = Managed::start();
    managed.kill();
    let before = managed.manager.sockets();
    damage(&managed.manager.store["umem-0"]);
    managed.start_again();
    let log = managed.manager.log();
    assert!(log.contains("the owner word of a transmit chunk is invalid"), "{log}");
    assert_eq!(managed.manager.names(), ["api", "manifest", "socket-0", "umem-0"]);
    assert!(managed.manager.sockets().is_disjoint(&before));
    let mut prober = Prober::open(&managed.pair);
    prober.more(50);
    prober.all_echoed(|| managed.manager.log());
    managed.kill();
}

#[test]
fn a_store_without_a_manager_is_refused() {
    let place = Place::new();
    let mut baton = Command::new(env!("CARGO_BIN_EXE_baton"));
    baton.args(["run", "--store", "--config"]).arg(place.configure("lo", "")).env_remove("NOTIFY_SOCKET");
    let output = baton.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("start it without --store"));
}

#[test]
fn a_start_that_fails_leaves_steering_to_the_sockets_that_are_kept() {
    let mut managed = Managed::start();
    let mut prober = Prober::open(&managed.pair);
    managed.kill();
    // Its sockets are taken up; then the folder for the API's socket is missing.
    let text = fs::read_to_string(&managed.configuration).unwrap();
    let failing = managed.place.path("failing.toml");
    let nowhere = managed.place.path("nowhere/api.sock");
    fs::write(&failing, format!("{text}\napi_socket = \"{}\"\n", nowhere.display())).unwrap();
    let mut service = managed.manager.start(&managed.pair, &failing);
    assert_eq!(service.keeper.wait().unwrap().code(), Some(1), "{}", managed.manager.log());
    prober.more(UNATTENDED);
    managed.start_again();
    prober.all_echoed(|| managed.manager.log());
}
