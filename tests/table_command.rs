//! `baton table`, the real command on real files: unused, and beside a living process that writes
//! as fast as it can.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use baton::sys::mapping::{SharedWord, boot_id};
use baton::table::file::snapshot::{self, Snapshot};
use baton::table::{Capacity, OwnerId, Part, Table, Terminal};
use baton::wire::{
    Business, Decode, Domain, Epoch, Flags, Info, Layout, Level, MeetingId, MeetingState, Role, Run, StreamKind,
};
use serde_json::Value;

const CHILD: &str = "BATON_TABLE_COMMAND_CHILD";
const CAPACITY: Capacity = Capacity { meetings: 256, terminals: 2048 };

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::Builder::new().prefix("baton-table-command-").tempdir_in("/dev/shm").unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn domain(number: u64) -> Domain {
    Domain::new(number).unwrap()
}

fn part(meeting: u64, number: u64) -> Part {
    Part {
        meeting: MeetingId(meeting),
        domain: domain(number),
        version: meeting,
        epoch: Epoch::new(3, 7),
        state: if meeting.is_multiple_of(2) { MeetingState::InMeeting } else { MeetingState::Starting },
        level: Level::new(1 + (meeting % 5) as u8).unwrap(),
        layout: Layout::new(4).unwrap(),
        participants: 0,
        chairman: domain(number).device(meeting as u16 * 8),
        in_doubt: false,
        is_unlisted: false,
        run: Run(7),
    }
}

/// Meetings 1 to `meetings`, each with four members in domain 1 and four in domain 2, two of them
/// with long information.
fn furnished(path: &Path, capacity: Capacity, meetings: u64) -> Arc<Table> {
    let table = Arc::new(Table::create_at(path, capacity, boot_id().unwrap()).unwrap());
    table.set_reservation(Epoch::new(3, 7), 100);
    let mut control = table.writer(OwnerId::CONTROL);
    for meeting in 1..=meetings {
        for number in 1..=2 {
            control.insert_part(&part(meeting, number)).unwrap();
            for device in 0..4 {
                let address = domain(number).device(meeting as u16 * 8 + device);
                let mut terminal = Terminal::new(address, MeetingId(meeting), Role::ALL[usize::from(device)]);
                terminal.info = Info::new(&[device as u8 + 1; 64][..if device == 3 { 40 } else { 5 }]);
                control.join(MeetingId(meeting), domain(number), &terminal).unwrap();
            }
        }
    }
    drop(control);
    table
}

fn baton(arguments: &[&str], table: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_baton"));
    command.arg("table").args(arguments).arg("--table").arg(table);
    command.output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {} {}", out(output), err(output)))
}

/// Runs the command with `--json`, expects this exit code, and returns what it printed.
#[track_caller]
fn told(code: i32, arguments: &[&str], table: &Path) -> Value {
    let output = baton(&[arguments, &["--json"]].concat(), table);
    assert_eq!(output.status.code(), Some(code), "{} {}", out(&output), err(&output));
    json(&output)
}

/// Runs the command, expects a refusal, and returns the reason.
#[track_caller]
fn refused(code: i32, arguments: &[&str], table: &Path) -> String {
    let output = baton(arguments, table);
    assert_eq!(output.status.code(), Some(code), "{} {}", out(&output), err(&output));
    assert_eq!(out(&output), "", "a refusal is talk");
    err(&output)
}

/// A process that has the table locked and writes to it: this test's own program, as
/// [`living_child`].
struct Living(Child, #[expect(dead_code, reason = "closed, it would end the writer")] BufReader<ChildStdout>);

impl Living {
    fn start(table: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "living_child", "--nocapture"])
            .env(CHILD, table)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Kept open: the child's harness prints more in the end.
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let at_work = said.by_ref().lines().map_while(Result::ok).any(|line| line.contains("at work"));
        assert!(at_work, "the writer came to work");
        Self(child, said)
    }

    /// Ends it in order, and checks that nothing disturbed it.
    fn stop(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success(), "the writer was disturbed");
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test: what [`Living`] starts. Two threads write until standard input ends, and panic if
/// anything is not as they left it.
#[test]
fn living_child() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let table = Arc::new(Table::open_at(Path::new(&path)).unwrap());
    assert!(table.mapping().try_lock().unwrap());
    let stop = std::sync::atomic::AtomicBool::new(false);
    let going = || !stop.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut control = table.writer(OwnerId::CONTROL);
            while going() {
                for meeting in 201..=220 {
                    control.insert_part(&part(meeting, 9)).unwrap();
                    for device in 0..4 {
                        let address = domain(9).device(meeting as u16 * 8 + device);
                        let terminal = Terminal::new(address, MeetingId(meeting), Role::Participant);
                        control.join(MeetingId(meeting), domain(9), &terminal).unwrap();
                    }
                }
                (201..=220)
                    .for_each(|meeting| assert_eq!(control.remove_part(MeetingId(meeting), domain(9)), Ok(true)));
            }
        });
        scope.spawn(|| {
            let mut worker = table.writer(OwnerId::worker(0));
            let mut version = 0;
            while going() {
                version += 1;
                let (address, info) = (domain(1).device(8 + version as u16 % 4), [9; 64]);
                let info = &info[..if version % 8 < 4 { 50 } else { 4 }];
                let (business, decode) = (Business::InMeeting, Decode::Decoding);
                let (role, stream) = (Role::Participant, StreamKind::Main);
                worker.report(address, MeetingId(1), version, business, decode, role, Flags::ONLINE, 1, stream, info);
            }
        });
        println!("at work");
        std::io::stdout().flush().unwrap();
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(table.verify(), Vec::<String>::new());
    assert_eq!(table.count_parts(), 40);
}

#[test]
fn a_table_at_rest_says_what_it_is_and_holds() {
    let folder = Folder::new();
    let path = folder.file("table");
    drop(furnished(&path, CAPACITY, 20));
    let before = fs::read(&path).unwrap();
    let all = told(0, &["inspect"], &path);
    let head = &all["table"];
    assert_eq!(head["capacity"], serde_json::json!({ "meetings": 256, "terminals": 2048 }));
    assert_eq!((&head["live"], &head["holder"], &head["this_boot"]), (&false.into(), &Value::Null, &true.into()));
    assert_eq!((&head["epoch_text"], &head["generation_end"]), (&"3.7.0000".into(), &100.into()));
    assert_eq!(head["bytes"], before.len());
    assert_eq!((&all["parts"], &all["terminals"], &all["unreadable"]), (&40.into(), &160.into(), &0.into()));
    assert_eq!(all["extents"], serde_json::json!({ "used": 40, "room": 409 }));
    assert_eq!(all["states"], serde_json::json!({ "in meeting": 20, "starting": 20 }));
    assert_eq!(all["levels"], serde_json::json!({ "1": 8, "2": 8, "3": 8, "4": 8, "5": 8 }));
    assert_eq!(all["domains"][1], serde_json::json!({ "domain": 2, "parts": 20, "members": 80 }));
    let one = told(0, &["inspect", "--domain", "2"], &path);
    assert_eq!((&one["parts"], &one["terminals"]), (&20.into(), &80.into()));
    let meeting = told(0, &["inspect", "--meeting", "7"], &path);
    assert_eq!(meeting["parts"].as_array().unwrap().len(), 2);
    let meeting = told(0, &["inspect", "--meeting", "7", "--domain", "1"], &path);
    let members = meeting["parts"][0]["members"].as_array().unwrap();
    assert!(members.iter().any(|member| member["terminal"] == "1/59" && member["info"] == "04".repeat(40)));
    assert!(refused(1, &["inspect", "--meeting", "77"], &path).contains("does not hold meeting 77"));
    let people = out(&baton(&["inspect"], &path));
    for said in ["nobody has it: at rest", "unreadable records: 0", "in meeting", "DOMAIN  PARTS  MEMBERS"] {
        assert!(people.contains(said), "{said}: {people}");
    }
    let verified = told(0, &["verify"], &path);
    assert_eq!((&verified["flaws"], &verified["live"]), (&serde_json::json!([]), &false.into()));
    assert_eq!(fs::read(&path).unwrap(), before, "nothing was written");
}

#[test]
fn what_was_typed_wrong_is_told_apart() {
    let folder = Folder::new();
    let path = folder.file("table");
    assert!(refused(1, &["inspect"], &path).contains("No such file"));
    refused(2, &["inspect", "--meeting", "0"], &path);
    refused(2, &["inspect", "--domain", "0"], &path);
    refused(2, &["inspect", "--snapshot", "x"], &path);
    refused(2, &["resize", "--terminals", "many"], &path);
    let output = Command::new(env!("CARGO_BIN_EXE_baton"))
        .args(["table", "verify", "--config"])
        .arg(folder.file("none.toml"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", err(&output));
}

#[test]
fn a_living_writer_is_seen_and_not_disturbed() {
    let folder = Folder::new();
    let path = folder.file("table");
    drop(furnished(&path, CAPACITY, 20));
    let living = Living::start(&path);
    let pid = living.0.id();
    for _ in 0..10 {
        let seen = told(0, &["inspect"], &path);
        assert_eq!((&seen["table"]["live"], &seen["table"]["holder"]), (&true.into(), &pid.into()));
        let verified = told(0, &["verify"], &path);
        assert_eq!((&verified["live"], &verified["flaws"]), (&true.into(), &serde_json::json!([])), "{verified}");
    }
    assert_eq!(told(0, &["inspect", "--meeting", "20"], &path)["parts"].as_array().unwrap().len(), 2);
    let taken = folder.file("taken");
    let written = told(0, &["snapshot", taken.to_str().unwrap()], &path);
    let read = snapshot::read(&taken).unwrap();
    assert_eq!(written["parts"], read.parts.len());
    let staying = read.parts.iter().filter(|(part, members)| part.domain != domain(9) && members.len() == 4);
    assert_eq!(staying.count(), 40);
    let held = refused(1, &["resize", "--meetings", "1000"], &path);
    assert!(held.contains(&format!("process {pid} has this table; stop that server")), "{held}");
    living.stop();
    assert_eq!(told(0, &["verify"], &path)["live"], false);
}

/// In a living table, a flaw in a place where nobody writes is distinguished from the writers' work
/// in progress.
#[test]
fn a_flaw_of_a_living_table_is_found() {
    let folder = Folder::new();
    let path = folder.file("table");
    drop(furnished(&path, CAPACITY, 20));
    let damaged = damage(&path, 1);
    let living = Living::start(&path);
    let verified = told(1, &["verify"], &path);
    let flaws = verified["flaws"].as_array().unwrap();
    assert!(!flaws.is_empty() && flaws.iter().all(|flaw| flaw.as_str().unwrap().contains(&damaged)), "{verified}");
    drop(living);
}

/// Flips a bit in the records of this many members of meeting 10, wherever they are, and returns
/// how a flaw names the first.
fn damage(path: &Path, records: usize) -> String {
    let table = Table::open_at(path).unwrap();
    for number in 0..records {
        let wanted = domain(2).device(10 * 8 + number as u16).number();
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        let is = |word: &SharedWord, value: u64| word.load(relaxed) == value;
        let words = table.mapping().words();
        let is_line = |pair: &&[_]| matches!(pair, [address, meeting] if is(address, wanted) && is(meeting, 10));
        let found: Vec<_> = words.windows(2).filter(is_line).map(|pair| &pair[0]).collect();
        assert_eq!(found.len(), 1, "its address is found, and its meeting after it");
        found.iter().for_each(|word| word.store(wanted ^ 1 << 20, relaxed));
    }
    "erminal".into()
}

#[test]
fn damage_is_counted_and_named_and_not_copied() {
    let folder = Folder::new();
    let path = folder.file("table");
    drop(furnished(&path, CAPACITY, 20));
    damage(&path, 2);
    assert_eq!(told(0, &["inspect"], &path)["unreadable"], 2);
    let verified = told(1, &["verify"], &path);
    let flaws = verified["flaws"].as_array().unwrap();
    let unreadable = flaws.iter().filter(|flaw| flaw.as_str().unwrap().contains("unreadable: Damaged"));
    assert_eq!(unreadable.count(), 2, "{verified}");
    assert!(out(&baton(&["verify"], &path)).contains("flaws; nobody has it: at rest"));
    let before = told(0, &["inspect"], &path);
    let resized = told(0, &["resize", "--meetings", "1000"], &path);
    assert_eq!(resized["damaged"], 2);
    assert_eq!(resized["terminals"].as_u64(), before["terminals"].as_u64().map(|terminals| terminals - 2));
    assert_eq!(told(0, &["verify"], &path)["flaws"].as_array().unwrap().len(), 0);
    assert_eq!(told(0, &["inspect"], &path)["unreadable"], 0);
}

#[test]
fn files_that_are_no_whole_table_are_refused_by_all_four() {
    let folder = Folder::new();
    let path = folder.file("table");
    drop(furnished(&path, CAPACITY, 20));
    let whole = fs::read(&path).unwrap();
    let mut other = whole.clone();
    other[8] ^= 1;
    for (bytes, why) in [
        (&whole[..whole.len() - 8192], "it was cut"),
        (b"[1, 2, 3]", "it was cut"),
        (&[7; 8192][..], "not a table of Baton's"),
        (&other[..], "another version of Baton made it"),
    ] {
        fs::write(&path, bytes).unwrap();
        for arguments in [&["inspect"][..], &["verify"], &["snapshot"], &["resize", "--meetings", "300"]] {
            let said = refused(1, arguments, &path);
            assert!(said.contains(why) && said.contains(path.to_str().unwrap()), "{arguments:?}: {said}");
        }
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert_eq!(fs::read_dir(folder.0.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_snapshot_is_written_inspected_and_told_from_other_files() {
    let folder = Folder::new();
    let path = folder.file("table");
    let expected = Snapshot::of(&furnished(&path, CAPACITY, 20));
    let written = told(0, &["snapshot"], &path);
    let beside = folder.file("table.snapshot");
    assert_eq!(written["snapshot"], beside.to_str().unwrap());
    assert_eq!(snapshot::read(&beside).unwrap(), expected);
    let again = told(0, &["snapshot"], &path);
    assert_eq!((&again["blake3"], &again["bytes"]), (&written["blake3"], &written["bytes"]));
    fs::write(folder.file("mine"), "mine").unwrap();
    let mine = folder.file("mine");
    assert!(refused(1, &["snapshot", mine.to_str().unwrap()], &path).contains("not a snapshot"));
    assert_eq!(fs::read(&mine).unwrap(), b"mine");

    let inspect = |path: &Path, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_baton"));
        command.args(["table", "inspect", "--snapshot"]).arg(path).args(more).output().unwrap()
    };
    let seen = json(&inspect(&beside, &["--json"]));
    assert_eq!(
        (&seen["parts"], &seen["terminals"], &seen["epoch_text"]),
        (&40.into(), &160.into(), &"3.7.0000".into())
    );
    assert_eq!(seen["snapshot"]["blake3"], written["blake3"]);
    let meeting = json(&inspect(&beside, &["--json", "--meeting", "7"]));
    assert_eq!(meeting["parts"][1]["members"].as_array().unwrap().len(), 4);
    // A snapshot of another version is refused, and the message names both versions.
    let mut bytes = fs::read(&beside).unwrap();
    bytes[8] = 9;
    fs::write(&beside, &bytes).unwrap();
    let later = inspect(&beside, &[]);
    assert_eq!(later.status.code(), Some(1));
    assert!(out(&later).contains("version        9, layout"), "{}", out(&later));
    assert!(err(&later).contains("it is of version 9"), "{}", err(&later));
    let later = json(&inspect(&beside, &["--json"]));
    assert_eq!((&later["snapshot"]["version"], &later["snapshot"]["readable"]), (&9.into(), &false.into()));
}

#[test]
fn a_resized_table_serves_and_the_old_one_is_kept() {
    let folder = Folder::new();
    let path = folder.file("table");
    let before = Snapshot::of(&furnished(&path, CAPACITY, 20));
    let resized = told(0, &["resize", "--meetings", "1000", "--terminals", "9000"], &path);
    assert_eq!(resized["after"], serde_json::json!({ "meetings": 1000, "terminals": 9000 }));
    let table = Table::open_at(&path).unwrap();
    let capacity = Capacity { meetings: 1000, terminals: 9000 };
    assert_eq!(Snapshot::of(&table), Snapshot { capacity, ..before.clone() });
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(Snapshot::of(&Table::open_at(&folder.file("table.before-resize")).unwrap()), before);
    assert!(refused(1, &["resize", "--meetings", "2000"], &path).contains("before-resize: is in the way"));
    assert!(refused(1, &["resize", "--meetings", "39", "--discard-old"], &path).contains("it holds 40 parts"));
    refused(2, &["resize", "--meetings", "0", "--discard-old"], &path);
    let back = told(0, &["resize", "--meetings", "40", "--discard-old"], &path);
    assert_eq!((&back["kept"], &back["parts"]), (&Value::Null, &40.into()));
    assert_eq!(told(0, &["verify"], &path)["flaws"], serde_json::json!([]));
}

/// A small, full file system of the test.
#[test]
fn a_full_file_system_refuses_and_keeps_the_table() {
    let folder = Folder::new();
    let small = folder.file("small");
    fs::create_dir(&small).unwrap();
    let script = "mount -t tmpfs -o size=2m tmpfs \"$1\" && cp \"$2\" \"$1/table\" && \"$3\" table resize --table \"$1/table\" \
                  --terminals 20000; echo exit $?; cmp \"$1/table\" \"$2\" && ls -A \"$1\"";
    let path = folder.file("table");
    drop(furnished(&path, CAPACITY, 20));
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .args([&small, &path, Path::new(env!("CARGO_BIN_EXE_baton"))])
        .output()
        .unwrap();
    assert_eq!(out(&output), "exit 1\ntable\n", "{}", err(&output));
    assert!(err(&output).contains("has no room for"), "{}", err(&output));
}

/// The right to read is enough to look. The program is copied to a folder that everybody may enter:
/// a build's folder may be closed.
#[test]
fn whoever_may_read_the_file_may_look_at_it() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("baton");
    fs::copy(env!("CARGO_BIN_EXE_baton"), &program).unwrap();
    let path = folder.path().join("table");
    let mapping = furnished(&path, CAPACITY, 20);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let look = |what: &str| {
        let mut command = Command::new(&program);
        command.args(["table", what, "--json", "--table"]).arg(&path).uid(65534).gid(65534).output().unwrap()
    };
    let closed = look("inspect");
    assert!(closed.status.code() == Some(1) && err(&closed).contains("Permission denied"), "{}", err(&closed));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(json(&look("inspect"))["parts"], 40);
    assert_eq!(json(&look("verify"))["flaws"], serde_json::json!([]));
    drop(mapping);
}

/// Killed at random moments, the command leaves the old table or the new one, complete, and another
/// attempt succeeds.
#[test]
fn a_killed_resize_leaves_one_table_or_the_other() {
    let folder = Folder::new();
    let path = folder.file("table");
    let capacity = Capacity { meetings: 8000, terminals: 70_000 };
    let before = Snapshot::of(&furnished(&path, capacity, 3000));
    let resize = |meetings: u32| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_baton"));
        command.args(["table", "resize", "--meetings", &meetings.to_string(), "--table"]).arg(&path);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let begun = std::time::Instant::now();
    assert!(resize(8001).wait().unwrap().success());
    let whole = begun.elapsed();
    let kept = folder.file("table.before-resize");
    let (mut old, mut new) = (0, 0);
    let mut now = 8001;
    for kill in 0..40 {
        if kept.exists() && Table::open_at(&kept).unwrap().capacity().meetings != now {
            fs::remove_file(&kept).unwrap();
        }
        let mut child = resize(8002 + kill);
        std::thread::sleep(Duration::from_nanos(whole.as_nanos() as u64 * u64::from(kill) / 32));
        let _ = child.kill();
        child.wait().unwrap();
        let table = Table::open_at(&path).unwrap();
        let found = table.capacity();
        assert!(found.meetings == now || found.meetings == 8002 + kill, "kill {kill}: {found:?}");
        *(if found.meetings == now { &mut old } else { &mut new }) += 1;
        now = found.meetings;
        assert_eq!(Snapshot { capacity, ..Snapshot::of(&table) }, before, "kill {kill}");
    }
    println!("{old} times the old table, {new} times the new one");
    assert!(old > 0, "some are killed before the end");
    let _ = fs::remove_file(&kept);
    assert!(resize(9000).wait().unwrap().success(), "after every interruption, the next attempt succeeds");
    assert_eq!(Table::open_at(&path).unwrap().verify(), Vec::<String>::new());
}

#[test]
fn a_table_that_is_not_there_is_named_once() {
    let folder = Folder::new();
    let path = folder.file("none");
    for arguments in [&["resize", "--meetings", "64"][..], &["inspect"], &["verify"], &["snapshot"]] {
        let said = refused(1, arguments, &path);
        assert_eq!(said.matches(path.to_str().unwrap()).count(), 1, "{said}");
    }
}
