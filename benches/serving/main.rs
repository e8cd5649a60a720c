//! A real dispatch server under `baton load`: how its workers wait, what an idle one costs, what it
//! bears for a minute, and what a flood of forgeries does to it. `scripts/bench.sh serving` builds
//! and runs it; benches/README.md says what the figures mean.

mod loaded;
mod server;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use baton::config::Wait;
use baton::lab::testbed::{self, Testbed};
use baton::sla::median;
use clap::Parser;
use serde::Serialize;
use serde_json::{Value, json};

use loaded::{Asked, load, number};
use server::Server;

/// Load a dispatch server that holds 2,000 meetings of ten terminals.
#[derive(Parser, Debug)]
struct Args {
    /// Write the figures here as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Rounds in which the ways to wait take turns
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    rounds: u32,
    /// Seconds for which what is borne is sent
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    soak_s: u32,
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

/// Probes a second while waiting is measured.
const PROBES: u32 = 10_000;
/// How long idle processors' time is counted.
const IDLE: Duration = Duration::from_secs(10);

/// What a figure has to be.
#[derive(Debug, Serialize)]
struct Target {
    name: &'static str,
    figure: f64,
    unit: &'static str,
    bound: f64,
    holds: bool,
}

fn at_most(name: &'static str, figure: f64, bound: f64, unit: &'static str) -> Target {
    Target { name, figure, unit, bound, holds: figure <= bound }
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
            eprintln!("serving: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    let mut testbed = Testbed::set(&args.testbed)?;
    testbed.set_program(env!("CARGO_BIN_EXE_baton").into());
    testbed::clear_on_interrupt(args.testbed.clone());
    let (waiting, idle) = waiting(&testbed, args.rounds)?;
    let (search, soak) = soak(&testbed, args.soak_s)?;
    let flood = flood(&testbed)?;

    let p99 = |wait: &str| waiting[wait]["p99_us"].as_f64().unwrap_or(f64::NAN);
    let mut targets = vec![
        at_most("adaptive waiting, p99 of a probe, against busy", p99("adaptive") / p99("busy"), 3.0, "×"),
        at_most("processor time of an idle server that waits adaptively", idle, 1.0, "% of one"),
        at_most("lost at 90 % of the non-drop rate", number(&soak, "/answers/lost"), 0.0, "frames"),
        at_most("parts and terminals that a flood of forgeries changed", number(&flood, "/changed"), 0.0, "records"),
    ];
    targets.push(at_most(
        "answers of the control thread under a flood, p50, against none",
        number(&flood, "/during/p50_us") / number(&flood, "/before/p50_us"),
        1.5,
        "×",
    ));
    println!();
    for Target { name, figure, unit, bound, holds } in &targets {
        println!("{} {name}: {figure:.2} {unit} (bound {bound})", if *holds { "holds " } else { "MISSED" });
    }
    if let Some(file) = &args.json {
        let figures = json!({
            "bench": "serving", "waiting": waiting, "idle_percent": idle, "search": search, "soak": soak,
            "flood": flood, "targets": targets,
        });
        std::fs::write(file, serde_json::to_string_pretty(&figures)? + "\n")?;
    }
    Ok(targets.iter().all(|target| target.holds))
}

/// Probes at a steady rate by each way to wait, in turns; and what the adaptive one costs when
/// nothing comes.
fn waiting(testbed: &Testbed, rounds: u32) -> Result<(Value, f64), Box<dyn Error>> {
    let ways = [("busy", Wait::Busy), ("adaptive", Wait::Adaptive), ("sleep", Wait::Sleep)];
    let mut times = ways.map(|_| (Vec::new(), Vec::new()));
    let mut idle = f64::NAN;
    for round in 0..rounds {
        for ((_, wait), (p50, p99)) in ways.iter().zip(&mut times) {
            let mut server = Server::start(testbed, *wait)?;
            let asked = Asked::Steady { what: "probes", rate: PROBES, seconds: 4 };
            let told = load(testbed, &server, asked)?;
            p50.push(number(&told, "/answers/latency/probe/p50_ns") / 1e3);
            p99.push(number(&told, "/answers/latency/probe/p99_ns") / 1e3);
            if round == 0 && *wait == Wait::Adaptive {
                thread::sleep(Duration::from_secs(1));
                let before = server.processor_time()?;
                thread::sleep(IDLE);
                idle = (server.processor_time()? - before).as_secs_f64() / IDLE.as_secs_f64() * 100.0;
            }
            server.stop()?;
        }
    }
    let mut all = serde_json::Map::new();
    println!("{PROBES} probes a second, from when each was to be sent to its echo, medians of {rounds} rounds:");
    for ((name, _), (p50, p99)) in ways.into_iter().zip(times) {
        let told =
            json!({ "p50_us": median(p50.clone()), "p99_us": median(p99.clone()), "p50s_us": p50, "p99s_us": p99 });
        println!("  {name:10} p50 {:7.1} µs   p99 {:7.1} µs", number(&told, "/p50_us"), number(&told, "/p99_us"));
        all.insert(name.into(), told);
    }
    println!("idle, waiting adaptively: engine, standby and keeper take {idle:.2} % of a processor");
    Ok((all.into(), idle))
}

/// The highest rate of reports without loss, and nine tenths of that for a while.
fn soak(testbed: &Testbed, seconds: u32) -> Result<(Value, Value), Box<dyn Error>> {
    let mut server = Server::start(testbed, Wait::Adaptive)?;
    let search = load(testbed, &server, Asked::Search { what: "reports" })?;
    let rate = search["non_drop_rate"].as_f64().ok_or("no rate was borne without loss")?;
    println!("reports without loss: {:.0} a second", rate);
    let rate = (rate * 0.9) as u32;
    let soak = load(testbed, &server, Asked::Steady { what: "reports", rate, seconds })?;
    println!(
        "{rate} a second for {seconds} s: {} sent, {} lost",
        number(&soak, "/sent"),
        number(&soak, "/answers/lost")
    );
    server.stop()?;
    Ok((search, soak))
}

/// As many forgeries as the kernel can send, and what they change.
fn flood(testbed: &Testbed) -> Result<Value, Box<dyn Error>> {
    let mut server = Server::start(testbed, Wait::Adaptive)?;
    // The sender's MAC is learned once, by authentic frames.
    load(testbed, &server, Asked::Steady { what: "probes", rate: 1000, seconds: 1 })?;
    let before = server.content()?;
    let quiet = server.control_times()?;
    let (flood, during) = thread::scope(|scope| {
        let flood = scope.spawn(|| {
            load(testbed, &server, Asked::Flood { what: "forgeries", seconds: 8 }).map_err(|error| error.to_string())
        });
        // It has set itself up, and is not over.
        thread::sleep(Duration::from_secs(3));
        let during = server.control_times();
        (flood.join().expect("a load does not panic"), during)
    });
    let (flood, during) = (flood?, during?);
    let changed = server.changes_since(&before)?;
    println!(
        "{:.2} million forgeries a second changed {changed} records; the control thread answered in {:.0} µs (p50), {:.0} (p99), \
         before in {:.0} and {:.0}",
        number(&flood, "/sent") / number(&flood, "/seconds").max(1e-9) / 1e6,
        number(&during, "/p50_us"),
        number(&during, "/p99_us"),
        number(&quiet, "/p50_us"),
        number(&quiet, "/p99_us"),
    );
    server.stop()?;
    Ok(json!({ "changed": changed, "flood": flood, "before": quiet, "during": during }))
}
