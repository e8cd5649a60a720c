//! How soon a killed dispatch server's successor knows its meetings again: Baton's table against
//! what people use today, with the same records, on the same machine, in the same run.
//!
//! For each store a process fills it and is killed (SIGKILL). Then, trial by trial, a fresh process
//! opens it, reads everything, writes once and is killed in its turn. Time runs from just before
//! the fresh process is started, and where a server holds the data, from just before that is. See
//! README.md beside this crate.

mod processes;
mod records;
mod report;
mod stores;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use baton::lab::testbed::huge_pages::{self, HugeFolder};
use baton::sys::clock;
use clap::{Parser, Subcommand, ValueEnum};

use processes::{Guard, Running, Server};
use records::Tally;
use report::{Report, Result, Trial};
use stores::{Failure, Kind};

/// Huge pages for a table of a million meetings.
const HUGE_PAGES: u64 = 1000;

/// From a successor's start to its meetings read: Baton against LMDB, redb, SQLite, Redis and
/// Kamailio.
#[derive(Parser)]
struct Arguments {
    /// How many meetings, of ten terminals each; several may be given.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 100_000, 1_000_000])]
    meetings: Vec<u64>,
    /// Trials of each; 5 where it is not given, 3 from a million meetings on.
    #[arg(long)]
    trials: Option<usize>,
    /// Only these stores; Baton's table is what the others are compared with.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Kind>,
    /// Where the stores on disk are made.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    disk: PathBuf,
    /// Where Baton's table is made; where it is not said, on huge pages that are borrowed, as on
    /// dispatch hardware.
    #[arg(long)]
    memory: Option<PathBuf>,
    /// Most meetings for Kamailio, whose loading takes minutes beyond; a run says where it measured
    /// fewer.
    #[arg(long, default_value_t = 1_000_000)]
    kamailio_max: u64,
    /// Writes every figure there.
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What a process of a run is, other than its head.
#[derive(Subcommand)]
enum Role {
    /// Fills a store, or succeeds to it.
    #[command(hide = true)]
    Child {
        kind: Kind,
        folder: PathBuf,
        meetings: u64,
        #[arg(long)]
        fill: bool,
    },
    /// Clears away behind a run.
    #[command(hide = true)]
    Guard,
    /// Gives back the huge pages that a killed run borrowed.
    #[command(hide = true)]
    GiveBack,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.role {
        Some(Role::Child { kind, folder, meetings, fill }) => processes::child(*kind, folder, *meetings, *fill),
        Some(Role::Guard) => processes::guard(),
        Some(Role::GiveBack) => huge_pages::give_back_for_the_dead().map_err(Into::into),
        None => run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> std::result::Result<(), Failure> {
    let borrowed = if arguments.memory.is_none() { Some(HugeFolder::new(HUGE_PAGES)?) } else { None };
    let memory = match (&arguments.memory, &borrowed) {
        (Some(folder), _) => folder.as_path(),
        (None, Some(folder)) => folder.path(),
        (None, None) => Path::new("/dev/shm"),
    };
    // After the folder, so that it ends before: stores of its are in there.
    let guard = Guard::start()?;
    let kinds = match arguments.only.as_slice() {
        [] => Kind::value_variants(),
        only => only,
    };
    let mut report = Report::new()?;
    for &meetings in &arguments.meetings {
        if meetings == 0 {
            return Err("a store without a meeting has no first one".into());
        }
        let trials = arguments.trials.unwrap_or(if meetings < 1_000_000 { 5 } else { 3 });
        for &kind in kinds {
            let within = if kind == Kind::Baton { memory } else { arguments.disk.as_path() };
            let measured = if kind == Kind::Kamailio { meetings.min(arguments.kamailio_max) } else { meetings };
            report.results.push(measure(kind, meetings, measured, trials, within, &guard)?);
        }
    }
    report.conclude();
    report.print();
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    guard.end()
}

/// Fills one store, and lets one process after the other succeed to it.
fn measure(
    kind: Kind,
    meetings: u64,
    measured: u64,
    trials: usize,
    within: &Path,
    guard: &Guard,
) -> std::result::Result<Result, Failure> {
    let folder = guard.folder(within)?;
    let path = folder.path();
    eprintln!("{kind}: filling it with {measured} meetings");
    {
        let server = if kind.fills_through_server() { kind.server(path)? } else { None };
        let _server = server.map(|command| Server::start(command, path, guard)).transpose()?;
        Running::start(kind, path, measured, true)?.written().map_err(|error| format!("{kind}, filling: {error}"))?;
        // Both are killed here, with the store open.
    }
    let expected = Tally::expected(measured);
    let mut result = Result { store: kind, meetings, measured_meetings: measured, trials: Vec::new() };
    for trial in 0..=trials {
        let command = kind.server(path)?;
        let started_ns = clock::now().0;
        let _server = command.map(|command| Server::start(command, path, guard)).transpose()?;
        let mut successor = Running::start(kind, path, measured, false)?;
        let said = successor.said().map_err(|error| format!("{kind}, succeeding: {error}; {}", log_of(path)))?;
        processes::check(kind, measured, &said, &expected)?;
        successor.written()?;
        // The first succeeds to who filled it and warms the caches; it counts for nothing.
        if trial > 0 {
            let trial = Trial::new(started_ns, &said, kind);
            let Trial { first_ms, last_ms, members_ms, .. } = trial;
            let members = members_ms.map_or(String::new(), |ms| format!(", with members {ms:.2} ms"));
            eprintln!("{kind}: first {first_ms:.2} ms, last {last_ms:.2} ms{members}");
            result.trials.push(trial);
        }
    }
    Ok(result)
}

/// The end of what a server said, where there was one.
fn log_of(folder: &Path) -> String {
    let text = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" │ ")
}
