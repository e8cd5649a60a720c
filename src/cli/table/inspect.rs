//! `baton table inspect`: what a table or a snapshot holds.

use crate::output::{self, say};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::place::{Failure, Holder, Place, System, advance, bar, inspect_at};
use crate::cli::columns::print_table;
use crate::sys::mapping::{BootId, boot_id};
use crate::table::archive::{Head, Whence};
use crate::table::file::export;
use crate::table::file::snapshot::{self, SnapshotError};
use crate::table::file::{Counts, Inspection};
use crate::table::{Capacity, Part, Table, Terminal};
use crate::wire::{Domain, Epoch, MeetingId, WINDOW_NONE};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
    /// A snapshot, instead of a table
    #[arg(long, value_name = "FILE", conflicts_with_all = ["table", "config"])]
    snapshot: Option<PathBuf>,
    /// One meeting with its members, and no counts
    #[arg(long, value_name = "ID")]
    meeting: Option<MeetingId>,
    /// Only what is in this domain
    #[arg(long, value_name = "NUMBER", value_parser = domain)]
    domain: Option<Domain>,
}

fn domain(text: &str) -> Result<Domain, String> {
    let domain = text.parse().ok().and_then(Domain::new);
    domain.ok_or_else(|| format!("`{text}` is not a domain: a number from 1 to {}", Domain::MAX))
}

type Meeting = Vec<(Part, Vec<Terminal>)>;

/// What is asked for is not there.
#[derive(Debug, thiserror::Error)]
#[error("{}: it does not hold meeting {meeting}{within}", path.display())]
struct NoMeeting {
    path: PathBuf,
    meeting: MeetingId,
    within: String,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    match &args.snapshot {
        Some(path) => of_snapshot(args, path),
        None => of_table(args),
    }
}

fn of_table(args: &Args) -> Result<ExitCode, Failure> {
    let path = args.place.path()?;
    let table = inspect_at(path.clone())?;
    if let Some(meeting) = args.meeting {
        let parts = table.parts_of(meeting).filter(|part| args.domain.is_none_or(|domain| part.domain == domain));
        let members = |part: Part| (part, table.members(meeting, part.domain).collect());
        return show_meeting(args, &path, meeting, &parts.map(members).collect());
    }
    let counts = args.domain.map_or_else(|| Counts::of(table.parts()), |domain| Counts::of(table.parts_in(domain)));
    let head = TableHead::of(&path, &table)?;
    // What is damaged bears no domain.
    let unreadable = args.domain.is_none().then(|| {
        let bar = bar("of the records read");
        let unreadable = table.count_unreadable(&mut |done, of| advance(&bar, done, of));
        bar.finish_and_clear();
        unreadable
    });
    let terminals = if args.domain.is_some() { counts.members } else { table.count_terminals().into() };
    let (extents, extents_room) = table.extents();
    if args.place.json {
        let mut value = counts_json(&counts);
        value["table"] = head.json();
        value["terminals"] = terminals.into();
        value["extents"] = json!({ "used": extents, "room": extents_room });
        value["unreadable"] = json!(unreadable);
        output::json(&value);
        return Ok(ExitCode::SUCCESS);
    }
    head.show();
    say!();
    let Capacity { meetings, terminals: terminals_room } = head.capacity;
    let row = |what: &str, used: u64, room: u32| {
        [what.to_owned(), used.to_string(), room.to_string(), format!("{:.1}", percent(used, room.into()))]
    };
    print_table(
        ["WHAT", "USED", "ROOM", "PER CENT"],
        &[
            row("parts", counts.parts, meetings),
            row("terminals", terminals, terminals_room),
            row("extents", extents.into(), extents_room),
        ],
    );
    if let Some(unreadable) = unreadable {
        say!("unreadable records: {unreadable}");
    }
    show_counts(&counts);
    Ok(ExitCode::SUCCESS)
}

fn of_snapshot(args: &Args, path: &Path) -> Result<ExitCode, Failure> {
    let head = export::head(path).map_err(Failure::of)?;
    let said = json!({
        "path": path, "version": head.version, "layout": format!("{:016x}", head.layout), "bytes": head.bytes,
        "blake3": head.digest_text(), "readable": head.is_ours(),
    });
    if !args.place.json && args.meeting.is_none() {
        show_head(path, &head);
    }
    let refused = |error: SnapshotError| {
        if args.place.json {
            output::json(&json!({ "snapshot": said, "error": error.to_string() }));
        }
        Failure::of(error)
    };
    let archive = snapshot::open(path).map_err(&refused)?;
    let damaged = |what| refused(SnapshotError { path: path.to_owned(), what });
    let within = |part: &Part| args.domain.is_none_or(|domain| part.domain == domain);
    if let Some(meeting) = args.meeting {
        let mut parts = Vec::new();
        archive
            .for_each(|part| {
                let wanted = part.part().filter(|part| part.meeting == meeting && within(part));
                parts.extend(wanted.map(|record| (record, part.members().collect())));
            })
            .map_err(damaged)?;
        return show_meeting(args, path, meeting, &parts);
    }
    let mut counts = Counts::default();
    archive.for_each(|part| part.part().filter(within).iter().for_each(|part| counts.add(part))).map_err(damaged)?;
    let &Whence { boot_id, epoch, generation_end, capacity, .. } = archive.whence();
    if args.place.json {
        let mut value = counts_json(&counts);
        value["snapshot"] = said;
        value["boot_id"] = boot_id.to_string().into();
        value["epoch"] = json!(epoch);
        value["epoch_text"] = epoch.to_string().into();
        value["generation_end"] = generation_end.into();
        value["capacity"] = json!({ "meetings": capacity.meetings, "terminals": capacity.terminals });
        value["terminals"] = counts.members.into();
        output::json(&value);
    } else {
        line("of a table for", format!("{} meetings, {} terminals", capacity.meetings, capacity.terminals));
        line("boot", boot_id.to_string());
        line("epoch", format!("{epoch}, generations reserved up to {generation_end}"));
        line("parts", counts.parts.to_string());
        line("terminals", counts.members.to_string());
        show_counts(&counts);
    }
    Ok(ExitCode::SUCCESS)
}

fn show_head(path: &Path, head: &Head) {
    line("snapshot", path.display().to_string());
    line("version", format!("{}, layout {:016x}", head.version, head.layout));
    line("bytes", head.bytes.to_string());
    line("blake3", head.digest_text());
}

/// What a table is, apart from what it holds.
struct TableHead {
    path: PathBuf,
    layout: u64,
    bytes: u64,
    capacity: Capacity,
    boot: BootId,
    this_boot: bool,
    epoch: Epoch,
    generation_end: u32,
    holder: Holder,
}

impl TableHead {
    fn of(path: &Path, table: &Inspection) -> Result<Self, Failure> {
        let this_boot = boot_id().map_err(|error| Failure::of(System { doing: "read the boot id", error }))?;
        Ok(Self {
            path: path.to_owned(),
            layout: table.layout_hash(),
            bytes: table.bytes(),
            capacity: table.capacity(),
            boot: table.boot_id(),
            this_boot: table.boot_id() == this_boot,
            epoch: table.epoch(),
            generation_end: table.generation_end(),
            holder: Holder::of(table)?,
        })
    }

    fn json(&self) -> Value {
        let (meeting, terminal) = bytes_each(self.capacity);
        json!({
            "path": self.path,
            "layout": format!("{:016x}", self.layout),
            "bytes": self.bytes,
            "capacity": { "meetings": self.capacity.meetings, "terminals": self.capacity.terminals },
            "bytes_per_meeting": meeting,
            "bytes_per_terminal": terminal,
            "boot_id": self.boot.to_string(),
            "this_boot": self.this_boot,
            "epoch": self.epoch,
            "epoch_text": self.epoch.to_string(),
            "generation_end": self.generation_end,
            "live": self.holder.is_live(),
            "holder": self.holder.pid(),
        })
    }

    fn show(&self) {
        let (meeting, terminal) = bytes_each(self.capacity);
        line("table", self.path.display().to_string());
        line("layout", format!("{:016x}", self.layout));
        line("bytes", format!("{}: {meeting:.1} a meeting, {terminal:.1} a terminal", self.bytes));
        line("boot", format!("{}, {}", self.boot, if self.this_boot { "this one" } else { "an earlier one" }));
        line("epoch", format!("{}, generations reserved up to {}", self.epoch, self.generation_end));
        line("holder", self.holder.describe());
    }
}

/// Bytes that one more meeting costs, and one more terminal: over a million more, so that no
/// rounding shows.
fn bytes_each(capacity: Capacity) -> (f64, f64) {
    const MORE: u32 = 1 << 20;
    let bytes = |meetings, terminals| Table::bytes(Capacity { meetings, terminals }) as f64;
    let base = Capacity { meetings: capacity.meetings.min(MORE), terminals: capacity.terminals.min(MORE) };
    let none = bytes(base.meetings, base.terminals);
    let each = |more: f64| (more - none) / f64::from(MORE);
    (each(bytes(base.meetings + MORE, base.terminals)), each(bytes(base.meetings, base.terminals + MORE)))
}

fn percent(used: u64, room: u64) -> f64 {
    used as f64 * 100.0 / room.max(1) as f64
}

fn line(name: &str, value: String) {
    say!("{name:<14} {value}");
}

fn counts_json(counts: &Counts) -> Value {
    let states: Value = counts.states.iter().map(|(state, count)| (state.name().to_owned(), json!(count))).collect();
    let levels: Value = counts.levels.iter().map(|(level, count)| (level.number().to_string(), json!(count))).collect();
    let domains: Vec<_> = counts
        .domains
        .iter()
        .map(|(domain, count)| json!({ "domain": domain, "parts": count.parts, "members": count.members }))
        .collect();
    json!({ "parts": counts.parts, "states": states, "levels": levels, "domains": domains })
}

fn show_counts(counts: &Counts) {
    if counts.parts == 0 {
        return;
    }
    say!();
    let rows = counts.states.iter().map(|(state, count)| [state.to_string(), count.to_string()]);
    print_table(["STATE", "PARTS"], &rows.collect::<Vec<_>>());
    say!();
    let rows = counts.levels.iter().map(|(level, count)| [level.number().to_string(), count.to_string()]);
    print_table(["LEVEL", "PARTS"], &rows.collect::<Vec<_>>());
    say!();
    let domains = counts.domains.iter();
    let rows = domains.map(|(domain, count)| [domain.to_string(), count.parts.to_string(), count.members.to_string()]);
    print_table(["DOMAIN", "PARTS", "MEMBERS"], &rows.collect::<Vec<_>>());
}

fn show_meeting(args: &Args, path: &Path, meeting: MeetingId, parts: &Meeting) -> Result<ExitCode, Failure> {
    if parts.is_empty() {
        let within = args.domain.map_or(String::new(), |domain| format!(" in domain {domain}"));
        return Err(Failure::of(NoMeeting { path: path.to_owned(), meeting, within }));
    }
    if args.place.json {
        let parts: Vec<_> = parts.iter().map(part_json).collect();
        output::json(&json!({ "meeting": meeting, "parts": parts }));
        return Ok(ExitCode::SUCCESS);
    }
    for (number, (part, members)) in parts.iter().enumerate() {
        if number > 0 {
            say!();
        }
        let chairman = part.chairman.domain().map_or("no chairman".into(), |_| format!("chairman {}", part.chairman));
        say!(
            "meeting {meeting} in domain {}: {}, level {}, {} windows, version {}, epoch {}, {chairman}",
            part.domain,
            part.state,
            part.level.number(),
            part.layout.windows(),
            part.version,
            part.epoch
        );
        let rows = members.iter().map(|member| {
            [
                member.terminal.to_string(),
                member.role.to_string(),
                member.business.to_string(),
                member.decode.to_string(),
                member.version.to_string(),
                if member.window == WINDOW_NONE { "-".into() } else { member.window.to_string() },
                member.info.len().to_string(),
            ]
        });
        let heads = ["TERMINAL", "ROLE", "BUSINESS", "DECODER", "VERSION", "WINDOW", "INFO BYTES"];
        print_table(heads, &rows.collect::<Vec<_>>());
    }
    Ok(ExitCode::SUCCESS)
}

fn part_json((part, members): &(Part, Vec<Terminal>)) -> Value {
    let mut value = json!(part);
    value["members"] = json!(members);
    value
}
