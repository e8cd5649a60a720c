//! A dispatch server on two interfaces, an autonomous server behind each.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use baton::stage::api::Api;
use rustix::process::Signal;
use serde_json::{Value, json};
use support::netns::{Pair, Side};
use support::server::{Place, Server, gone, kill};

const PATIENCE: Duration = Duration::from_secs(20);
/// The dispatch server's, and the autonomous servers'.
const MACS: [[(&str, &str); 2]; 2] = [
    [("right", "02:00:00:00:01:01"), ("right2", "02:00:00:00:01:02")],
    [("left", "02:00:00:00:02:01"), ("left2", "02:00:00:00:02:02")],
];

fn doubly_joined() -> Pair {
    let pair = Pair::new(1);
    pair.join_again();
    for (side, macs) in [Side::Right, Side::Left].into_iter().zip(MACS) {
        macs.iter().for_each(|(interface, mac)| pair.ip(side, &format!("link set {interface} address {mac}")));
    }
    pair
}

/// A configuration for these interfaces, with domains 1 and 2 behind them, to be learned.
fn configure(place: &Place, names: &str) -> PathBuf {
    let file = place.configure("right", "[heartbeat]\ninterval_ms = 50\n");
    let text = fs::read_to_string(&file).unwrap();
    let domains = "[[domain]]\nnumber = 1\nlaboratory = true\n[[domain]]\nnumber = 2\nlaboratory = true\n[table]";
    let (head, tail) = (text.split("[[domain]]").next().unwrap(), text.split_once("[table]").unwrap().1);
    fs::write(&file, format!("{}{domains}{tail}", head.replace("\"right\"", names))).unwrap();
    file
}

/// An autonomous server, killed when this goes.
struct Autonomous {
    process: Child,
    control: PathBuf,
}

impl Autonomous {
    fn start(pair: &Pair, place: &Place, domains: &str, interface: usize) -> Self {
        let control = place.path(&format!("sim-{domains}"));
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", pair.path(Side::Left).display()));
        command.args([env!("CARGO_BIN_EXE_baton"), "sim", "--laboratory", "--heartbeat-ms", "50", "--terminals", "20"]);
        command.args(["--domains", domains, "--interface", MACS[1][interface].0]);
        command.args(["--dispatch-mac", MACS[0][interface].1, "--control"]).arg(&control);
        Self { process: command.spawn().unwrap(), control }
    }

    fn ask(&self, question: &Value) -> Value {
        let mut stream = UnixStream::connect(&self.control).unwrap();
        writeln!(stream, "{question}").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(answer.get("error"), None, "{question}");
        answer
    }
}

impl Drop for Autonomous {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until it is so.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "not in time: {what}");
        sleep(Duration::from_millis(10));
    }
}

/// What the status says of each domain.
fn domains(api: &Api) -> Vec<Value> {
    let status = api.call("GET", "/status", None);
    status.map_or_else(|_| Vec::new(), |status| status["domains"].as_array().unwrap().clone())
}

/// Whether the autonomous servers are where they are said to be, and both sides agree.
fn agree(api: &Api, macs: [&str; 2]) -> bool {
    let found = domains(api);
    found.len() == 2
        && found
            .iter()
            .zip(macs)
            .all(|(domain, mac)| domain["up"] == true && domain["mac"] == mac && domain["recovery"] == "reconciled")
}

fn steered(pair: &Pair, interface: &str) -> bool {
    let output = Command::new("ip").args(["-n", pair.name(Side::Right), "link", "show", interface]).output();
    String::from_utf8(output.unwrap().stdout).unwrap().contains("prog/xdp")
}

#[test]
fn conferences_over_both_interfaces_are_taken_back_over_both() {
    let (pair, place) = (doubly_joined(), Place::new());
    let configuration = configure(&place, "[\"right\", \"right2\"]");
    let mut server = Server::start(&pair, Side::Right, &configuration, &[]);
    let engine = server.engine();
    let servers = [Autonomous::start(&pair, &place, "1", 0), Autonomous::start(&pair, &place, "2", 1)];
    let api = Api::new(place.path("run/api.sock"));
    let [left, left2] = MACS[1].map(|(_, mac)| mac);
    until("both are learned", || agree(&api, [left, left2]));

    let members: Vec<_> = (1001..1006).flat_map(|device| [format!("1/{device}"), format!("2/{device}")]).collect();
    let members: Vec<_> = members.into_iter().map(|terminal| json!({ "terminal": terminal })).collect();
    api.call("POST", "/meetings", Some(&json!({ "name": "both", "level": 1, "layout": 4, "members": members })))
        .unwrap();
    for autonomous in &servers {
        autonomous.ask(&json!({ "ask": "rate", "reports": 500, "probes": 0 }));
    }
    server.standby();
    kill(engine, Signal::KILL);
    gone(engine);
    server.engine();
    until("both are taken back", || agree(&api, [left, left2]));
    let at: Vec<_> = domains(&api).iter().map(|domain| domain["interface"].clone()).collect();
    assert_eq!(at, ["right", "right2"]);
    for (autonomous, domain) in servers.iter().zip(domains(&api)) {
        let seen = autonomous.ask(&json!({ "ask": "quiesce", "wait_ms": 5000 }));
        assert_eq!(seen["quiet"], true, "every report is acknowledged where it came from: {seen:#}");
        assert_eq!((domain["parts"].as_u64(), domain["taken_over"].as_u64()), (Some(1), Some(1)), "{domain:#}");
    }

    // Both move to where the first was: the second is found there.
    drop(servers);
    let _both = Autonomous::start(&pair, &place, "1-2", 0);
    until("it is learned at the other interface", || {
        let found = domains(&api);
        found.len() == 2 && found.iter().all(|domain| domain["up"] == true && domain["interface"] == "right")
    });

    server.signal(Signal::TERM);
    assert_eq!(server.code(), 0);
    for (interface, _) in MACS[0] {
        assert!(!steered(&pair, interface));
        assert!(!place.path("run/bpf").join(interface).exists(), "{interface}'s pins are left");
    }
}

#[test]
fn an_interface_that_is_served_no_more_is_steered_no_more() {
    let (pair, place) = (doubly_joined(), Place::new());
    let mut server = Server::start(&pair, Side::Right, &configure(&place, "[\"right\", \"right2\"]"), &[]);
    server.engine();
    let all: Vec<_> = server.children().into_iter().chain(server.starter()).collect();
    server.signal(Signal::KILL);
    server.end();
    all.into_iter().for_each(gone);
    assert!(steered(&pair, "right") && steered(&pair, "right2"), "a keeper that is killed leaves it");
    let mut server = Server::start(&pair, Side::Right, &configure(&place, "\"right\""), &[]);
    server.engine();
    assert!(steered(&pair, "right") && !steered(&pair, "right2"));
    assert!(server.heard.contains("right2 is not served any more"), "{}", server.heard);
}

#[test]
fn what_cannot_be_served_together_is_refused() {
    let (pair, place) = (doubly_joined(), Place::new());
    let refused = |configuration: &Path, expected: &str| {
        let mut server = Server::start(&pair, Side::Right, configuration, &[]);
        assert_ne!(server.code(), 0);
        assert!(server.heard.contains(expected), "{}", server.heard);
    };
    let both = configure(&place, "[\"right\", \"right2\"]");
    pair.ip(Side::Right, &format!("link set right2 address {}", MACS[0][0].1));
    refused(&both, "interfaces right and right2 have the same MAC address 02:00:00:00:01:01");
    let Output { stdout, .. } =
        Command::new(env!("CARGO_BIN_EXE_baton")).args(["config", "check"]).arg(&both).output().unwrap();
    assert!(String::from_utf8(stdout).unwrap().contains("good, right, right2 with 2 domains"));
    refused(&configure(&place, "[\"right\", \"right3\"]"), "there is no interface `right3` here");
    assert!(!steered(&pair, "right"), "nothing is begun by halves");
}
