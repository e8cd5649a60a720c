//! Sockets that outlive who works on them: processes really killed, under traffic, their successors without privileges.

mod support;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command};
use std::thread::{sleep, yield_now};
use std::time::{Duration, Instant};

use baton::sdk::{Endpoint, EndpointSettings};
use baton::sys::af_xdp::{self, Bound, Settings, Socket};
use baton::sys::bpf::{SteerSettings, Steering};
use baton::sys::interface::Interface;
use baton::sys::{descriptors, process};
use baton::wire::DEFAULT_ETHERTYPE;
use rustix::process::Uid;
use support::netns::{Pair, Side};
use support::probe::{read, write};

/// Nothing here takes as long; what does has hung.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where set, this test binary is the worker process of a test.
const WORKER: &str = "BATON_TEST_WORKER";
const NOBODY: u32 = 65_534;
const DEATHS: u32 = 60;
const MEETINGS: u64 = 16;

/// Takes every frame: notes it in the file, answers it, releases it. In this order, as the rule is: a frame is released
/// when all that follows from it is safe.
fn work(sockets: &mut [Socket], noted: &File) {
    for socket in sockets {
        let held = socket.receive(32);
        for i in 0..held {
            let (meeting, sequence) = read(socket.received(i).bytes);
            noted.write_all_at(&[1], sequence).unwrap();
            while !socket.transmit(|buffer| write(buffer, meeting, sequence)) {
                socket.flush().unwrap();
            }
        }
        socket.flush().unwrap();
        socket.release(held);
    }
}

/// Not a test: the process that works until it is killed, when a test starts it.
#[test]
fn worker_process() {
    if std::env::var_os(WORKER).is_none() {
        return;
    }
    rustix::thread::set_thread_res_uid(Uid::from_raw(NOBODY), Uid::from_raw(NOBODY), Uid::from_raw(NOBODY)).unwrap();
    process::tie_to_parent().unwrap();
    let line = descriptors::stdin().unwrap();
    let mut settings = [0; 1024];
    let handed = descriptors::receive(line.as_fd(), &mut settings, 16, true).unwrap();
    let settings: Settings = serde_json::from_slice(&settings[..handed.bytes]).unwrap();
    let mut handed = handed.descriptors.into_iter();
    let (umem, noted) = (handed.next().unwrap(), File::from(handed.next().unwrap()));
    af_xdp::bind(&settings).expect_err("it has no privileges left");
    let mut sockets = af_xdp::adopt(&settings, umem, handed.collect()).unwrap();
    loop {
        work(&mut sockets, &noted);
        yield_now();
    }
}

fn start(bound: &Bound, noted: &File) -> Child {
    let (ours, theirs) = descriptors::pair().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "worker_process", "--nocapture"])
        .env(WORKER, "1")
        .stdin(theirs)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let settings = serde_json::to_vec(&bound.settings).unwrap();
    let mut handed: Vec<BorrowedFd<'_>> = vec![bound.umem.as_fd(), noted.as_fd()];
    handed.extend(bound.sockets.iter().map(AsFd::as_fd));
    descriptors::send(ours.as_fd(), &settings, &handed).unwrap();
    child
}

/// The other end: sends, and counts what was answered.
struct Sender {
    endpoint: Endpoint,
    sent: u64,
    answered: Vec<bool>,
    open: usize,
}

impl Sender {
    /// One turn: what may be sent is sent, what came is counted. Never more is open than there are receive chunks.
    fn turn(&mut self, window: usize) {
        for _ in 0..16 {
            if self.open >= window {
                break;
            }
            let sequence = self.sent;
            if !self.endpoint.send(|buffer| write(buffer, 1 + sequence % MEETINGS, sequence)) {
                break;
            }
            self.sent += 1;
            self.answered.push(false);
            self.open += 1;
        }
        self.endpoint.flush().unwrap();
        let (answered, open) = (&mut self.answered, &mut self.open);
        let count = |bytes: &[u8], _| {
            let (_, sequence) = read(bytes);
            if !std::mem::replace(&mut answered[sequence as usize], true) {
                *open -= 1;
            }
        };
        self.endpoint.receive(Duration::from_micros(200), count).unwrap();
    }
}

#[test]
fn killed_workers_lose_no_frame_and_no_chunk() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(u64::from(std::process::id()));
    eprintln!("SEED={seed}");
    let mut state = seed;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };

    let pair = Pair::new(1);
    let (bound, _steering) = pair.on(Side::Right, || {
        let interface = Interface::find("right").unwrap();
        let settings =
            Settings { rings: 2, receive: 512, transmit: 128, huge_pages: false, ..Settings::new(interface, 1) };
        let bound = af_xdp::bind(&settings).unwrap();
        let steer = SteerSettings::new(DEFAULT_ETHERTYPE, 2);
        let steering = Steering::attach(&bound.settings.interface, &steer, None).unwrap();
        for (ring, socket) in bound.sockets.iter().enumerate() {
            steering.set_ring(0, ring as u32, socket.as_fd()).unwrap();
        }
        (bound, steering)
    });
    let noted = tempfile::tempfile_in("/dev/shm").unwrap();
    let endpoint = pair.on(Side::Left, || Endpoint::open("left", &EndpointSettings::default()).unwrap());
    let mut sender = Sender { endpoint, sent: 0, answered: Vec::new(), open: 0 };

    // The first adoption fills the rings; before it what comes is dropped, for there is nothing to receive into.
    let began = Instant::now();
    let mut child = start(&bound, &noted);
    sender.turn(1);
    while sender.open > 0 {
        assert!(began.elapsed() < PATIENCE, "the first worker does not begin");
        if sender.endpoint.send(|buffer| write(buffer, 1, 0)) {
            sender.turn(1);
        }
    }
    for death in 0..DEATHS {
        // Some die while they work, some while they begin, some before.
        let until = Instant::now() + Duration::from_micros(random(20_000));
        while Instant::now() < until {
            sender.turn(400);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if death % 3 == 0 {
            sender.turn(400);
            sleep(Duration::from_micros(random(500)));
        }
        child = start(&bound, &noted);
    }
    let began = Instant::now();
    while sender.open > 0 {
        sender.turn(0);
        assert!(began.elapsed() < PATIENCE, "{} of {} frames were never answered", sender.open, sender.sent);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let mut marks = vec![0; sender.sent as usize];
    noted.read_exact_at(&mut marks, 0).unwrap();
    assert!(marks.iter().all(|&mark| mark == 1), "every frame was worked on");
    assert!(sender.sent > 1000, "there was traffic: {} frames", sender.sent);
    eprintln!("{} frames over {DEATHS} deaths", sender.sent);

    all_chunks_are_there(bound, sender);
}

/// After all deaths every receive chunk still takes a frame and every transmit chunk still sends one.
fn all_chunks_are_there(bound: Bound, mut sender: Sender) {
    let settings = bound.settings;
    let mut sockets = af_xdp::adopt(&settings, bound.umem, bound.sockets).unwrap();
    for sequence in 0..u64::from(settings.receive) {
        while !sender.endpoint.send(|buffer| write(buffer, 1 + sequence % MEETINGS, sequence)) {
            sender.endpoint.flush().unwrap();
        }
        while !sender.endpoint.flush().unwrap() {}
    }
    let began = Instant::now();
    let mut held = 0;
    while held < settings.receive as usize {
        held = sockets.iter_mut().map(|socket| socket.receive(usize::MAX)).sum();
        assert!(began.elapsed() < PATIENCE, "{held} of {} receive chunks are left", settings.receive);
    }
    for socket in &mut sockets {
        let mut queued = 0;
        while queued < settings.transmit {
            queued += u32::from(socket.transmit(|buffer| write(buffer, 1, 0)));
            assert!(began.elapsed() < PATIENCE, "{queued} of {} transmit chunks are left", settings.transmit);
        }
        assert!(!socket.transmit(|_| unreachable!("there is no chunk more")));
        while !socket.flush().unwrap() {}
    }
    for socket in &sockets {
        let counted = socket.statistics().unwrap();
        assert_eq!((counted.receive_invalid, counted.transmit_invalid), (0, 0), "the kernel was given only chunks");
    }
}
