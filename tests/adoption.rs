//! Sockets and a table that outlive the processes that work on them: the processes are really
//! killed, under reports, and their successors have no privileges. After any number of deaths,
//! every chunk, slot, extent and descriptor can be counted, and is free.
//!
//! 500 deaths; `BATON_DEATHS=10000 cargo test --test adoption` does more (`scripts/test.sh
//! --long`).

mod support;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::thread::{sleep, spawn, yield_now};
use std::time::{Duration, Instant};

use baton::limits::INFO_BYTES_INLINE;
use baton::sdk::{Endpoint, EndpointSettings};
use baton::sys::af_xdp::{self, Bound, Settings, Socket};
use baton::sys::bpf::{SteerSettings, Steering};
use baton::sys::interface::Interface;
use baton::sys::mapping::BootId;
use baton::sys::{fd_passing, process};
use baton::table::{Capacity, OwnerId, Part, Reported, Table, TableError, Terminal, Writer};
use baton::wire::{
    Address, Business, DEFAULT_ETHERTYPE, Decode, Domain, Epoch, Flags, Info, Layout, Level, MeetingId, MeetingState,
    Role, Run, StreamKind,
};
use rustix::process::Uid;
use support::netns::{Side, veth_pair};
use support::probe::{read, write};

/// No step takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// If set, this test binary is the worker process of a test.
const WORKER: &str = "BATON_TEST_WORKER";
const NOBODY: u32 = 65_534;
/// Number of deaths by default; `BATON_DEATHS` overrides it.
const DEATHS: u32 = 500;
const MEETINGS: u64 = 16;
/// The sequence of a first frame, which needs no answer.
const FIRST: u64 = u64::MAX;

/// The meeting that stays, whose members report: a frame of a meeting comes from the device of that
/// number.
const STAYING: MeetingId = MeetingId(1);
/// Meetings that come and go.
const PASSING: std::ops::Range<u64> = 2..8;
const CAPACITY: Capacity = Capacity { meetings: 8, terminals: 48 };

fn domain() -> Domain {
    Domain::new(366).unwrap()
}

fn member(meeting: MeetingId, device: u64, info: usize) -> Terminal {
    let mut terminal = Terminal::new(domain().device(device as u16), meeting, Role::Participant);
    terminal.info = Info::new(&[device as u8; 64][..info]);
    terminal
}

fn part(meeting: MeetingId) -> Part {
    Part {
        meeting,
        domain: domain(),
        version: 1,
        epoch: Epoch::new(1, 1),
        state: MeetingState::InMeeting,
        level: Level::HIGHEST,
        layout: Layout::new(4).unwrap(),
        participants: 0,
        chairman: Address::default(),
        in_doubt: false,
        is_unlisted: false,
        run: Run(7),
    }
}

/// Enters a report of a member, with more or less information than before.
fn enter(writer: &mut Writer, meeting: u64, sequence: u64) {
    let terminal = domain().device(meeting as u16);
    let version = writer.table().terminal(terminal).expect("it stays").version + 1;
    let (decode, flags, stream) = (Decode::Decoding, Flags::ONLINE, StreamKind::Main);
    let info = &[sequence as u8; 64][..(sequence * 7 % 65) as usize];
    let business = Business::InMeeting;
    let role = Role::Participant;
    match writer.report(terminal, STAYING, version, business, decode, role, flags, 1, stream, info) {
        Reported::Applied | Reported::Known | Reported::Contended => {}
        other => panic!("{terminal}: {other:?}"),
    }
}

/// Does what a control thread does all the time: meetings and their members come and go.
fn change(mut writer: Writer) -> ! {
    let mut dice = u64::from(std::process::id());
    loop {
        dice = baton::wire::mix(dice + 1);
        let meeting = MeetingId(PASSING.start + dice % (PASSING.end - PASSING.start));
        let device = 100 + dice / 64 % 30;
        let done = match dice / 8192 % 4 {
            0 => writer.insert_part(&part(meeting)),
            1 => writer.remove_part(meeting, domain()).map(drop),
            2 => writer.join(meeting, domain(), &member(meeting, device, (dice >> 32) as usize % 65)),
            _ => writer.leave(meeting, domain().device(device as u16)).map(drop),
        };
        match done {
            Ok(())
            | Err(
                TableError::Exists
                | TableError::Conflict(_)
                | TableError::UnknownPart(..)
                | TableError::Contended
                | TableError::Full(_),
            ) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Takes every frame: enters it in the table, notes it in the file, answers it, releases it. The
/// order matters: a frame is released when everything that follows from it is safe.
fn work(sockets: &mut [Socket], noted: &File, writer: &mut Writer) {
    for socket in sockets {
        let held = socket.receive(32);
        for i in 0..held {
            let (meeting, sequence) = read(socket.received(i).bytes);
            enter(writer, meeting, sequence);
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
    let Some(path) = std::env::var_os(WORKER).map(PathBuf::from) else { return };
    // As in an engine: it gets the table, and its predecessor is dead.
    let table = Arc::new(Table::open_at(&path).unwrap());
    table.recover();
    rustix::thread::set_thread_res_uid(Uid::from_raw(NOBODY), Uid::from_raw(NOBODY), Uid::from_raw(NOBODY)).unwrap();
    process::tie_to_parent().unwrap();
    let line = fd_passing::stdin().unwrap();
    let mut settings = [0; 1024];
    let handed = fd_passing::receive(line.as_fd(), &mut settings, 16, true).unwrap();
    let settings: Settings = serde_json::from_slice(&settings[..handed.bytes]).unwrap();
    let mut handed = handed.descriptors.into_iter();
    let (umem, noted) = (handed.next().unwrap(), File::from(handed.next().unwrap()));
    af_xdp::bind(&settings).expect_err("it has no privileges left");
    let mapped = af_xdp::map(&settings, umem, handed.collect()).unwrap();
    let mut senders = af_xdp::take_over(vec![mapped]).unwrap();
    // The first frames leave before anything is taken back, and some processes die between the two.
    for socket in senders.sockets() {
        socket.transmit(|buffer| write(buffer, FIRST, 0));
        socket.flush().unwrap();
    }
    if std::process::id().is_multiple_of(4) {
        sleep(Duration::from_millis(5));
    }
    let mut sockets = senders.receive().unwrap();
    let (mut writer, control) = (table.writer(OwnerId::worker(0)), table.writer(OwnerId::CONTROL));
    spawn(move || change(control));
    loop {
        work(&mut sockets, &noted, &mut writer);
        yield_now();
    }
}

fn start(bound: &Bound, noted: &File, table: &Path) -> Child {
    let (ours, theirs) = fd_passing::pair().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "worker_process", "--nocapture"])
        .env(WORKER, table)
        .stdin(theirs)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let settings = serde_json::to_vec(&bound.settings).unwrap();
    let mut handed: Vec<BorrowedFd<'_>> = vec![bound.umem.as_fd(), noted.as_fd()];
    handed.extend(bound.sockets.iter().map(AsFd::as_fd));
    fd_passing::send(ours.as_fd(), &settings, &handed).unwrap();
    child
}

/// The other end: sends, and counts answers.
struct Sender {
    endpoint: Endpoint,
    sent: u64,
    answered: Vec<bool>,
    open: usize,
}

impl Sender {
    /// One turn: sends what may be sent, counts what arrived. No more frames are outstanding than
    /// there are receive chunks.
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
            let (meeting, sequence) = read(bytes);
            if meeting == FIRST {
                return;
            }
            if !std::mem::replace(&mut answered[sequence as usize], true) {
                *open -= 1;
            }
        };
        self.endpoint.receive(Duration::from_micros(200), count).unwrap();
    }
}

#[test]
fn killed_workers_lose_no_frame_and_nothing_else() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(u64::from(std::process::id()));
    eprintln!("SEED={seed}");
    let mut state = seed;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };

    let pair = veth_pair(1);
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

    let folder = tempfile::Builder::new().prefix("baton-adoption-").tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("table");
    let table = Arc::new(Table::create_at(&path, CAPACITY, BootId(1)).unwrap());
    let mut control = table.writer(OwnerId::CONTROL);
    control.insert_part(&part(STAYING)).unwrap();
    (1..=MEETINGS).for_each(|device| control.join(STAYING, domain(), &member(STAYING, device, 0)).unwrap());
    drop(control);
    let deaths =
        std::env::var("BATON_DEATHS").map_or(DEATHS, |deaths| deaths.parse().expect("BATON_DEATHS is a number"));

    // The first adoption fills the rings; before it, frames are dropped, because there is no chunk
    // to receive into.
    let began = Instant::now();
    let mut child = start(&bound, &noted, &path);
    sender.turn(1);
    while sender.open > 0 {
        assert!(began.elapsed() < PATIENCE, "the first worker does not begin");
        if sender.endpoint.send(|buffer| write(buffer, 1, 0)) {
            sender.turn(1);
        }
    }
    let open = open_descriptors();
    for death in 0..deaths {
        // Some processes die while they work, some while they start, some before.
        let until = Instant::now() + Duration::from_micros(random(20_000));
        while Instant::now() < until {
            sender.turn(400);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if death % 10 == 9 {
            table.recover();
            assert_eq!(table.verify(), Vec::<String>::new(), "SEED={seed}, death {death}");
        }
        if death % 3 == 0 {
            sender.turn(400);
            sleep(Duration::from_micros(random(500)));
        }
        child = start(&bound, &noted, &path);
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
    eprintln!("{} frames over {deaths} deaths", sender.sent);

    assert_eq!(open_descriptors(), open, "of this process, which hands all of them on each time");
    all_slots_are_there(&table, &path);
    all_chunks_are_there(bound, sender);
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// After all deaths the table is whole, its owners' records name the contents of its extents, and
/// it can be filled to its capacity.
fn all_slots_are_there(table: &Arc<Table>, path: &Path) {
    table.recover();
    assert_eq!(table.verify(), Vec::<String>::new());
    let mut control = table.writer(OwnerId::CONTROL);
    for meeting in PASSING.map(MeetingId) {
        control.remove_part(meeting, domain()).unwrap();
    }
    assert_eq!((table.count_parts(), table.count_terminals()), (1, MEETINGS as u32));
    let long = table.terminals().filter(|terminal| terminal.info.len() > INFO_BYTES_INLINE).count();
    let (used, extents) = Table::inspect(path).unwrap().extents();
    assert_eq!(used as usize, long, "of {extents} extents");
    (2..=CAPACITY.meetings.into()).for_each(|meeting| control.insert_part(&part(MeetingId(meeting))).unwrap());
    for device in MEETINGS..CAPACITY.terminals.into() {
        control.join(STAYING, domain(), &member(STAYING, 1000 + device, 64)).unwrap();
    }
    assert_eq!(table.verify(), Vec::<String>::new());
}

/// After all deaths every receive chunk still takes a frame and every transmit chunk still sends
/// one.
fn all_chunks_are_there(bound: Bound, mut sender: Sender) {
    let settings = bound.settings;
    // Twice: a spare chunk whose frame the last process sent belongs to the successor after the
    // next.
    let again = bound.sockets.iter().map(|socket| socket.try_clone().unwrap()).collect();
    drop(af_xdp::adopt(&settings, bound.umem.try_clone().unwrap(), again).unwrap());
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
