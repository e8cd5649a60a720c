//! A server under load whose engine is killed once, and what `baton sla` makes of its logs.
//! `scripts/bench.sh sla` builds and runs it; benches/README.md says what the figures mean.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::thread;
use std::time::Duration;

use baton::lab::testbed::cluster::{Cluster, ClusterConfig, ClusterError};
use baton::lab::testbed::processes::signal_to;
use baton::lab::testbed::{self, Testbed, scenario};
use baton::wire::Epoch;
use clap::Parser;
use rustix::process::Signal;
use serde::Serialize;
use serde_json::{Value, json};

/// Load a dispatch server, kill its engine once, and hold rules against its logs.
#[derive(Parser, Debug)]
struct Args {
    /// Write the figures here as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the page here
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Seconds of load, in the middle of which the engine is killed
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(10..))]
    seconds: u64,
    /// What the testbed is called
    #[arg(long, default_value_t = testbed::own_name())]
    testbed: String,
    /// Clear a testbed away and do nothing else
    #[arg(long, value_name = "TESTBED")]
    clear: Option<String>,
    /// As cargo says to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

const DOMAINS: u64 = 4;
const MEETINGS: usize = 500;
const MEMBERS: usize = 10;
/// A second, over all domains.
const REPORTS: u64 = 20_000;
const PROBES: u64 = 2_000;
const RULES: &str = include_str!("rules.toml");
/// What the page's outage may differ from what the autonomous servers saw: the kill's way to the
/// notice, and a frame's.
const DIFFERENCE_MAX_MS: f64 = 5.0;

/// What a figure has to be.
#[derive(Debug, Serialize)]
struct Target {
    name: &'static str,
    figure: f64,
    unit: &'static str,
    bound: f64,
    holds: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.clear {
        Some(testbed) => testbed::clear(testbed).map(|()| true).map_err(Into::into),
        None => run(&args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sla: {error}");
            ExitCode::from(2)
        }
    }
}

/// What was seen from outside.
struct Seen {
    killed_to_acknowledged_ms: f64,
    probes_unanswered: u64,
    reports_acknowledged: u64,
}

fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    testbed::clear_on_interrupt(args.testbed.clone());
    let mut testbed = Testbed::set(&args.testbed)?;
    let program = program()?;
    testbed.set_program(program.clone());
    let seen = run_under_load(&testbed, args.seconds)?;

    let logs = testbed.database().with_file_name("telemetry");
    let rules = testbed.data().join("rules.toml");
    fs::write(&rules, RULES)?;
    let page = args.html.clone().unwrap_or_else(|| testbed.data().join("sla.html"));
    let sla = |arguments: &[&str]| -> Result<Output, Box<dyn Error>> {
        let done = Command::new(&program).arg("sla").args(arguments).arg("--rules").arg(&rules).arg(&logs).output()?;
        if done.status.code() == Some(2) {
            return Err(String::from_utf8_lossy(&done.stderr).into_owned().into());
        }
        Ok(done)
    };
    print!("{}", String::from_utf8_lossy(&sla(&["check"])?.stdout));
    let verdicts: Value = serde_json::from_slice(&sla(&["check", "--json"])?.stdout)?;
    sla(&["report", "--title", "A server whose engine is killed once", "-o", &page.display().to_string()])?;
    let shown = resets_shown(&page)?;

    let outage_ms = rule(&verdicts, "reset acknowledged").map_or(f64::NAN, |rule| number(rule, "worst") * 1000.0);
    let target = |name, figure: f64, unit, bound: f64, holds| Target { name, figure, unit, bound, holds };
    let at_most = |name, figure: f64, unit, bound: f64| target(name, figure, unit, bound, figure <= bound);
    let broken = verdicts["broken"].as_array().map_or(f64::NAN, |broken| broken.len() as f64);
    let targets = [
        target("rules held", verdicts["held"].as_bool().map_or(0.0, f64::from), "of 1", 1.0, verdicts["held"] == true),
        target("outages on the page", shown as f64, "outages", 1.0, shown == 1),
        at_most(
            "the outage in the logs against that seen by the servers",
            (outage_ms - seen.killed_to_acknowledged_ms).abs(),
            "ms",
            DIFFERENCE_MAX_MS,
        ),
        at_most(
            "frames lost, by the logs",
            rule(&verdicts, "loss").map_or(f64::NAN, |it| number(it, "worst")),
            "share",
            0.0,
        ),
        at_most("frames lost, by the servers", seen.probes_unanswered as f64, "frames", 0.0),
        at_most("lines of the logs that cannot be read", broken, "lines", 0.0),
    ];
    println!(
        "\n{} reports acknowledged; the outage is {outage_ms:.2} ms by the logs, {:.2} ms from the kill as the servers saw it",
        seen.reports_acknowledged, seen.killed_to_acknowledged_ms
    );
    for target in &targets {
        let word = if target.holds { "holds " } else { "MISSED" };
        println!("{word} {}: {:.3} {}, bound {}", target.name, target.figure, target.unit, target.bound);
    }
    if let Some(file) = &args.json {
        let figures = json!({
            "bench": "sla", "seconds": args.seconds, "reports_a_second": REPORTS, "probes_a_second": PROBES,
            "outage_ms": outage_ms, "kill_to_acknowledged_ms": seen.killed_to_acknowledged_ms,
            "reports_acknowledged": seen.reports_acknowledged, "verdicts": verdicts, "targets": targets,
        });
        fs::write(file, serde_json::to_string_pretty(&figures)? + "\n")?;
    }
    Ok(targets.iter().all(|target| target.holds))
}

/// Half of the load, the kill, the other half, and a stop in order.
fn run_under_load(testbed: &Testbed, seconds: u64) -> Result<Seen, Box<dyn Error>> {
    let ledger = scenario::conferences(DOMAINS, MEETINGS, MEMBERS);
    let simulation = vec!["--terminals".into(), scenario::terminals_per_domain(&ledger).to_string()];
    let mut cluster = Cluster::start(testbed, &ClusterConfig { simulation, ..ClusterConfig::new(DOMAINS) })?;
    cluster.wait("control", |cluster| Ok(cluster.in_control().then_some(())))?;
    cluster.start_meetings(&ledger, || ())?;
    cluster.wait("a standby", |cluster| Ok((cluster.ask("/status")?["standby"] == "ready").then_some(())))?;
    let half = Duration::from_secs(seconds / 2);
    cluster.servers.reset_counters()?;
    cluster.servers.rate(REPORTS, PROBES)?;
    thread::sleep(half);
    let old = cluster.status()?.epoch();
    let killed = signal_to(cluster.engine()?, Signal::KILL)?;
    let back = cluster.wait("the recovery", |cluster: &mut Cluster<'_>| recovered(cluster, old))?;
    thread::sleep(half);
    let rest = cluster.come_to_rest()?;
    cluster.dispatch.signal(Signal::TERM)?;
    let status = cluster.dispatch.wait()?;
    if !status.success() {
        return Err(cluster.dispatch.ended(status).into());
    }
    Ok(Seen {
        killed_to_acknowledged_ms: back.since(killed).as_secs_f64() * 1000.0,
        probes_unanswered: rest.probes_unanswered,
        reports_acknowledged: rest.counters.reports_acknowledged,
    })
}

fn recovered(cluster: &mut Cluster<'_>, old: Epoch) -> Result<Option<baton::time::Nanos>, ClusterError> {
    Ok(cluster.status()?.recovery_after(old).map(|recovery| recovery.all_acknowledged))
}

fn rule<'a>(verdicts: &'a Value, name: &str) -> Option<&'a Value> {
    verdicts["rules"].as_array()?.iter().find(|rule| rule["rule"] == name)
}

fn number(rule: &Value, key: &str) -> f64 {
    rule[key].as_f64().unwrap_or(f64::NAN)
}

/// How many deaths the page's table has.
fn resets_shown(page: &Path) -> Result<usize, Box<dyn Error>> {
    Ok(fs::read_to_string(page)?.matches("<td>death</td>").count())
}

/// The program, which is built with the bench.
fn program() -> Result<PathBuf, Box<dyn Error>> {
    Ok(PathBuf::from(env!("CARGO_BIN_EXE_baton")).canonicalize()?)
}
