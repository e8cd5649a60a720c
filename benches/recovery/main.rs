//! How fast control comes back, by RFC 6201: real dispatch servers killed under load, at a thousand
//! meetings and at a million. `scripts/bench.sh recovery` builds and runs it; benches/README.md
//! says what the figures mean.

mod args;
mod faults;
mod figures;
mod losses;
mod measure;
mod micro;
mod plot;
mod prepare;
mod sizes;
mod steps;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use baton::lab::testbed;
use baton::text::time;
use clap::Parser;
use serde_json::{Value, json};

use args::{Args, FRAME_BYTES};
use figures::{OfSize, Target};
use measure::say;

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
            if args.steps {
                steps::measure(&size, &name)?;
                continue;
            }
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
    if args.steps {
        return Ok(true);
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
