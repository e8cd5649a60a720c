//! `baton doctor` on the machine that runs this, for an interface that is there and ones that are not.

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use support::netns::{Pair, Side};
use support::server::Place;

fn doctor(pair: &Pair, arguments: &[&str]) -> Output {
    let netns = format!("--net={}", pair.path(Side::Left).display());
    Command::new("nsenter").arg(netns).arg(env!("CARGO_BIN_EXE_baton")).arg("doctor").args(arguments).output().unwrap()
}

fn finding<'a>(said: &'a Value, check: &str) -> &'a Value {
    let all = said["findings"].as_array().unwrap();
    all.iter().find(|finding| finding["check"] == check).unwrap_or_else(|| panic!("{check} in {said}"))
}

#[test]
fn a_machine_that_runs_the_tests_is_fit_and_what_it_lacks_is_said() {
    let (pair, place) = (Pair::new(2), Place::new());
    let configuration = place.configure(Side::Left.interface(), "");
    let path = configuration.to_str().unwrap();
    let done = doctor(&pair, &["--config", path, "--json"]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let said: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(said["runs"], true);
    for check in ["kernel", "kernel types", "capabilities", "driver", "queues", "table"] {
        assert_eq!(finding(&said, check)["level"], "ok", "{said}");
    }
    assert!(finding(&said, "driver")["is"].as_str().unwrap().contains("veth"), "{said}");
    assert!(finding(&said, "queues")["is"].as_str().unwrap().contains("has 2"), "{said}");
    // The test's database is on tmpfs, and its workers are pinned nowhere.
    for check in ["database", "cores"] {
        let found = finding(&said, check);
        assert!(found["level"] == "warning" && found["todo"] != "" && found["costs"] != "", "{found}");
    }
    let shown = String::from_utf8(doctor(&pair, &["--config", path]).stdout).unwrap();
    assert!(shown.contains("it will run: problems 0, warnings "), "{shown}");
    // A path alone may be longer than a terminal is wide.
    let long: Vec<_> = shown.lines().filter(|line| line.chars().count() > 80 && !line.contains("/dev/shm")).collect();
    assert!(long.is_empty(), "{long:?}");
}

#[test]
fn what_would_keep_it_from_running_is_a_problem_and_fails() {
    let (pair, place) = (Pair::new(1), Place::new());
    let configuration = place.configure(Side::Left.interface(), "");
    let text = fs::read_to_string(&configuration).unwrap();
    let changed = |from: &str, to: &str| {
        assert!(text.contains(from));
        fs::write(&configuration, text.replace(from, to)).unwrap();
        let done = doctor(&pair, &["--config", configuration.to_str().unwrap(), "--json"]);
        assert_eq!(done.status.code(), Some(1), "{done:?}");
        serde_json::from_slice::<Value>(&done.stdout).unwrap()
    };
    let name = format!("name = \"{}\"", Side::Left.interface());
    assert_eq!(finding(&changed(&name, "name = \"eth77\""), "interface")["level"], "problem");
    assert_eq!(finding(&changed("huge_pages = false", "zero_copy = true"), "driver")["level"], "problem");
    assert_eq!(finding(&changed("huge_pages = false", "queues = 4"), "queues")["level"], "problem");
}

#[test]
fn what_is_typed_wrong_is_named() {
    let (pair, place) = (Pair::new(1), Place::new());
    let file = place.path("bad.toml");
    fs::write(&file, "[interface]\nnome = \"eth0\"\n").unwrap();
    for (arguments, code, expected) in [
        (&["--config", file.to_str().unwrap()][..], 2, "bad.toml:2"),
        (&["--config", "/nowhere/baton.toml"], 2, "cannot read the configuration /nowhere/baton.toml"),
        (&["--interface"], 2, "--interface"),
    ] {
        let done = doctor(&pair, arguments);
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(code), "{said}");
        assert!(said.contains(expected), "{expected} in {said}");
    }
    // Before there is a configuration an interface can be looked at.
    if !Path::new("/etc/baton/baton.toml").exists() {
        let done = doctor(&pair, &["--interface", Side::Left.interface()]);
        assert_eq!(done.status.code(), Some(0), "{done:?}");
    }
}
