//! Control by domain: of two autonomous servers one is never there, and the other stops answering.
//! What operators see of that, and what alerts evaluate. Real processes on a veth.

mod support;

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::netns::{Pair, Side, veth_pair};
use support::server::{Place, Server};

const PATIENCE: Duration = Duration::from_secs(30);

struct Simulation(Child);

impl Drop for Simulation {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn simulate(pair: &Pair, place: &Place) -> Simulation {
    let shown = Command::new("ip").args(["-n", pair.name(Side::Left), "-j", "link", "show", "left"]).output().unwrap();
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let mac = shown[0]["address"].as_str().unwrap();
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", pair.path(Side::Right).display()));
    command.args([
        env!("CARGO_BIN_EXE_baton"),
        "sim",
        "--insecure-no-authentication",
        "--heartbeat-ms",
        "50",
        "--terminals",
        "20",
    ]);
    command.args(["--domains", "1", "--interface", "right", "--dispatch-mac", mac, "--control"]);
    command.arg(place.path("sim.sock")).stdout(Stdio::null()).stderr(Stdio::null());
    Simulation(command.spawn().unwrap())
}

fn baton(place: &Place, words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_baton"));
    let done = command.args(words).arg("--socket").arg(place.path("run/api.sock")).output().unwrap();
    assert!(done.status.success(), "{words:?}: {done:?}");
    String::from_utf8(done.stdout).unwrap()
}

/// Waits until `status` is as expected; returns it.
fn wait_for(place: &Place, is_so: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + PATIENCE;
    loop {
        let status: Value = serde_json::from_str(&baton(place, &["status", "--json"])).unwrap();
        if is_so(&status) {
            return status;
        }
        assert!(Instant::now() < end, "{status:#}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_domain_that_is_off_takes_control_of_no_other_and_one_that_falls_silent_is_not_called_reconciled() {
    let (pair, place) = (veth_pair(1), Place::new());
    let configuration = place.configure("left", "[heartbeat]\ninterval_ms = 50\n");
    let text = fs::read_to_string(&configuration).unwrap();
    let domains = "[[domain]]\nnumber = 1\ninsecure_no_authentication = true\n[[domain]]\nnumber = 2\ninsecure_no_authentication = true\n";
    let text = text
        .replace("[[domain]]\nnumber = 366\ninsecure_no_authentication = true\nmac = \"02:00:00:00:01:6e\"\n", domains);
    fs::write(&configuration, text).unwrap();
    let mut server = Server::start(&pair, Side::Left, &configuration, &[]);
    server.engine();
    let simulation = simulate(&pair, &place);

    let status = wait_for(&place, |status| status["state"] == "partly in control");
    let in_control = |status: &Value| [0, 1].map(|at| status["domains"][at]["in_control"] == true);
    assert_eq!(in_control(&status), [true, false], "{status:#}");
    let shown = baton(&place, &["status"]);
    assert!(shown.contains("partly in control (1 of 2 domains)"), "{shown}");
    let metrics = baton(&place, &["metrics"]);
    for line in
        ["baton_in_control 0", r#"baton_domain_in_control{domain="1"} 1"#, r#"baton_domain_in_control{domain="2"} 0"#]
    {
        assert!(metrics.lines().any(|there| there == line), "{line} in {metrics}");
    }
    server.line_with("no frame of it came yet");

    drop(simulation);
    let status = wait_for(&place, |status| status["state"] == "recovering");
    assert_eq!(in_control(&status), [false, false], "{status:#}");
    let shown = baton(&place, &["status"]);
    assert!(!shown.contains("reconciled") && shown.contains("unreachable"), "{shown}");
}
