//! The figures: each trial, what they come to, and the table that people read.

use std::fs;
use std::process::Command;

use baton::sla::percentile;
use serde::Serialize;

use crate::processes::Said;
use crate::stores::{Failure, Kind};

/// One successor, milliseconds from just before it was started, or the server behind it was.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Trial {
    /// The `main` of who reads began; beside a server that starts at the same time, where there is
    /// one.
    pub main_ms: f64,
    /// The first meeting's key parameters were read.
    pub first_ms: f64,
    /// The last meeting's were.
    pub last_ms: f64,
    /// The last meeting's members were; none where the store has no members.
    pub members_ms: Option<f64>,
}

impl Trial {
    /// From what a successor said.
    pub fn new(started_ns: u64, said: &Said, kind: Kind) -> Self {
        let since = |ns: u64| (ns - started_ns) as f64 / 1e6;
        Self {
            main_ms: since(said.main_ns),
            first_ms: since(said.first_ns),
            last_ms: since(said.meetings_ns),
            members_ms: kind.holds_members().then(|| since(said.members_ns)),
        }
    }
}

/// One store at one size.
#[derive(Debug, Serialize)]
pub struct Result {
    /// Which.
    pub store: Kind,
    /// Meetings that were asked for.
    pub meetings: u64,
    /// Meetings that it held.
    pub measured_meetings: u64,
    /// Every trial.
    pub trials: Vec<Trial>,
}

/// What there is of a set of trials: the one in the middle, the least and the most.
#[derive(Clone, Copy, Debug, Serialize)]
struct Spread {
    p50: f64,
    min: f64,
    max: f64,
}

impl Result {
    fn spread(&self, of: impl Fn(&Trial) -> Option<f64>) -> Option<Spread> {
        let mut figures: Vec<f64> = self.trials.iter().filter_map(of).collect();
        figures.sort_by(f64::total_cmp);
        let at = |share| percentile(&figures, share);
        Some(Spread { p50: at(0.5)?, min: at(0.0)?, max: at(1.0)? })
    }
}

/// A line of the table.
#[derive(Debug, Serialize)]
struct Summary {
    store: Kind,
    meetings: u64,
    measured_meetings: u64,
    first_ms: Option<Spread>,
    last_ms: Option<Spread>,
    members_ms: Option<Spread>,
    /// How many times Baton's p50 it takes.
    first_ratio: Option<f64>,
    last_ratio: Option<f64>,
    members_ratio: Option<f64>,
}

/// What was aimed at, and what came of it.
#[derive(Debug, Serialize)]
struct Target {
    name: String,
    figure: f64,
    unit: &'static str,
    bound: f64,
    holds: bool,
}

#[derive(Debug, Serialize)]
struct Machine {
    processor: String,
    processors: usize,
    kernel: String,
}

#[derive(Debug, Serialize)]
struct Version {
    what: &'static str,
    version: String,
}

/// A run.
#[derive(Debug, Serialize)]
pub struct Report {
    machine: Machine,
    versions: Vec<Version>,
    caches: &'static str,
    /// Each store at each size.
    pub results: Vec<Result>,
    summary: Vec<Summary>,
    targets: Vec<Target>,
}

impl Report {
    /// Of a run that begins, on this machine.
    pub fn new() -> std::result::Result<Self, Failure> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Ok(Self {
            machine: Machine {
                processor: model.map_or("unknown", |(_, model)| model).to_owned(),
                processors: std::thread::available_parallelism()?.get(),
                kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim_end().to_owned(),
            },
            versions: versions(),
            caches: "warm: every file was read by the successor before the first that counts",
            results: Vec::new(),
            summary: Vec::new(),
            targets: Vec::new(),
        })
    }

    /// Works out what the trials come to.
    pub fn conclude(&mut self) {
        let ours = |meetings: u64| {
            self.results.iter().find(|result| result.store == Kind::Baton && result.measured_meetings == meetings)
        };
        self.summary = self.results.iter().map(|result| Summary::of(result, ours(result.measured_meetings))).collect();
        self.targets = self.summary.iter().flat_map(Target::of).collect();
    }

    /// Prints the table.
    pub fn print(&self) {
        let spread = |spread: Option<Spread>| {
            spread.map_or("–".to_owned(), |Spread { p50, min, max }| format!("{p50:.2} ({min:.2}–{max:.2})"))
        };
        let ratio = |ratio: Option<f64>| ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.1} ×"));
        println!("{}, {} processors, Linux {}", self.machine.processor, self.machine.processors, self.machine.kernel);
        println!(
            "{:<10} {:>9}  {:>26} {:>9}  {:>30} {:>9}  {:>30} {:>9}",
            "store",
            "meetings",
            "first read, ms",
            "to ours",
            "last read, ms",
            "to ours",
            "with all members, ms",
            "to ours"
        );
        for line in &self.summary {
            println!(
                "{:<10} {:>9}  {:>26} {:>9}  {:>30} {:>9}  {:>30} {:>9}",
                line.store,
                line.measured_meetings,
                spread(line.first_ms),
                ratio(line.first_ratio),
                spread(line.last_ms),
                ratio(line.last_ratio),
                spread(line.members_ms),
                ratio(line.members_ratio),
            );
        }
        for Target { name, figure, bound, holds, .. } in &self.targets {
            println!("{} {name}: {figure:.1} ×, at least {bound} × wanted", if *holds { "holds " } else { "FAILS " });
        }
    }
}

impl Summary {
    fn of(result: &Result, ours: Option<&Result>) -> Self {
        let first = |result: &Result| result.spread(|trial| Some(trial.first_ms));
        let last = |result: &Result| result.spread(|trial| Some(trial.last_ms));
        let members = |result: &Result| result.spread(|trial| trial.members_ms);
        let ratio = |of: &dyn Fn(&Result) -> Option<Spread>| Some(of(result)?.p50 / of(ours?)?.p50);
        Self {
            store: result.store,
            meetings: result.meetings,
            measured_meetings: result.measured_meetings,
            first_ms: first(result),
            last_ms: last(result),
            members_ms: members(result),
            first_ratio: ratio(&first),
            last_ratio: ratio(&last),
            members_ratio: ratio(&members),
        }
    }
}

impl Target {
    /// What is aimed at for a store at a million meetings.
    fn of(summary: &Summary) -> Vec<Self> {
        let (bound, with_members) = match summary.store {
            Kind::Baton => return Vec::new(),
            Kind::Lmdb => (4.0, Some(1.0)),
            Kind::Redb | Kind::Sqlite | Kind::RedisAof | Kind::RedisRdb => (50.0, None),
            Kind::Kamailio => (500.0, None),
        };
        if summary.meetings < 1_000_000 {
            return Vec::new();
        }
        let count = summary.measured_meetings;
        let target = |read: &str, (figure, bound): (f64, f64)| Self {
            name: format!("{read}, {count} meetings: faster than {}", summary.store),
            figure,
            unit: "×",
            bound,
            holds: figure >= bound,
        };
        let last = summary.last_ratio.map(|figure| target("last meeting's number, version and level", (figure, bound)));
        let members = summary.members_ratio.zip(with_members).map(|of| target("with every member", of));
        last.into_iter().chain(members).collect()
    }
}

/// Of each store, and of what is between it and us.
fn versions() -> Vec<Version> {
    let packages = ["redis-server", "kamailio", "kamailio-sqlite-modules"];
    let crates = ["baton", "heed", "lmdb-master-sys", "redb", "rusqlite", "libsqlite3-sys"];
    let debian = packages.map(|what| {
        let told = Command::new("dpkg-query").args(["-W", "-f", "${Version}", what]).output();
        let version = told.ok().filter(|told| told.status.success());
        let version = version.map(|told| format!("Debian {}", String::from_utf8_lossy(&told.stdout)));
        Version { what, version: version.unwrap_or_else(|| "not installed".to_owned()) }
    });
    let locked = crates.map(|what| Version { what, version: locked(what) });
    let (sqlite, lmdb) = (rusqlite::version().to_owned(), heed::lmdb_version().string.to_owned());
    let libraries = [Version { what: "SQLite", version: sqlite }, Version { what: "LMDB", version: lmdb }];
    debian.into_iter().chain(locked).chain(libraries).collect()
}

/// The version of a crate that this program was built with.
fn locked(name: &str) -> String {
    const LOCK: &str = include_str!("../../../Cargo.lock");
    let entry = LOCK.split("[[package]]").find(|entry| entry.lines().any(|line| line == format!("name = \"{name}\"")));
    let version = entry.and_then(|entry| entry.lines().find_map(|line| line.strip_prefix("version = ")));
    version.map_or("unknown", |version| version.trim_matches('"')).to_owned()
}
