//! The command line: as typed → what it means → run. A file a subcommand.
//!
//! Results go to standard output, talk to standard error. Exit codes: 0 done; 1 it could not be
//! done, and standard error says why; 2 it was typed wrong, or the configuration is; 3 (`run`)
//! another dispatch server controls.

mod client;
mod columns;
mod config;
mod control;
#[cfg(feature = "lab")]
mod demo;
mod doctor;
mod engine;
mod exit;
#[cfg(feature = "lab")]
mod load;
mod log_filter;
mod meeting;
mod metrics;
mod recovery;
mod run;
#[cfg(feature = "lab")]
mod sim;
mod sla;
mod starter;
mod status;
mod table;
mod top;
mod upgrade;

use std::process::ExitCode;

use crate::output;
use crate::sys::clock;
use crate::time::Nanos;
use clap::{Parser, Subcommand};

pub use crate::output::FAILED;
pub use exit::{FENCED, WRONG};

use exit::complain;
use log_filter::log_to_stderr;

/// A V2V conference dispatch server that survives its own death.
#[derive(Debug, Parser)]
#[command(name = "baton", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done; 1 it could not be done; 2 typed or configured wrong; 3, of run, another \
    dispatch server controls.")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a dispatch server: a keeper, and the engine that it starts
    Run(run::Args),
    #[cfg(feature = "lab")]
    /// Simulate autonomous servers with their terminals on an interface
    Sim(sim::Args),
    #[cfg(feature = "lab")]
    /// Load a dispatch server, and see what it answers and how fast
    Load(Box<load::Args>),
    /// Start, show, change and end conferences
    Meeting(meeting::Args),
    /// Show how the server does
    Status(status::Args),
    /// Show how the server does, on a terminal, all the time
    Top(top::Args),
    /// Hand over to the program as it is on disk now
    Upgrade(upgrade::Args),
    /// Show which dispatch server controls what, or give control to this one
    Control(control::Args),
    /// Show what the last recovery was like
    Recovery(recovery::Args),
    /// Hold rules against latency, loss, availability and recoveries
    Sla(sla::Args),
    /// Print metrics, or serve them to Prometheus
    Metrics(metrics::Args),
    /// Look at the table, verify it, write a snapshot of it, resize it
    Table(table::Args),
    /// Look whether this machine is fit to run on
    Doctor(doctor::Args),
    /// Check a configuration, or print an example
    Config(config::Args),
    #[cfg(feature = "lab")]
    /// Kill a dispatch server in every way, on a testbed of its own, and see what is lost
    #[command(hide = true)]
    Demo(demo::Args),
    /// What `run` starts
    #[command(hide = true)]
    Engine(engine::Args),
    /// What `run` starts engines by
    #[command(hide = true)]
    Starter(starter::Args),
}

/// Parses what was typed, does it, and gives the exit code.
pub fn main() -> ExitCode {
    let born = clock::now();
    // A keeper's engine has nothing to be parsed, and control waits for it: looking at what all
    // else could be typed takes as long as it needs for taking over.
    if std::env::args_os().skip(1).eq(["engine"]) {
        return engine::run(born);
    }
    output::settle(match Cli::try_parse() {
        Ok(cli) => run(cli.command, born),
        Err(instead) => {
            // Help and version are results; what was typed wrong is talk.
            let printed = instead.print();
            if !instead.use_stderr() {
                output::note(printed);
            }
            ExitCode::from(u8::try_from(instead.exit_code()).unwrap_or(WRONG))
        }
    })
}

fn run(command: Command, born: Nanos) -> ExitCode {
    match command {
        Command::Run(args) => run::run(&args),
        #[cfg(feature = "lab")]
        Command::Sim(args) => sim::run(&args),
        #[cfg(feature = "lab")]
        Command::Load(args) => load::run(&args),
        Command::Meeting(args) => meeting::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Upgrade(args) => upgrade::run(&args),
        Command::Control(args) => control::run(&args),
        Command::Recovery(args) => recovery::run(&args),
        Command::Sla(args) => sla::run(&args),
        Command::Metrics(args) => metrics::run(&args),
        Command::Table(args) => table::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Config(args) => config::run(&args),
        #[cfg(feature = "lab")]
        Command::Demo(args) => demo::run(&args),
        Command::Engine(engine::Args {}) => engine::run(born),
        Command::Starter(args) => starter::run(&args),
    }
}
