//! The command line as scripts use it: results that nobody reads or no disk holds, servers that
//! hang, and the messages in these cases.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use baton::api::{Answer, Api, ApiRequest, Request, Submitter, View};
use baton::cms::{Changed, ConferenceAnswer, ConferenceRequest, Refusal, RefusalKind};
use baton::table::{Capacity, Table};
use baton::telemetry::{Collector, EngineNote, Published};
use baton::wire::MeetingId;
use tempfile::TempDir;

fn baton(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_baton"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Standard output into a pipe that nobody reads.
fn unread(arguments: &[&str]) -> Output {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    baton(arguments).stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap()
}

/// Standard output onto a full disk.
fn full(arguments: &[&str]) -> Output {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    baton(arguments).stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An API as in an engine, with a control thread that ends every meeting except 404.
struct Served {
    folder: TempDir,
    asked: Receiver<Request>,
    _api: Api,
}

fn serve() -> Served {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("api.sock")).unwrap();
    let (submitter, requests) = Submitter::new(|| {});
    let engine = EngineNote { epoch: "1.1".into(), pid: 7, part: 1 };
    let published = Arc::new(Published::new(Collector::default().totals(), engine));
    let view = View::new(Arc::new(Table::on_heap(Capacity { meetings: 4, terminals: 4 })));
    let api = Api::spawn(listener, submitter, view, published).unwrap();
    let (tell, asked) = channel();
    thread::spawn(move || {
        while let Ok(ApiRequest { request, reply, .. }) = requests.recv() {
            let answer = match &request {
                Request::Status => Ok(Answer::Status(Box::default())),
                Request::RecoveryLast => Ok(Answer::Recovery(serde_json::Value::Null)),
                Request::Orphans => Ok(Answer::Orphans(Vec::new())),
                Request::Conference(ConferenceRequest::End { meeting }) if *meeting != MeetingId(404) => {
                    let changed = Changed { meeting: *meeting, parts: Vec::new(), refused: Vec::new() };
                    Ok(Answer::Conference(ConferenceAnswer::Changed(changed)))
                }
                _ => Err(Refusal::new(RefusalKind::NotFound, "there is no such meeting", "look")),
            };
            let _ = tell.send(request);
            let _ = reply.send(answer);
        }
    });
    Served { folder, asked, _api: api }
}

impl Served {
    fn socket(&self) -> String {
        self.folder.path().join("api.sock").display().to_string()
    }
}

/// Commands that print without a server: help, an example, a verdict.
fn offline(folder: &Path) -> Vec<Vec<String>> {
    let configuration = folder.join("baton.toml");
    std::fs::write(
        &configuration,
        "[interface]\nname = \"eth0\"\n[[domain]]\nnumber = 1\ninsecure_no_authentication = true\n",
    )
    .unwrap();
    let configuration = configuration.display().to_string();
    let pcap = folder.join("all.pcap").display().to_string();
    let commands: [&[&str]; 9] = [
        &["--help"],
        &["meeting", "--help"],
        &["--version"],
        &["config", "example"],
        &["config", "check", &configuration],
        &["config", "check", "--json", &configuration],
        &["doctor", "--config", &configuration],
        &["doctor", "--json", "--config", &configuration],
        &["load", "--what", "all", "--insecure-no-authentication", "--pcap", &pcap],
    ];
    commands.map(|words| words.iter().map(|&word| word.to_owned()).collect()).to_vec()
}

/// Commands that print a server's answer.
fn online(socket: &str) -> Vec<Vec<String>> {
    let commands: [&[&str]; 10] = [
        &["status"],
        &["status", "--json"],
        &["status", "--counters"],
        &["meeting", "list"],
        &["meeting", "list", "--json"],
        &["recovery", "last"],
        &["recovery", "orphans"],
        &["metrics"],
        &["top", "--batch", "1"],
        &["meeting", "end", "7", "8"],
    ];
    commands.map(|words| words.iter().copied().chain(["--socket", socket]).map(str::to_owned).collect()).to_vec()
}

#[test]
fn results_that_nobody_reads_end_quietly_and_those_that_no_disk_takes_are_a_failure() {
    let served = serve();
    let all = [offline(served.folder.path()), online(&served.socket())].concat();
    for words in all {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let usual = baton(&words).output().unwrap();
        assert!(usual.status.code().is_some() && !usual.stdout.is_empty(), "{words:?}: {usual:?}");
        let unread = unread(&words);
        assert_eq!(unread.status.code(), usual.status.code(), "{words:?}: {unread:?}");
        assert_eq!(text(&unread.stderr), text(&usual.stderr), "{words:?} says nothing more");
        let full = full(&words);
        assert_eq!(full.status.code(), Some(1), "{words:?}: {full:?}");
        let said = text(&full.stderr);
        assert!(said.contains("standard output") && said.contains("No space left"), "{words:?}: {said}");
        assert!(!said.contains("panicked"), "{words:?}: {said}");
    }
}

#[test]
fn talk_that_nobody_hears_changes_no_exit_code() {
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    for (words, code) in [(&["meeting", "list", "--socket", "/nowhere/api.sock"][..], 1), (&["nonsense"], 2)] {
        let status = baton(words).stdout(Stdio::null()).stderr(full()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{words:?}");
    }
}

/// A command completes what it began, even if nobody reads its output.
#[test]
fn all_conferences_that_are_named_are_ended_and_each_that_cannot_be_is_told() {
    let served = serve();
    let socket = served.socket();
    let words = ["meeting", "end", "7", "404", "8", "--socket", &socket];
    let done = baton(&words).output().unwrap();
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert_eq!(text(&done.stdout), "meeting 7 has ended\nmeeting 8 has ended\n");
    let said = text(&done.stderr);
    assert!(said.contains("meeting 404: there is no such meeting") && said.lines().count() == 1, "{said}");
    let ended = || {
        let asked = served.asked.try_iter();
        let ended = asked.filter_map(|request| match request {
            Request::Conference(ConferenceRequest::End { meeting }) => Some(meeting.0),
            _ => None,
        });
        ended.collect::<Vec<_>>()
    };
    assert_eq!(ended(), [7, 404, 8]);
    assert_eq!(full(&["meeting", "end", "7", "8", "--socket", &socket]).status.code(), Some(1));
    assert_eq!(ended(), [7, 8], "the second as well, though the first could not be told");
}

/// The socket belongs to the keeper: it accepts connections while no engine answers them.
#[test]
fn a_server_that_does_not_answer_is_not_waited_for_without_end() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("api.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let socket = socket.display().to_string();
    let commands: [&[&str]; 5] =
        [&["status"], &["meeting", "list"], &["meeting", "end", "1"], &["recovery", "last"], &["metrics"]];
    for words in commands {
        let words = [words, &["--socket", &socket, "--timeout", "1"]].concat();
        let done = baton(&words).output().unwrap();
        assert_eq!(done.status.code(), Some(1), "{words:?}: {done:?}");
        let said = text(&done.stderr);
        assert!(said.contains("within 1 s") && said.contains("--timeout"), "{words:?}: {said}");
    }
}

/// Also before there is a configuration.
#[test]
fn doctor_without_a_configuration_says_so_to_nobody_and_ends_as_usual() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = baton(&["doctor", "--config", &folder.path().join("none.toml").display().to_string()]);
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_eq!(command.stderr(full).stdout(Stdio::null()).status().unwrap().code(), Some(2));
}

/// Scripts rely on the exit code: if control was not taken, that is not success, whether a server
/// runs or not.
#[test]
fn control_that_nobody_agreed_to_is_not_taken_and_is_no_success() {
    let served = serve();
    let done = baton(&["control", "take", "--socket", &served.socket()]).output().unwrap();
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert!(text(&done.stderr).contains("--yes"), "{done:?}");
    assert!(served.asked.try_iter().all(|request| request == Request::Status), "nothing is changed");
}

/// A file that may not be examined is not reported as missing, and the message does not suggest
/// moving it.
#[test]
fn control_says_what_may_not_be_opened_and_by_whom() {
    let folder = tempfile::Builder::new().prefix("baton-test-").tempdir_in("/dev/shm").unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let configuration = format!(
        "[interface]\nname = \"eth0\"\n[[domain]]\nnumber = 1\ninsecure_no_authentication = true\n[table]\npath = \"{}\"\n[database]\n\
         path = \"{}\"\n",
        path("table"),
        path("db/baton.redb")
    );
    fs::write(path("baton.toml"), configuration).unwrap();
    fs::set_permissions(path("baton.toml"), fs::Permissions::from_mode(0o644)).unwrap();
    let show = || {
        let words = ["control", "show", "--config", &path("baton.toml"), "--socket", &path("api.sock")];
        let done = baton(&words).uid(65534).gid(65534).output().unwrap();
        assert_eq!(done.status.code(), Some(1), "{done:?}");
        let said = text(&done.stderr);
        assert!(said.contains("ermission denied") && !said.contains("move it away"), "{said}");
        assert!(!said.contains("there is no database"), "{said}");
        said
    };
    fs::create_dir(path("db")).unwrap();
    fs::write(path("db/baton.redb"), "").unwrap();
    fs::set_permissions(path("db"), fs::Permissions::from_mode(0o700)).unwrap();
    assert!(show().contains("baton.redb"));
    fs::write(path("table"), "").unwrap();
    fs::set_permissions(path("table"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(show().contains("table"));
    let _listener = UnixListener::bind(path("api.sock")).unwrap();
    fs::set_permissions(path("api.sock"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(show().contains("api.sock"));
}

#[test]
fn names_are_shown_and_not_obeyed() {
    let served = serve();
    let words = ["meeting", "start", "1/1", "--name", "a\u{1b}[2J\nb", "--socket", &served.socket()];
    let done = baton(&words).output().unwrap();
    assert_eq!(done.status.code(), Some(2), "{done:?}");
    let said = text(&done.stderr);
    assert!(said.contains("control characters") && !said.contains('\u{1b}'), "{said}");
}

#[test]
fn a_file_of_conferences_may_begin_with_a_mark_of_its_bytes_order_and_mistakes_are_told_as_words() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("meetings.jsonl");
    let start = |lines: &str| {
        std::fs::write(&file, lines).unwrap();
        let file: PathBuf = file.clone();
        let standard_input = File::open(&file).unwrap();
        let words = ["meeting", "start", "--from", "-", "--socket", "/nowhere/api.sock"];
        let mut child = baton(&words).stdin(standard_input).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (child.wait().unwrap().code(), said)
    };
    let (code, said) = start("\u{feff}{\"members\":[\"1/1\"]}\n");
    assert!(code == Some(1) && said.contains("no server answers"), "it is read: {said}");
    let (code, said) = start("{\"members\":[\"1/1\"]}\nnonsense\n");
    assert!(code == Some(2) && said.contains("standard input, line 2, column 2: expected ident"), "{said}");
    assert!(!said.contains("line 1"), "{said}");
    let (code, said) = start("[7, \"Board\", 3, 4, null, [\"1/1\"]]\n");
    assert!(code == Some(2) && said.contains("an object is expected"), "{said}");
}
