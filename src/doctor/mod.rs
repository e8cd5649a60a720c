//! Whether a machine is fit to run a dispatch server: what was found, what that costs, what to do
//! about it.
//!
//! Nothing is changed. The kernel's files are read below a root folder, so that any machine's files
//! can be examined; what only system calls tell ([`Asked`]) is an argument.

mod memory;
mod network;
mod processors;
mod rights;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::Config;
use crate::limits::{CHUNK_BYTES, CHUNK_ZERO_COPY_BYTES};

/// How grave a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It could not be determined, or does not matter here.
    Note,
    /// Baton runs, but slower or less safely than it could.
    Warning,
    /// Baton will not run.
    Problem,
}

impl Level {
    /// Its name in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "PROBLEM",
        }
    }
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// What was checked, in a word or two.
    pub check: &'static str,
    /// How grave it is.
    pub level: Level,
    /// The state that was found.
    pub is: String,
    /// What that costs; empty if all is well.
    pub costs: String,
    /// What to do; empty if there is nothing to do.
    pub todo: String,
}

impl Finding {
    fn ok(check: &'static str, is: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, is: is.into(), costs: String::new(), todo: String::new() }
    }

    fn note(check: &'static str, is: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { level: Level::Note, todo: todo.into(), ..Self::ok(check, is) }
    }

    fn warning(check: &'static str, is: impl Into<String>, costs: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { level: Level::Warning, costs: costs.into(), todo: todo.into(), ..Self::ok(check, is) }
    }

    fn problem(check: &'static str, is: impl Into<String>, costs: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { level: Level::Problem, ..Self::warning(check, is, costs, todo) }
    }
}

/// What only system calls tell.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The kernel's release, `6.18.0-1-amd64`.
    pub release: String,
    /// The interfaces; for one that is missing, why.
    pub interfaces: Vec<Result<AskedInterface, String>>,
    /// Bytes that may be locked in memory; none for no limit.
    pub memlock: Option<u64>,
    /// Names of the capabilities that a keeper needs and the caller lacks.
    pub lacking: Vec<&'static str>,
    /// Whether it may go beyond its limits (CAP_SYS_RESOURCE, or CAP_IPC_LOCK for locking memory).
    pub beyond_limits: bool,
    /// File systems of paths, or of their nearest existing folders.
    pub places: Vec<(PathBuf, Place)>,
    /// Why the engine's user cannot be used.
    pub user: Option<String>,
    /// The errors that a start would end with: what each is about, and its message.
    pub obstacles: Vec<(&'static str, String)>,
}

/// An interface's properties.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AskedInterface {
    /// Its name.
    pub name: String,
    /// Its driver's name; empty if it does not tell.
    pub driver: String,
    /// Where it is on a PCI bus.
    pub bus_address: Option<String>,
    /// Receive queues.
    pub queues: u32,
    /// Whether it has `ntuple` filters, by `ethtool -k`; none without ethtool.
    pub ntuple: Option<String>,
    /// Whether frames can come: it is up, and has a carrier.
    pub running: bool,
    /// Its kind if it unites others: a bond, a team.
    pub unites: Option<&'static str>,
    /// Whether it strips VLAN tags; none if it does not tell.
    pub strips_tags: Option<bool>,
    /// Whether it drops frames of VLANs that are not set up; none without ethtool.
    pub filters_vlans: Option<bool>,
    /// Whether a domain with a `vlan` may be there.
    pub bears_tags: bool,
    /// Bytes of its longest packet.
    pub mtu: u32,
}

/// The file system of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// Its magic number (statfs(2)).
    pub magic: u64,
    /// Bytes that it has in all.
    pub bytes: u64,
    /// Of these, free.
    pub free: u64,
    /// Whether it is read-only.
    pub read_only: bool,
    /// Bytes that the file has there already.
    pub used: u64,
}

/// What a configuration needs from the machine.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// The table's file, and its size.
    pub table: Option<(PathBuf, u64)>,
    /// The database's file.
    pub database: Option<PathBuf>,
    /// Bytes of the memory that frames lie in.
    pub umem: u64,
    /// Queues to serve; none for all.
    pub queues: Option<u32>,
    /// Whether zero copy is required.
    pub zero_copy: bool,
    /// Whether huge pages are asked for.
    pub huge_pages: bool,
    /// CPUs that are pinned to.
    pub cores: BTreeSet<u16>,
    /// Whether Baton chooses those CPUs.
    pub chosen: bool,
}

impl Needs {
    /// What a configuration needs, on interfaces with so many queues each.
    pub fn of(config: &Config, queues: &[u32]) -> Self {
        use crate::config::{Auto, Cores};
        let capacity = crate::table::Capacity { meetings: config.table.meetings, terminals: config.table.terminals };
        let queues = queues.iter().map(|&queues| config.interface.queues.unwrap_or(queues)).sum();
        let chunk_bytes = if config.interface.zero_copy { CHUNK_ZERO_COPY_BYTES } else { CHUNK_BYTES };
        let rings = config.rings_per_queue(queues).unwrap_or(1);
        let chunks = u64::from(queues)
            * (u64::from(config.interface.receive_ring) + u64::from(rings) * u64::from(config.interface.transmit_ring));
        Self {
            table: Some((config.table.path.clone(), crate::table::Table::bytes(capacity))),
            database: Some(config.database.path.clone()),
            umem: chunks * chunk_bytes as u64,
            queues: config.interface.queues,
            zero_copy: config.interface.zero_copy,
            huge_pages: config.interface.huge_pages,
            cores: config.worker.pinned().collect(),
            chosen: matches!(config.worker.cores, Cores::Chosen(Auto::Auto)),
        }
    }
}

/// Checks everything. `root` is the folder of `proc` and `sys`, normally `/`.
pub fn examine(root: &Path, asked: &Asked, needs: &Needs) -> Vec<Finding> {
    let machine = Machine { root, asked, needs };
    let mut all = rights::examine(&machine);
    all.extend(network::examine(&machine));
    all.extend(memory::examine(&machine));
    all.extend(processors::examine(&machine));
    // An error that the start itself would give counts for more than what was found by examining
    // the machine.
    let starts = |check| !asked.obstacles.iter().any(|(obstacle, _)| *obstacle == check);
    all.retain(|finding| finding.level == Level::Problem || starts(finding.check));
    for (check, says) in &asked.obstacles {
        if !all.iter().any(|finding| finding.check == *check && finding.level == Level::Problem) {
            all.push(Finding::problem(check, says, "the start ends with these words", way_out(check)));
        }
    }
    all
}

/// What to do about an obstacle, beyond its own message.
fn way_out(check: &str) -> &'static str {
    match check {
        "interface" => "set interface.name to one that `ip link` shows with a link/ether address of its own",
        "queues" => "scripts/tune-nic.sh -q sets the number of queues; or set interface.queues and interface.workers",
        "steering" => "remove the other program if it is not needed, or serve another interface",
        "runtime folder" => "set runtime.dir to a folder of root's, below /run",
        "API socket" => "set runtime.api_socket to a shorter path",
        "pins" => "set runtime.pin to a folder of root's on a BPF file system",
        "table folder" => "set table.path to a folder of root's, on tmpfs or hugetlbfs",
        _ => "give folder and file to the engine's user (runtime.user), or set database.path",
    }
}

struct Machine<'a> {
    root: &'a Path,
    asked: &'a Asked,
    needs: &'a Needs,
}

impl Machine<'_> {
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// The content of a file, without the line's end; none if it is missing.
    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.at(path)).ok().map(|text| text.trim_end().to_owned())
    }

    /// Names in a folder, sorted; none if it is missing.
    fn list(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.at(path)) else { return Vec::new() };
        let mut names: Vec<_> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }
}

/// The CPUs of a list such as `0-3,8`.
fn cpus(list: &str) -> BTreeSet<u16> {
    let ranges = list.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
    });
    ranges.flatten().collect()
}

fn listed<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests;
