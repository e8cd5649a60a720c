//! `baton table snapshot`: the table as it is now, as a file.

use crate::output::{self, say};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::place::{Failure, Holder, Place, inspect_at};
use crate::table::archive::Written;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
    /// Where to; a snapshot that is there gives way, anything else does not. Beside the table, with
    /// `.snapshot` behind its name, where nothing is said
    out: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let path = args.place.path()?;
    let table = inspect_at(path.clone())?;
    let live = Holder::of(&table)?.is_live();
    let out = args.out.clone().unwrap_or_else(|| {
        let mut name = path.clone().into_os_string();
        name.push(".snapshot");
        name.into()
    });
    let epoch = table.epoch();
    let Written { head, parts, terminals } = table.write_snapshot(&out).map_err(Failure::of)?;
    if args.place.json {
        let report = json!({
            "table": path, "live": live, "snapshot": out, "bytes": head.bytes, "blake3": head.digest_text(),
            "parts": parts, "terminals": terminals, "epoch": epoch, "epoch_text": epoch.to_string(),
        });
        output::json(&report);
    } else {
        say!("{}: {} bytes, {parts} parts and {terminals} terminals, epoch {epoch}", out.display(), head.bytes);
        say!("blake3 {}", head.digest_text());
    }
    Ok(ExitCode::SUCCESS)
}
