//! `baton load` on a real interface: against a dispatch server of real processes, and against a
//! sink that counts.

mod support;

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use baton::api::client::BlockingClient;
use baton::database::Database;
use baton::lab::sim::Preload;
use baton::lab::testbed::cluster::API_TIMEOUT;
use baton::limits::GENERATION_BLOCK;
use baton::sys::mapping::boot_id;
use baton::sys::process::User;
use baton::table::{Capacity, OwnerId, Table};
use baton::telemetry::Log;
use baton::wire::{Domain, MeetingId};
use serde_json::Value;
use support::netns::{Pair, Side, veth_pair};
use support::server::{Place, Server};

const ANYBODY: [&str; 2] = ["--dispatch-mac", "ff:ff:ff:ff:ff:ff"];
const PATIENCE: Duration = Duration::from_secs(30);

/// `baton load` on a side.
fn load(pair: &Pair, side: Side, arguments: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", pair.path(side).display())).arg(env!("CARGO_BIN_EXE_baton")).arg("load");
    command.args(arguments);
    command
}

/// Sends from the left with these arguments and `--json`; returns the printed result.
fn send(pair: &Pair, arguments: &[&str]) -> Value {
    let output = load(pair, Side::Left, &[&["--interface", "left", "--json"], &ANYBODY[..], arguments].concat())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Exit code and standard error.
fn refused(mut command: Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} in {value:#}"))
}

/// The place of a dispatch server that held 20 meetings of ten terminals each in its domain when it
/// died: it knows them from its table, although no autonomous server is there.
fn filled() -> Place {
    let place = Place::new();
    let (shm, db) = (place.path("shm"), place.path("db"));
    for folder in [&shm, &db] {
        fs::create_dir(folder).unwrap();
    }
    let file = db.join("baton.redb");
    let reservation = Database::open(&file).unwrap().reserve_generations(GENERATION_BLOCK).unwrap();
    let engine = User::find("nobody").unwrap();
    for path in [&db, &file] {
        chown(path, Some(engine.uid), Some(engine.gid)).unwrap();
    }
    Table::create_at(&shm.join("table"), Capacity { meetings: 1000, terminals: 4000 }, boot_id().unwrap()).unwrap();
    let table = std::sync::Arc::new(Table::open_at(&shm.join("table")).unwrap());
    table.set_reservation(reservation.epoch(), reservation.end);
    let domain = Preload::new(20, 10, None, 1).unwrap().domain(0, Domain::new(366).unwrap(), 1001);
    let mut writer = table.writer(OwnerId::CONTROL);
    domain.enter(&mut writer).unwrap();
    place
}

/// A dispatch server on the right whose only domain is 366, with or without a secret.
fn server(pair: &Pair, place: &Place, secret: Option<&str>) -> Server {
    let configuration = place.configure("right", "");
    if let Some(secret) = secret {
        let text = fs::read_to_string(&configuration).unwrap();
        fs::write(&configuration, text.replace("insecure_no_authentication = true", &format!("secret = \"{secret}\"")))
            .unwrap();
    }
    let mut server = Server::start(pair, Side::Right, &configuration, &[]);
    server.engine();
    server
}

#[test]
fn a_server_echoes_every_probe_and_believes_no_forgery() {
    let (pair, place) = (veth_pair(1), Place::new());
    let secret = "5a".repeat(32);
    let _server = server(&pair, &place, Some(&secret));
    let configuration = place.path("baton.toml");
    let configuration = configuration.to_str().unwrap();
    let log = place.path("load.hlog");

    let rate = ["--rate", "2000", "--count", "3000", "--config", configuration];
    let probes = send(&pair, &[&["--what", "probes", "--hlog", log.to_str().unwrap()], &rate[..]].concat());
    let counted = |what: &str| number(&probes, &format!("/answers/{what}"));
    assert_eq!((number(&probes, "/sent"), counted("answered"), counted("lost")), (3000, 3000, 0), "{probes:#}");
    assert_eq!((counted("strange"), counted("unauthentic"), counted("repeated")), (0, 0, 0));
    assert_eq!(counted("latency/probe/count"), 3000);
    assert!(counted("latency/probe/p50_ns") <= counted("latency/probe/max_ns"));
    assert_eq!(intervals(&log), 3000, "the histogram log has every latency");

    // The same domain under another secret, and bytes that are not even a frame: none of it is
    // answered.
    let forged = send(&pair, &[&["--what", "forgeries", "--wait", "100ms"], &rate[..]].concat());
    assert_eq!((number(&forged, "/answers/expected"), number(&forged, "/answers/strange")), (0, 0));
    let garbage = send(&pair, &[&["--what", "garbage", "--size", "200", "--wait", "100ms"], &rate[..]].concat());
    assert_eq!((number(&garbage, "/sent"), number(&garbage, "/answers/strange")), (3000, 0));
    let commands = send(&pair, &[&["--what", "commands"], &rate[..]].concat());
    assert_eq!((number(&commands, "/answers/answered"), number(&commands, "/answers/expected")), (1500, 1500));
    // And the server still works.
    let again = send(&pair, &[&["--what", "probes"], &rate[..]].concat());
    assert_eq!(number(&again, "/answers/lost"), 0);
}

#[test]
fn a_stranger_is_dropped_before_a_worker_sees_it_and_is_counted() {
    let (pair, place) = (veth_pair(1), Place::new());
    let configuration = place.configure("right", "");
    let text = fs::read_to_string(&configuration).unwrap();
    let text = text.replace("name = \"right\"", "name = \"right\"\nknown_macs_only = true");
    fs::write(&configuration, text).unwrap();
    let mut server = Server::start(&pair, Side::Right, &configuration, &[]);
    server.engine();
    let api = BlockingClient::new(place.path("run/api.sock"), API_TIMEOUT);
    let counted = |what: &str| number(&api.get("/status").unwrap(), &format!("/counters/{what}"));
    let probes =
        ["--what", "probes", "--insecure-no-authentication", "--domains", "366", "--count", "100", "--wait", "100ms"];

    pair.ip(Side::Left, "link set left address 02:00:00:00:01:6e").unwrap();
    let told = send(&pair, &probes);
    assert_eq!(number(&told, "/answers/answered"), 100, "{told:#}");
    pair.ip(Side::Left, "link set left address 02:00:00:00:01:6f").unwrap();
    let arguments = [&["--interface", "left"], &ANYBODY[..], &probes[..]].concat();
    assert_eq!(refused(load(&pair, Side::Left, &arguments)).0, Some(1), "nothing was answered");
    let deadline = Instant::now() + PATIENCE;
    while counted("xdp_stranger") != 100 {
        assert!(Instant::now() < deadline, "{} strangers are counted", counted("xdp_stranger"));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(counted("probes_echoed"), 100);
    assert!(counted("xdp_steered") >= 100);
}

#[test]
fn who_sends_beyond_the_rate_is_dropped_in_the_driver_and_every_frame_is_counted() {
    let (pair, place) = (veth_pair(1), Place::new());
    let configuration = place.configure("right", "");
    let text = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, text.replace("name = \"right\"", "name = \"right\"\nsource_rate = 1000")).unwrap();
    let mut server = Server::start(&pair, Side::Right, &configuration, &[]);
    server.engine();
    let api = BlockingClient::new(place.path("run/api.sock"), API_TIMEOUT);
    let counted = |what: &str| number(&api.get("/status").unwrap(), &format!("/counters/{what}"));
    let probes = ["--what", "probes", "--insecure-no-authentication", "--domains", "366", "--wait", "100ms"];

    let slow = send(&pair, &[&probes[..], &["--rate", "500", "--count", "200"]].concat());
    assert_eq!(number(&slow, "/answers/answered"), 200, "half of the rate: {slow:#}");
    let fast = send(&pair, &[&probes[..], &["--rate", "100000", "--count", "3000"]].concat());
    let answered = number(&fast, "/answers/answered");
    // A tenth of a second's frames may come at once.
    assert!((100..3000).contains(&answered), "{fast:#}");
    let deadline = Instant::now() + PATIENCE;
    while counted("xdp_over_rate") + answered != 3000 {
        let over = counted("xdp_over_rate");
        assert!(Instant::now() < deadline, "{over} are counted beyond the rate, and {answered} were answered");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(counted("probes_echoed"), 200 + answered);
}

/// Number of values in a histogram log, from its lines and their decoded counts.
fn intervals(path: &Path) -> u64 {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains("#[Histogram log format version 1.3]\n#[StartTime: "), "{text}");
    assert!(text.contains("\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\""));
    let log = Log::read(text.as_bytes());
    assert!(log.broken.is_empty() && log.intervals.iter().all(|interval| interval.tag == "probe"), "{log:?}");
    let counted = log.intervals.iter().map(|interval| interval.histogram().len()).sum();
    let [frames] = &log.frames[..] else { panic!("how many were answered, once: {log:?}") };
    assert_eq!((frames.received, frames.dropped), (counted, 0));
    counted
}

#[test]
fn unauthenticated_probes_come_back_by_live_frames_too() {
    let (pair, place) = (veth_pair(1), Place::new());
    let _server = server(&pair, &place, None);
    let sent = send(
        &pair,
        &[
            "--what",
            "probes",
            "--by",
            "xdp",
            "--rate",
            "2000",
            "--count",
            "3000",
            "--insecure-no-authentication",
            "--domains",
            "366",
            "--terminals",
            "100",
        ],
    );
    let counted = |what: &str| number(&sent, &format!("/answers/{what}"));
    assert_eq!((number(&sent, "/sent"), counted("answered"), counted("lost")), (3000, 3000, 0), "{sent:#}");
    assert_eq!((counted("latency/probe/count"), counted("strange")), (3000, 0));
}

#[test]
fn reports_are_acknowledged_and_in_the_table_by_either_way() {
    let (pair, place) = (veth_pair(1), filled());
    let _server = server(&pair, &place, Some(&"5a".repeat(32)));
    let configuration = place.path("baton.toml");
    let common =
        ["--config", configuration.to_str().unwrap(), "--terminals", "200", "--rate", "2000", "--count", "1000"];
    for (turn, way) in [&["--by", "rings"][..], &["--by", "xdp"], &["--by", "rings", "--what", "infos"], &["--ack-now"]]
        .into_iter()
        .enumerate()
    {
        let version = (1000 * (turn + 1)).to_string();
        let sent = send(&pair, &[way, &["--first-version", &version], &common[..]].concat());
        let counted = |what: &str| number(&sent, &format!("/answers/{what}"));
        let all = (number(&sent, "/sent"), counted("answered"), counted("lost"), counted("refused"));
        assert_eq!(all, (1000, 1000, 0, 0), "{way:?}: {sent:#}");
        assert_eq!((counted("strange"), counted("unauthentic")), (0, 0), "{way:?}");
        if way == ["--ack-now"] {
            assert_eq!((counted("covered"), counted("latency/report/count")), (0, 1000));
        }
    }
    let table = Table::inspect(&place.path("shm/table")).unwrap();
    let members: Vec<_> = table.members(MeetingId(1), Domain::new(366).unwrap()).collect();
    assert_eq!(members.len(), 10);
    assert!(members.iter().all(|member| member.version == 4004), "five turns of the last load: {members:?}");
}

#[test]
fn a_search_ends_with_a_rate_that_was_borne() {
    let (pair, place) = (veth_pair(1), Place::new());
    let _server = server(&pair, &place, None);
    let arguments = [
        &[
            "search",
            "--interface",
            "left",
            "--json",
            "--what",
            "probes",
            "--insecure-no-authentication",
            "--domains",
            "366",
        ],
        &ANYBODY[..],
        &["--from", "100", "--to", "1000", "--trial", "200ms", "--resolution", "0.2"],
    ];
    let output = load(&pair, Side::Left, &arguments.concat()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let trials = found["trials"].as_array().unwrap();
    assert!(!trials.is_empty() && trials[0]["asked"] == 1000, "{found:#}");
    let borne =
        |rate: f64| trials.iter().any(|trial| trial["lost"] == 0 && trial["rate"].as_f64().unwrap() >= rate * 0.999);
    assert!(found["non_drop_rate"].as_f64().is_some_and(borne), "{found:#}");
}

#[test]
fn silence_is_said_and_what_may_be_wrong() {
    let pair = veth_pair(1);
    let lone = ["--interface", "left", "--what", "probes", "--count", "10", "--wait", "50ms"];
    let (code, said) =
        refused(load(&pair, Side::Left, &[&lone[..], &ANYBODY[..], &["--insecure-no-authentication"]].concat()));
    assert_eq!(code, Some(1));
    assert!(said.contains("not one answer to 10 frames") && said.contains("ff:ff:ff:ff:ff:ff"), "{said}");

    // The other end has no XDP yet, so live frames would vanish.
    let live = ["--interface", "left", "--by", "xdp", "--no-answers", "--count", "10", "--insecure-no-authentication"];
    let (code, said) = refused(load(&pair, Side::Left, &[&live[..], &ANYBODY[..]].concat()));
    assert_eq!(code, Some(1));
    assert!(said.contains("left sends no live frames") && said.contains("--by rings"), "{said}");
}

#[test]
fn what_is_typed_wrong_is_named_with_what_to_do() {
    let pair = veth_pair(1);
    let good = [&["--insecure-no-authentication", "--count", "1", "--interface", "left"], &ANYBODY[..]].concat();
    let cases: [(&[&str], i32, &str); 9] = [
        (&["--rate", "0"], 2, "a number of frames a second from 1 on"),
        (&["--for", "10"], 2, "has no unit; expected one of ns, us"),
        (&["--size", "64"], 2, "a frame with a protocol payload has 96"),
        (&["--terminals", "65000"], 2, "1 to 64535 are possible"),
        (&["--domains", "9-3"], 2, "no list of domains"),
        (&["--no-answers"], 2, "is for `--by xdp`"),
        (&["--core", "4095"], 1, "core 4095"),
        (&["--hlog", "/proc/none/load.hlog"], 1, "/proc/none/load.hlog"),
        (&["--secret-file", "nowhere"], 2, "--insecure-no-authentication"),
    ];
    for (wrong, expected, words) in cases {
        let (code, said) = refused(load(&pair, Side::Left, &[&good[..], wrong].concat()));
        assert_eq!((code, said.contains(words)), (Some(expected), true), "{wrong:?}: {said}");
    }
    let missing = [&["--insecure-no-authentication", "--count", "1", "--interface", "nosuch0"], &ANYBODY[..]].concat();
    let (code, said) = refused(load(&pair, Side::Left, &missing));
    assert_eq!((code, said.contains("there is no interface `nosuch0` here")), (Some(1), true), "{said}");
    for (without, words) in
        [("--insecure-no-authentication", "whose tags?"), ("--interface", "--interface: name the one")]
    {
        let skip = if without == "--interface" { 2 } else { 1 };
        let at = good.iter().position(|argument| *argument == without).unwrap();
        let rest = [&good[..at], &good[at + skip..]].concat();
        let (code, said) = refused(load(&pair, Side::Left, &rest));
        assert_eq!((code, said.contains(words)), (Some(2), true), "without {without}: {said}");
    }
}

#[test]
fn a_process_without_privileges_is_told_which_it_needs() {
    let pair = veth_pair(1);
    for way in ["rings", "xdp"] {
        let arguments =
            [&["--interface", "left", "--insecure-no-authentication", "--count", "1", "--by", way], &ANYBODY[..]]
                .concat();
        // Its file may be in a place that nobody else may read.
        let program = tempfile::Builder::new().tempfile_in("/dev/shm").unwrap();
        fs::copy(env!("CARGO_BIN_EXE_baton"), program.path()).unwrap();
        let path = program.into_temp_path();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut command = Command::new(&path);
        command.arg("load").args(&arguments).uid(65_534).gid(65_534);
        let (code, said) = pair.on(Side::Left, || refused(command));
        assert_eq!(code, Some(1), "{way}: {said}");
        assert!(said.contains("CAP_BPF") && said.contains("as root"), "{way}: {said}");
    }
}

/// `baton load sink` on the right. Killed on drop.
struct Sink(Child);

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Sink {
    /// Counts until it has this many.
    fn start(pair: &Pair, count: &str, more: &[&str]) -> Self {
        use std::io::{BufRead, BufReader};
        let arguments = [&["sink", "--interface", "right", "--json", "--for", "30s", "--count", count], more].concat();
        let mut sink =
            load(pair, Side::Right, &arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(sink.stderr.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("counting on right"), "{line}");
        Self(sink)
    }

    fn result(mut self) -> Value {
        let begun = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "the sink waits for frames that do not come");
            std::thread::sleep(Duration::from_millis(10));
        }
        serde_json::from_reader(self.0.stdout.take().unwrap()).unwrap()
    }
}

#[test]
fn live_frames_arrive_as_many_and_as_long_as_was_said() {
    let pair = veth_pair(1);
    for (size, count) in [("96", "200000"), ("128", "200000"), ("1100", "100000")] {
        let sink = Sink::start(&pair, count, &[]);
        let sent = send(
            &pair,
            &[
                "--by",
                "xdp",
                "--no-answers",
                "--rate",
                "200000",
                "--count",
                count,
                "--size",
                size,
                "--insecure-no-authentication",
            ],
        );
        let came = sink.result();
        assert_eq!(number(&sent, "/sent").to_string(), count);
        assert_eq!(number(&came, "/frames").to_string(), count, "{came:#}");
        let (bytes, frames) = (number(&came, "/bytes"), number(&came, "/frames"));
        assert_eq!((bytes / frames).to_string(), size);
    }
}

#[test]
fn frames_by_live_are_those_by_rings() {
    let pair = veth_pair(1);
    for kind in ["reports", "infos", "mix", "all"] {
        let sink = Sink::start(&pair, "2000", &["--by", "rings"]);
        let what = [
            "--what",
            kind,
            "--insecure-no-authentication",
            "--rate",
            "20000",
            "--count",
            "2000",
            "--terminals",
            "100",
        ];
        send(&pair, &[&["--by", "xdp", "--no-answers"], &what[..]].concat());
        let came = sink.result();
        assert_eq!((number(&came, "/frames"), number(&came, "/malformed")), (2000, 0), "{kind}");
    }
}

#[test]
fn a_capture_has_a_frame_of_every_opcode() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.pcap");
    let mut command = Command::new(env!("CARGO_BIN_EXE_baton"));
    command
        .args(["load", "--what", "all", "--count", "120", "--insecure-no-authentication", "--json", "--pcap"])
        .arg(&file);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["frames"], 120);
    let bytes = fs::read(&file).unwrap();
    let (mut at, mut opcodes) = (24, std::collections::BTreeSet::new());
    while at < bytes.len() {
        let length = u32::from_ne_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
        let frame =
            baton::wire::Frame::parse(&bytes[at + 16..at + 16 + length], baton::wire::DEFAULT_ETHERTYPE).unwrap();
        opcodes.insert(frame.opcode().unwrap().wire());
        at += 16 + length;
    }
    assert_eq!(opcodes.len(), baton::wire::Opcode::ALL.len());
}
