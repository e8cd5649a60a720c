//! What a running server says of itself: histogram logs that another implementation reads, and
//! metrics that Prometheus' own tool finds nothing wrong with. Real processes, real frames, a real
//! SIGKILL.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use std::{fs, thread};

use baton::lab::testbed::cluster::{Cluster, ClusterConfig};
use baton::lab::testbed::processes::signal_to;
use baton::lab::testbed::{Testbed, need_root, own_name, scenario};
use baton::telemetry::Log;
use hdrhistogram::iterators::IterationValue;
use rustix::process::Signal;
use serde_json::Value;

const BATON: &str = env!("CARGO_BIN_EXE_baton");
const DOMAINS: u64 = 2;

/// What `scripts/setup.sh` fetches for the tests.
fn tool(name: &str) -> PathBuf {
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools");
    let tool = tools.join(name);
    assert!(tool.exists(), "{} is not there: run scripts/setup.sh", tool.display());
    tool
}

fn testbed(test: u8) -> Testbed {
    need_root("network namespaces and XDP");
    let mut testbed = Testbed::set_with(&format!("{}{test}", own_name()), 0).unwrap();
    testbed.set_program(BATON.into());
    testbed
}

/// Dispatch server and two autonomous servers, twenty conferences, reports and probes.
fn cluster(testbed: &Testbed) -> Cluster<'_> {
    let ledger = scenario::conferences(DOMAINS, 20, 10);
    let simulation = vec!["--terminals".into(), scenario::terminals_per_domain(&ledger).to_string()];
    let mut cluster = Cluster::start(testbed, &ClusterConfig { simulation, ..ClusterConfig::new(DOMAINS) }).unwrap();
    cluster.wait("control", |cluster| Ok(cluster.in_control().then_some(()))).unwrap();
    cluster.start_meetings(&ledger, || ()).unwrap();
    cluster.servers.rate(2_000, 1_000).unwrap();
    cluster
}

fn logs(testbed: &Testbed) -> Vec<(PathBuf, Log)> {
    let folder = testbed.database().with_file_name("telemetry");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), Log::read(&fs::read(path).unwrap()))).collect()
}

/// A log has what was reported since the engine that writes it began.
fn wait_for_reports(testbed: &Testbed, file: usize, seconds: usize) {
    for _ in 0..600 {
        if let Some((_, log)) = logs(testbed).get(file)
            && log.intervals.iter().filter(|interval| interval.tag == "processing").count() >= seconds
        {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("no {seconds} intervals of reports in log {file}: {:?}", logs(testbed));
}

fn metrics(testbed: &Testbed, arguments: &[&str]) -> Output {
    Command::new(BATON)
        .args(["metrics", "--socket"])
        .arg(testbed.run().join("api.sock"))
        .args(arguments)
        .output()
        .unwrap()
}

fn promtool(arguments: &[&str], input: &[u8]) {
    let mut child = Command::new(tool("promtool"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let done = child.wait_with_output().unwrap();
    let said = [done.stdout, done.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(done.status.success() && !said.to_lowercase().contains("fail"), "promtool {}: {said}", arguments.join(" "));
}

/// Families of metrics in a text, by the strict parser of Prometheus' own client for Python.
fn families(open: &str) -> usize {
    let script = "import sys; from prometheus_client.openmetrics.parser import text_string_to_metric_families as read; \
                  print(len(list(read(sys.stdin.read()))))";
    let mut child = Command::new(tool("python/bin/python"))
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(open.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{}\n{open}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().parse().unwrap()
}

#[test]
fn logs_are_read_by_another_implementation_and_tell_of_a_death() {
    let testbed = testbed(0);
    let mut cluster = cluster(&testbed);
    wait_for_reports(&testbed, 0, 2);
    let (old, engine) = (cluster.status().unwrap().epoch(), cluster.engine().unwrap());
    signal_to(engine, Signal::KILL).unwrap();
    cluster.wait("the recovery", |cluster| Ok(cluster.status()?.recovery_after(old))).unwrap();
    wait_for_reports(&testbed, 1, 2);
    let engine = cluster.engine().unwrap();
    // What an engine has at hand is what it wrote.
    let live = Log::read(cluster.api.get_text("/hlog", "text/plain").unwrap().as_bytes());
    let rules = testbed.data().join("live.toml");
    fs::write(&rules, "[[latency]]\nstage = \"processing\"\npercentile = 50\nbound = \"10s\"\n").unwrap();
    let live_check = Command::new(BATON)
        .args(["sla", "check", "--rules"])
        .arg(&rules)
        .arg("--socket")
        .arg(testbed.run().join("api.sock"))
        .output()
        .unwrap();
    assert!(cluster.dispatch.signal(Signal::TERM).is_ok() && cluster.dispatch.wait().unwrap().success());

    let logs = logs(&testbed);
    let [(_, first), (_, second)] = &logs[..] else { panic!("a log for each engine: {logs:?}") };
    for (_, log) in &logs {
        assert_eq!(log.broken, []);
        assert!(log.frames.iter().map(|frames| frames.received).sum::<u64>() > 2_000, "{log:?}");
        assert!(log.frames.iter().all(|frames| frames.dropped == 0), "nothing was lost: {log:?}");
        assert_eq!(log.recoveries.len(), 1, "{log:?}");
    }
    assert_eq!(second.engine.as_ref().unwrap().pid, engine);
    assert!(second.intervals.starts_with(&live.intervals[..2]), "{live:?}");
    let (start, recovery) = (&first.recoveries[0], &second.recoveries[0]);
    assert!(!start.succeeds && recovery.succeeds, "the one began, the other followed: {start:?} {recovery:?}");
    assert_eq!((&*recovery.path, recovery.unreached), ("cache", 0));
    assert!(recovery.meetings >= 20, "a conference has a part at least: {recovery:?}");
    let steps = [recovery.first_frame_ns.unwrap(), recovery.acknowledged_ns, recovery.reconciled_ns];
    assert!(steps.is_sorted() && steps[0] > 0, "{recovery:?}");

    // What came of it, by rules, from the files and from an engine while it ran.
    let rules = testbed.data().join("sla.toml");
    fs::write(&rules, "[[reset]]\nphase = \"acknowledged\"\nbound = \"10s\"\n[[loss]]\nbound = 0.0\n").unwrap();
    let folder = testbed.database().with_file_name("telemetry");
    let checked = Command::new(BATON).args(["sla", "check", "--rules"]).arg(&rules).arg(&folder).output().unwrap();
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    assert_eq!(live_check.status.code(), Some(0), "{live_check:?}");
    assert!(String::from_utf8_lossy(&live_check.stdout).contains("HELD"), "{live_check:?}");

    // PyPI's reader, line by line.
    let paths = logs.iter().map(|(path, _)| path);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/telemetry/read_hlog.py");
    let done = Command::new(tool("python/bin/python")).arg(script).args(paths).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let theirs: Vec<Value> = done.stdout.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    let ours: Vec<_> = logs.iter().flat_map(|(_, log)| &log.intervals).collect();
    assert_eq!(theirs.len(), ours.len(), "it reads every line");
    for (theirs, ours) in theirs.iter().zip(ours) {
        let histogram = ours.histogram();
        assert_eq!((theirs["tag"].as_str(), theirs["count"].as_u64()), (Some(&*ours.tag), Some(histogram.len())));
        let start = theirs["start_ms"].as_f64().unwrap() / 1000.0;
        assert!((start - ours.start_s).abs() < 0.002, "{theirs} {ours:?}");
        // Which of so many values a percentile is, it rounds to the nearest, and the library
        // upwards.
        let read = |percentile: f64| {
            let rank = ((percentile / 100.0 * histogram.len() as f64 + 0.5) as u64).max(1);
            let mut below = 0;
            let reaches = |value: &IterationValue<u64>| {
                below += value.count_at_value();
                below >= rank
            };
            histogram.iter_recorded().find(reaches).unwrap().value_iterated_to()
        };
        let percentiles: Vec<_> =
            theirs["percentiles"].as_array().unwrap().iter().map(|it| it.as_u64().unwrap()).collect();
        assert_eq!(percentiles, [read(50.0), read(99.0), read(99.9), read(100.0)], "{theirs}");
    }
}

#[test]
fn metrics_are_as_prometheus_wants_them_and_no_scraper_holds_anything_up() {
    let testbed = testbed(1);
    let mut cluster = cluster(&testbed);
    wait_for_reports(&testbed, 0, 2);

    let done = metrics(&testbed, &[]);
    assert!(done.status.success(), "{done:?}");
    promtool(&["check", "metrics"], &done.stdout);
    let text = String::from_utf8(done.stdout).unwrap();
    let value = |text: &str, sample: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {sample} in\n{text}")).parse().unwrap()
    };
    assert_eq!(value(&text, "baton_in_control"), 1.0);
    let table = cluster.ask("/table").unwrap();
    let parts = |domain: Option<u64>| {
        let all = table["parts"].as_array().unwrap().iter();
        all.filter(|part| domain.is_none_or(|domain| part["domain"] == domain)).count() as f64
    };
    assert_eq!(value(&text, r#"baton_meeting_parts{state="in_meeting"}"#), parts(None));
    assert_eq!(value(&text, r#"baton_domain_parts_taken_over{domain="1"}"#), parts(Some(1)));
    assert!(parts(Some(1)) > 0.0 && parts(None) > parts(Some(1)), "{table}");
    assert_eq!(value(&text, r#"baton_link_up{domain="2"}"#), 1.0);
    assert_eq!(value(&text, r#"baton_xdp_socket_events_total{queue="0",socket="0",event="receive_ring_full"}"#), 0.0);
    assert!(value(&text, r#"baton_ring_waiting{queue="0",socket="0",ring="fill"}"#) > 0.0);
    assert!(value(&text, r#"baton_xdp_frames_total{verdict="steered"}"#) > 1_000.0);
    let received = value(&text, "baton_frames_received_total");
    assert!(received > 2_000.0 && value(&text, r#"baton_stage_duration_seconds_count{stage="processing"}"#) > 1_000.0);
    let open = String::from_utf8(metrics(&testbed, &["--openmetrics"]).stdout).unwrap();
    assert!(open.ends_with("# EOF\n") && value(&open, "baton_frames_received_total") >= received, "{open}");
    assert!(families(&open) > 40, "a family for each description");

    // What alerts and dashboard ask for is there.
    let alerts = fs::read_to_string(format!("{PROMETHEUS}alerts.yml")).unwrap();
    let asked = [alerts, dashboard().join("\n")].join("\n");
    let there = names(&text);
    let missing: Vec<_> = names(&asked).into_iter().filter(|name| !there.contains(name)).collect();
    assert!(missing.is_empty() && names(&asked).len() > 20, "{missing:?} in {asked}");

    // As many as may, who connect and never ask.
    let exporter = Exporter::start(&testbed);
    let mut hanging: Vec<_> = (0..baton::limits::SCRAPERS_MAX - 1).map(|_| exporter.connect()).collect();
    hanging.iter_mut().for_each(|stream| stream.write_all(b"GET /metr").unwrap());
    cluster.servers.reset_counters().unwrap();
    let served = exporter.scrape();
    assert_eq!(value(&served, "baton_up"), 1.0);
    assert!(value(&served, "baton_frames_received_total") > received);
    hanging.push(exporter.connect());
    // Beyond what may, one waits, until the longest of them are broken off.
    assert_eq!(value(&exporter.scrape(), "baton_up"), 1.0);
    let rest = cluster.come_to_rest().unwrap();
    assert_eq!(rest.probes_unanswered, 0, "the worker has not noticed");
    drop(hanging);

    // Nobody left who could answer.
    cluster.dispatch.signal(Signal::TERM).unwrap();
    cluster.dispatch.wait().unwrap();
    let none = exporter.scrape();
    assert_eq!(value(&none, "baton_up"), 0.0);
    promtool(&["check", "metrics"], none.as_bytes());
}

const PROMETHEUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/prometheus/");

/// Every expression of the dashboard, with Grafana's variables filled in.
fn dashboard() -> Vec<String> {
    let text = fs::read_to_string(format!("{PROMETHEUS}dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let targets = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let filled =
        |expr: &str| expr.replace("$__rate_interval", "1m").replace("$__range", "1h").replace("$instance", ".*");
    targets.map(|target| filled(target["expr"].as_str().unwrap())).collect()
}

/// Every name of a metric of ours in a text, without what a histogram appends.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|it: char| !(it.is_ascii_alphanumeric() || it == '_'));
    let of_ours = words.filter(|word| word.starts_with("baton_"));
    of_ours
        .map(|name| ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name))
        .collect()
}

#[test]
fn alerts_and_dashboard_are_what_prometheus_understands() {
    let file = |name: &str| format!("{PROMETHEUS}{name}");
    promtool(&["check", "rules", &file("alerts.yml")], b"");
    promtool(&["test", "rules", &file("alerts_test.yml")], b"");
    promtool(&["check", "config", &file("prometheus.yml")], b"");
    // A dashboard's expressions, as rules that record them.
    let rules = dashboard().iter().enumerate().fold("groups:\n- name: d\n  rules:\n".to_owned(), |rules, (n, expr)| {
        format!("{rules}  - record: d:{n}\n    expr: {}\n", serde_json::to_string(expr).unwrap())
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dashboard.yml");
    fs::write(&path, rules).unwrap();
    promtool(&["check", "rules", path.to_str().unwrap()], b"");
}

/// `baton metrics --listen`, killed when this goes.
struct Exporter(Child, String);

impl Exporter {
    fn start(testbed: &Testbed) -> Self {
        let mut child = Command::new(BATON)
            .args(["metrics", "--listen", "127.0.0.1:0", "--socket"])
            .arg(testbed.run().join("api.sock"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next());
        let address = address.unwrap_or_else(|| panic!("where it listens: {line}")).to_owned();
        Self(child, address)
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.1).unwrap()
    }

    fn scrape(&self) -> String {
        let mut stream = self.connect();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: baton\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.0 200"), "{head}");
        body.to_owned()
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
