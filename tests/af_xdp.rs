//! AF_XDP and steering on real interfaces: a veth pair between two namespaces of the test.

mod support;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use baton::lab::testbed::huge_pages::HugePages;
use baton::sdk::{Endpoint, EndpointSettings};
use baton::sys::af_xdp::{self, Bound, Settings, Socket, XdpError};
use baton::sys::bpf::{Mode, SteerError, SteerSettings, Steering, Verdict};
use baton::sys::interface::Interface;
use baton::wire::DEFAULT_ETHERTYPE;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use support::netns::{Pair, Side, veth_pair};
use support::probe::{read, write};

/// No step takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

fn send(endpoint: &mut Endpoint, meeting: u64, sequence: u64) {
    let began = Instant::now();
    while !endpoint.send(|buffer| write(buffer, meeting, sequence)) {
        endpoint.flush().unwrap();
        assert!(began.elapsed() < PATIENCE, "frame {sequence} has no room");
    }
    while !endpoint.flush().unwrap() {
        assert!(began.elapsed() < PATIENCE, "frame {sequence} does not leave");
    }
}

fn open(pair: &Pair, side: Side) -> Endpoint {
    pair.on(side, || Endpoint::open(side.interface(), &EndpointSettings::default()).unwrap())
}

#[test]
fn frames_cross_whole_both_ways_with_the_time_they_came() {
    let pair = veth_pair(1);
    let mut ends = [open(&pair, Side::Left), open(&pair, Side::Right)];
    assert_eq!(ends.each_ref().map(Endpoint::mode), [Mode::Native; 2]);
    assert_ne!(ends[0].mac(), ends[1].mac());
    for sequence in 0..10_000 {
        for from in [0, 1] {
            let earliest = baton::sys::clock::now();
            send(&mut ends[from], 7, sequence);
            let mut seen = Vec::new();
            let began = Instant::now();
            while seen.is_empty() && began.elapsed() < PATIENCE {
                ends[1 - from]
                    .receive(Duration::from_millis(100), |bytes, arrived| seen.push((read(bytes), arrived)))
                    .unwrap();
            }
            let [((7, same), Some(arrived))] = seen[..] else { panic!("one frame, stamped: {seen:?}") };
            assert_eq!(same, sequence);
            assert!(earliest <= arrived && arrived <= baton::sys::clock::now());
        }
    }
    for end in &ends {
        let counted = end.statistics().unwrap();
        assert_eq!((counted.receive_dropped, counted.receive_ring_full, counted.fill_ring_empty), (0, 0, 0));
        assert_eq!((counted.receive_invalid, counted.transmit_invalid), (0, 0));
        assert_eq!(end.steering().counters().unwrap().of(Verdict::Steered), 10_000);
    }
}

fn settings(rings: u32) -> Settings {
    let interface = Interface::find("right").unwrap();
    Settings { rings, receive: 256, transmit: 64, huge_pages: false, ..Settings::new(interface, 1) }
}

fn steering(bound: &Bound) -> Steering {
    let settings = &bound.settings;
    let steer = SteerSettings::new(DEFAULT_ETHERTYPE, settings.rings);
    let steering = Steering::attach(&settings.interface, &steer, None).unwrap();
    for (place, socket) in bound.sockets.iter().enumerate() {
        let place = place as u32;
        steering.set_ring(place / settings.rings, place % settings.rings, socket.as_fd()).unwrap();
    }
    steering
}

#[test]
fn sockets_share_a_queue_each_with_its_meetings_and_no_chunk_is_lost() {
    let pair = veth_pair(1);
    let (bound, steering) = pair.on(Side::Right, || {
        let bound = af_xdp::bind(&settings(4)).unwrap();
        let steering = steering(&bound);
        (bound, steering)
    });
    let sockets = af_xdp::adopt(&bound.settings, bound.umem, bound.sockets).unwrap();
    let mut left = open(&pair, Side::Left);
    const FRAMES: u64 = 40_000;
    const MEETINGS: u64 = 64;
    // Four threads, so that they meet at the shared rings; far more frames than chunks, so that
    // every chunk is used again. If a thread that has the rings is not scheduled, the kernel gets
    // no chunks from the others and drops frames: it counts each, and so does the test.
    let taken = AtomicU64::new(0);
    let dropped = [const { AtomicU64::new(0) }; 4];
    let seen = || taken.load(SeqCst) + dropped.iter().map(|dropped| dropped.load(SeqCst)).sum::<u64>();
    let (mut sockets, by_socket): (Vec<Socket>, Vec<BTreeMap<u64, Vec<u64>>>) = std::thread::scope(|scope| {
        let workers: Vec<_> = sockets
            .into_iter()
            .zip(&dropped)
            .map(|(mut socket, dropped)| {
                let (taken, seen) = (&taken, &seen);
                scope.spawn(move || {
                    let mut meetings: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
                    let began = Instant::now();
                    while seen() < FRAMES && began.elapsed() < PATIENCE {
                        let held = socket.receive(16);
                        for i in 0..held {
                            let (meeting, sequence) = read(socket.received(i).bytes);
                            meetings.entry(meeting).or_default().push(sequence);
                        }
                        socket.release(held);
                        taken.fetch_add(held as u64, SeqCst);
                        if held == 0 {
                            dropped.store(socket.statistics().unwrap().receive_dropped, SeqCst);
                            std::thread::yield_now();
                        }
                    }
                    (socket, meetings)
                })
            })
            .collect();
        let began = Instant::now();
        for sequence in 0..FRAMES {
            // No more frames on their way than there are chunks.
            while sequence >= seen() + 192 {
                assert!(began.elapsed() < PATIENCE, "{sequence} sent, {} received or dropped", seen());
                std::thread::yield_now();
            }
            send(&mut left, 1 + sequence % MEETINGS, sequence);
        }
        workers.into_iter().map(|worker| worker.join().unwrap()).unzip()
    });
    let all_dropped = seen() - taken.load(SeqCst);
    assert_eq!(seen(), FRAMES, "every frame came or was counted; {all_dropped} were dropped");
    assert!(all_dropped < FRAMES / 2, "{all_dropped} frames were dropped");
    assert!(by_socket.iter().all(|meetings| !meetings.is_empty()), "every socket has meetings");
    for meeting in 1..=MEETINGS {
        let sockets: Vec<_> = by_socket.iter().filter_map(|meetings| meetings.get(&meeting)).collect();
        let [sequences] = sockets[..] else { panic!("meeting {meeting} came to {} sockets", sockets.len()) };
        assert!(sequences.is_sorted_by(|a, b| a < b), "meeting {meeting}: each frame once, in order");
        assert!(sequences.iter().all(|sequence| 1 + sequence % MEETINGS == meeting));
    }
    assert_eq!(steering.counters().unwrap().of(Verdict::Steered), FRAMES);

    // Nothing runs, and the kernel has every chunk again: this number of frames finds one each.
    let chunks = u64::from(bound.settings.receive);
    (0..chunks).for_each(|sequence| send(&mut left, 1 + sequence % MEETINGS, sequence));
    let began = Instant::now();
    let mut held = 0;
    while held < chunks as usize && began.elapsed() < PATIENCE {
        held = sockets.iter_mut().map(|socket| socket.receive(chunks as usize)).sum();
    }
    assert_eq!(held as u64, chunks, "no chunk is lost");
}

#[test]
fn what_one_socket_held_it_can_send_and_receive_again_and_again() {
    let pair = veth_pair(1);
    let (bound, _steering) = pair.on(Side::Right, || {
        let bound = af_xdp::bind(&settings(1)).unwrap();
        let steering = steering(&bound);
        (bound, steering)
    });
    let mut socket = af_xdp::adopt(&bound.settings, bound.umem, bound.sockets).unwrap().remove(0);
    let mut left = open(&pair, Side::Left);
    for round in 0..20 {
        for sequence in 0..u64::from(bound.settings.receive) {
            send(&mut left, 1, sequence);
        }
        let held = receive_all(&mut socket, bound.settings.receive as usize);
        assert_eq!(held, bound.settings.receive as usize, "round {round}: every receive chunk comes with a frame");
        for i in 0..held {
            assert_eq!(read(socket.received(i).bytes), (1, i as u64));
        }
        let mut queued = 0;
        while socket.transmit(|buffer| write(buffer, 2, queued)) {
            queued += 1;
        }
        // The chunk for a successor's first frame was this one's as well.
        let chunks = u64::from(bound.settings.transmit) - u64::from(round > 0);
        assert_eq!(queued, chunks, "round {round}: every transmit chunk takes a frame");
        while !socket.flush().unwrap() {}
        let mut seen = 0;
        let began = Instant::now();
        while seen < queued && began.elapsed() < PATIENCE {
            left.receive(Duration::from_millis(100), |bytes, _| {
                assert_eq!(read(bytes), (2, seen));
                seen += 1;
            })
            .unwrap();
        }
        assert_eq!(seen, queued);
        socket.release(held);
    }
}

fn receive_all(socket: &mut Socket, frames: usize) -> usize {
    let began = Instant::now();
    loop {
        let held = socket.receive(frames);
        if held >= frames || began.elapsed() > PATIENCE {
            return held;
        }
    }
}

#[test]
fn generic_mode_serves_an_interface_that_has_no_native_one() {
    let pair = veth_pair(1);
    // The loopback interface has no XDP of its own, and what is sent there comes back.
    let mut endpoint = pair.on(Side::Left, || Endpoint::open("lo", &EndpointSettings::default()).unwrap());
    assert_eq!(endpoint.mode(), Mode::Generic);
    for sequence in 0..1000 {
        send(&mut endpoint, 3, sequence);
        let mut seen = None;
        let began = Instant::now();
        while seen.is_none() && began.elapsed() < PATIENCE {
            endpoint.receive(Duration::from_millis(100), |bytes, arrived| seen = Some((read(bytes), arrived))).unwrap();
        }
        let (frame, arrived) = seen.unwrap();
        assert_eq!(frame, (3, sequence));
        assert!(arrived.is_some());
    }
}

#[test]
fn an_endpoint_that_is_dropped_leaves_the_interface_free() {
    let pair = veth_pair(1);
    for _ in 0..5 {
        drop(open(&pair, Side::Left));
    }
}

#[test]
fn what_cannot_be_opened_says_why_and_what_to_do() {
    let pair = veth_pair(2);
    pair.on(Side::Right, || {
        let error = Endpoint::open("nosuch", &EndpointSettings::default()).unwrap_err().to_string();
        assert_eq!(error, "there is no interface `nosuch` here; `ip link` lists the existing ones");

        assert_eq!(Interface::find("right").unwrap().queues().unwrap(), 2);
        let error = af_xdp::bind(&Settings { queues: 3, ..settings(1) }).unwrap_err();
        assert!(matches!(&error, XdpError::NoQueue { queue: 2, .. }), "{error}");

        let error = af_xdp::bind(&Settings { receive: 100, ..settings(1) }).unwrap_err().to_string();
        assert_eq!(error, "100 receive entries: the kernel's rings have a power of two of them, such as 128");

        let error = af_xdp::bind(&Settings { rings: 17, ..settings(1) }).unwrap_err().to_string();
        assert_eq!(error, "17 rings on a queue: 1 to 16 are possible");

        let error = af_xdp::bind(&Settings { zero_copy: true, ..settings(1) }).unwrap_err();
        assert!(matches!(&error, XdpError::NoZeroCopy { .. }), "{error}");

        let held = af_xdp::bind(&settings(1)).unwrap();
        let error = af_xdp::bind(&settings(1)).unwrap_err().to_string();
        // Kernels without CONFIG_XDP_SOCKETS_DIAG cannot tell, so the message names every possible
        // process.
        assert!(error.starts_with("queue 0 of right is taken, by "), "{error}");
        assert!(error.contains(&format!("pid {} (", std::process::id())), "{error}");

        let steering = steering(&held);
        let steer = SteerSettings::new(DEFAULT_ETHERTYPE, 1);
        let error = Steering::attach(&held.settings.interface, &steer, None).unwrap_err();
        assert!(matches!(&error, SteerError::Occupied { program, .. } if *program != 0), "{error}");
        drop(steering);

        let error = af_xdp::adopt(&held.settings, held.umem, Vec::new()).unwrap_err();
        assert!(matches!(error, XdpError::Foreign { .. }), "{error}");
    });
}

/// Works without some privileges, in a thread that ends without them.
fn without<R: Send>(pair: &Pair, privileges: CapabilitySet, work: impl FnOnce() -> R + Send) -> R {
    pair.on(Side::Right, || {
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(privileges);
        set_capabilities(None, sets).unwrap();
        work()
    })
}

#[test]
fn who_may_not_is_told_what_it_takes() {
    let pair = veth_pair(1);
    let error = without(&pair, CapabilitySet::NET_RAW, || af_xdp::bind(&settings(1)).unwrap_err());
    assert!(matches!(error, XdpError::Privilege), "{error}");
    let steer = SteerSettings::new(DEFAULT_ETHERTYPE, 1);
    let error = without(&pair, CapabilitySet::all(), || Steering::load(&steer).unwrap_err());
    assert!(matches!(error, SteerError::Privilege { .. }), "{error}");
}

/// If little memory may be locked, the rings are smaller; if next to none, there is an error that
/// says so.
#[test]
fn rings_shrink_to_what_may_be_locked() {
    let pair = veth_pair(1);
    // The limit is the whole process's, but counts for those alone who may not do without.
    let limited = |bytes: u64| {
        let limit = Rlimit { current: Some(bytes), maximum: getrlimit(Resource::Memlock).maximum };
        setrlimit(Resource::Memlock, limit).unwrap();
        without(&pair, CapabilitySet::IPC_LOCK, || {
            let interface = Interface::find("right").unwrap();
            af_xdp::bind(&Settings { huge_pages: false, ..Settings::new(interface, 1) })
        })
    };
    let bound = limited(1 << 20).unwrap();
    assert_eq!((bound.settings.receive, bound.settings.transmit), (256, 128), "0.75 MiB of the 12 that were asked for");
    af_xdp::adopt(&bound.settings, bound.umem, bound.sockets).unwrap();
    let error = limited(4096).unwrap_err();
    assert!(matches!(error, XdpError::LockedMemory { .. }), "{error}");
    assert!(error.to_string().contains("ulimit -l"), "{error}");
}

#[test]
fn frames_lie_in_huge_pages_where_there_are_some() {
    const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;
    let pair = veth_pair(1);
    let bind = || {
        let bound = pair.on(Side::Right, || af_xdp::bind(&Settings { huge_pages: true, ..settings(1) }).unwrap());
        let file_system = rustix::fs::fstatfs(&bound.umem).unwrap().f_type as u64;
        af_xdp::adopt(&bound.settings, bound.umem, bound.sockets).unwrap();
        file_system
    };
    // With and without huge pages, there is memory for frames.
    bind();
    match HugePages::borrow_all(8).unwrap() {
        Some(_pages) => assert_eq!(bind(), HUGETLBFS_MAGIC),
        None => eprintln!("THIS MACHINE HAS NO 16 MiB LEFT IN PIECES OF TWO: frames in huge pages are not tested"),
    }
}
