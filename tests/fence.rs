//! One controller: a server that was replaced by another one never regains control by being
//! started; only an operator gives control.
//!
//! Two dispatch servers share a segment, and run one after the other, each with its own files; the
//! autonomous servers live through all of it.

mod support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use serde_json::Value;
use support::netns::{Pair, Side, veth_pair};
use support::server::{Place, Server, kill};

const PATIENCE: Duration = Duration::from_secs(20);
const MAC: &str = "02:00:00:00:01:01";
const BRIDGE_MAC: &str = "02:00:00:00:01:6e";
/// The exit code of `run` if another dispatch server controls.
const FENCED: i32 = 3;

/// A segment with the autonomous servers of domains 1 and 2 on its left side; killed on drop.
struct Segment {
    pair: Pair,
    autonomous: Child,
}

impl Segment {
    fn new() -> Self {
        let pair = veth_pair(1);
        pair.ip(Side::Right, &format!("link set right address {MAC}")).unwrap();
        Self { autonomous: Self::simulate(&pair, &["--interface", "left", "--dispatch-mac", MAC]), pair }
    }

    /// With a bridge, so that two dispatch servers can run at once, on `right` and on `right2`.
    fn bridged() -> Self {
        let pair = veth_pair(1);
        pair.join_again().unwrap();
        pair.ip(Side::Left, &format!("link add bridge address {BRIDGE_MAC} type bridge")).unwrap();
        for port in ["left", "left2"] {
            pair.ip(Side::Left, &format!("link set {port} master bridge")).unwrap();
        }
        pair.ip(Side::Left, "link set bridge up").unwrap();
        Self { autonomous: Self::simulate(&pair, &["--interface", "bridge"]), pair }
    }

    fn simulate(pair: &Pair, arguments: &[&str]) -> Child {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", pair.path(Side::Left).display()));
        command.args([
            env!("CARGO_BIN_EXE_baton"),
            "sim",
            "--insecure-no-authentication",
            "--heartbeat-ms",
            "50",
            "--terminals",
            "20",
        ]);
        command.args(["--domains", "1,2"]).args(arguments).spawn().unwrap()
    }

    /// Starts a dispatch server by its configuration.
    fn start(&self, configuration: &Path) -> Server {
        Server::start(&self.pair, Side::Right, configuration, &[])
    }

    /// Whether the first of two servers is the one that ends.
    fn ends_first(one: &mut Server, other: &mut Server) -> bool {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            match (one.has_ended(), other.has_ended()) {
                (false, false) => sleep(Duration::from_millis(10)),
                (one, _) => return one,
            }
        }
        panic!("two servers control:\n{}\n{}", one.heard, other.heard);
    }

    /// Lets a server control everything, have this many successors, and stop.
    fn control_and_stop(&self, configuration: &Path, deaths: u32) {
        let mut server = self.start(configuration);
        let mut engine = server.engine();
        reconciled(&mut server);
        for _ in 0..deaths {
            server.standby();
            sleep(Duration::from_millis(300));
            kill(engine, Signal::KILL);
            engine = server.engine();
        }
        server.signal(Signal::TERM);
        assert_eq!(server.code(), 0, "{}", server.heard);
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let _ = self.autonomous.kill();
        let _ = self.autonomous.wait();
    }
}

/// A small file system on a folder, unmounted on drop.
struct Mounted(PathBuf);

impl Mounted {
    fn small(folder: PathBuf) -> Self {
        // The engines' user writes there.
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2m,mode=755,uid=65534", "tmpfs"]).arg(&folder);
        assert!(mount.status().unwrap().success());
        Self(folder)
    }

    /// Leaves no room.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("fill")).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Waits until a server agrees with an autonomous server, which it may have reported already.
fn reconciled(server: &mut Server) {
    if !server.heard.contains("reconciled") {
        server.line_with("reconciled");
    }
}

/// A configuration for these domains.
fn configure(place: &Place, domains: &[u64]) -> PathBuf {
    let file = place.configure("right", "[heartbeat]\ninterval_ms = 50\n");
    let text = fs::read_to_string(&file).unwrap();
    let (head, tail) = (text.split("[[domain]]").next().unwrap(), text.split_once("[table]").unwrap().1);
    let domains: String = domains
        .iter()
        .map(|number| format!("[[domain]]\nnumber = {number}\ninsecure_no_authentication = true\n"))
        .collect();
    fs::write(&file, format!("{head}{domains}[table]{tail}")).unwrap();
    file
}

/// `baton control` with these arguments.
fn control(place: &Place, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_baton"));
    command.arg("control").args(arguments);
    command.arg("--config").arg(place.path("baton.toml")).arg("--socket").arg(place.path("run/api.sock"));
    command.output().unwrap()
}

fn shown(place: &Place) -> Value {
    let output = control(place, &["show", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Which of these domains are controlled, according to `baton control show`.
fn controlled(place: &Place) -> Vec<bool> {
    let shown = shown(place);
    shown["domains"].as_array().unwrap().iter().map(|domain| domain["controlled"].as_bool().unwrap()).collect()
}

#[test]
fn a_server_that_was_replaced_never_controls_again_by_being_started() {
    let (segment, [old, new]) = (Segment::new(), [Place::new(), Place::new()]);
    let (old_file, new_file) = (configure(&old, &[1, 2]), configure(&new, &[1, 2]));
    // Its generation is somewhat above what a few starts of the other server reach.
    segment.control_and_stop(&new_file, 2);
    for start in 0..8 {
        let mut server = segment.start(&old_file);
        assert_eq!(server.code(), FENCED, "start {start}:\n{}", server.heard);
        assert!(server.heard.contains("baton control take"), "the one way back is named:\n{}", server.heard);
        assert!(!server.heard.contains("reconciled"), "start {start}:\n{}", server.heard);
    }
    assert_eq!(controlled(&old), [false, false]);
    // The table is lost with the machine's memory; the database also remembers.
    fs::remove_file(old.path("shm/table")).unwrap();
    let mut server = segment.start(&old_file);
    assert_eq!(server.code(), FENCED, "by the database:\n{}", server.heard);

    // Without a terminal no question is asked, and nothing is changed.
    let refused = control(&old, &["take"]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("--yes"));
    let taken = control(&old, &["take", "--yes"]);
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    assert_eq!(controlled(&old), [true, true]);
    segment.control_and_stop(&old_file, 0);

    // And back again: now the other server is the one that was replaced, with any generation.
    let mut server = segment.start(&new_file);
    assert_eq!(server.code(), FENCED, "{}", server.heard);
    let taken = control(&new, &["take", "--yes"]);
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    segment.control_and_stop(&new_file, 1);
}

#[test]
fn one_domain_of_somebody_elses_is_given_up_alone_and_taken_while_the_server_runs() {
    let (segment, [other, ours]) = (Segment::new(), [Place::new(), Place::new()]);
    let (other_file, file) = (configure(&other, &[1]), configure(&ours, &[1, 2]));
    segment.control_and_stop(&other_file, 2);
    let mut server = segment.start(&file);
    server.line_with("not in control: another dispatch server controls this domain");
    reconciled(&mut server);
    if !server.heard.contains(" stands by") {
        server.standby();
    }
    let end = Instant::now() + PATIENCE;
    while controlled(&ours) != [false, true] {
        assert!(Instant::now() < end, "{:#}", shown(&ours));
        sleep(Duration::from_millis(20));
    }
    let before = shown(&ours);
    assert_eq!(before["running"], true);
    let taken = control(&ours, &["take", "--yes", "--json"]);
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    server.engine();
    while controlled(&ours) != [true, true] {
        assert!(Instant::now() < end, "{:#}\n{}", shown(&ours), server.heard);
        sleep(Duration::from_millis(20));
    }
    assert!(shown(&ours)["epoch"].as_u64() > before["domains"][0]["epoch"].as_u64(), "{before:#}");
    server.signal(Signal::TERM);
    assert_eq!(server.code(), 0, "{}", server.heard);
    let mut replaced = segment.start(&other_file);
    assert_eq!(replaced.code(), FENCED, "{}", replaced.heard);
}

/// A full disk: a client that asks for control is told so, and does not wait for ever.
#[test]
fn control_that_cannot_be_written_down_is_refused_with_the_disks_words() {
    let (segment, ours) = (Segment::new(), Place::new());
    let file = configure(&ours, &[1, 2]);
    let folder = ours.path("db");
    fs::create_dir(&folder).unwrap();
    let mounted = Mounted::small(folder);
    let mut server = segment.start(&file);
    reconciled(&mut server);
    server.standby();
    let before = shown(&ours)["epoch"].clone();
    mounted.fill();
    let refused = control(&ours, &["take", "--yes"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("could not be written"), "{said}");
    assert_eq!(shown(&ours)["epoch"], before);
    server.signal(Signal::TERM);
    let _ = server.end();
}

/// Nobody sends it a request and no terminal reports: its own heartbeats tell it.
#[test]
fn a_server_that_is_idle_hears_of_the_one_that_replaced_it() {
    let (segment, [old, new]) = (Segment::bridged(), [Place::new(), Place::new()]);
    let configure = |place: &Place, interface: &str| {
        let file = configure(place, &[1, 2]);
        let text = fs::read_to_string(&file).unwrap().replace("\"right\"", &format!("\"{interface}\""));
        // A server that does not control gets no unsolicited frames, so it has to know where the
        // autonomous servers are.
        fs::write(
            &file,
            text.replace(
                "insecure_no_authentication = true",
                &format!("insecure_no_authentication = true\nmac = \"{BRIDGE_MAC}\""),
            ),
        )
        .unwrap();
        file
    };
    let (old_file, new_file) = (configure(&old, "right"), configure(&new, "right2"));
    let mut replaced = segment.start(&old_file);
    replaced.engine();
    reconciled(&mut replaced);
    let mut server = segment.start(&new_file);
    // Two empty databases: chance decides which has the higher nonce, and the other server ends.
    if Segment::ends_first(&mut server, &mut replaced) {
        assert_eq!(server.code(), FENCED, "{}", server.heard);
        let taken = control(&new, &["take", "--yes"]);
        assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
        server = segment.start(&new_file);
    }
    assert_eq!(replaced.code(), FENCED, "{}", replaced.heard);
    assert!(replaced.heard.contains("not in control"), "{}", replaced.heard);
    server.signal(Signal::TERM);
    assert_eq!(server.code(), 0, "{}", server.heard);
}

/// A backup on another machine, or a disk that was rolled back: the same generations are counted
/// again, but the epochs differ. Chance decides which of the two is higher, and only one ever
/// controls.
#[test]
fn a_copy_of_the_database_has_no_epoch_of_the_original() {
    let (segment, [original, copy]) = (Segment::new(), [Place::new(), Place::new()]);
    let (original_file, copy_file) = (configure(&original, &[1, 2]), configure(&copy, &[1, 2]));
    segment.control_and_stop(&original_file, 0);
    let (from, to) = (original.path("db/baton.redb"), copy.path("db/baton.redb"));
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    let done = Command::new("cp").arg("-a").args([from.parent().unwrap(), &copy.path("db.copy")]).status().unwrap();
    assert!(done.success());
    fs::remove_dir_all(copy.path("db")).unwrap();
    fs::rename(copy.path("db.copy"), copy.path("db")).unwrap();
    // After a reboot each reserves the next block.
    let epoch = |place: &Place, file: &Path| {
        let _ = fs::remove_file(place.path("shm/table"));
        let mut server = segment.start(file);
        // Either of the two may be the one. A table that is not whole yet when its engine stops is
        // not kept, and its epoch with it.
        server.line_with("controls");
        std::thread::sleep(Duration::from_millis(300));
        server.signal(Signal::TERM);
        let _ = server.end();
        shown(place)["epoch"].as_u64().unwrap()
    };
    let (one, other) = (epoch(&original, &original_file), epoch(&copy, &copy_file));
    assert_eq!(one >> 16, other >> 16, "the same term and generation");
    assert_ne!(one, other, "a nonce tells them apart (but for one chance in 65,536)");
}

/// The server hears of a newer controller before the database is open, while the table says that it
/// controls; and it ends. The database has the fence all the same: the machine may lose its memory
/// next, and the next block of generations is above everything that the other server counted up to.
#[test]
fn a_fence_that_is_heard_before_the_database_is_open_outlives_the_machine() {
    let (elsewhere, segment, [old, new]) = (Segment::new(), Segment::new(), [Place::new(), Place::new()]);
    let (old_file, new_file) = (configure(&old, &[1, 2]), configure(&new, &[1, 2]));
    // A generation above the old one's, and below those of its next block.
    elsewhere.control_and_stop(&new_file, 2);
    segment.control_and_stop(&old_file, 0);
    segment.control_and_stop(&new_file, 0);
    // Simulates a disk that is slow, or a process that dies slowly.
    let database = fs::File::open(old.path("db/baton.redb")).unwrap();
    flock(&database, FlockOperation::NonBlockingLockExclusive).unwrap();
    let mut server = segment.start(&old_file);
    server.line_with("another dispatch server controls: this one stops");
    drop(database);
    assert_eq!(server.code(), FENCED, "{}", server.heard);
    fs::remove_file(old.path("shm/table")).unwrap();
    let mut server = segment.start(&old_file);
    assert_eq!(server.code(), FENCED, "by the database:\n{}", server.heard);
}
