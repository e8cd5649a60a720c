//! How fast control comes back, by RFC 6201: real dispatch servers killed under load, at a thousand
//! meetings and at a million. `scripts/bench.sh recovery` builds and runs it; benches/README.md
//! says what the figures mean.

mod faults;
mod figures;
mod losses;
mod measure;
mod micro;
mod plot;
mod prepare;
mod sizes;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::Duration;

use baton::lab::testbed;
use baton::text::time;
use clap::Parser;
use serde_json::{Value, json};

use figures::{OfSize, Target};
use measure::say;
use sizes::{ALL, Size};

/// Bytes of an Ethernet frame with a REPORT or PROBE: Ethernet 14, addresses and reserved 18,
/// payload 64.
const FRAME_BYTES: u32 = 96;

/// Kill dispatch servers under load, and measure how control comes back.
#[derive(Parser, Debug)]
struct Args {
    /// Measure with so many conferences; may be given several times. Default: 1,000, 20,736,
    /// 100,000 and 1,000,000
    #[arg(long, value_name = "COUNT")]
    meetings: Vec<u32>,
    /// Kills of the engine at each size; other faults come a third or a sixth as often
    #[arg(long, value_name = "COUNT")]
    trials: Option<u32>,
    /// Reports a second, over all terminals
    #[arg(long, value_name = "RATE", default_value_t = 10_000)]
    reports: u64,
    /// Probes a second; each one unanswered is a frame lost
    #[arg(long, value_name = "RATE", default_value_t = 2000)]
    probes: u64,
    /// What a worker does while its ring is empty
    #[arg(long, value_enum, default_value_t = Wait::Sleep)]
    wait: Wait,
    /// Let threads run where they are put, not simulation on core 0 and worker on core 1
    #[arg(long)]
    no_pin: bool,
    /// Let the simulation sleep when it has nothing to do: its wake-up is in the figures then
    #[arg(long)]
    no_spin: bool,
    /// Seconds that one fault at one size may take, over all trials
    #[arg(long, value_name = "SECONDS", default_value_t = 75)]
    budget_s: u64,
    /// Seconds that a recovery is waited for to be reconciled before the next trial
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    reconcile_s: u64,
    /// Write everything that was measured to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw time over size into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Measure nothing but the simulation itself
    #[arg(long)]
    simulation_only: bool,
    /// Enter another bench's JSON under its name in ours, and its targets among ours
    #[arg(long, value_name = "FILE", requires = "json", hide = true)]
    merge: Option<PathBuf>,
    /// The testbed's name
    #[arg(long, value_name = "TESTBED", hide = true)]
    testbed: Option<String>,
    /// Do nothing but clear away what a testbed of this name has left
    #[arg(long, value_name = "TESTBED", hide = true)]
    clear: Option<String>,
    /// As cargo says to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a worker does while its ring is empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Wait {
    Busy,
    Adaptive,
    Sleep,
}

impl Wait {
    const fn word(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Adaptive => "adaptive",
            Self::Sleep => "sleep",
        }
    }
}

impl Args {
    /// How many there are: asked once, for this program is on one of its own soon.
    fn cores() -> usize {
        static CORES: LazyLock<usize> = LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from));
        *CORES
    }

    fn pins(&self) -> bool {
        !self.no_pin && Self::cores() >= 2
    }

    fn spins(&self) -> bool {
        !self.no_spin
    }

    fn budget(&self) -> Duration {
        Duration::from_secs(self.budget_s)
    }

    fn reconcile(&self) -> Duration {
        Duration::from_secs(self.reconcile_s)
    }

    fn sizes(&self) -> Vec<Size> {
        if self.meetings.is_empty() { ALL.into() } else { self.meetings.iter().map(|&it| Size::with(it)).collect() }
    }

    fn settings(&self) -> Value {
        json!({
            "reports_per_second": self.reports,
            "probes_per_second": self.probes,
            "frame_bytes": FRAME_BYTES,
            "operators": testbed::workload::OPERATORS,
            "worker_wait": self.wait.word(),
            "simulation_spins": self.spins(),
            "simulation_core": self.pins().then_some(0),
            "worker_core": self.pins().then_some(1),
        })
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match (&args.clear, &args.merge, &args.json) {
        (Some(name), ..) => testbed::clear(name).map(|()| true).map_err(Into::into),
        (_, Some(theirs), Some(ours)) => merge(ours, theirs),
        _ => run(&args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("recovery: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Gives whether every target holds.
fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    // Where the simulation is, so that the dispatch server has the other core for itself, as it has
    // a machine.
    if args.pins() && !core_affinity::set_for_current(core_affinity::CoreId { id: 0 }) {
        return Err("this program cannot be pinned to core 0; --no-pin leaves threads where they are put".into());
    }
    eprintln!("  the simulation itself");
    let simulation = micro::measure();
    say(&format!(
        "{:.1} ns a meeting taken over; a page of 63 in {:.2} µs, of which {:.2} µs check its tag and {:.2} µs answer; \
         digest of {} in {:.2} ms; set up in {:.0} ms",
        simulation.meeting_ns,
        simulation.page_ns / 1e3,
        simulation.tag_check_ns / 1e3,
        simulation.answer_ns / 1e3,
        simulation.meetings,
        simulation.digest_ms,
        simulation.set_up_ms,
    ));
    let mut sizes: Vec<OfSize> = Vec::new();
    let mut failed = None;
    if !args.simulation_only {
        if !rustix::process::geteuid().is_root() {
            return Err("this makes network namespaces and loads XDP programs, which needs root".into());
        }
        let name = args.testbed.clone().unwrap_or_else(testbed::own_name);
        testbed::clear_on_interrupt(name.clone());
        for size in args.sizes() {
            let begun = std::time::Instant::now();
            eprintln!("  {} meetings, {} autonomous servers", size.name(), size.domains);
            match measure::measure(size, args, &name) {
                Ok(of) => sizes.push(of),
                // What was measured before is still worth having.
                Err(error) => {
                    say(&format!("FAILED: {error}"));
                    failed = Some(error);
                    continue;
                }
            }
            say(&format!("took {}", time(begun.elapsed())));
        }
    }
    let mut all = figures::json(machine(), args.settings(), &sizes, &simulation);
    if let Some(error) = &failed {
        all["failed"] = error.to_string().into();
    }
    if let Some(file) = &args.json {
        write(file, &(serde_json::to_string_pretty(&all)? + "\n"))?;
    }
    if let Some(file) = &args.svg {
        let load = format!("{} reports and {} probes a second, {FRAME_BYTES} bytes each", args.reports, args.probes);
        write(file, &plot::svg(&sizes, &load))?;
    }
    let targets = figures::targets(&sizes);
    print(&targets);
    failed.map_or(Ok(targets.iter().all(|target| target.holds)), Err)
}

fn print(targets: &[Target]) {
    let width = targets.iter().map(|target| target.name.chars().count()).max().unwrap_or(0);
    for Target { name, figure, unit, bound, holds } in targets {
        let figure = figure.map_or("not measured".to_owned(), |figure| format!("{figure:.2} {unit}"));
        let verdict = if *holds { "holds" } else { "MISSED" };
        println!("  {name:<width$}  {figure:>14}  of {bound} {unit}  {verdict}");
    }
}

/// What else was measured comes into our file, with its targets.
fn merge(ours: &Path, theirs: &Path) -> Result<bool, Box<dyn Error>> {
    let read = |file: &Path| -> Result<Value, Box<dyn Error>> { Ok(serde_json::from_str(&fs::read_to_string(file)?)?) };
    let (mut all, other) = (read(ours)?, read(theirs)?);
    let rows = other["targets"].as_array().cloned().unwrap_or_default();
    let holds = rows.iter().all(|row| row["holds"] == true);
    all["targets"].as_array_mut().ok_or("no targets in our file")?.extend(rows);
    all["peers"] = other;
    write(ours, &(serde_json::to_string_pretty(&all)? + "\n"))?;
    Ok(holds)
}

fn write(file: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()).into())
}

fn machine() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    json!({
        "cpu": model.map(|(_, name)| name),
        "cores": Args::cores(),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "memory_kib": read("/proc/meminfo").split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()),
    })
}
