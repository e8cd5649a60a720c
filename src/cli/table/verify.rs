//! `baton table verify`: whether everything agrees with everything else.

use crate::output::{self, say};
use std::process::ExitCode;

use serde_json::json;

use super::place::{Failure, Holder, Place, advance, bar, inspect_at};
use crate::cli::FAILED;
use crate::limits::{FLAWS_MAX, LOOK_PAUSE};
use crate::table::Looked;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let path = args.place.path()?;
    let table = inspect_at(path.clone())?;
    let bar = bar("of the table verified");
    let mut progress = |done, of| advance(&bar, done, of);
    let mut holder = Holder::of(&table)?;
    let mut looked = Looked::default();
    if !holder.is_live() {
        looked.flaws = table.verify(&mut progress);
        if !looked.flaws.is_empty() {
            // A server that began meanwhile would look like flaws.
            holder = Holder::of(&table)?;
        }
    }
    if holder.is_live() {
        looked = table.verify_living(&mut progress, || std::thread::sleep(LOOK_PAUSE));
    }
    bar.finish_and_clear();
    if args.place.json {
        let report = json!({
            "table": path,
            "live": holder.is_live(),
            "holder": holder.pid(),
            "flaws": looked.flaws,
            "flaws_listed_max": FLAWS_MAX,
            "momentary": looked.momentary,
            "undecided": looked.undecided,
        });
        output::json(&report);
    } else {
        show(&path.display().to_string(), holder, &looked);
    }
    Ok(if looked.flaws.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn show(path: &str, holder: Holder, looked: &Looked) {
    let Looked { flaws, momentary, undecided } = looked;
    looked.flaws.iter().for_each(|flaw| say!("{flaw}"));
    let found = match flaws.len() {
        0 => "no flaw".to_owned(),
        1 => "1 flaw".to_owned(),
        FLAWS_MAX.. => format!("{FLAWS_MAX} flaws or more"),
        more => format!("{more} flaws"),
    };
    say!("{path}: {found}; {}", holder.describe());
    if holder.is_live() {
        say!(
            "looked at again, because writers were at it: {momentary} {} good then, {undecided} would not stand still",
            if *momentary == 1 { "was" } else { "were" }
        );
    } else if !flaws.is_empty() {
        say!("what a killed server left half done counts as a flaw here; the next server finishes it when it starts");
    }
}
