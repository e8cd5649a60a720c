//! `baton sim` on a real interface: this test is the dispatch server. It connects, starts meetings,
//! acknowledges reports and echoes probes over a veth pair, and asks over the control socket what
//! the simulation has seen of it.

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use baton::sdk::{Endpoint, EndpointSettings};
use baton::wire::{
    Address, DEFAULT_ETHERTYPE, Direction, Domain, Envelope, Epoch, Frame, Header, Key, Layout, Level, Mac, MeetingId,
    Message, Opcode, ReportAck, Role, Run, Secret, Status, TerminalState, Transaction, digest_of, encode_message,
    encode_page,
};
use serde_json::Value;
use support::netns::{Side, veth_pair};

const SECRET: [u8; 32] = [42; 32];
const EPOCH: Epoch = Epoch::new(1, 9);
const DOMAINS: u64 = 4;
const MEMBERS: u16 = 250;
const PATIENCE: Duration = Duration::from_secs(20);

/// `baton sim`, killed when this goes.
struct Simulation(Child);

impl Drop for Simulation {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn baton(namespace: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, env!("CARGO_BIN_EXE_baton"), "sim"]).args(arguments);
    command
}

fn ask(control: &Path, question: &str) -> Value {
    let mut stream = UnixStream::connect(control).expect("the simulation listens");
    writeln!(stream, "{question}").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    let answer: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(answer.get("error"), None, "{question}");
    answer
}

/// Seconds of processor time that a process has used.
fn processor_seconds(id: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    // utime and stime of proc(5), in ticks of 10 ms; the fields are counted from after the name
    // here.
    let ticks: f64 = fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum();
    ticks / 100.0
}

/// A dispatch server without a table: it acknowledges what it reads, and asks what it is told to
/// ask.
struct Dispatch {
    endpoint: Endpoint,
    key: Key,
    key_autonomous: Key,
    transaction: u32,
    /// The newest acknowledged version of each terminal.
    acknowledged: BTreeMap<Address, u32>,
    /// Versions of meetings, by domain, according to the answers.
    versions: BTreeMap<(u64, MeetingId), u64>,
    acks: BTreeMap<u64, Vec<ReportAck>>,
    /// Requests that have no answer yet.
    asked: BTreeMap<u32, (u64, MeetingId, Message)>,
}

impl Dispatch {
    fn open() -> Self {
        let secret = Secret(SECRET);
        Self {
            endpoint: Endpoint::open(Side::Left.interface(), &EndpointSettings::default()).unwrap(),
            key: Key::derive(Some(&secret), Direction::Dispatch),
            key_autonomous: Key::derive(Some(&secret), Direction::Autonomous),
            transaction: 0,
            acknowledged: BTreeMap::new(),
            versions: BTreeMap::new(),
            acks: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    fn envelope(&self, to: Address) -> Envelope {
        let src_mac = self.endpoint.mac();
        // To all, because only the simulation is there.
        let dst_mac = Mac([0xff; 6]);
        let from = Address::from_number(0x1_FFFF);
        Envelope { dst_mac, src_mac, vlan: None, ethertype: DEFAULT_ETHERTYPE, to, from, label: None }
    }

    fn send(&mut self, to: Address, header: &Header, message: &Message) {
        let (envelope, key) = (self.envelope(to), self.key.clone());
        while !self.endpoint.send(|buffer| encode_message(buffer, &envelope, header, message, &key)) {
            self.endpoint.flush().unwrap();
        }
    }

    fn ask(&mut self, domain: u64, meeting: MeetingId, message: Message) {
        self.transaction += 1;
        self.asked.insert(self.transaction, (domain, meeting, message));
    }

    /// Repeats unanswered requests until all are answered.
    fn settle(&mut self) {
        let begun = Instant::now();
        while !self.asked.is_empty() {
            assert!(begun.elapsed() < PATIENCE, "no answer to {:?}", self.asked.first_key_value());
            for (transaction, (domain, meeting, message)) in self.asked.clone().into_iter().take(256) {
                let server = Domain::new(domain).unwrap().server();
                self.send(server, &Header::request(Transaction(transaction), EPOCH, meeting), &message);
            }
            self.endpoint.flush().unwrap();
            self.work(Duration::from_millis(20));
        }
    }

    /// Receives frames and answers them for this time.
    fn work(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            let mut frames: Vec<Vec<u8>> = Vec::new();
            self.endpoint.receive(Duration::from_micros(500), |bytes, _| frames.push(bytes.to_vec())).unwrap();
            for bytes in frames {
                self.take(&bytes);
            }
            self.acknowledge();
            self.endpoint.flush().unwrap();
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let frame = Frame::parse(bytes, DEFAULT_ETHERTYPE).unwrap();
        assert!(frame.authentic(&self.key_autonomous));
        let (header, from) = (frame.header(), frame.envelope().from);
        let domain = from.domain().unwrap().number();
        let mut ack = |terminal, version| {
            self.acks.entry(domain).or_default().push(ReportAck { terminal, version, status: Status::Ok });
            self.acknowledged.insert(terminal, version);
        };
        match frame.opcode().unwrap() {
            Opcode::ReportInfo => {
                let state = frame.page().unwrap().records::<TerminalState>().unwrap().flatten().next().unwrap();
                ack(state.terminal, state.version);
            }
            _ => match frame.message().unwrap() {
                Message::Report { terminal, version, .. } => ack(terminal, version),
                Message::Probe { sent_ns, sequence } => {
                    self.send(from, &header, &Message::ProbeEcho { sent_ns, sequence });
                }
                Message::MeetingAck { version, .. } | Message::MemberAck { version, .. } => {
                    self.versions.insert((domain, header.meeting), version);
                    self.asked.remove(&header.transaction.0);
                }
                Message::Heartbeat { .. } => {}
                _ => drop(self.asked.remove(&header.transaction.0)),
            },
        }
    }

    fn acknowledge(&mut self) {
        for (domain, acks) in std::mem::take(&mut self.acks) {
            for some in acks.chunks(63) {
                let envelope = self.envelope(Domain::new(domain).unwrap().server());
                let header = Header { epoch: EPOCH, ..Header::default() };
                let key = self.key.clone();
                let encode = |buffer: &mut [u8]| {
                    let some = some.iter().copied();
                    encode_page(buffer, &envelope, Opcode::ReportAckBatch, &header, (0, 1), some, &key).0
                };
                while !self.endpoint.send(encode) {
                    self.endpoint.flush().unwrap();
                }
            }
        }
    }

    fn converse(mut self, on: &AtomicBool, told: &Receiver<()>, ready: &dyn Fn()) -> Self {
        for domain in 1..=DOMAINS {
            self.ask(domain, MeetingId::NONE, Message::Connect { window: 8 });
        }
        self.settle();
        let (level, layout) = (Level::new(3).unwrap(), Layout::new(9).unwrap());
        for domain in 1..=DOMAINS {
            for meeting in 1..=u64::from(MEMBERS) / 10 {
                let chairman = Address::default();
                let start = Message::MeetingStart { level, layout, chairman, participants: 10, run: Run(7) };
                self.ask(domain, MeetingId(meeting), start);
            }
        }
        self.settle();
        for domain in 1..=DOMAINS {
            for number in 0..MEMBERS {
                let terminal = Domain::new(domain).unwrap().device(1001 + number);
                let add = Message::MemberAdd { terminal, role: Role::Participant };
                self.ask(domain, MeetingId(u64::from(number) / 10 + 1), add);
            }
        }
        self.settle();
        for domain in 1..=DOMAINS {
            for meeting in 1..=u64::from(MEMBERS) / 10 {
                self.ask(domain, MeetingId(meeting), Message::Takeover { version: 0 });
            }
        }
        self.settle();
        for domain in 1..=DOMAINS {
            let held: Vec<_> = self.versions.iter().filter(|((of, _), _)| *of == domain).collect();
            let digests = held.iter().map(|&(&(_, meeting), &version)| digest_of(meeting, version));
            let (count, digest) = (held.len() as u32, digests.fold(0, u64::wrapping_add));
            self.ask(domain, MeetingId::NONE, Message::ReplayDone { count, digest });
        }
        self.settle();
        ready();
        while on.load(Ordering::Relaxed) && told.try_recv().is_err() {
            self.work(Duration::from_millis(10));
        }
        self
    }
}

#[test]
fn autonomous_servers_on_a_veth_report_and_are_acknowledged_without_a_loss() {
    let pair = veth_pair(1);
    let folder = tempfile::tempdir().unwrap();
    let (secret, control) = (folder.path().join("secret"), folder.path().join("control"));
    std::fs::write(&secret, SECRET).unwrap();
    let arguments = [
        "--interface",
        "right",
        "--domains",
        "1-4",
        "--terminals",
        "250",
        "--secret-file",
        secret.to_str().unwrap(),
        "--control",
        control.to_str().unwrap(),
    ];
    // `ip netns exec` becomes the simulation, so that its process is this one.
    let simulation = Simulation(baton(pair.name(Side::Right), &arguments).stderr(Stdio::inherit()).spawn().unwrap());
    let begun = Instant::now();
    while UnixStream::connect(&control).is_err() {
        assert!(begun.elapsed() < PATIENCE, "the simulation listens");
        std::thread::sleep(Duration::from_millis(10));
    }
    let on = AtomicBool::new(true);
    let (stop, told) = channel();
    let (ready, is_ready) = channel();
    let pair = &pair;
    std::thread::scope(|scope| {
        let (on, told) = (&on, told);
        let dispatch = scope.spawn(move || {
            pair.enter(Side::Left).unwrap();
            Dispatch::open().converse(on, &told, &|| ready.send(()).unwrap())
        });
        let judge = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            is_ready.recv_timeout(PATIENCE).expect("all is taken over");
            judge(&control, simulation.0.id());
        }));
        on.store(false, Ordering::Relaxed);
        let _ = stop.send(());
        let dispatch = dispatch.join().unwrap();
        if let Err(failed) = judge {
            std::panic::resume_unwind(failed);
        }
        let dump = ask(&control, r#"{"ask":"dump"}"#);
        assert_eq!(dump["parts"].as_array().unwrap().len(), dispatch.versions.len());
        for part in dump["parts"].as_array().unwrap() {
            let key = (part["domain"].as_u64().unwrap(), MeetingId(part["meeting"].as_u64().unwrap()));
            assert_eq!(part["version"].as_u64(), dispatch.versions.get(&key).copied());
            assert_eq!((part["state"].as_str(), part["participants"].as_u64()), (Some("in meeting"), Some(10)));
        }
        for terminal in dump["terminals"].as_array().unwrap() {
            let address: Address = terminal["terminal"].as_str().unwrap().parse().unwrap();
            assert_eq!(terminal["acknowledged"].as_u64(), dispatch.acknowledged.get(&address).map(|&v| u64::from(v)));
            assert_eq!(terminal["version"], terminal["acknowledged"]);
        }
    });
    ask(&control, r#"{"ask":"stop"}"#);
    let mut simulation = simulation;
    assert!(simulation.0.wait().unwrap().success());
    assert!(!control.exists(), "the socket goes with its process");
}

fn judge(control: &Path, simulation: u32) {
    ask(control, r#"{"ask":"quiesce","wait_ms":10000}"#);
    ask(control, r#"{"ask":"reset_counters"}"#);
    ask(control, r#"{"ask":"rate","reports":20000,"probes":2000}"#);
    let (begun, used) = (Instant::now(), processor_seconds(simulation));
    std::thread::sleep(Duration::from_secs(2));
    let share = (processor_seconds(simulation) - used) / begun.elapsed().as_secs_f64();
    let quiet = ask(control, r#"{"ask":"quiesce","wait_ms":10000}"#);
    assert_eq!(quiet["quiet"], true);
    // Probes are not repeated, so the server does not wait for them.
    std::thread::sleep(Duration::from_millis(100));
    let status = ask(control, r#"{"ask":"status"}"#);
    println!("processor: {:.0} %", share * 100.0);
    for name in ["counters", "report_round_trip", "probe_round_trip", "recoveries"] {
        println!("{name}: {}", status[name]);
    }
    let counters = &status["counters"];
    assert!(counters["reports_sent"].as_u64().unwrap() > 1000);
    assert_eq!(counters["reports_sent"], counters["reports_acknowledged"]);
    assert_eq!((status["probes_unanswered"].as_u64(), status["reports_outstanding"].as_u64()), (Some(0), Some(0)));
    assert_eq!((status["meetings"].as_u64(), status["members"].as_u64()), (Some(100), Some(1000)));
    for name in ["frames_malformed", "frames_unauthentic", "requests_stale", "acks_strange", "reports_refused"] {
        assert_eq!(counters[name], 0, "{name}");
    }
    let recovery = &status["recoveries"][0];
    assert_eq!((recovery["epoch"].as_u64(), recovery["domains"].as_u64()), (Some(EPOCH.0), Some(DOMAINS)));
    let time = |name: &str| recovery[name].as_u64().unwrap();
    assert!(time("first_frame_ns") < time("takeover_first_ns"));
    assert!(
        time("takeover_first_ns") < time("replay_done_ns")
            && time("replay_done_ns") < status["now_ns"].as_u64().unwrap()
    );
}

#[test]
fn bad_input_is_said_in_a_sentence() {
    let pair = veth_pair(1);
    let said = |arguments: &[&str]| {
        let done = baton(pair.name(Side::Right), arguments).output().unwrap();
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let (code, text) = said(&["--interface", "nowhere", "--insecure-no-authentication"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("nowhere"), "{text}");
    let (code, text) = said(&["--interface", "right"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("--secret-file") && text.contains("--insecure-no-authentication"), "{text}");
    let (code, text) = said(&["--interface", "right", "--secret-file", "/nonexistent/{domain}"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("/nonexistent/1"), "{text}");
    let (code, text) = said(&["--interface", "right", "--insecure-no-authentication", "--terminals", "65000"]);
    assert_eq!(code, Some(2), "{text}");
}
