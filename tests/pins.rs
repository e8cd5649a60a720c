//! Steering that outlives processes: pinned on a BPF file system of the test's own, found again, replaced, removed.

mod support;

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use baton::sys::bpf::{Action, Mode, SteerError, SteerSettings, Steering, Verdict};
use baton::sys::interface::Interface;
use baton::sys::mounts::{mount_bpf, unmount_from};
use baton::wire::DEFAULT_ETHERTYPE;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use support::netns::{Pair, Side};
use support::probe::write;

const SETTINGS: SteerSettings = SteerSettings::new(DEFAULT_ETHERTYPE, 1);

/// A folder with a BPF file system in it, both gone when the test is.
struct Bpffs(tempfile::TempDir);

impl Bpffs {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        mount_bpf(folder.path()).expect("this test needs root, and a kernel with a BPF file system");
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
    let (pair, bpffs) = (Pair::new(1), Bpffs::new());
    let pins = bpffs.folder().join("left");
    pair.on(Side::Left, || {
        let interface = Interface::find("left").unwrap();
        let steering = Steering::attach(&interface, &SETTINGS, Some(&pins)).unwrap();
        assert_eq!(steering.mode(), Some(Mode::Native));
        let socket = socket();
        steering.set_ring(0, 0, socket.as_fd()).unwrap();
        steering.dry_run(&frame(), 0, (0, 0)).unwrap();
        drop(steering);

        // Opened: the program, its ring, its counters are what they were.
        let steering = Steering::open(&pins).unwrap();
        assert_eq!(steering.mode(), Some(Mode::Native));
        assert_eq!(steering.dry_run(&frame(), 0, (0, 0)).unwrap().action, Action::Redirect);
        assert_eq!(steering.counters().unwrap().of(Verdict::Steered), 2);
        drop(steering);

        // Attached again, by the same build: likewise, but for the settings, which are new.
        let other = SteerSettings { ethertype: 0x88B6, ..SETTINGS };
        let steering = Steering::attach(&interface, &other, Some(&pins)).unwrap();
        assert_eq!(steering.dry_run(&frame(), 0, (0, 0)).unwrap().action, Action::Pass);
        assert_eq!(steering.counters().unwrap().of(Verdict::Steered), 2);
        steering.set(&SETTINGS).unwrap();
        assert_eq!(steering.dry_run(&frame(), 0, (0, 0)).unwrap().action, Action::Redirect);

        // Detached: nothing of it is left, and another may come.
        steering.detach().unwrap();
        assert_eq!(names(&pins), [""; 0]);
        drop(Steering::attach(&interface, &SETTINGS, None).unwrap());
    });
}

#[test]
fn a_program_whose_maps_are_not_the_pinned_ones_is_replaced() {
    let (pair, bpffs) = (Pair::new(1), Bpffs::new());
    let (pins, others) = (bpffs.folder().join("left"), bpffs.folder().join("lo"));
    pair.on(Side::Left, || {
        let interface = Interface::find("left").unwrap();
        let socket = socket();
        drop(Steering::attach(&interface, &SETTINGS, Some(&pins)).unwrap());
        drop(Steering::attach(&Interface::find("lo").unwrap(), &SETTINGS, Some(&others)).unwrap());
        // As after a replacement that was cut short: a map is missing, or is another program's.
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
    let (pair, bpffs) = (Pair::new(1), Bpffs::new());
    let pins = bpffs.folder().join("left");
    let attach = || pair.on(Side::Left, || Steering::attach(&Interface::find("left").unwrap(), &SETTINGS, Some(&pins)));
    drop(attach().unwrap());
    pair.ip(Side::Left, "link delete left");
    pair.ip(Side::Left, "link add left type veth peer name other");
    let steering = attach().unwrap();
    assert_eq!(steering.mode(), Some(Mode::Native));
    steering.detach().unwrap();
}

#[test]
fn pins_in_the_wrong_place_are_refused() {
    let (pair, bpffs) = (Pair::new(1), Bpffs::new());
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
