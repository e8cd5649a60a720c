//! A dispatch server on two interfaces, with an autonomous server behind each.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use baton::api::client::{BlockingClient, Method};
use baton::lab::testbed::cluster::API_TIMEOUT;
use baton::sdk::{Endpoint, EndpointSettings};
use baton::sys::interface::Interface;
use baton::wire::{
    DEFAULT_ETHERTYPE, Envelope, Epoch, Frame, Header, Key, Mac, MeetingId, Message, Opcode, Transaction,
    encode_message,
};
use libbpf_rs::Link;
use rustix::process::Signal;
use serde_json::{Value, json};
use support::netns::{Pair, Side, veth_pair};
use support::server::{Place, Server, gone, kill};

const PATIENCE: Duration = Duration::from_secs(20);
/// The addresses of the dispatch server, and of the autonomous servers.
const MACS: [[(&str, &str); 2]; 2] = [
    [("right", "02:00:00:00:01:01"), ("right2", "02:00:00:00:01:02")],
    [("left", "02:00:00:00:02:01"), ("left2", "02:00:00:00:02:02")],
];

fn doubly_joined() -> Pair {
    let pair = veth_pair(1);
    pair.join_again().unwrap();
    for (side, macs) in [Side::Right, Side::Left].into_iter().zip(MACS) {
        for (interface, mac) in macs {
            pair.ip(side, &format!("link set {interface} address {mac}")).unwrap();
        }
    }
    pair
}

/// A configuration for these interfaces, with domains 1 and 2 behind them, whose addresses are
/// learned.
fn configure(place: &Place, names: &str) -> PathBuf {
    let file = place.configure("right", "[heartbeat]\ninterval_ms = 50\n");
    let text = fs::read_to_string(&file).unwrap();
    let domains = "[[domain]]\nnumber = 1\ninsecure_no_authentication = true\n[[domain]]\nnumber = 2\ninsecure_no_authentication = true\n[table]";
    let (head, tail) = (text.split("[[domain]]").next().unwrap(), text.split_once("[table]").unwrap().1);
    fs::write(&file, format!("{}{domains}{tail}", head.replace("\"right\"", names))).unwrap();
    file
}

/// An autonomous server, killed on drop.
struct Autonomous {
    process: Child,
    control: PathBuf,
}

impl Autonomous {
    fn start(pair: &Pair, place: &Place, domains: &str, interface: usize) -> Self {
        let control = place.path(&format!("sim-{domains}"));
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

/// Waits until the condition holds.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "not in time: {what}");
        sleep(Duration::from_millis(10));
    }
}

/// What the status says of each domain.
fn domains(api: &BlockingClient) -> Vec<Value> {
    let status = api.get("/status");
    status.map_or_else(|_| Vec::new(), |status| status["domains"].as_array().unwrap().clone())
}

/// Whether the autonomous servers are where they are said to be, and both sides agree.
fn agree(api: &BlockingClient, macs: [&str; 2]) -> bool {
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
    let api = BlockingClient::new(place.path("run/api.sock"), API_TIMEOUT);
    let [left, left2] = MACS[1].map(|(_, mac)| mac);
    until("both are learned", || agree(&api, [left, left2]));

    let members: Vec<_> = (1001..1006).flat_map(|device| [format!("1/{device}"), format!("2/{device}")]).collect();
    let members: Vec<_> = members.into_iter().map(|terminal| json!({ "terminal": terminal })).collect();
    api.call(&Method::POST, "/meetings", Some(&json!({ "name": "both", "level": 1, "layout": 4, "members": members })))
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

    // Both move to the place of the first: the second is found there.
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
    pair.ip(Side::Right, &format!("link set right2 address {}", MACS[0][0].1)).unwrap();
    refused(&both, "interfaces right and right2 have the same MAC address 02:00:00:00:01:01");
    let Output { stdout, .. } =
        Command::new(env!("CARGO_BIN_EXE_baton")).args(["config", "check"]).arg(&both).output().unwrap();
    assert!(String::from_utf8(stdout).unwrap().contains("good, right, right2 with 2 domains"));
    refused(&configure(&place, "[\"right\", \"right3\"]"), "there is no interface `right3` here");
    assert!(!steered(&pair, "right"), "nothing is begun by halves");
}

/// Runs a program on the dispatch server's side; returns its output.
fn there(pair: &Pair, line: &str) -> String {
    let mut words = line.split_whitespace();
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", pair.path(Side::Right).display()));
    let output = command.arg(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_becomes_of_an_interface_is_said_and_put_right() {
    let (pair, place) = (veth_pair(2), Place::new());
    there(&pair, "ethtool -L right rx 1 tx 1");
    let mut server = Server::start(&pair, Side::Right, &place.configure("right", ""), &[]);
    server.engine();
    // As `bpftool link detach` does it.
    Link::open(place.path("run/bpf/right/link")).unwrap().detach().unwrap();
    assert!(!steered(&pair, "right"));
    server.line_with("somebody took steering off right: it is there again");
    assert!(steered(&pair, "right"));
    pair.ip(Side::Right, "link set right down").unwrap();
    server.line_with("right is down, or has no carrier");
    pair.ip(Side::Right, "link set right up").unwrap();
    server.line_with("right is up");
    pair.ip(Side::Right, "link set right mtu 1400").unwrap();
    server.line_with("right has an MTU of 1400 now; it was 1500");
    there(&pair, "ethtool -L right rx 2 tx 2");
    server.line_with("right has 2 receive queues now; it had 1 at the start");
    // Frames would go on bearing an address that the interface does not listen to.
    pair.ip(Side::Right, "link set right address 02:00:00:00:01:07").unwrap();
    assert_ne!(server.code(), 0);
    assert!(server.heard.contains("right has the MAC address 02:00:00:00:01:07 now; it was"), "{}", server.heard);
    for said in ["it is there again", "right is down", "right is up", "an MTU of 1400", "has 2 receive queues now"] {
        assert_eq!(server.heard.matches(said).count(), 1, "{said}: {}", server.heard);
    }
}

#[test]
fn an_interface_that_is_down_at_the_start_is_named_and_one_in_generic_mode_with_its_reason() {
    let (pair, place) = (veth_pair(1), Place::new());
    // A native program's frames are to fit a page, and it is the other end's that come.
    pair.ip(Side::Left, "link set left mtu 9000").unwrap();
    pair.ip(Side::Right, "link set right down mtu 9000").unwrap();
    let mut server = Server::start(&pair, Side::Right, &place.configure("right", ""), &[]);
    server.engine();
    assert!(server.heard.contains("right is down, or has no carrier"), "{}", server.heard);
    assert!(server.heard.contains("right is steered in generic mode"), "{}", server.heard);
    pair.ip(Side::Right, "link set right up").unwrap();
    server.line_with("right is up");
}

#[test]
fn a_name_with_a_dot_is_served() {
    let (pair, place) = (veth_pair(1), Place::new());
    pair.ip(Side::Right, "link set right down name eth0.100").unwrap();
    pair.ip(Side::Right, "link set eth0.100 up").unwrap();
    let configuration = place.configure("eth0.100", "");
    let mut server = Server::start(&pair, Side::Right, &configuration, &[]);
    server.engine();
    server.signal(Signal::KILL);
    server.end();
    // What a killed keeper has left is found again, and removed.
    let mut server = Server::start(&pair, Side::Right, &configuration, &[]);
    server.engine();
    server.signal(Signal::TERM);
    assert_eq!(server.code(), 0);
    assert!(!steered(&pair, "eth0.100"));
}

#[test]
fn vlan_tags_are_left_on_for_a_domain_that_bears_one_and_taken_off_again_afterwards() {
    let (pair, place) = (veth_pair(1), Place::new());
    let strips = || {
        let said = there(&pair, "ethtool -k right");
        let line = said.lines().find_map(|line| line.strip_prefix("rx-vlan-offload: ")).unwrap();
        line.trim() == "on"
    };
    assert!(strips(), "a veth pair does, as long as nobody says otherwise");
    let configuration = place.configure("right", "");
    let mut server = Server::start(&pair, Side::Right, &configuration, &[]);
    server.engine();
    assert!(strips(), "no domain has a VLAN");
    server.signal(Signal::TERM);
    assert_eq!(server.code(), 0);

    let text = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, text.replace("number = 366\n", "number = 366\nvlan = 100\n")).unwrap();
    let mut server = Server::start(&pair, Side::Right, &configuration, &[]);
    server.engine();
    assert!(!strips());
    assert!(server.heard.contains("right took VLAN tags off; it leaves them on now"), "{}", server.heard);
    server.signal(Signal::TERM);
    assert_eq!(server.code(), 0);
    assert!(strips());
}

#[test]
fn what_is_no_ethernet_and_pins_that_another_has_are_refused_by_name() {
    let (pair, place, other) = (doubly_joined(), Place::new(), Place::new());
    let mut server = Server::start(&pair, Side::Right, &place.configure("right", ""), &[]);
    server.engine();
    let refused = |configuration: &Path, arguments: &[&str], expected: &str| {
        let mut server = Server::start(&pair, Side::Right, configuration, arguments);
        assert_ne!(server.code(), 0);
        assert!(server.heard.contains(expected), "{}", server.heard);
    };
    refused(&other.configure("lo", ""), &[], "interface `lo` is not Ethernet");
    let pins = place.path("run/bpf");
    let expected = format!("another dispatch server has {} already", pins.display());
    refused(&other.configure("right2", ""), &["--pin", pins.to_str().unwrap()], &expected);
    assert!(steered(&pair, "right") && !steered(&pair, "right2"));
    let open = other.path("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    refused(&other.configure("right2", ""), &["--pin", open.to_str().unwrap()], "is open to other users");
}

#[test]
fn an_answer_leaves_from_the_interface_with_the_tag_of_the_link_whatever_was_asked() {
    let (pair, place) = (veth_pair(1), Place::new());
    let configuration = place.configure("right", "");
    let text = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, text.replace("number = 366\n", "number = 366\nvlan = 100\n")).unwrap();
    let mut server = Server::start(&pair, Side::Right, &configuration, &[]);
    server.engine();
    let right = pair.on(Side::Right, || Interface::find("right").unwrap().mac().unwrap());
    let mut endpoint = pair.on(Side::Left, || Endpoint::open("left", &EndpointSettings::default()).unwrap());
    let left = endpoint.mac();
    // To all, without the tag, as from an interface that strips it; answered by the control thread
    // and by a worker.
    let asked = Envelope {
        dst_mac: Mac([0xff; 6]),
        src_mac: left,
        vlan: None,
        ethertype: DEFAULT_ETHERTYPE,
        to: "1/65535".parse().unwrap(),
        from: "366/0".parse().unwrap(),
        label: None,
    };
    let header = Header::request(Transaction(1), Epoch::default(), MeetingId::NONE);
    let questions = [Message::Heartbeat { sent_ns: 1 }, Message::Probe { sent_ns: 1, sequence: 2 }];
    let mut answers = Vec::new();
    until("both are answered", || {
        for question in &questions {
            endpoint.send(|buffer| encode_message(buffer, &asked, &header, question, &Key::Unauthenticated));
        }
        endpoint.flush().unwrap();
        let note = |bytes: &[u8], _| {
            let frame = Frame::parse(bytes, DEFAULT_ETHERTYPE).unwrap();
            if let Ok(opcode @ (Opcode::HeartbeatAck | Opcode::ProbeEcho)) = frame.opcode() {
                answers.push((opcode, frame.envelope()));
            }
        };
        endpoint.receive(Duration::from_millis(20), note).unwrap();
        [Opcode::HeartbeatAck, Opcode::ProbeEcho].iter().all(|opcode| answers.iter().any(|(other, _)| other == opcode))
    });
    for (opcode, envelope) in answers {
        let Envelope { dst_mac, src_mac, vlan, .. } = envelope;
        assert_eq!((dst_mac, src_mac, vlan), (left, right, Some(100)), "{opcode:?}");
    }
}
