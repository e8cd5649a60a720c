//! `baton doctor` on the machine that runs this, for an existing interface and for missing ones.

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output};

use baton::sys::bpf::{SteerSettings, Steering};
use baton::sys::interface::Interface;
use rustix::process::Signal;
use serde_json::Value;
use support::netns::{Pair, Side, need_root, veth_pair};
use support::server::{Place, Server};

fn doctor(pair: &Pair, arguments: &[&str]) -> Output {
    let netns = format!("--net={}", pair.path(Side::Left).display());
    Command::new("nsenter").arg(netns).arg(env!("CARGO_BIN_EXE_baton")).arg("doctor").args(arguments).output().unwrap()
}

fn finding<'a>(said: &'a Value, check: &str) -> &'a Value {
    let all = said["findings"].as_array().unwrap();
    all.iter().find(|finding| finding["check"] == check).unwrap_or_else(|| panic!("{check} in {said}"))
}

#[test]
fn a_machine_that_runs_the_tests_is_fit_and_what_it_lacks_is_said() {
    let (pair, place) = (veth_pair(2), Place::new());
    let configuration = place.configure(Side::Left.interface(), "");
    let path = configuration.to_str().unwrap();
    let done = doctor(&pair, &["--config", path, "--json"]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let said: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(said["runs"], true);
    for check in ["kernel", "kernel types", "capabilities", "driver", "queues", "table"] {
        assert_eq!(finding(&said, check)["level"], "ok", "{said}");
    }
    assert!(finding(&said, "driver")["is"].as_str().unwrap().contains("veth"), "{said}");
    assert!(finding(&said, "queues")["is"].as_str().unwrap().contains("has 2"), "{said}");
    // The test's database is on tmpfs, and its workers are not pinned.
    for check in ["database", "cores"] {
        let found = finding(&said, check);
        assert!(found["level"] == "warning" && found["todo"] != "" && found["costs"] != "", "{found}");
    }
    let shown = String::from_utf8(doctor(&pair, &["--config", path]).stdout).unwrap();
    assert!(shown.contains("it will run: problems 0, warnings "), "{shown}");
    // A path alone may be longer than a terminal is wide.
    let long: Vec<_> = shown.lines().filter(|line| line.chars().count() > 80 && !line.contains("/dev/shm")).collect();
    assert!(long.is_empty(), "{long:?}");
}

#[test]
fn what_would_keep_it_from_running_is_a_problem_and_fails() {
    let (pair, place) = (veth_pair(1), Place::new());
    let configuration = place.configure(Side::Left.interface(), "");
    let text = fs::read_to_string(&configuration).unwrap();
    let changed = |from: &str, to: &str| {
        assert!(text.contains(from));
        fs::write(&configuration, text.replace(from, to)).unwrap();
        let done = doctor(&pair, &["--config", configuration.to_str().unwrap(), "--json"]);
        assert_eq!(done.status.code(), Some(1), "{done:?}");
        serde_json::from_slice::<Value>(&done.stdout).unwrap()
    };
    let name = format!("name = \"{}\"", Side::Left.interface());
    assert_eq!(finding(&changed(&name, "name = \"eth77\""), "interface")["level"], "problem");
    assert_eq!(finding(&changed("huge_pages = false", "zero_copy = true"), "driver")["level"], "problem");
    assert_eq!(finding(&changed("huge_pages = false", "queues = 4"), "queues")["level"], "problem");
}

#[test]
fn what_is_typed_wrong_is_named() {
    let (pair, place) = (veth_pair(1), Place::new());
    let file = place.path("bad.toml");
    fs::write(&file, "[interface]\nnome = \"eth0\"\n").unwrap();
    for (arguments, code, expected) in [
        (&["--config", file.to_str().unwrap()][..], 2, "bad.toml:2"),
        (&["--config", "/nowhere/baton.toml"], 2, "cannot read the configuration /nowhere/baton.toml"),
        (&["--config", "/nowhere/baton.toml"], 2, "baton doctor --interface NAME"),
        (&["--interface"], 2, "--interface"),
    ] {
        let done = doctor(&pair, arguments);
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(code), "{said}");
        assert!(said.contains(expected), "{expected} in {said}");
    }
    // An interface can be checked before there is a configuration.
    if !Path::new("/etc/baton/baton.toml").exists() {
        let done = doctor(&pair, &["--interface", Side::Left.interface()]);
        assert_eq!(done.status.code(), Some(0), "{done:?}");
    }
}

/// Something mounted, until this is dropped.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn new(kind: &str, options: &str, at: &Path) -> Self {
        need_root("mounting");
        fs::create_dir_all(at).unwrap();
        let done = Command::new("mount").args(["-t", kind, "-o", options, kind]).arg(at).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Whether a server that is started gains control.
fn starts(pair: &Pair, configuration: &Path) -> (bool, String) {
    let mut server = Server::start(pair, Side::Left, configuration, &[]);
    let controls = server.controls_or_ends();
    if controls {
        server.signal(Signal::TERM);
        assert_eq!(server.code(), 0, "{}", server.heard);
    }
    (controls, server.heard.clone())
}

/// Compares doctor's findings with the result of a start.
fn agree(what: &str, pair: &Pair, configuration: &Path, expected: bool) {
    let done = doctor(pair, &["--config", configuration.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    let (started, heard) = starts(pair, configuration);
    assert_eq!(started, expected, "{what}: the start:\n{heard}");
    assert_eq!(done.status.code() == Some(0), expected, "{what}: doctor:\n{said}\nthe start:\n{heard}");
}

#[test]
fn doctor_says_of_each_thing_that_can_be_broken_what_the_start_does() {
    let pair = veth_pair(1);
    let left = Side::Left.interface();
    // Each case has its own place; `break_it` returns what has to live as long as it is broken.
    let case = |what: &str, more: &str, expected: bool, break_it: &dyn Fn(&Place) -> Vec<Mounted>| {
        let place = Place::new();
        let broken = break_it(&place);
        let more = more.replace("PLACE", place.path("").to_str().unwrap());
        agree(what, &pair, &place.configure(left, &more), expected);
        drop(broken);
    };
    let owned = |path: &Path| {
        fs::create_dir_all(path).unwrap();
        chown(path, Some(65534), Some(65534)).unwrap();
    };
    case("nothing", "", true, &|_| vec![]);
    case("the runtime folder is another user's", "", false, &|place| {
        owned(&place.path("run"));
        vec![]
    });
    case("anybody may write to the table's folder", "", false, &|place| {
        fs::create_dir(place.path("shm")).unwrap();
        fs::set_permissions(place.path("shm"), fs::Permissions::from_mode(0o777)).unwrap();
        vec![]
    });
    case("the database is another user's", "", false, &|place| {
        owned(&place.path("db"));
        fs::write(place.path("db/baton.redb"), "").unwrap();
        fs::set_permissions(place.path("db/baton.redb"), fs::Permissions::from_mode(0o600)).unwrap();
        vec![]
    });
    case("the database's file system is read-only", "", false, &|place| {
        vec![Mounted::new("tmpfs", "ro,mode=0777", &place.path("db"))]
    });
    case("pins are on a BPF file system that is read-only", "", false, &|place| {
        vec![Mounted::new("bpf", "ro,mode=0700", &place.path("run/bpf"))]
    });
    case("there is a file where pins are to be", "pin = \"PLACE/pins\"", false, &|place| {
        fs::write(place.path("pins"), "").unwrap();
        vec![]
    });
    case(
        "pins are to be where a BPF file system is not mounted",
        "pin = \"/sys/kernel/baton-pins\"",
        false,
        &|_| vec![],
    );
    let long = format!("api_socket = \"PLACE/{}\"", "s".repeat(100));
    case("the socket's path is too long", &long, false, &|_| vec![]);

    // Cases of the interface.
    let program = pair.on(Side::Left, || {
        let interface = Interface::find(left).unwrap();
        Steering::attach(&interface, &SteerSettings::new(0x88B5, 1), None).unwrap()
    });
    case("another program is on the interface", "", false, &|_| vec![]);
    drop(program);
    pair.ip(Side::Left, &format!("link set {left} down")).unwrap();
    case("the interface is down", "", true, &|_| vec![]);
    pair.ip(Side::Left, &format!("link set {left} name eth0.7")).unwrap();
    let place = Place::new();
    agree("a dot is in its name", &pair, &place.configure("eth0.7", ""), true);
    agree("it is no Ethernet", &pair, &place.configure("lo", ""), false);
    agree("it is not there", &pair, &place.configure("eth77", ""), false);
}

#[test]
fn doctor_and_start_agree_on_queues_and_on_a_table_on_huge_pages() {
    let (pair, place) = (veth_pair(128), Place::new());
    let configuration = place.configure(Side::Left.interface(), "");
    agree("more queues than a server has workers", &pair, &configuration, false);
    let text = fs::read_to_string(&configuration).unwrap();
    let with = |from: &str, to: &str| {
        assert!(text.contains(from));
        fs::write(&configuration, text.replace(from, to)).unwrap();
    };
    with("huge_pages = false", "huge_pages = false\nqueues = 1");
    agree("one of them is served", &pair, &configuration, true);
    // No machine has as many pages.
    let _mounted = Mounted::new("hugetlbfs", "mode=0700", &place.path("huge"));
    let table = format!("path = \"{}\"", place.path("huge/table").display());
    let text = text.replace("huge_pages = false", "huge_pages = false\nqueues = 1");
    let there = format!("path = \"{}\"", place.path("shm/table").display());
    assert!(text.contains(&there));
    fs::write(&configuration, text.replace(&there, &table).replace("terminals = 4000", "terminals = 1000000000"))
        .unwrap();
    agree("the table is to lie on huge pages that are not there", &pair, &configuration, false);
}
