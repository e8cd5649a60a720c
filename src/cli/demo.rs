//! `baton demo`: the main job on real frames, while each process of the server is killed in turn.
//!
//! A dispatch server in one network namespace and autonomous servers in another, a veth pair
//! between them, and reports, operators and probes at work throughout. What was lost is judged at
//! the autonomous servers' end, and by what operators were told, never by the dispatch server's own
//! counters.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{FAILED, WRONG, complain};
use crate::lab::demo::progress::Progress;
use crate::lab::demo::run::{self, Scale};
use crate::lab::testbed::{self, Testbed, scenario};
use crate::output::{say, tell};

/// Kill a dispatch server in every way, and see what is lost. `scripts/demo.sh` builds and runs it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write what was found to this file, for scripts
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Conferences; a multiple of eight
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    meetings: usize,
    /// Terminals; a multiple of the conferences
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000)]
    terminals: usize,
    /// Reports a second, over all terminals
    #[arg(long, value_name = "NUMBER", default_value_t = 20_000)]
    reports: u64,
    /// Do nothing but clear away what a testbed of this name has left
    #[arg(long, value_name = "TESTBED", hide = true)]
    clear: Option<String>,
    /// The testbed's name
    #[arg(long, value_name = "TESTBED", hide = true)]
    testbed: Option<String>,
}

pub fn run(args: &Args) -> ExitCode {
    if let Some(name) = &args.clear {
        return match testbed::clear(name) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        };
    }
    let scale = match scale(args) {
        Ok(scale) => scale,
        Err(wrong) => {
            tell!("baton: {wrong}");
            return ExitCode::from(WRONG);
        }
    };
    if !rustix::process::geteuid().is_root() {
        tell!("baton: the demonstration makes network namespaces and loads XDP programs, which needs root");
        return ExitCode::from(FAILED);
    }
    let name = args.testbed.clone().unwrap_or_else(testbed::own_name);
    testbed::clear_on_interrupt(name.clone());
    let progress = Progress::new(run::STEPS);
    let report = match Testbed::set(&name).map_err(Into::into).and_then(|testbed| run::run(&testbed, &scale, &progress))
    {
        Ok(report) => report,
        Err(error) => {
            drop(progress);
            return fail(&error);
        }
    };
    drop(progress);
    say!("\n{}", report.table());
    let complaints = report.complaints();
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report).expect("a report is JSON");
        if let Err(error) = std::fs::write(path, text + "\n") {
            tell!("baton: {}: {error}", path.display());
            return ExitCode::from(FAILED);
        }
    }
    if complaints.is_empty() {
        say!("  Nothing was lost.");
        return ExitCode::SUCCESS;
    }
    for complaint in complaints {
        say!("  LOST: {complaint}");
    }
    ExitCode::from(FAILED)
}

fn scale(args: &Args) -> Result<Scale, String> {
    let (meetings, terminals) = (args.meetings, args.terminals);
    if meetings == 0 || !meetings.is_multiple_of(8) {
        return Err(format!(
            "--meetings {meetings}: a multiple of eight was expected, so that the domains are equally full"
        ));
    }
    if terminals == 0 || !terminals.is_multiple_of(meetings) {
        return Err(format!("--terminals {terminals}: a multiple of the {meetings} meetings was expected"));
    }
    let members = terminals / meetings;
    let per_domain = terminals / run::DOMAINS as usize;
    if members > crate::limits::MEMBERS_MAX || per_domain > usize::from(u16::MAX - scenario::FIRST_DEVICE) {
        return Err(format!("--terminals {terminals}: more than a meeting or a domain can have"));
    }
    Ok(Scale { meetings, members, reports: args.reports })
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    complain(error);
    ExitCode::from(FAILED)
}
