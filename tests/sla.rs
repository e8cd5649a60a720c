//! `baton sla` over logs of two engines, of which the first died: verdicts, exit codes, JSON, JUnit
//! and the page.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use baton::telemetry::{EngineNote, FramesNote, HistogramLog, Note, RecoveryNote};
use hdrhistogram::Histogram;
use serde_json::Value;
use tempfile::TempDir;

const BASE_S: u64 = 1_763_990_000;

/// Two minutes of an engine, its death, and a minute of the next one: one frame lost in the outage,
/// which lasts 20 ms, and ten slow seconds.
fn logs(folder: &Path) {
    let recovery = |at_s, succeeds, acknowledged_ns| RecoveryNote {
        at_s,
        epoch: "1.1".into(),
        path: "cache".into(),
        succeeds,
        meetings: 80,
        unreached: 0,
        first_frame_ns: Some(150_000),
        acknowledged_ns,
        reconciled_ns: acknowledged_ns + 5_000_000,
    };
    let life = |name: &str, epoch: &str, start: u64, seconds: u64, recovery: RecoveryNote, dropped: u64| {
        let base = SystemTime::UNIX_EPOCH + Duration::from_secs(BASE_S + start);
        let mut log = HistogramLog::begin(Vec::new(), "test", base).unwrap();
        log.note(&Note::Engine(EngineNote { epoch: epoch.into(), pid: 7, part: 1 })).unwrap();
        log.note(&Note::Recovery(recovery)).unwrap();
        for second in 0..seconds {
            let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 2).unwrap();
            histogram.record_n(10_000, 990).unwrap();
            let slow = if start == 0 && (60..70).contains(&second) { 800_000 } else { 20_000 };
            histogram.record_n(slow, 10).unwrap();
            let (at, length) = (Duration::from_secs(second), Duration::from_secs(1));
            log.write(Some("processing"), at, length, &histogram).unwrap();
            let frames = FramesNote {
                start_s: second as f64,
                length_s: 1.0,
                received: 1000,
                shed: 0,
                dropped: if second == 0 { dropped } else { 0 },
                dropped_ever: dropped,
            };
            log.note(&Note::Frames(frames)).unwrap();
        }
        fs::write(folder.join(name), log.finish().unwrap()).unwrap();
    };
    life("baton-00000001.hlog", "1.1", 0, 120, recovery(0.0, false, 40_000_000), 0);
    life("baton-00000002.hlog", "1.2", 120, 60, recovery(-0.000_1, true, 20_000_000), 1);
}

fn rules(folder: &Path, text: &str) -> PathBuf {
    let file = folder.join("sla.toml");
    fs::write(&file, text).unwrap();
    file
}

fn sla(arguments: &[&str], rules: &Path, logs: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_baton"))
        .arg("sla")
        .args(arguments)
        .arg("--rules")
        .arg(rules)
        .args(logs)
        .output()
        .unwrap()
}

fn place() -> (TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("telemetry");
    fs::create_dir(&folder).unwrap();
    logs(&folder);
    (place, folder)
}

const KEPT: &str = "[[latency]]\nstage = \"processing\"\npercentile = 90\nbound = \"15us\"\nwindow = \"10s\"\n\
                    [[loss]]\nbound = \"0.001%\"\n[[availability]]\nbound = \"99.98%\"\n\
                    [[reset]]\nphase = \"acknowledged\"\nbound = \"20ms\"\n";

#[test]
fn what_is_held_is_said_with_its_worst_figure() {
    let (place, folder) = place();
    let done = sla(&["check", "--json"], &rules(place.path(), KEPT), &[&folder]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let said: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&said["held"], &said["broken"]), (&Value::Bool(true), &Value::Array(Vec::new())));
    let [latency, loss, availability, reset] = &said["rules"].as_array().unwrap()[..] else { panic!("{said}") };
    let near = |rule: &Value, key: &str, expected: f64| {
        let value = rule[key].as_f64().unwrap_or_else(|| panic!("{key} in {rule}"));
        assert!((value - expected).abs() <= expected.abs() * 0.01 + 1e-9, "{key} is {value}, not {expected}: {rule}");
    };
    near(latency, "worst", 10e-6);
    assert_eq!(
        (latency["looked_at"].as_u64(), latency["unit"].as_str()),
        (Some(18), Some("s")),
        "180 s in windows of 10"
    );
    near(loss, "worst", 1.0 / 180_001.0);
    // 20 ms of 180 s, from 0.1 ms before the second log began.
    assert!((availability["worst"].as_f64().unwrap() - (1.0 - 0.02 / 180.0)).abs() < 1e-7, "{availability}");
    near(reset, "worst", 0.02);
    assert_eq!(reset["looked_at"], 1, "the first beginning is no reset");
}

/// No rule concerns anything that happened; but logs without an engine say nothing of its deaths.
#[test]
fn a_server_that_never_died_holds_what_is_asked_of_its_resets() {
    let (place, folder) = place();
    fs::remove_file(folder.join("baton-00000002.hlog")).unwrap();
    let rules = rules(place.path(), "[[reset]]\nphase = \"acknowledged\"\nbound = \"10ms\"\n");
    let done = sla(&["check", "--json"], &rules, &[&folder]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let said: Value = serde_json::from_slice(&done.stdout).unwrap();
    let reset = &said["rules"][0];
    assert_eq!((&reset["verdict"], &reset["looked_at"]), (&"held".into(), &0.into()), "{said}");
    let file = folder.join("baton-00000001.hlog");
    let text = fs::read_to_string(&file).unwrap();
    let nobodys: Vec<_> =
        text.lines().filter(|line| !line.starts_with("#[Engine") && !line.starts_with("#[Reco")).collect();
    fs::write(&file, nobodys.join("\n") + "\n").unwrap();
    let done = sla(&["check"], &rules, &[&folder]);
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert!(String::from_utf8(done.stdout).unwrap().contains("NO DATA"));
}

#[test]
fn a_breach_is_named_with_rule_window_and_figure_and_fails() {
    let (place, folder) = place();
    let text = "[[latency]]\nname = \"slowest in a hundred\"\nstage = \"processing\"\npercentile = 99.5\nbound = \"50us\"\nwindow = \"10s\"\n\
                [[reset]]\nphase = \"first_frame\"\nbound = \"100us\"\n[[latency]]\nstage = \"probe\"\npercentile = 50\nbound = \"1s\"\n";
    let junit = place.path().join("junit.xml");
    let rules = rules(place.path(), text);
    let done = sla(&["check", "--junit", junit.to_str().unwrap()], &rules, &[&folder]);
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    let table = String::from_utf8(done.stdout).unwrap();
    let row = |of: &str| {
        table.lines().find(|line| line.starts_with(of)).unwrap_or_else(|| panic!("{of}: {table}")).to_owned()
    };
    let slow = row("slowest in a hundred");
    // The seventh window of ten seconds.
    for part in ["BREACHED", "50.0 µs", " 80", "2025-11-24 13:14:20.000", "1 of 18"] {
        assert!(slow.contains(part), "{part} in {slow}");
    }
    assert!(row("reset first_frame").contains("BREACHED"), "{table}");
    assert!(row("probe p50").contains("NO DATA"), "{table}");
    let xml = fs::read_to_string(junit).unwrap();
    for part in [
        "tests=\"3\"",
        "failures=\"2\"",
        "errors=\"1\"",
        "name=\"slowest in a hundred\"",
        "against a bound of 50.0 µs, at worst in the 10.0 s from 2025-11-24 13:14:20.000 UTC; 1 of 18 breached",
        "the logs have no data for it",
    ] {
        assert!(xml.contains(part), "{part} in {xml}");
    }
    // What is before is excluded.
    let late = sla(&["check", "--last", "60s", "--allow-missing", "--json"], &rules, &[&folder]);
    let said: Value = serde_json::from_slice(&late.stdout).unwrap();
    assert_eq!(said["rules"][0]["verdict"], "held", "{said}");
}

#[test]
fn a_log_that_is_cut_is_read_as_far_as_it_is_whole_and_the_rest_is_named() {
    let (place, folder) = place();
    let path = folder.join("baton-00000002.hlog");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 70]).unwrap();
    let done = sla(&["check"], &rules(place.path(), KEPT), &[&folder]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let line = whole.iter().filter(|&&byte| byte == b'\n').count();
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(said.contains(&format!("baton-00000002.hlog:{line}: the file ends in the middle of it")), "{said}");
}

#[test]
fn the_page_shows_it_all_and_needs_nothing_else() {
    let (place, folder) = place();
    let page = place.path().join("sla.html");
    let done = sla(&["report", "-o", page.to_str().unwrap()], &rules(place.path(), KEPT), &[&folder]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let html = fs::read_to_string(page).unwrap();
    for part in [
        "Every rule was held.",
        "processing p90",
        "Latency over percentiles",
        "Latency over time",
        "RFC 6201",
        "2025-11-24 13:15:19.999",
        "150 µs",
        "20.0 ms",
        "25.0 ms",
        "180000 received, 0 of them shed, 1 dropped",
    ] {
        assert!(html.contains(part), "{part}");
    }
    for loads in ["http:", "https:", "src=", "<script", "<link", "@import", "url("] {
        assert!(!html.contains(loads), "{loads}");
    }
}

#[test]
fn what_is_typed_wrong_or_not_there_is_named() {
    let (place, folder) = place();
    let good = rules(place.path(), KEPT);
    let empty = place.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let none = place.path().join("none.toml");
    let bad = place.path().join("bad.toml");
    fs::write(&bad, "[[latency]]\nstage = \"thinking\"\npercentile = 99\nbound = \"1ms\"\n").unwrap();
    for (rules, log, expected) in [
        (&none, &folder, "cannot read the rules"),
        (&bad, &folder, "bad.toml:2: `latency.stage`: unknown stage `thinking`, expected one of ring_wait, processing"),
        (&good, &empty, "no .hlog file in this folder"),
        (&good, &place.path().join("gone.hlog"), "gone.hlog: No such file"),
        (&good, &good, "no interval in these logs"),
    ] {
        let done = sla(&["check"], rules, &[log]);
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{said}");
        assert!(said.contains(expected), "{expected} in {said}");
    }
}
