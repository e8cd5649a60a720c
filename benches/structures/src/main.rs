//! The table against concurrent maps and LMDB on the same records, and what a frame costs on its
//! way through the wire format: time, instructions and allocations of each operation, and of the
//! stores' the cache lines that it touches.
//!
//! `table` and `wire` are two benches of one program. In both, all contestants take turns, round by
//! round, so that what else the machine does falls on all of them. Instructions are counted by
//! single steps of a child (`count`), which needs no counters of the processor's and gives the same
//! number each time.

mod count;
mod counted;
mod failure;
mod lines;
mod records;
mod report;
mod stores;
mod table;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use baton::lab::testbed::huge_pages;
use clap::{Parser, Subcommand};

use failure::Failure;

#[derive(Parser)]
#[command(about = "The table and the wire format, measured against what others use")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Updates and look-ups of the table, DashMap, papaya, scc and LMDB.
    Table(table::Options),
    /// Reading and writing of the messages that most frames are.
    Wire(wire::Options),
    /// Gives back the huge pages that a killed run borrowed.
    #[command(hide = true)]
    GiveBack,
    /// One operation many times, to be counted step by step by the process that started this one.
    #[command(hide = true)]
    Count {
        /// Which.
        name: String,
        /// Where stores that need a folder have it.
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().what {
        What::Table(options) => table::run(options),
        What::Wire(options) => wire::run(&options),
        What::GiveBack => huge_pages::give_back_for_the_dead().map(|()| true).map_err(Into::into),
        What::Count { name, folder } => counted::child(&name, &folder).map(|()| true),
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
