//! A real server whose engines are killed one after the other under traffic. In the end its keeper
//! has as many descriptors as before, its table is consistent, and every chunk of its sockets can
//! be counted in what the keeper handed on, and is free.
//!
//! 25 deaths; `BATON_ENGINE_DEATHS=1000 cargo test --test engine_deaths` does more
//! (`scripts/test.sh --long`).

mod support;

use std::fs;
use std::os::fd::{OwnedFd, RawFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use baton::sdk::{Endpoint, EndpointSettings};
use baton::sys::af_xdp::{self, Settings, Socket};
use baton::sys::interface::Interface;
use baton::table::Table;
use baton::wire::{DEFAULT_ETHERTYPE, Frame, Mac, Message};
use rustix::fs::getxattr;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open};
use support::netns::{Side, veth_pair};
use support::probe::write_to_server;
use support::server::{Place, Server, gone, kill};

const PATIENCE: Duration = Duration::from_secs(30);
/// Number of deaths by default; `BATON_ENGINE_DEATHS` overrides it.
const DEATHS: u32 = 25;
/// Frames that may be unanswered at once: a death loses none, but an overloaded server sheds.
const WINDOW: u64 = 256;

/// A probe of a terminal of domain 366, which a worker answers at once.
fn probe(buffer: &mut [u8], sequence: u64) -> usize {
    let macs = (Mac([0xff; 6]), Mac([2, 0, 0, 0, 1, 0x6e]));
    write_to_server(buffer, macs, "366/1", (1 + sequence % 16, sequence))
}

/// Sends frames and receives the answers.
struct Sender {
    endpoint: Endpoint,
    sent: u64,
    echoed: u64,
}

impl Sender {
    /// For this time, sends as fast as answers come, with a window of frames in addition to those
    /// that were lost before.
    fn for_a_while(&mut self, span: Duration) {
        let (end, base, mut sent) = (Instant::now() + span, self.echoed, 0);
        while Instant::now() < end {
            while sent < self.echoed - base + WINDOW && self.endpoint.send(|buffer| probe(buffer, self.sent)) {
                (self.sent, sent) = (self.sent + 1, sent + 1);
            }
            self.endpoint.flush().unwrap();
            let echoed = &mut self.echoed;
            let count = |bytes: &[u8], _| {
                let frame = Frame::parse(bytes, DEFAULT_ETHERTYPE).unwrap();
                *echoed += u64::from(matches!(frame.message(), Ok(Message::ProbeEcho { .. })));
            };
            self.endpoint.receive(Duration::from_micros(200), count).unwrap();
        }
    }
}

/// Descriptors of a process, with what they refer to.
fn descriptors(id: u32) -> Vec<(RawFd, String)> {
    let open = fs::read_dir(format!("/proc/{id}/fd")).unwrap().flatten();
    let named = open.filter_map(|fd| {
        let to = fs::read_link(fd.path()).ok()?.to_str()?.to_owned();
        Some((fd.file_name().to_str()?.parse().ok()?, to))
    });
    let mut all: Vec<_> = named.collect();
    all.sort();
    all
}

/// Their number when the process is idle: while it hands something on it has some more.
fn at_rest(id: u32) -> usize {
    (0..20)
        .map(|_| {
            sleep(Duration::from_millis(10));
            descriptors(id).len()
        })
        .min()
        .unwrap()
}

/// What the keeper hands to each engine: the frames' memory, and the sockets in their order.
fn taken_from(keeper: u32) -> (OwnedFd, Vec<OwnedFd>) {
    let pidfd = pidfd_open(Pid::from_raw(keeper as i32).unwrap(), PidfdFlags::empty()).unwrap();
    let take = |fd| pidfd_getfd(&pidfd, fd, PidfdGetfdFlags::empty()).unwrap();
    let mut umem = None;
    let mut sockets = Vec::new();
    for (fd, to) in descriptors(keeper) {
        let mut protocol = [0; 16];
        let path = format!("/proc/{keeper}/fd/{fd}");
        if to.contains("baton-umem") {
            umem = Some(take(fd));
        } else if to.starts_with("socket:")
            && getxattr(path, "system.sockprotoname", protocol.as_mut_slice())
                .is_ok_and(|_| protocol.starts_with(b"XDP"))
        {
            sockets.push(take(fd));
        }
    }
    (umem.expect("the keeper has the frames' memory"), sockets)
}

#[test]
fn engines_that_die_under_load_leave_their_server_all_that_it_had() {
    let deaths =
        std::env::var("BATON_ENGINE_DEATHS").map_or(DEATHS, |deaths| deaths.parse().expect("a number of deaths"));
    let (pair, place) = (veth_pair(1), Place::new());
    let mut server = Server::start(&pair, Side::Left, &place.configure("left", ""), &[]);
    let mut engine = server.engine();
    let mut standby = server.standby();
    let keeper = server.id();
    let starter = server.starter().unwrap();
    let before = (at_rest(keeper), at_rest(starter), at_rest(standby));

    let endpoint = pair.on(Side::Right, || Endpoint::open("right", &EndpointSettings::default()).unwrap());
    let mut sender = Sender { endpoint, sent: 0, echoed: 0 };
    for death in 0..deaths {
        // In the middle of a worker's round: what it had queued is not published.
        sender.for_a_while(Duration::from_micros(20_000 + u64::from(death) * 7919 % 30_000));
        kill(engine, Signal::KILL);
        engine = server.engine();
        assert_eq!(engine, standby);
        sender.for_a_while(Duration::from_millis(5));
        standby = server.standby();
    }
    assert!(
        sender.echoed > u64::from(deaths) * 100,
        "there was traffic: {} of {} answered",
        sender.echoed,
        sender.sent
    );
    sleep(Duration::from_millis(200));
    assert_eq!(
        (at_rest(keeper), at_rest(starter), at_rest(standby)),
        before,
        "descriptors of keeper, starter, standby"
    );

    let (umem, sockets) = taken_from(keeper);
    server.signal(Signal::KILL);
    [keeper, starter, engine, standby].into_iter().for_each(gone);
    let table = Table::open_at(&place.path("shm/table")).unwrap();
    table.recover();
    assert_eq!((table.verify(), table.count_terminals()), (Vec::new(), 0));
    let interface = pair.on(Side::Left, || Interface::find("left").unwrap());
    let settings = Settings { huge_pages: false, rings: sockets.len() as u32, ..Settings::new(interface, 1) };
    all_chunks_are_there(&settings, umem, sockets);
}

/// Every receive chunk waits for the kernel or holds a frame, and every transmit chunk takes a
/// frame.
fn all_chunks_are_there(settings: &Settings, umem: OwnedFd, sockets: Vec<OwnedFd>) {
    // Twice: a spare chunk whose frame the last process sent belongs to the successor after the
    // next.
    let again = sockets.iter().map(|socket| socket.try_clone().unwrap()).collect();
    drop(af_xdp::adopt(settings, umem.try_clone().unwrap(), again).unwrap());
    let mut sockets = af_xdp::adopt(settings, umem, sockets).unwrap();
    let began = Instant::now();
    loop {
        sockets.iter_mut().for_each(|socket| {
            let held = socket.receive(usize::MAX);
            socket.release(held);
        });
        let usage: Vec<_> = sockets.iter_mut().map(Socket::usage).collect();
        let waiting = usage[0].fill_waiting + usage.iter().map(|usage| usage.receive_waiting).sum::<u32>();
        if waiting == settings.receive {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{waiting} of {} chunks to receive into are left", settings.receive);
    }
    for socket in &mut sockets {
        let mut queued = 0;
        while queued < settings.transmit {
            queued += u32::from(socket.transmit(|buffer| probe(buffer, 0)));
            assert!(began.elapsed() < PATIENCE, "{queued} of {} chunks to send with are left", settings.transmit);
        }
        assert!(!socket.transmit(|_| unreachable!("there is no chunk more")));
    }
}
