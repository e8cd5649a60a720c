//! `baton table resize`: another capacity, or the layout of this version, while no server runs.

use crate::output::{self, say};
use std::process::ExitCode;

use serde_json::json;

use super::place::{Failure, Place, advance, bar};
use crate::cli::WRONG;
use crate::table::Capacity;
use crate::table::file::OpenError;
use crate::table::file::resize::{ResizeError, Resized, Step, Wanted, resize};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
    /// Parts of meetings that it is to have room for; as before where this is not given
    #[arg(long, value_name = "NUMBER")]
    meetings: Option<u32>,
    /// Terminals that it is to have room for; as before where this is not given
    #[arg(long, value_name = "NUMBER")]
    terminals: Option<u32>,
    /// Do not keep the old table as FILE.before-resize
    #[arg(long)]
    discard_old: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let path = args.place.path()?;
    let wanted = Wanted { meetings: args.meetings, terminals: args.terminals, discard_old: args.discard_old };
    let bar = bar("");
    let mut tell = |step| match step {
        Step::Verifying(done, of) => say(&bar, "of the old table verified", done, of),
        Step::Copying(done, of) => say(&bar, "of the records copied", done, of),
        Step::Comparing(done, of) => say(&bar, "of the records compared", done, of),
        Step::Named | Step::Kept | Step::Swapped => {}
    };
    let resized = resize(&path, &wanted, &mut tell);
    bar.finish_and_clear();
    let Resized { before, after, parts, terminals, damaged, bytes, kept } = resized.map_err(failure)?;
    if args.place.json {
        let of = |capacity: Capacity| json!({ "meetings": capacity.meetings, "terminals": capacity.terminals });
        let report = json!({
            "table": path, "before": of(before), "after": of(after), "bytes": bytes, "parts": parts,
            "terminals": terminals, "damaged": damaged, "kept": kept,
        });
        output::json(&report);
    } else {
        let path = path.display();
        say!("{path}: room for {} meetings and {} terminals, {bytes} bytes", after.meetings, after.terminals);
        say!("{parts} parts and {terminals} terminals copied and compared");
        if damaged > 0 {
            say!(
                "{damaged} terminals were left out: something other than Baton has damaged their records; their autonomous \
                 servers still know them"
            );
        }
        match kept {
            Some(kept) => say!(
                "the old table (room for {} and {}) is {}; take it away when the server runs again",
                before.meetings,
                before.terminals,
                kept.display()
            ),
            None => say!("the old table (room for {} and {}) is gone", before.meetings, before.terminals),
        }
        say!("set `meetings` and `terminals` in [table] too: a table that is made anew goes by those");
    }
    Ok(ExitCode::SUCCESS)
}

fn say(bar: &indicatif::ProgressBar, what: &'static str, done: u64, of: u64) {
    bar.set_message(what);
    advance(bar, done, of);
}

fn failure(error: ResizeError) -> Failure {
    let wrong = matches!(error, ResizeError::Table { error: OpenError::Capacity { .. }, .. });
    let failure = Failure::of(error);
    if wrong { Failure { exit: WRONG, ..failure } } else { failure }
}
