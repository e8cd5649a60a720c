//! `baton table` on a table of the version before, as typed.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use baton::wire::Domain;
use serde_json::Value;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::Builder::new().prefix("baton-earlier-table-").tempdir_in("/dev/shm").unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
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

/// Runs the command with `--json`, expects this exit code, and returns what it printed.
#[track_caller]
fn told(code: i32, arguments: &[&str], table: &Path) -> Value {
    let output = baton(&[arguments, &["--json"]].concat(), table);
    assert_eq!(output.status.code(), Some(code), "{} {}", out(&output), err(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs the command, expects a refusal, and returns the reason.
#[track_caller]
fn refused(code: i32, arguments: &[&str], table: &Path) -> String {
    let output = baton(arguments, table);
    assert_eq!(output.status.code(), Some(code), "{} {}", out(&output), err(&output));
    assert_eq!(out(&output), "", "a refusal is talk");
    err(&output)
}

/// Writes the table of the version before that `table::tests::earlier` describes.
fn earlier(path: &Path) {
    let packed = include_bytes!("data/table-of-the-version-before.gz");
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Its refusal names a command: that is one which can be typed so.
#[test]
fn a_table_of_the_version_before_is_brought_over_by_the_command_that_its_refusal_names() {
    let folder = Folder::new();
    let path = folder.file("table");
    earlier(&path);
    let before = fs::read(&path).unwrap();
    for command in ["inspect", "verify", "snapshot"] {
        let said = refused(1, &[command], &path);
        assert!(said.contains("`baton table resize` brings it over"), "{command}: {said}");
        assert_eq!(fs::read(&path).unwrap(), before, "{command}");
    }
    let output = baton(&["resize"], &path);
    assert_eq!(output.status.code(), Some(0), "{}{}", out(&output), err(&output));
    assert_eq!(told(0, &["inspect"], &path)["terminals"], 66);
}

/// With a damaged part it is not brought over. What the operator is told to do next can be done.
#[test]
fn a_damaged_table_of_the_version_before_is_refused_with_something_that_can_be_done() {
    let folder = Folder::new();
    let path = folder.file("table");
    earlier(&path);
    let mut bytes = fs::read(&path).unwrap();
    // Of the record of meeting 1 in domain 1: meeting, and domain below state, level and layout.
    let words: Vec<u64> = bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let is_record = |at: &usize| words[*at] == 1 && words[at + 1] & Domain::MAX == 1 && words[at + 1] >> 48 != 0;
    for at in (0..words.len() - 2).filter(is_record) {
        bytes[(at + 2) * 8] ^= 1;
    }
    fs::write(&path, &bytes).unwrap();
    let said = refused(1, &["resize", "--meetings", "100"], &path);
    assert!(said.contains("is unreadable"), "{said}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
    if said.contains("`baton table verify` says all") {
        let verified = err(&baton(&["verify"], &path));
        assert!(!verified.contains("baton table resize"), "resize says: {said}and verify says: {verified}");
    }
    assert!(said.contains("--path database"), "what helps is not named: {said}");
}

/// A resize of the version before was killed just before its last step, and has left both names.
#[test]
fn what_a_killed_resize_of_the_version_before_left_is_recognised() {
    let folder = Folder::new();
    let path = folder.file("table");
    earlier(&path);
    earlier(&folder.file("table.resizing"));
    fs::hard_link(&path, folder.file("table.before-resize")).unwrap();
    let output = baton(&["resize", "--meetings", "100"], &path);
    assert_eq!(output.status.code(), Some(0), "{}{}", out(&output), err(&output));
}

/// Seven bytes fitted into a terminal's record before; now they need room that one terminal in five
/// has.
#[test]
fn information_that_finds_no_room_any_more_is_named_with_what_to_ask_for() {
    let folder = Folder::new();
    let path = folder.file("table");
    earlier(&path);
    let mut bytes = fs::read(&path).unwrap();
    lengthen(&mut bytes);
    fs::write(&path, &bytes).unwrap();
    let said = refused(1, &["resize", "--meetings", "24"], &path);
    assert!(said.contains("additional information") && said.contains("--terminals"), "{said}");
    assert_eq!((fs::read(&path).unwrap(), fs::read_dir(folder.0.path()).unwrap().count()), (bytes, 1));
    assert_eq!(told(0, &["resize", "--terminals", "400"], &path)["terminals"], 66);
}

/// Has every terminal of the earlier table with six bytes of information or none have seven.
fn lengthen(bytes: &mut [u8]) {
    let checksum = |words: &[u64]| {
        let fold = |words: &[u64]| {
            words.iter().fold(0x4241_544f_4e5f_5345_u64, |sum, word| {
                let sum = (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                sum ^ sum >> 32
            })
        };
        fold(words) ^ fold(&[0; 6])
    };
    let mut changed = 0;
    let mut words: Vec<u64> = bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    for at in 0..words.len() - 7 {
        let bank = &words[at..at + 7];
        let is_terminal = (1..=2).contains(&(bank[0] << 8 >> 24)) && (1..=6).contains(&bank[1]) && bank[0] >> 56 <= 6;
        if is_terminal && checksum(&bank[..6]) == bank[6] {
            words[at] = words[at] << 8 >> 8 | 7 << 56;
            words[at + 4] = 0x07_0707_0707_0707;
            words[at + 6] = checksum(&words[at..at + 6]);
            changed += 1;
        }
    }
    assert!(changed >= 22, "{changed}");
    bytes.as_chunks_mut().0.iter_mut().zip(words).for_each(|(to, word)| *to = word.to_le_bytes());
}
