//! The main job, end to end, on real frames: `baton demo`, with fewer meetings, and a kill of every
//! part in turn.

use std::process::Command;

/// Six faults on a veth pair. Nothing that was confirmed or acknowledged is lost, no frame is lost
/// while the keeper lives, and in the end both sides hold the same.
#[test]
fn whatever_dies_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("demo.json");
    let output = Command::new(env!("CARGO_BIN_EXE_baton"))
        .args(["demo", "--meetings", "80", "--terminals", "800", "--reports", "2000", "--json"])
        .arg(&json)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");

    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    for none in ["reports_acknowledged_then_lost", "meetings_differing", "terminals_differing"] {
        assert_eq!(report[none], 0, "{none}\n{told}");
    }
    let faults = report["faults"].as_array().unwrap();
    let what: Vec<_> = faults.iter().map(|fault| fault["what"].as_str().unwrap()).collect();
    let expected = ["engine", "engine", "engine during recovery", "engine and keeper", "reboot", "clean restart"];
    assert_eq!(what, expected);
    for (number, fault) in faults.iter().enumerate() {
        // A snapshot is there after a reboot if one was written by then.
        let paths: &[&str] = if number == 4 { &["snapshot", "database"] } else { &["cache"] };
        assert!(paths.contains(&fault["path"].as_str().unwrap()), "{told}");
        assert_eq!(fault["meetings_taken_over"], 80, "{told}");
        assert_eq!(fault["operations_acknowledged_then_lost"], 0, "{told}");
        assert!(number > 2 || fault["frames_lost"] == 0, "{told}");
        assert!(fault["kill_to_first_takeover_us"].as_f64().unwrap() > 0.0, "{told}");
    }
}
