//! What a report costs a worker, and what two workers do beside each other.
//! `scripts/bench.sh worker` builds and runs it; benches/README.md says what the figures mean.

mod instructions;
mod overload;
mod rig;

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Barrier;
use std::thread;

use baton::lab::testbed::huge_pages::{self, HugeFolder};
use baton::sla::median;
use baton::sys::threads;
use baton::telemetry::Recorder;
use clap::Parser;
use serde::Serialize;
use serde_json::json;

use rig::Rig;

/// Measure a worker over rings in memory and a table of 1,000,000 meetings.
#[derive(Parser, Debug)]
struct Args {
    /// Write the figures here as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Meetings in the table, with a terminal each
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(300_000..=10_000_000))]
    meetings: u32,
    /// And in a larger one, with which it is compared
    #[arg(long, value_name = "COUNT", default_value_t = 10_000_000, value_parser = clap::value_parser!(u32).range(300_000..=10_000_000))]
    larger: u32,
    /// Leave the larger one out, which takes some gigabytes
    #[arg(long)]
    no_larger: bool,
    /// Rounds of each measurement; the best one counts, for others share the machine
    #[arg(long, value_name = "COUNT", default_value_t = 7)]
    rounds: u32,
    /// Write callgrind's profiles to FILE.untagged and FILE.tagged, for callgrind_annotate
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Lay the table there; else on huge pages that are borrowed, as on dispatch hardware
    #[arg(long, value_name = "FOLDER")]
    memory: Option<PathBuf>,
    /// Give back the huge pages that a killed run borrowed, and do nothing else
    #[arg(long, hide = true)]
    give_back: bool,
    /// Leave the instructions out, for which valgrind is needed
    #[arg(long, conflicts_with = "only_count")]
    no_count: bool,
    /// Count instructions alone
    #[arg(long)]
    only_count: bool,
    /// This process is the one whose instructions are counted
    #[arg(long, hide = true)]
    counted: bool,
    #[arg(long, hide = true)]
    tagged: bool,
    /// Cargo says this to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Bytes of the table for a meeting and its terminal, with some to spare.
const MEETING_BYTES: u64 = 400;
/// Reports of a round.
const REPORTS: usize = 1 << 17;
/// Reports whose instructions are counted: some pages of acknowledgements for each domain.
const COUNTED: usize = 63 * 16 * 8;
/// User-space instructions for a report, without tags and with them.
const INSTRUCTIONS_MAX: [f64; 2] = [700.0, 980.0];
/// Nanoseconds for a report, without tags and with them.
const NS_MAX: [f64; 2] = [60.0, 90.0];
/// What a report takes in the larger table against one in the other.
const LARGER_MAX: f64 = 1.2;
/// What a report takes with telemetry against one without.
const TELEMETRY_MAX: f64 = 1.02;
/// What two workers do against one.
const SPEED_UP_MIN: f64 = 1.8;

/// What one report costs.
#[derive(Clone, Copy, Debug, Serialize)]
struct Cost {
    ns: f64,
    instructions: Option<f64>,
    allocations: f64,
}

/// What a figure has to be.
#[derive(Clone, Copy, Debug, Serialize)]
struct Target {
    name: &'static str,
    figure: f64,
    unit: &'static str,
    bound: f64,
    holds: bool,
}

impl Target {
    fn at_most(name: &'static str, figure: f64, bound: f64, unit: &'static str) -> Self {
        Self { name, figure, unit, bound, holds: figure <= bound }
    }

    fn at_least(name: &'static str, figure: f64, bound: f64, unit: &'static str) -> Self {
        Self { name, figure, unit, bound, holds: figure >= bound }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, figure, unit, bound, holds } = self;
        let word = if *holds { "holds " } else { "MISSED" };
        write!(f, "{word} {name}: {figure:.2} {unit}, bound {bound}")
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.counted {
        be_counted(args.tagged, args.meetings, args.memory.as_deref());
        return ExitCode::SUCCESS;
    }
    let done = if args.give_back {
        huge_pages::give_back_for_the_dead().map(|()| true).map_err(Into::into)
    } else {
        run(args)
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("worker: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(mut args: Args) -> Result<bool, Box<dyn Error>> {
    let given = args.memory.clone();
    let borrowed = borrow(given.as_deref(), args.meetings)?;
    args.memory = args.memory.take().or(borrowed.as_ref().map(|folder| folder.path().to_owned()));
    let meetings = args.meetings;
    let alike = (meetings, rig::domains(meetings));
    println!("a worker, rings in memory, {meetings} meetings of one terminal each, terminals in random order\n");
    println!("{:24}{:>10}{:>16}{:>14}", "a report", "ns", "instructions", "allocations");
    let mut costs = Vec::new();
    let (mut speed_up, mut with_telemetry, mut overloaded) = (0.0, f64::NAN, None);
    for (name, tagged) in [("without tags", false), ("with tags", true)] {
        let instructions = if args.no_count { None } else { Some(instructions(tagged, &args)?) };
        let shown = instructions.map_or("-".into(), |count| format!("{count:.1}"));
        if args.only_count {
            println!("{name:24}{:>10}{shown:>16}", "");
            continue;
        }
        let mut rig = Rig::new(tagged, alike, args.memory.as_deref());
        let (ns, allocations) = alone(&mut rig, args.rounds);
        if !tagged {
            with_telemetry = telemetry(&mut rig, args.rounds);
        }
        println!("{name:24}{ns:>10.1}{shown:>16}{allocations:>14.3}");
        costs.push(Cost { ns, instructions, allocations });
        if tagged {
            speed_up = together(&mut rig, args.rounds, ns);
            overloaded = Some(thread::scope(|scope| {
                let measured = scope.spawn(|| {
                    threads::pin(0);
                    overload::measure(&mut rig, ns)
                });
                measured.join().expect("a worker's thread")
            }));
        }
    }
    if args.only_count {
        return Ok(true);
    }
    println!("\nwith telemetry, without tags: {with_telemetry:.4} times as long as without");
    println!("two workers on two cores, with tags: {speed_up:.2} times what one does");
    let overload = overloaded.ok_or("both kinds of frames were measured")?;
    println!("{overload}");
    drop(borrowed);
    let larger = if args.no_larger { None } else { Some(compare(&args, given.as_deref())?) };
    println!();
    let allocations = costs[0].allocations.max(costs[1].allocations);
    let names = ["instructions for a report, without tags", "instructions for a report, with tags"];
    let counted = costs
        .iter()
        .zip(names)
        .zip(INSTRUCTIONS_MAX)
        .filter_map(|((cost, name), bound)| Some(Target::at_most(name, cost.instructions?, bound, "instructions")));
    let larger = larger.map(|[one, ten]| {
        Target::at_most("a report in the larger table against one in the other", ten / one, LARGER_MAX, "times")
    });
    let timed = [
        Target::at_most("a report without tags", costs[0].ns, NS_MAX[0], "ns"),
        Target::at_most("a report with tags", costs[1].ns, NS_MAX[1], "ns"),
        Target::at_most("a report with telemetry against one without", with_telemetry, TELEMETRY_MAX, "times"),
        Target::at_most("allocations for a report", allocations, 0.0, "allocations"),
        Target::at_most("control at twice the load, 99 of 100 frames", overload.control_wait_us_p99, 1000.0, "µs"),
        Target::at_least("two workers against one", speed_up, SPEED_UP_MIN, "times"),
    ];
    let targets: Vec<_> = counted.chain(timed).chain(larger).collect();
    for target in &targets {
        println!("{target}");
    }
    let held = targets.iter().all(|target| target.holds);
    if let Some(file) = &args.json {
        let figures = json!({
            "bench": "worker", "meetings": meetings, "without_tags": costs[0], "with_tags": costs[1],
            "two_workers_against_one": speed_up, "with_telemetry": with_telemetry, "overload": overload, "targets": targets,
        });
        std::fs::write(file, serde_json::to_string_pretty(&figures)? + "\n")?;
    }
    Ok(held)
}

/// A folder on huge pages for so many meetings, where none is given.
fn borrow(given: Option<&Path>, meetings: u32) -> Result<Option<HugeFolder>, Box<dyn Error>> {
    let pages = (u64::from(meetings) * MEETING_BYTES).div_ceil(2 << 20);
    Ok(if given.is_none() { Some(HugeFolder::new(pages)?) } else { None })
}

/// Nanoseconds for a report without tags in a table of the size and in the larger one. The
/// terminals of both are in as many domains: the more of them there are, the fewer acknowledgements
/// a page has.
fn compare(args: &Args, given: Option<&Path>) -> Result<[f64; 2], Box<dyn Error>> {
    let (sizes, domains) = ([args.meetings, args.larger], rig::domains(args.larger.max(args.meetings)));
    let borrowed = borrow(given, args.meetings + args.larger)?;
    let memory = given.or(borrowed.as_ref().map(HugeFolder::path));
    let mut rigs = sizes.map(|meetings| Rig::new(false, (meetings, domains), memory));
    let mut best = [f64::MAX; 2];
    for _ in 0..2 {
        for (rig, best) in rigs.iter_mut().zip(&mut best) {
            *best = best.min(alone(rig, args.rounds).0);
        }
    }
    println!("\nwithout tags, terminals in {domains} domains:");
    for (meetings, ns) in sizes.iter().zip(best) {
        println!("  {meetings} meetings: {ns:.1} ns for a report");
    }
    Ok(best)
}

/// The best round of one worker on a core of its own, in nanoseconds for a report; allocations in
/// all rounds for a report.
fn alone(rig: &mut Rig, rounds: u32) -> (f64, f64) {
    let (mut ns, mut allocations) = (f64::MAX, 0);
    let mut bench = rig.worker(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            threads::pin(0);
            for round in 0..=rounds {
                let [frames] = rig.reports(REPORTS);
                bench.load(frames);
                let mut taken = None;
                let counted = allocation_counter::measure(|| taken = Some(bench.run()));
                // The first round touches everything.
                if let (1.., Some(taken)) = (round, taken) {
                    ns = ns.min(taken.as_nanos() as f64 / REPORTS as f64);
                    allocations += counted.count_total;
                }
            }
        });
    });
    assert_eq!(bench.acknowledged(), u64::from(rounds + 1) * REPORTS as u64);
    (ns, allocations as f64 / (f64::from(rounds) * REPORTS as f64))
}

/// How much longer a report takes where times are recorded than where they are not: the median of
/// the rounds, in which the two take turns on the same core.
fn telemetry(rig: &mut Rig, rounds: u32) -> f64 {
    let mut benches = [rig.worker(0), rig.worker_with(1, Recorder::deaf())];
    let mut ratios = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            threads::pin(0);
            // Turns that are too short for what else the machine does to fall on one of them alone.
            for round in 0..=4 * rounds {
                let mut taken = [0.0; 2];
                for turn in [round % 2, (round + 1) % 2] {
                    let [frames] = rig.reports(REPORTS / 4);
                    let bench = &mut benches[turn as usize];
                    bench.load(frames);
                    taken[turn as usize] = bench.run().as_nanos() as f64;
                }
                if round > 0 {
                    ratios.push(taken[0] / taken[1]);
                }
            }
        });
    });
    median(ratios)
}

/// How much more two workers do than one that takes so long for a report: the best round.
fn together(rig: &mut Rig, rounds: u32, alone_ns: f64) -> f64 {
    let mut benches = [rig.worker(0), rig.worker(1)];
    let mut best = 0_f64;
    for round in 0..=rounds {
        let frames: [_; 2] = rig.reports(REPORTS);
        let barrier = Barrier::new(2);
        let times = thread::scope(|scope| {
            let running: Vec<_> = (0_u16..)
                .zip(benches.iter_mut().zip(frames))
                .map(|(core, (bench, frames))| {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        threads::pin(core);
                        bench.load(frames);
                        barrier.wait();
                        bench.run()
                    })
                })
                .collect();
            running.into_iter().map(|thread| thread.join().expect("a worker's thread")).collect::<Vec<_>>()
        });
        let longest = times.into_iter().max().expect("two of them").as_nanos() as f64;
        if round > 0 {
            best = best.max(2.0 * REPORTS as f64 / longest * alone_ns);
        }
    }
    best
}

/// Instructions for a report: what a round executes, the sending of all acknowledgements included.
fn instructions(tagged: bool, args: &Args) -> Result<f64, Box<dyn Error>> {
    let (meetings, nowhere) = (args.meetings.to_string(), "/dev/null".into());
    let mut arguments = vec!["--counted", "--meetings", &meetings];
    arguments.extend(tagged.then_some("--tagged"));
    let memory = args.memory.as_ref().map(|folder| folder.display().to_string());
    arguments.extend(memory.iter().flat_map(|folder| ["--memory", folder]));
    let name = if tagged { "tagged" } else { "untagged" };
    let out = args.profile.as_ref().map_or(nowhere, |file| format!("{}.{name}", file.display()));
    Ok(instructions::count(&arguments, &out)? as f64 / COUNTED as f64)
}

fn be_counted(tagged: bool, meetings: u32, memory: Option<&Path>) {
    let mut rig = Rig::new(tagged, (meetings, rig::domains(meetings)), memory);
    let mut bench = rig.worker(0);
    // No round before it: all that the worker collects is of these reports.
    let [frames] = rig.reports(COUNTED);
    bench.load(frames);
    instructions::counted_by_callgrind(&mut || {
        bench.run();
    });
    assert_eq!(bench.acknowledged(), COUNTED as u64);
}
