//! The API over a real socket, with real clients; what answers it is a control thread of the test.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use super::{DomainStatus, GivenControl, MeetingView, Orphan};
use crate::cms::{Changed, Started};
use crate::database::{Change, Database, KeyParameters};
use crate::handover::Upgrading;
use crate::limits::BODY_BYTES_MAX;
use crate::table::{Capacity, OwnerId, Part, Table, TableDump, Terminal};
use crate::telemetry::{Collector, EngineNote};
use crate::wire::{Address, Domain, Flags, Info, Layout, Level, MeetingId, MeetingState, Role, Run};

const ONE: MeetingId = MeetingId(1);

fn terminal(device: u16) -> Address {
    Domain::new(366).unwrap().device(device)
}

fn published() -> Arc<Published> {
    let engine = EngineNote { epoch: "1.1".into(), pid: 7, part: 1 };
    Arc::new(Published::new(Collector::default().totals(), engine))
}

struct Served {
    api: Option<Api>,
    control: Option<JoinHandle<()>>,
    requests: mpsc::Receiver<Request>,
    view: View,
    folder: TempDir,
}

/// Serves, with a control thread that answers each request as `answer` says.
fn serve(answer: impl FnMut(&Request) -> Reply + Send + 'static) -> Served {
    serve_with(Grant::default(), answer)
}

fn serve_with(grant: Grant, mut answer: impl FnMut(&Request) -> Reply + Send + 'static) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("api.sock")).unwrap();
    let table = Arc::new(Table::on_heap(Capacity { meetings: 64, terminals: 64 }));
    let mut writer = table.writer(OwnerId::CONTROL);
    let part = Part {
        meeting: ONE,
        domain: Domain::new(366).unwrap(),
        version: 5,
        epoch: Epoch::new(1, 1),
        state: MeetingState::InMeeting,
        level: Level::HIGHEST,
        layout: Layout::new(4).unwrap(),
        participants: 0,
        chairman: terminal(1001),
        in_doubt: false,
        is_unlisted: false,
        run: Run(7),
    };
    writer.insert_part(&part).unwrap();
    for (device, role) in [(1002, Role::Participant), (1001, Role::Chairman)] {
        let info = Info::new(&[0xAB, 0x01, 0, 0, 0, 0]);
        writer.join(ONE, part.domain, &Terminal { info, ..Terminal::new(terminal(device), ONE, role) }).unwrap();
    }
    let view = View::new(table);
    let (submitter, requests) = Submitter::new(|| {});
    let (seen, requests_seen) = mpsc::channel();
    let control = std::thread::spawn(move || {
        while let Ok(ApiRequest { request, reply, .. }) = requests.recv() {
            let _ = reply.send(answer(&request));
            let _ = seen.send(request);
        }
    });
    let api = Api::granting(grant, listener, submitter, view.clone(), published()).unwrap();
    Served { api: Some(api), control: Some(control), requests: requests_seen, view, folder }
}

impl Served {
    fn socket(&self) -> PathBuf {
        self.folder.path().join("api.sock")
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        ask(&self.socket(), method, path, body)
    }

    fn asked(&self) -> Request {
        self.requests.recv().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.api.take());
        self.control.take().unwrap().join().unwrap();
    }
}

fn ask(socket: &Path, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(socket).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: baton\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}")))
}

fn changed() -> Reply {
    Ok(Answer::Conference(ConferenceAnswer::Changed(Changed { meeting: ONE, parts: Vec::new(), refused: Vec::new() })))
}

#[test]
fn each_path_asks_for_what_it_says() {
    let served = serve(|request| match request {
        Request::Conference(ConferenceRequest::Start(_)) => {
            Ok(Answer::Conference(ConferenceAnswer::Started(Started {
                meeting: ONE,
                parts: Vec::new(),
                members: 2,
                refused: Vec::new(),
            })))
        }
        Request::Conference(_) => changed(),
        Request::Status => Ok(Answer::Status(Box::default())),
        Request::RecoveryLast => Ok(Answer::Recovery(Value::Null)),
        Request::Orphans | Request::Orphan { .. } => Ok(Answer::Orphans(Vec::new())),
        Request::TakeControl => Ok(Answer::Control(GivenControl { epoch: crate::wire::Epoch::new(2, 1) })),
        Request::Upgrade(form) => {
            Ok(Answer::Upgrading(Upgrading { successor: 7, version: "1.2.3".into(), within: form.within }))
        }
    });
    let body = r#"{"meeting":7,"name":"Board","layout":9,"chairman":"366/1001","members":["366/1001",{"terminal":"366/1002","role":"speaker one"}]}"#;
    let (status, answer) = served.ask("POST", "/meetings", body);
    assert_eq!((status, &answer), (201, &json!({"meeting": 1, "parts": [], "members": 2})));
    let Request::Conference(ConferenceRequest::Start(start)) = served.asked() else { panic!("a start") };
    assert_eq!((start.meeting, start.name.as_str(), start.level.number()), (Some(MeetingId(7)), "Board", 3));
    assert_eq!((start.layout.windows(), start.members[1].role), (9, Role::SpeakerOne));
    assert!(start.created_ms > 1_700_000_000_000);

    let cases: [(&str, &str, &str, ConferenceRequest); 6] = [
        ("DELETE", "/meetings/1", "", ConferenceRequest::End { meeting: ONE }),
        ("PUT", "/meetings/1/layout", r#"{"layout":16}"#, {
            ConferenceRequest::SetLayout { meeting: ONE, layout: Layout::new(16).unwrap() }
        }),
        ("DELETE", "/meetings/1/members/366/1002", "", {
            ConferenceRequest::Remove { meeting: ONE, terminal: terminal(1002) }
        }),
        ("PUT", "/meetings/1/members/366/1002/role", r#"{"role":"chairman"}"#, {
            ConferenceRequest::SetRole { meeting: ONE, terminal: terminal(1002), role: Role::Chairman }
        }),
        ("PUT", "/meetings/1/members/366/1002/flags", r#"{"set":["muted"],"clear":["hand raised"]}"#, {
            let (mask, value) = (Flags(0b11), Flags::MUTED);
            ConferenceRequest::SetFlags { meeting: ONE, terminal: terminal(1002), mask, value }
        }),
        ("PUT", "/meetings/1/members/366/1002/flags?deadline_ms=100", r#"{"mask":1,"value":0}"#, {
            let (mask, value) = (Flags::MUTED, Flags(0));
            ConferenceRequest::SetFlags { meeting: ONE, terminal: terminal(1002), mask, value }
        }),
    ];
    for (method, path, body, expected) in cases {
        let (status, answer) = served.ask(method, path, body);
        assert_eq!((status, answer), (200, json!({"meeting": 1, "parts": []})), "{method} {path}");
        assert_eq!(served.asked(), Request::Conference(expected));
    }
    let (status, answer) = served.ask("GET", "/status", "");
    assert_eq!(status, 200);
    let epoch_text = answer["epoch_text"].clone();
    let shown: Status = serde_json::from_value(answer).unwrap();
    assert_eq!(shown, Status::default());
    assert_eq!(Value::from(shown.epoch.to_string()), epoch_text, "as people write it");
    assert_eq!(served.ask("GET", "/recovery/last", ""), (200, Value::Null));
    assert_eq!(served.ask("GET", "/orphans", ""), (200, json!([])));
    let asked = [(); 3].map(|()| served.asked());
    assert_eq!(asked, [Request::Status, Request::RecoveryLast, Request::Orphans]);
    for (word, become_of) in [("adopt", OrphanFate::Adopted), ("end", OrphanFate::Ended)] {
        assert_eq!(served.ask("POST", &format!("/orphans/9/{word}"), ""), (200, json!([])));
        assert_eq!(served.asked(), Request::Orphan { meeting: MeetingId(9), become_of });
    }
}

#[test]
fn listings_are_read_from_the_table_and_names_from_the_database() {
    let served = serve(|_| changed());
    let (_, before) = served.ask("GET", "/meetings", "");
    assert_eq!((&before[0]["name"], &before[0]["participants"]), (&json!(""), &json!(2)), "{before}");
    let database = Database::open(&served.folder.path().join("baton.redb")).unwrap();
    let parameters = KeyParameters {
        meeting: ONE,
        name: "Board".into(),
        level: Level::HIGHEST,
        layout: Layout::new(4).unwrap(),
        chairman: terminal(1001),
        created_ms: 77,
        parts: Vec::new(),
        members: Vec::new(),
        run: Run(7),
    };
    database.commit(&[Change::Create(parameters)], Epoch::new(1, 1)).unwrap();
    served.view.set_database(database);
    let (status, shown) = served.ask("GET", "/meetings/1", "");
    assert_eq!(status, 200, "{shown}");
    let shown: MeetingView = serde_json::from_value(shown).unwrap();
    assert_eq!((shown.meeting.name.as_str(), shown.meeting.created_ms, shown.members.len()), ("Board", 77, 2));
    assert_eq!((shown.meeting.chairman, shown.members[0].role), (Some(terminal(1001)), Role::Chairman));
    let (_, dump) = served.ask("GET", "/table", "");
    // Another epoch controls, under which it is not taken over yet.
    let epoch = Epoch::new(1, 1);
    assert_eq!((&dump["epoch"], &dump["epoch_text"]), (&json!(Epoch::NONE), &json!(Epoch::NONE.to_string())));
    assert_eq!(
        dump["parts"],
        json!([{
            "meeting": 1, "domain": 366, "version": 5, "epoch": epoch, "epoch_text": epoch.to_string(),
            "state": "recovering", "level": 1, "layout": 4, "chairman": "366/1001", "participants": 2,
        }])
    );
    assert_eq!(
        dump["terminals"][0],
        json!({
            "terminal": "366/1001", "meeting": 1, "version": 0, "business": "invited", "decode": "stopped",
            "role": "chairman", "flags": 0, "channel": 0, "stream": "sub", "window": 255, "info": "ab01",
        })
    );
    assert_eq!(dump.as_object().unwrap().len(), 4, "{dump}");
    assert_eq!(shown.meeting.state, MeetingState::Recovering);
    let read: TableDump = serde_json::from_value(dump.clone()).unwrap();
    assert_eq!((read.parts.len(), read.terminals.len()), (1, 2));
    assert_eq!(json!(read), dump, "what is read is what was told");
    assert!(served.requests.try_recv().is_err(), "the control thread was not asked");
}

#[test]
fn what_cannot_be_is_told_with_a_reason_and_a_way_out() {
    let refusal = || Refusal::new(RefusalKind::Unreachable, "domain 3 does not answer", "see the link");
    let served = serve(move |_| Err(refusal()));
    let cases = [
        ("GET", "/meetings/2", "", 404, "no meeting 2"),
        ("GET", "/meetings/x", "", 400, "`x` is not a meeting's id"),
        ("GET", "/nothing", "", 404, "nothing under this path"),
        ("PATCH", "/status", "", 405, "no such method"),
        ("POST", "/meetings", "{", 400, "line 1"),
        ("POST", "/meetings", r#"{"members":[],"nonsense":1}"#, 400, "unknown field `nonsense`"),
        ("POST", "/meetings", r#"{"members":[],"layout":14}"#, 400, "14 windows is not a layout"),
        ("POST", "/meetings/1/members", r#"{"members":["366"]}"#, 400, "`366` is not an address"),
        ("POST", "/meetings/1/members", r#"{"members":[{"terminal":"1/1","rank":1}]}"#, 400, "unknown field `rank`"),
        ("POST", "/meetings/1/members", r#"{"members":[7]}"#, 400, "expected a member"),
        ("PUT", "/meetings/1/layout", r#"{"layout":"four"}"#, 400, "the body"),
        ("PUT", "/meetings/1/members/366/0/role", r#"{"role":"chairman"}"#, 400, "366/0 is not a terminal"),
        ("PUT", "/meetings/1/members/366/1/role", r#"{"role":"king"}"#, 400, "king"),
        ("PUT", "/meetings/1/members/366/1/flags", r#"{"set":["mute"]}"#, 400, "`mute` is no flag"),
        ("PUT", "/meetings/1/members/366/1/flags", r#"{}"#, 400, "no flag"),
        ("DELETE", "/meetings/1", "", 504, "domain 3 does not answer"),
    ];
    for (method, path, body, status, what) in cases {
        let (found, answer) = served.ask(method, path, body);
        let told: Refusal = serde_json::from_value(answer).unwrap();
        assert_eq!(found, status, "{method} {path}: {told}");
        assert!(told.what.contains(what) && !told.remedy.is_empty(), "{method} {path}: {told:?}");
    }
}

#[test]
fn a_client_is_told_when_the_engine_stops_with_its_request() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("api.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let table = Arc::new(Table::on_heap(Capacity { meetings: 4, terminals: 4 }));
    let (submitter, requests) = Submitter::new(|| {});
    let api = Api::spawn(listener.try_clone().unwrap(), submitter, View::new(table), published()).unwrap();
    let client = std::thread::spawn({
        let socket = socket.clone();
        move || ask(&socket, "GET", "/status", "")
    });
    drop(requests.recv().unwrap());
    let (status, answer) = client.join().unwrap();
    assert_eq!((status, &answer["error"]), (503, &json!("busy")), "{answer}");
    drop(api);
    // The socket outlives the engine: a client that connects in between is answered by the next.
    let client = std::thread::spawn(move || ask(&socket, "GET", "/orphans", ""));
    let table = Arc::new(Table::on_heap(Capacity { meetings: 4, terminals: 4 }));
    let (submitter, requests) = Submitter::new(|| {});
    let api = Api::spawn(listener, submitter, View::new(table), published()).unwrap();
    requests.recv().unwrap().reply.send(Ok(Answer::Orphans(Vec::new()))).unwrap();
    assert_eq!(client.join().unwrap(), (200, json!([])));
    drop(api);
}

#[test]
fn many_clients_are_served_at_once() {
    let served = serve(|_| changed());
    let socket = served.socket();
    let clients: Vec<_> = (0..4 * u64::try_from(CONNECTIONS).unwrap())
        .map(|_| {
            let socket = socket.clone();
            std::thread::spawn(move || ask(&socket, "DELETE", "/meetings/1", "").0)
        })
        .collect();
    assert!(clients.into_iter().all(|client| client.join().unwrap() == 200));
}

const CONNECTIONS: usize = 64;

#[test]
fn an_upgrade_is_asked_for_with_a_time_and_nothing_else() {
    let served = serve(|request| match request {
        Request::Upgrade(form) => {
            Ok(Answer::Upgrading(Upgrading { successor: 7, version: "1.2.3".into(), within: form.within }))
        }
        _ => changed(),
    });
    for (body, within) in [("", 30), ("{}", 30), (r#"{"within":5}"#, 5)] {
        let (status, answer) = served.ask("POST", "/upgrade", body);
        assert_eq!((status, answer), (200, json!({"successor": 7, "version": "1.2.3", "within": within})));
        assert_eq!(served.asked(), Request::Upgrade(UpgradeForm { within }));
    }
    for body in [r#"{"within":0}"#, r#"{"path":"/tmp/mine"}"#, "5 seconds"] {
        assert_eq!(served.ask("POST", "/upgrade", body).0, 400, "{body}");
    }
}

/// Every error is answered as JSON with its reason and a remedy.
#[test]
fn refusals_of_the_transport_are_told_like_all_others() {
    let served = serve(|_| changed());
    let large = " ".repeat(BODY_BYTES_MAX + 1);
    let cases = [
        ("DELETE", "/meetings/1?deadline_ms=abc", "", 400, "the query"),
        ("DELETE", "/meetings/1?deadline=5", "", 400, "unknown field `deadline`"),
        ("GET", "/meetings/%ff", "", 400, "the path /meetings/%ff"),
        ("PUT", "/meetings/1/members/%ff/1/role", r#"{"role":"chairman"}"#, 400, "the path"),
        ("POST", "/meetings", &large, 413, "more than 1048576 bytes"),
        ("OPTIONS", "/meetings", "", 405, "no such method"),
        ("GET", "/", "", 404, "nothing under this path"),
        ("POST", "/meetings", r#"[7,"Board",3,4,null,["366/1001"]]"#, 400, "an object is expected"),
        ("PUT", "/meetings/1/layout", "[9]", 400, "an object is expected"),
        ("POST", "/upgrade", "[5]", 400, "an object is expected"),
        ("POST", "/meetings", r#"{"name":"a\u001b[2J","members":["366/1001"]}"#, 400, "control characters"),
        ("POST", "/meetings", r#"{"name":"a\u202eb","members":["366/1001"]}"#, 400, "control characters"),
        ("PUT", "/meetings/1/members/366/1/flags", r#"{"mask":192}"#, 400, "0b11000000"),
        ("PUT", "/meetings/1/members/366/1/flags", r#"{"mask":1,"value":64}"#, 400, "0b01000000"),
    ];
    for (method, path, body, status, what) in cases {
        let (found, answer) = served.ask(method, path, body);
        let told: Refusal = serde_json::from_value(answer).unwrap();
        assert_eq!(found, status, "{method} {path}: {told}");
        assert!(told.what.contains(what) && !told.remedy.is_empty(), "{method} {path}: {told:?}");
    }
    assert!(served.requests.try_recv().is_err(), "the control thread was not asked");
}

/// Every flag has a bit of the mask of all.
#[test]
fn all_flags_are_those_that_have_a_name() {
    assert_eq!(Flags::NAMES.iter().fold(0, |all, (flag, _)| all | flag.0), Flags::ALL.0);
}

/// A request, or as much of one, and no more.
fn half(socket: &Path, text: &str) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // It may have made room already.
    let _ = stream.write_all(text.as_bytes());
    if text.starts_with("GET") && text.ends_with("\r\n\r\n") {
        let mut answer = [0; 4096];
        let length = stream.read(&mut answer).unwrap();
        assert!(answer[..length].ends_with(b"[]"), "an answer in one piece");
    }
    stream
}

const HALVES: [&str; 5] = [
    "",
    "GET /sta",
    "GET /status HTTP/1.1\r\nHost: ba",
    "POST /meetings HTTP/1.1\r\nHost: baton\r\nContent-Length: 40\r\n\r\n{\"members\"",
    // An answer comes, and then nothing more is asked.
    "GET /orphans HTTP/1.1\r\nHost: baton\r\n\r\n",
];

#[test]
fn connections_without_a_request_make_room_for_one_that_has_one() {
    let hour = Duration::from_secs(3600);
    let served = serve_with(Grant { connections: 8, idle: hour, body: hour }, |_| Ok(Answer::Orphans(Vec::new())));
    let socket = served.socket();
    for text in HALVES {
        let held: Vec<_> = (0..16).map(|_| half(&socket, text)).collect();
        // It is answered though all places were taken.
        half(&socket, "GET /orphans HTTP/1.1\r\nHost: baton\r\nConnection: close\r\n\r\n");
        drop(held);
    }
}

#[test]
fn connections_that_ask_nothing_are_closed_after_a_while() {
    let while_ = Duration::from_millis(50);
    let grant = Grant { connections: 64, idle: while_, body: while_ };
    let served = serve_with(grant, |_| Ok(Answer::Orphans(Vec::new())));
    for text in HALVES {
        let mut stream = half(&served.socket(), text);
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            // What was said of a request is thrown away with it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            ended => assert!(ended.is_ok(), "an end in time: {ended:?}"),
        }
        let answer = String::from_utf8(answer).unwrap();
        let is_refused = answer.starts_with("HTTP/1.1 408") && answer.contains("\"do\":");
        assert_eq!(is_refused, text.starts_with("POST"), "{text:?}: {answer}");
    }
}

/// What takes long is not what asks nothing.
#[test]
fn a_request_that_is_worked_on_keeps_its_connection() {
    let (begin, begun) = mpsc::channel();
    let (release, held) = mpsc::channel::<()>();
    let hour = Duration::from_secs(3600);
    let served = serve_with(Grant { connections: 2, idle: hour, body: hour }, move |_| {
        begin.send(()).unwrap();
        // Let go by an answer that is awaited, or by the end of a test that failed.
        let _ = held.recv();
        Ok(Answer::Orphans(Vec::new()))
    });
    let release = release;
    let socket = served.socket();
    let slow = std::thread::spawn(move || ask(&socket, "DELETE", "/meetings/1", ""));
    begun.recv().unwrap();
    // Others come, and have to make room for each other.
    let mut others: Vec<_> = (0..8).map(|_| half(&served.socket(), "GET /sta")).collect();
    for other in &mut others[..7] {
        let ended = other.read(&mut [0]);
        assert!(matches!(&ended, Ok(0)) || ended.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset));
    }
    release.send(()).unwrap();
    assert_eq!(slow.join().unwrap().0, 200);
}

#[test]
fn an_epoch_is_told_as_a_number_and_as_people_write_it() {
    let epoch = Epoch::new(2, 7000).with_nonce(0xbeef);
    let orphan = Orphan {
        meeting: ONE,
        domain: Domain::new(366).unwrap(),
        state: MeetingState::InMeeting,
        level: Level::HIGHEST,
        participants: 3,
        controller: epoch,
    };
    let served = serve(move |request| match request {
        Request::Orphans => Ok(Answer::Orphans(vec![orphan])),
        _ => Ok(Answer::Recovery(json!({ "epoch": epoch, "path": "cache" }))),
    });
    let (_, orphans) = served.ask("GET", "/orphans", "");
    assert_eq!((&orphans[0]["controller"], &orphans[0]["controller_text"]), (&json!(epoch), &json!(epoch.to_string())));
    let (_, recovery) = served.ask("GET", "/recovery/last", "");
    assert_eq!((&recovery["epoch"], &recovery["epoch_text"]), (&json!(epoch), &json!(epoch.to_string())));
}

#[test]
fn one_domain_that_is_silent_takes_control_of_no_other() {
    let domain = |in_control: bool, up: bool| -> DomainStatus {
        serde_json::from_value(json!({
            "domain": 1, "up": up, "in_control": in_control, "recovery": "reconciled", "parts": 0, "taken_over": 0,
            "missing": 0, "orphans": 0,
        }))
        .unwrap()
    };
    let [well, silent] = [domain(true, true), domain(false, false)];
    assert_eq!(well.recovery_now(), "reconciled");
    assert_eq!(silent.recovery_now(), "unreachable", "what was agreed is not what is");
    let fenced = DomainStatus { fenced_by: Some(crate::wire::Epoch::new(1, 8)), ..silent.clone() };
    assert_eq!(fenced.recovery_now(), "not in control: 1.8.0000", "and under which epoch somebody else is");
    let cases: [(&[&DomainStatus], ControlState, &str); 3] = [
        (&[&well, &well], ControlState::InControl, "in control"),
        (&[&well, &silent], ControlState::Partly, "partly in control (1 of 2 domains)"),
        (&[&silent, &silent], ControlState::Recovering, "recovering"),
    ];
    for (domains, state, words) in cases {
        let domains: Vec<_> = domains.iter().copied().cloned().collect();
        assert_eq!(ControlState::of(&domains), state);
        let status = Status { state, domains, ..Status::default() };
        assert_eq!(status.state_in_words(), words);
        let text = metrics::expose(Dialect::Prometheus, &status, &Census::default(), &Value::Null, &published().totals);
        let whole = u8::from(state == ControlState::InControl);
        assert!(text.contains(&format!("\nbaton_in_control {whole}\n")), "{text}");
    }
    let status = Status { domains: vec![domain(true, true)], ..Status::default() };
    let text = metrics::expose(Dialect::Prometheus, &status, &Census::default(), &Value::Null, &published().totals);
    assert!(text.contains("\nbaton_domain_in_control{domain=\"1\"} 1\n"), "{text}");
}
