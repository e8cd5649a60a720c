//! Baton's data plane against other receivers and echoers, on one veth pair, in one run.
//!
//! The kernel generates frames on core 0, one call for all of a trial, and the contestant has
//! core 1. All get the same reports, of which no two are the same. Frames cross the pair, and what
//! the kernel does to receive them, it does on core 0 too, for all alike. Contestants take turns,
//! round by round. A contestant that cannot run is named, with what it said.

mod contestants;
mod failure;
mod generator;
mod instructions;
mod kernel;
mod net;
mod priority;
mod report;
mod reports;
mod round_trip;
mod run;
mod trial;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use baton::lab::testbed::huge_pages::{self, HugeFolder};
use baton::lab::testbed::netns::{Ends, Pair};
use baton::sla::percentile;
use baton::table::Table;
use clap::{Parser, ValueEnum};

use contestants::Kind;
use failure::Failure;
use generator::FRAME;
use priority::Priority;
use report::{Everything, Figures};
use run::Mode;
use trial::{Bench, Search, Trial};

/// Huge pages for the table.
const HUGE_PAGES: u64 = 300;

/// Receivers and echoers on one veth pair.
#[derive(Parser)]
struct Options {
    /// Rounds; all contestants take their turn in each.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Frames of a trial that overloads.
    #[arg(long, default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(1 << 16..=generator::FRAMES as i64))]
    frames: u32,
    /// Bytes of the longer frames; the others are REPORTs of 96.
    #[arg(long, default_value_t = 1088, value_parser = clap::value_parser!(u32).range(96..=1500))]
    long: u32,
    /// Steps of the search for the highest rate without loss, each of which halves the range; 0 for
    /// no search.
    #[arg(long, default_value_t = 7)]
    steps: u32,
    /// How long a step sends.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    step_s: f64,
    /// Round trips of a trial.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    round_trips: u32,
    /// Only these.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Kind>,
    /// Only what these do.
    #[arg(long, value_enum, value_delimiter = ',')]
    does: Vec<Mode>,
    /// Does not count instructions and cycles.
    #[arg(long)]
    no_count: bool,
    /// What the namespaces are called, with `l` and `r` behind it.
    #[arg(long, default_value = "baton-dp")]
    testbed: String,
    /// Where the table lies; where it is not said, on huge pages that are borrowed, as on dispatch
    /// hardware.
    #[arg(long)]
    memory: Option<PathBuf>,
    /// Gives back the huge pages that a killed run borrowed, and does nothing else.
    #[arg(long, hide = true)]
    give_back: bool,
    /// This process is the one whose instructions are counted.
    #[arg(long, hide = true)]
    counted: Option<Kind>,
    #[arg(long, hide = true)]
    tagged: bool,
    /// Writes every figure there.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = if options.give_back {
        huge_pages::give_back_for_the_dead().map(|()| true).map_err(Into::into)
    } else if let Some(kind) = options.counted {
        instructions::be_counted(kind, options.tagged, options.memory.as_deref()).map(|()| true)
    } else {
        measure(&options)
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn measure(options: &Options) -> Result<bool, Failure> {
    let begun = Instant::now();
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let processor = model.map_or("unknown", |(_, model)| model).to_owned();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
    let has_counters = instructions::has_counters();
    println!("{processor}, Linux {kernel}");
    println!(
        "the processor has {}",
        if has_counters { "counters" } else { "no counters: instructions are single-stepped, cycles are not known" }
    );
    let real_time = Priority::is_permitted();
    println!("real-time priority is {}permitted\n", if real_time { "" } else { "not " });

    let names = ["l", "r"].map(|side| format!("{}{side}", options.testbed));
    let mut bench = Bench::new(Pair::with(names, &Ends::of_queues(1))?)?;
    let trials = trials(options);
    let has_worker = trials.iter().any(|trial| trial.contestant == Kind::BatonWorker);
    let (table, _memory) = has_worker.then(|| table(options)).transpose()?.unzip();
    let mut results: Vec<_> = trials.into_iter().map(Figures::of).collect();
    let search = Search { steps: options.steps, step_seconds: options.step_s };
    for round in 0..options.rounds {
        for figures in &mut results {
            if figures.trial.mode == Mode::Check && round > 0 {
                continue;
            }
            if let Err(error) = one(&mut bench, figures, table.as_ref(), options, search) {
                let Trial { contestant, mode, .. } = figures.trial;
                eprintln!("{} cannot {mode:?}: {error}", contestant.name());
                figures.error = Some(error.to_string());
            }
        }
        eprintln!("round {} of {} after {:.0} s", round + 1, options.rounds, begun.elapsed().as_secs_f64());
    }
    if !options.no_count {
        for figures in &mut results {
            let Trial { contestant, mode, frame_bytes, .. } = figures.trial;
            if contestant.can_be_counted() && matches!(mode, Mode::Drop | Mode::Report) && frame_bytes == FRAME {
                figures.user_space = Some(bench.count(figures.trial, options.memory.as_deref())?);
            }
        }
        eprintln!("instructions after {:.0} s", begun.elapsed().as_secs_f64());
    }
    report::print(&results);
    let targets = report::targets(&results);
    let holds = report::judge(&targets);
    if let Some(file) = &options.json {
        let bench = "dataplane";
        let everything = Everything { bench, processor, kernel, has_counters, real_time, search, results, targets };
        std::fs::write(file, serde_json::to_string_pretty(&everything)?)?;
    }
    Ok(holds)
}

/// What each contestant is to do, in the order of a round.
fn trials(options: &Options) -> Vec<Trial> {
    let chosen = |kind: &Kind| options.only.is_empty() || options.only.contains(kind);
    let kinds: Vec<_> = Kind::value_variants().iter().copied().filter(chosen).collect();
    let long = options.long as usize;
    let all = [
        (Mode::Check, FRAME, true),
        (Mode::Drop, FRAME, false),
        (Mode::Report, FRAME, false),
        (Mode::Drop, FRAME, true),
        (Mode::Report, FRAME, true),
        (Mode::Drop, long, true),
        (Mode::Echo, FRAME, true),
        (Mode::Echo, long, true),
        (Mode::RoundTrip, FRAME, true),
    ];
    let does = |mode: &Mode| options.does.is_empty() || options.does.contains(mode);
    let all = all.into_iter().filter(|(mode, ..)| does(mode));
    all.flat_map(|(mode, frame_bytes, tagged)| {
        let able = kinds.iter().filter(move |kind| kind.can(mode));
        able.map(move |&contestant| Trial { contestant, mode, frame_bytes, tagged })
    })
    .collect()
}

/// One turn of one contestant.
fn one(
    bench: &mut Bench,
    figures: &mut Figures,
    table: Option<&Arc<Table>>,
    options: &Options,
    search: Search,
) -> Result<(), Failure> {
    let trial = figures.trial;
    match trial.mode {
        Mode::Check => figures.different = Some(bench.check(trial, table)?),
        Mode::RoundTrip => {
            let times = bench.round_trips(trial, options.round_trips)?;
            figures.p50_us.push(microseconds(&times, 0.5));
            figures.p99_us.push(microseconds(&times, 0.99));
        }
        Mode::Drop | Mode::Report | Mode::Echo => {
            let is_searched = trial.mode != Mode::Echo && trial.frame_bytes == FRAME && search.steps > 0;
            let search = is_searched.then_some(search);
            let (overload, lossless) = bench.rates(trial, table, options.frames, search)?;
            figures.overload.push(overload);
            figures.lossless.extend(lossless);
        }
    }
    Ok(())
}

/// The worker's table, and the memory that it lies in where that is borrowed.
fn table(options: &Options) -> Result<(Arc<Table>, Option<HugeFolder>), Failure> {
    if let Some(folder) = &options.memory {
        return Ok((reports::table(folder)?, None));
    }
    let folder = HugeFolder::new(HUGE_PAGES)?;
    Ok((reports::table(folder.path())?, Some(folder)))
}

/// A percentile of sorted times in nanoseconds, in microseconds.
fn microseconds(times: &[u64], share: f64) -> f64 {
    percentile(times, share).map_or(f64::NAN, |ns| ns as f64 / 1e3)
}
