//! `scripts/tune-nic.sh` on a veth pair: it does what it prints, and restores everything.

mod support;

use std::process::{Command, Output};
use std::sync::LazyLock;

use support::netns::{Pair, Side, veth_pair};
use tempfile::TempDir;

/// In the namespace, with its own /sys; the previous values are kept in a folder of the test.
fn run(pair: &Pair, program: &str, arguments: &[&str]) -> Output {
    static KEPT: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
    let mut command = Command::new("ip");
    command.env("RUNTIME_DIRECTORY", KEPT.path());
    command.args(["netns", "exec", pair.name(Side::Left), program]).args(arguments);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap()
}

fn tune(pair: &Pair, arguments: &[&str]) -> (Option<i32>, String) {
    let output = run(pair, "scripts/tune-nic.sh", arguments);
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// What the script changes on a veth pair.
fn state(pair: &Pair) -> String {
    let show = "ethtool -l left; ethtool -k left; cat /sys/class/net/left/napi_defer_hard_irqs /sys/class/net/left/gro_flush_timeout";
    String::from_utf8(run(pair, "sh", &["-c", show]).stdout).unwrap()
}

#[test]
fn what_is_changed_is_said_and_put_back() {
    let pair = veth_pair(4);
    let before = state(&pair);
    let expected = [
        "ethtool -L rx: 4 -> 2",
        "ethtool -L tx: 4 -> 2",
        "ethtool -K rxvlan: on -> off",
        "/sys/class/net/left/napi_defer_hard_irqs: 0 -> 2",
        "/sys/class/net/left/gro_flush_timeout: 0 -> 200000",
    ]
    .map(|line| format!("{line}\n"))
    .concat();
    let arguments = ["-i", "left", "-q", "2"];
    assert_eq!(tune(&pair, &[&arguments[..], &["--dry-run"]].concat()), (Some(0), expected.clone()));
    assert_eq!(state(&pair), before, "nothing was to be changed");
    assert_eq!(tune(&pair, &arguments), (Some(0), expected));
    assert_ne!(state(&pair), before);
    assert_eq!(tune(&pair, &arguments), (Some(0), String::new()), "all is so already");
    // A second change keeps the values from before the first.
    assert_eq!(tune(&pair, &["-i", "left", "-q", "3"]).0, Some(0));
    assert_eq!(tune(&pair, &["-i", "left", "--undo"]).0, Some(0));
    assert_eq!(state(&pair), before);
    assert_eq!(tune(&pair, &["-i", "left", "--undo"]).0, Some(1), "there is nothing to put back any more");
}

#[test]
fn what_is_typed_wrong_changes_nothing_and_is_named() {
    let pair = veth_pair(2);
    let before = state(&pair);
    for (arguments, named) in [
        (&["-i", "left", "-q", "0"][..], "-q takes a whole number from 1 to 64"),
        (&["-i", "left", "-q"], "-q needs a value"),
        (&["-i", "nosuch"], "no interface 'nosuch'"),
        (&["-q", "2"], "-i names the interface"),
        (&["--fast"], "no option '--fast'"),
        (&["-i", "left", "--undo", "-q", "1"], "--undo goes with"),
    ] {
        let output = run(&pair, "scripts/tune-nic.sh", arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(named), "{said}");
    }
    assert_eq!(state(&pair), before);
    assert_eq!(run(&pair, "scripts/tune-nic.sh", &["--help"]).status.code(), Some(0));
}
