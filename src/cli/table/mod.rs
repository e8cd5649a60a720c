//! `baton table`: the table looked at, verified, kept and made larger, beside the server or without
//! one.
//!
//! None of it asks a server. A table that a server has is only ever mapped for reading.

mod inspect;
mod place;
mod resize;
mod snapshot;
mod verify;

use std::process::ExitCode;

use super::complain;

/// Look at the table, verify it, write a snapshot of it, resize it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 done, and no flaw; 1 it could not be done, or there are flaws; 2 typed or \
configured wrong.")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show what a table or a snapshot holds; a living server does not notice
    Inspect(inspect::Args),
    /// See whether everything in the table agrees with everything else; a living server does not
    /// notice
    Verify(verify::Args),
    /// Give the table room for more or fewer meetings and terminals, or bring over one of the
    /// version before, while no server runs
    Resize(resize::Args),
    /// Write a snapshot of the table as it is now
    Snapshot(snapshot::Args),
}

pub fn run(args: &Args) -> ExitCode {
    let done = match &args.command {
        Command::Inspect(args) => inspect::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Resize(args) => resize::run(args),
        Command::Snapshot(args) => snapshot::run(args),
    };
    done.unwrap_or_else(|failure| {
        complain(&*failure.error);
        ExitCode::from(failure.exit)
    })
}
