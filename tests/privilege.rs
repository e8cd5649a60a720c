//! The privileges of keeper, starter and engine, according to the kernel, for the real processes.

mod support;

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};

use baton::sys::bpf::{SteerSettings, Steering};
use baton::sys::interface::Interface;
use baton::sys::process::tie_to_parent;
use baton::sys::{capabilities, seccomp};
use baton::wire::DEFAULT_ETHERTYPE;
use rustix::process::Signal;
use rustix::thread::CapabilitySet;
use support::netns::{Side, veth_pair};
use support::server::{Place, Server, gone, kill};

/// If set, this test binary is the confined process of a test, and does this.
const DEED: &str = "BATON_TEST_DEED";
const SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
/// CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF (include/uapi/linux/capability.h).
const KEEPER: u64 = 1 << 12 | 1 << 13 | 1 << 39;

/// The line of `/proc/<id>/status` with this name.
fn status(id: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} of process {id}")).trim().to_owned()
}

fn capabilities_of(id: u32) -> [u64; 5] {
    SETS.map(|set| u64::from_str_radix(&status(id, set), 16).unwrap())
}

fn uid_of_nobody() -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    users.lines().find_map(|line| line.strip_prefix("nobody:x:")?.split(':').next()).unwrap().to_owned()
}

#[test]
fn the_keeper_holds_three_capabilities_and_who_it_starts_none() {
    let (pair, place) = (veth_pair(1), Place::new());
    let mut server = Server::start(&pair, Side::Left, &place.configure("left", ""), &[]);
    let engine = server.engine();
    assert_eq!(capabilities_of(server.id()), [0, KEEPER, KEEPER, 0, 0], "of the keeper: {SETS:?}");
    assert_eq!(status(server.id(), "NoNewPrivs"), "1");

    let nobody = uid_of_nobody();
    for id in [server.starter().unwrap(), engine] {
        assert_eq!(capabilities_of(id), [0; 5], "{SETS:?}");
        assert_eq!(status(id, "NoNewPrivs"), "1");
        assert_eq!(status(id, "Uid").split_whitespace().collect::<Vec<_>>(), [nobody.as_str(); 4]);
        assert_eq!(status(id, "Groups"), "");
    }
    assert_eq!(status(engine, "Seccomp"), "2", "it is filtered");
    assert_eq!(status(engine, "Seccomp_filters"), "2");
    // Every thread of it, started before or after.
    for thread in fs::read_dir(format!("/proc/{engine}/task")).unwrap() {
        let text = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        assert!(text.contains("Seccomp:\t2\n"), "{text}");
    }
}

#[test]
fn an_engine_that_is_killed_is_followed_though_the_keeper_may_start_nothing() {
    let (pair, place) = (veth_pair(1), Place::new());
    let mut server = Server::start(&pair, Side::Left, &place.configure("left", ""), &[]);
    let mut engine = server.engine();
    for _ in 0..5 {
        kill(engine, Signal::KILL);
        engine = server.engine();
        assert_eq!(capabilities_of(engine), [0; 5]);
    }
}

#[test]
fn a_keeper_without_its_starter_ends_and_says_so() {
    let (pair, place) = (veth_pair(1), Place::new());
    let mut server = Server::start(&pair, Side::Left, &place.configure("left", ""), &[]);
    let engine = server.engine();
    kill(server.starter().unwrap(), Signal::KILL);
    assert_eq!(server.code(), 1, "{}", server.heard);
    assert!(server.heard.contains("the process that starts engines is gone"), "{}", server.heard);
    gone(engine);
}

/// In the pause before the next engine of a crash loop nobody sends the starter a request.
#[test]
fn a_keeper_whose_starter_dies_while_there_is_no_engine_ends_too() {
    let (pair, place) = (veth_pair(1), Place::new());
    let mut server = Server::start(&pair, Side::Left, &place.configure("left", ""), &[]);
    loop {
        let engine = server.engine();
        kill(engine, Signal::KILL);
        // From then on the pause is long enough to be hit; an engine that controlled for long
        // resets the count.
        if server.heard.contains("the next starts in 800ms")
            && server.line_with(&format!("engine {engine} killed")).contains("the next starts in")
        {
            break;
        }
    }
    kill(server.starter().unwrap(), Signal::KILL);
    assert_eq!(server.code(), 1, "{}", server.heard);
    assert!(server.heard.contains("the process that starts engines is gone"), "{}", server.heard);
}

#[test]
fn a_keeper_whose_starter_does_not_answer_ends_and_waits_for_nobody() {
    let (pair, place) = (veth_pair(1), Place::new());
    let mut server = Server::start(&pair, Side::Left, &place.configure("left", ""), &[]);
    let engine = server.engine();
    let starter = server.starter().unwrap();
    kill(starter, Signal::STOP);
    kill(engine, Signal::KILL);
    assert_eq!(server.code(), 1, "{}", server.heard);
    assert!(server.heard.contains("the process that starts engines does not answer"), "{}", server.heard);
    kill(starter, Signal::KILL);
    gone(starter);
}

#[test]
fn steering_is_taken_up_without_administering_the_system_and_taken_off_with_three_capabilities() {
    let (pair, place) = (veth_pair(1), Place::new());
    let folder = place.path("run/bpf");
    fs::create_dir_all(&folder).unwrap();
    baton::sys::mounts::mount_bpf(&folder).unwrap();
    pair.on(Side::Left, || {
        let interface = Interface::find("left").unwrap();
        let settings = SteerSettings::new(DEFAULT_ETHERTYPE, 1);
        // Without it the verifier refuses the program; after the start it is given up.
        capabilities::keep_only(capabilities::KEEPER | CapabilitySet::PERFMON).unwrap();
        let first = Steering::attach(&interface, &settings, Some(&folder)).unwrap();
        let mode = first.mode();
        drop(first);
        let second = Steering::attach(&interface, &settings, Some(&folder)).unwrap();
        assert_eq!(second.mode(), mode);
        capabilities::keep_only(capabilities::KEEPER).unwrap();
        second.detach().unwrap();
    });
}

/// A keeper that replaces another build's program and dies before it has pinned its own leaves a
/// program without a name; opening that by its number takes CAP_SYS_ADMIN.
#[test]
fn steering_whose_program_is_not_the_pinned_one_is_replaced_without_administering_the_system() {
    let (pair, place) = (veth_pair(1), Place::new());
    let folder = place.path("run/bpf");
    fs::create_dir_all(&folder).unwrap();
    baton::sys::mounts::mount_bpf(&folder).unwrap();
    pair.on(Side::Left, || {
        let settings = SteerSettings::new(DEFAULT_ETHERTYPE, 1);
        let attach = |name: &str, pins: &str| {
            Steering::attach(&Interface::find(name).unwrap(), &settings, Some(&folder.join(pins)))
        };
        drop(attach("left", "pins").unwrap());
        let lo = attach("lo", "others").unwrap();
        fs::rename(folder.join("others/steer"), folder.join("pins/steer")).unwrap();
        capabilities::keep_only(capabilities::KEEPER | CapabilitySet::PERFMON).unwrap();
        let steering = attach("left", "pins").unwrap();
        steering.detach().unwrap();
        lo.detach().unwrap();
    });
}

/// Not a test: the process that is confined as an engine is, and then does what a test asks of it.
#[test]
fn confined_process() {
    let Ok(deed) = std::env::var(DEED) else { return };
    tie_to_parent().unwrap();
    capabilities::keep_none().unwrap();
    let (line, _other) = baton::sys::fd_passing::pair().unwrap();
    seccomp::confine().unwrap();
    match deed.as_str() {
        "nothing" => {
            // What engines do: threads, memory, files, a message on a channel that was handed over.
            let memory = std::thread::spawn(|| vec![7_u8; 8 << 20].len()).join().unwrap();
            fs::write("/dev/null", memory.to_string()).unwrap();
            let core = core_affinity::get_core_ids().unwrap()[0];
            assert!(core_affinity::set_for_current(core));
            baton::sys::fd_passing::send(line.as_fd(), b"word", &[]).unwrap();
            // A client's connection is closed in this way, and the type of its descriptor is read.
            rustix::net::shutdown(&line, rustix::net::Shutdown::Write).unwrap();
            rustix::fs::fcntl_getfl(&line).unwrap();
            rustix::process::setpriority_process(None, 19).unwrap();
            baton::sys::memory::touch_all().unwrap();
        }
        "abort" => std::process::abort(),
        "execute" => drop(Command::new("/bin/true").exec()),
        "fork" => drop(Command::new("/bin/true").spawn()),
        "socket" => drop(std::net::UdpSocket::bind("127.0.0.1:0")),
        "unix socket" => drop(std::os::unix::net::UnixDatagram::unbound()),
        "trace" => {
            drop(rustix::process::pidfd_open(rustix::process::getppid().unwrap(), rustix::process::PidfdFlags::empty()))
        }
        "kill" => drop(rustix::process::kill_process(rustix::process::getppid().unwrap(), Signal::USR1)),
        "mount" => drop(rustix::mount::unmount("/none", rustix::mount::UnmountFlags::DETACH)),
        "bpf" => drop(Steering::load(&SteerSettings::new(DEFAULT_ETHERTYPE, 1))),
        "signal by descriptor" => drop(rustix::fs::fcntl_add_seals(&line, rustix::fs::SealFlags::SEAL)),
        "deafen" => drop(rustix::net::shutdown(&line, rustix::net::Shutdown::Read)),
        "starve" => drop(rustix::net::sockopt::set_socket_send_buffer_size(&line, 1)),
        "punch" => drop(rustix::fs::fallocate(&line, rustix::fs::FallocateFlags::PUNCH_HOLE, 0, 1)),
        "push behind" => drop(rustix::process::setpriority_process(rustix::process::getppid(), 19)),
        "push aside" => {
            let core = rustix::thread::sched_getaffinity(None).unwrap();
            let _ = rustix::thread::sched_setaffinity(rustix::process::getppid(), &core);
        }
        "memfd" => drop(rustix::fs::memfd_create("code", rustix::fs::MemfdFlags::CLOEXEC)),
        "namespace" => {
            let network = fs::File::open("/proc/self/ns/net").unwrap();
            let _ = rustix::thread::move_into_link_name_space(network.as_fd(), None);
        }
        other => panic!("what is {other}?"),
    }
}

fn confined(deed: &str) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "confined_process", "--nocapture", "--test-threads=1"])
        .env(DEED, deed)
        .env("RUST_BACKTRACE", "full")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap()
}

#[test]
fn a_confined_process_does_what_engines_do_and_its_end_is_its_own() {
    assert!(confined("nothing").success(), "{:?}", confined("nothing"));
    assert_eq!(confined("abort").signal(), Some(Signal::ABORT.as_raw()));
    // The harness catches a panic, as threads do, and has printed its message with a whole
    // backtrace.
    assert_eq!(confined("a panic").code(), Some(101));
}

#[test]
fn a_confined_process_that_does_anything_else_is_killed() {
    let deeds = ["execute", "fork", "socket", "unix socket", "trace", "kill", "mount", "bpf", "memfd", "namespace"];
    let on_what_it_has = ["signal by descriptor", "deafen", "starve", "punch", "push behind", "push aside"];
    for deed in deeds.into_iter().chain(on_what_it_has) {
        assert_eq!(confined(deed).signal(), Some(Signal::SYS.as_raw()), "{deed}");
    }
}
