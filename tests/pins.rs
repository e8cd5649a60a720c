//! Steering that outlives processes: pinned on a BPF file system of the test, found again,
//! replaced, removed.

mod support;

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use baton::sys::bpf::{Action, Mode, SteerError, SteerSettings, Steering, Verdict, check_free};
use baton::sys::interface::Interface;
use baton::sys::mounts::{mount_bpf, unmount_from};
use baton::wire::{DEFAULT_ETHERTYPE, Mac};
use libbpf_rs::{Link, Xdp, XdpFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use support::netns::{Side, need_root, veth_pair};
use support::probe::write;

const SETTINGS: SteerSettings = SteerSettings::new(DEFAULT_ETHERTYPE, 1);

/// A folder with a BPF file system in it, both removed on drop.
struct Bpffs(tempfile::TempDir);

impl Bpffs {
    fn new() -> Self {
        need_root("mounting");
        let folder = tempfile::tempdir().unwrap();
        mount_bpf(folder.path()).expect("a kernel with a BPF file system");
        Self(folder)
    }

    fn folder(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _ = unmount_from(self.0.path());
    }
}

fn frame() -> Vec<u8> {
    let mut frame = vec![0; 2048];
    let length = write(&mut frame, 1, 1);
    frame.truncate(length);
    frame
}

fn socket() -> OwnedFd {
    socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn pinned_steering_goes_on_without_who_attached_it() {
    let (pair, bpffs) = (veth_pair(1), Bpffs::new());
    let pins = bpffs.folder().join("left");
    pair.on(Side::Left, || {
        let interface = Interface::find("left").unwrap();
        let steering = Steering::attach(&interface, &SETTINGS, Some(&pins)).unwrap();
        assert_eq!(steering.mode(), Some(Mode::Native));
        let socket = socket();
        steering.set_ring(0, 0, socket.as_fd()).unwrap();
        steering.dry_run(&frame(), 0, (0, 0)).unwrap();
        drop(steering);

        // Opened: the program, its ring and its counters are unchanged.
        let steering = Steering::open(&pins).unwrap();
        assert_eq!(steering.mode(), Some(Mode::Native));
        assert_eq!(steering.dry_run(&frame(), 0, (0, 0)).unwrap().action, Action::Redirect);
        assert_eq!(steering.counters().unwrap().of(Verdict::Steered), 2);
        drop(steering);

        // Attached again, by the same build: also unchanged, except for the settings, which are
        // new.
        let other = SteerSettings { ethertype: 0x88B6, ..SETTINGS };
        let steering = Steering::attach(&interface, &other, Some(&pins)).unwrap();
        assert_eq!(steering.dry_run(&frame(), 0, (0, 0)).unwrap().action, Action::Pass);
        assert_eq!(steering.counters().unwrap().of(Verdict::Steered), 2);
        steering.set(&SETTINGS).unwrap();
        assert_eq!(steering.dry_run(&frame(), 0, (0, 0)).unwrap().action, Action::Redirect);

        // Detached: nothing of it is left, and another program may be attached.
        steering.detach().unwrap();
        assert_eq!(names(&pins), [""; 0]);
        drop(Steering::attach(&interface, &SETTINGS, None).unwrap());
    });
}

#[test]
fn a_program_whose_maps_are_not_the_pinned_ones_is_replaced() {
    let (pair, bpffs) = (veth_pair(1), Bpffs::new());
    let (pins, others) = (bpffs.folder().join("left"), bpffs.folder().join("lo"));
    pair.on(Side::Left, || {
        let interface = Interface::find("left").unwrap();
        let socket = socket();
        drop(Steering::attach(&interface, &SETTINGS, Some(&pins)).unwrap());
        drop(Steering::attach(&Interface::find("lo").unwrap(), &SETTINGS, Some(&others)).unwrap());
        // As after an interrupted replacement: a map is missing, or is another program's.
        let breakages: [&dyn Fn(); 3] = [
            &|| fs::remove_file(pins.join("rings")).unwrap(),
            &|| fs::remove_file(pins.join("known")).unwrap(),
            &|| fs::rename(others.join("rings"), pins.join("rings")).unwrap(),
        ];
        for (case, breakage) in breakages.into_iter().enumerate() {
            breakage();
            let steering = Steering::attach(&interface, &SETTINGS, Some(&pins)).unwrap();
            steering.set_ring(0, 0, socket.as_fd()).unwrap();
            assert_eq!(steering.dry_run(&frame(), 0, (0, 0)).unwrap().action, Action::Redirect, "case {case}");
            assert_eq!(names(&pins), ["known", "link", "rings", "settings", "steer", "verdicts"]);
        }
        Steering::open(&pins).unwrap().detach().unwrap();
        drop(Steering::attach(&Interface::find("lo").unwrap(), &SETTINGS, Some(&others)).unwrap());
        Steering::open(&others).unwrap().detach().unwrap();
    });
}

#[test]
fn pins_of_a_removed_interface_are_cleared_away() {
    let (pair, bpffs) = (veth_pair(1), Bpffs::new());
    let pins = bpffs.folder().join("left");
    let attach = || pair.on(Side::Left, || Steering::attach(&Interface::find("left").unwrap(), &SETTINGS, Some(&pins)));
    drop(attach().unwrap());
    pair.ip(Side::Left, "link delete left").unwrap();
    pair.ip(Side::Left, "link add left type veth peer name other").unwrap();
    let steering = attach().unwrap();
    assert_eq!(steering.mode(), Some(Mode::Native));
    steering.detach().unwrap();
}

#[test]
fn pins_in_the_wrong_place_are_refused() {
    let (pair, bpffs) = (veth_pair(1), Bpffs::new());
    let pins = bpffs.folder().join("left");
    pair.on(Side::Left, || {
        let (left, lo) = (Interface::find("left").unwrap(), Interface::find("lo").unwrap());

        let elsewhere = tempfile::tempdir().unwrap();
        let error = Steering::attach(&left, &SETTINGS, Some(elsewhere.path())).unwrap_err();
        assert!(matches!(&error, SteerError::NotBpffs { .. }), "{error}");
        assert!(error.to_string().contains("mount -t bpf"), "{error}");

        let steering = Steering::attach(&left, &SETTINGS, Some(&pins)).unwrap();
        let error = Steering::attach(&lo, &SETTINGS, Some(&pins)).unwrap_err();
        assert!(matches!(&error, SteerError::PinnedElsewhere { interface, .. } if *interface == left.index), "{error}");
        steering.detach().unwrap();

        let error = Steering::open(&pins).unwrap_err();
        assert!(matches!(&error, SteerError::Pin { .. }), "{error}");
    });
}

/// The id of the program that is on an interface.
fn program_on(interface: &Interface) -> u32 {
    Xdp::new(socket().as_fd()).query_id(interface.index as i32, XdpFlags::NONE).unwrap()
}

#[test]
fn another_builds_program_stays_until_the_rings_of_its_follower_are_filled() {
    let (pair, bpffs) = (veth_pair(1), Bpffs::new());
    let pins = bpffs.folder().join("left");
    pair.on(Side::Left, || {
        let interface = Interface::find("left").unwrap();
        drop(Steering::attach(&interface, &SETTINGS, Some(&pins)).unwrap());
        // Makes the program look like another build's.
        fs::remove_file(pins.join("rings")).unwrap();
        let before = program_on(&interface);
        let begin = || Steering::begin(&interface, &SETTINGS, &[].into(), Some(&pins)).unwrap();
        // An attempt that is abandoned leaves it as it was.
        drop(begin());
        let mut steering = begin();
        assert_eq!(program_on(&interface), before);
        let socket = socket();
        steering.set_ring(0, 0, socket.as_fd()).unwrap();
        assert_eq!(program_on(&interface), before, "the rings of this one are filled first");
        steering.finish().unwrap();
        assert_ne!(program_on(&interface), before);
        assert_eq!(steering.dry_run(&frame(), 0, (0, 0)).unwrap().action, Action::Redirect);
        drop(steering);
        Steering::open(&pins).unwrap().detach().unwrap();
    });
}

#[test]
fn steering_that_somebody_took_off_is_put_there_again() {
    let (pair, bpffs) = (veth_pair(1), Bpffs::new());
    let pins = bpffs.folder().join("left");
    pair.on(Side::Left, || {
        let interface = Interface::find("left").unwrap();
        let mut steering = Steering::attach(&interface, &SETTINGS, Some(&pins)).unwrap();
        let socket = socket();
        steering.set_ring(0, 0, socket.as_fd()).unwrap();
        assert!(!steering.mend(&interface).unwrap(), "nobody did");
        Link::open(pins.join("link")).unwrap().detach().unwrap();
        assert_eq!(program_on(&interface), 0);
        assert!(steering.mend(&interface).unwrap());
        assert_ne!(program_on(&interface), 0);
        assert_eq!(
            steering.dry_run(&frame(), 0, (0, 0)).unwrap().action,
            Action::Redirect,
            "its rings are what they were"
        );
        assert!(Steering::open(&pins).unwrap().is_on(&interface), "and it is pinned again");
        assert!(!steering.mend(&interface).unwrap());

        // If another program is there by now, that is reported.
        Link::open(pins.join("link")).unwrap().detach().unwrap();
        let other = Steering::attach(&interface, &SETTINGS, None).unwrap();
        assert!(matches!(check_free(&interface, Some(&pins)), Err(SteerError::Occupied { .. })));
        assert!(matches!(steering.mend(&interface), Err(SteerError::Occupied { .. })));
        drop(other);
        assert!(steering.mend(&interface).unwrap());
        check_free(&interface, Some(&pins)).unwrap();
        steering.detach().unwrap();
    });
}

#[test]
fn pins_of_another_network_namespace_are_left_alone() {
    let (here, there, bpffs) = (veth_pair(1), veth_pair(1), Bpffs::new());
    let pins = bpffs.folder().join("left");
    let find = || Interface::find("left").unwrap();
    let theirs = there.on(Side::Left, || {
        drop(Steering::attach(&find(), &SETTINGS, Some(&pins)).unwrap());
        find()
    });
    here.on(Side::Left, || {
        assert_eq!(find(), theirs, "one name and one number");
        let error = Steering::attach(&find(), &SETTINGS, Some(&pins)).unwrap_err();
        assert!(matches!(&error, SteerError::PinnedElsewhere { .. }), "{error}");
        assert!(!Steering::open(&pins).unwrap().is_on(&find()));
    });
    there.on(Side::Left, || Steering::open(&pins).unwrap().detach().unwrap());
}

#[test]
fn who_may_send_is_known_before_the_program_is_attached() {
    let (pair, bpffs) = (veth_pair(1), Bpffs::new());
    let pins = bpffs.folder().join("left");
    let settings = SteerSettings { known_only: true, ..SETTINGS };
    // The sender of the frame.
    let known = Mac([2, 0, 0, 0, 0, 1]);
    pair.on(Side::Left, || {
        let interface = Interface::find("left").unwrap();
        // Newly attached, and taken up again.
        for (known, action) in [(Mac([2, 0, 0, 0, 0, 9]), Action::Drop), (known, Action::Pass)] {
            let steering = Steering::begin(&interface, &settings, &[known].into(), Some(&pins)).unwrap();
            assert_eq!(steering.dry_run(&frame(), 0, (0, 0)).unwrap().action, action);
        }
        Steering::open(&pins).unwrap().detach().unwrap();
    });
}
