//! The configuration. A [`Config`] is valid, and need not be checked again.
//!
//! It is read from TOML ([`Config::read`]), where every key has a default but the interface's name
//! and the domains. A key that is wrong is refused with file, line, key and what was expected, and
//! so is a key that does not exist: a misspelt `insecure_no_authentication` or `secret` must not
//! pass for a default. The command line overrides some of it ([`Overrides`]).
//!
//! The keeper reads it and passes it to each engine in the manifest. So editing the file has no
//! effect until the keeper is restarted, and an engine needs no permission to read secrets.

mod example;
mod file;
#[cfg(test)]
mod tests;
mod values;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use example::EXAMPLE;
pub use file::ConfigError;
pub(crate) use file::Place;
pub use values::{Auto, Cores};

use crate::limits::{HANG_DEFAULT, MEETINGS_DEFAULT, TERMINALS_DEFAULT, WORKERS_MAX};
use crate::wire::{Address, DEFAULT_ETHERTYPE, Direction, Domain, Key, Mac, Secret};

/// The path of the configuration unless another is given.
pub const DEFAULT_FILE: &str = "/etc/baton/baton.toml";

/// All that an operator sets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// The file that it was read from.
    pub file: PathBuf,
    /// This dispatch server's identity.
    pub dispatch: Dispatch,
    /// The interfaces of V2V frames.
    pub interface: Interface,
    /// The autonomous domains, ascending by number, each once, at least one.
    pub domains: Vec<AutonomousDomain>,
    /// The table of meetings and terminals.
    pub table: Table,
    /// The database of key parameters.
    pub database: Database,
    /// Files, user and time limits of the running processes.
    pub runtime: Runtime,
    /// How the dispatch server takes control after a start.
    pub recovery: Recovery,
    /// When a link counts as up and down.
    pub heartbeat: Heartbeat,
    /// How workers wait and where they run.
    pub worker: Worker,
    /// Records of its performance: histogram logs.
    pub telemetry: Telemetry,
    /// Files with secrets that other users can read, and their modes.
    #[serde(skip)]
    exposed: Vec<(PathBuf, u32)>,
}

impl Config {
    /// The folder of histogram logs; none if they are off.
    pub fn log_folder(&self) -> Option<PathBuf> {
        let Telemetry { log, folder, .. } = &self.telemetry;
        let beside = || self.database.path.with_file_name("telemetry");
        log.then(|| folder.clone().unwrap_or_else(beside))
    }
}

/// This dispatch server's identity.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dispatch {
    /// Its V2V address. Never a domain's device 0, which is that domain's autonomous server.
    #[serde(deserialize_with = "values::device")]
    pub address: Address,
}

impl Default for Dispatch {
    fn default() -> Self {
        // The last device of the first domain, because terminals are numbered from the first device
        // on.
        Self { address: Domain::new(1).expect("1 is a domain").device(u16::MAX) }
    }
}

/// The interfaces of V2V frames, all with the same settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Interface {
    /// Their names. Empty only before [`Config::read`] has checked it. In the file: `name`, of one
    /// or of several.
    #[serde(rename = "name", deserialize_with = "values::interface_names")]
    pub names: Vec<String>,
    /// Receive queues to serve of each interface, counted from queue 0; none for all.
    #[serde(deserialize_with = "values::queues")]
    pub queues: Option<u32>,
    /// Worker threads for the queues of all interfaces together, each with its own ring; none for
    /// one per queue.
    #[serde(deserialize_with = "values::workers")]
    pub workers: Option<u32>,
    /// The EtherType of V2V frames.
    #[serde(deserialize_with = "values::ethertype")]
    pub ethertype: u16,
    /// The 802.1Q tag of sent frames, unless a domain has another.
    #[serde(deserialize_with = "values::vlan")]
    pub vlan: Option<u16>,
    /// Whether the driver has to write frames into the UMEM itself. If it cannot, the start fails.
    pub zero_copy: bool,
    /// Frames that a queue can hold for its workers: a power of two.
    #[serde(deserialize_with = "values::ring_entries")]
    pub receive_ring: u32,
    /// Frames that a worker can have in its transmit ring: a power of two.
    #[serde(deserialize_with = "values::ring_entries")]
    pub transmit_ring: u32,
    /// Whether to try huge pages for the UMEM first.
    pub huge_pages: bool,
    /// The UDP port of packet generator probes, which are counted; none to count none.
    #[serde(deserialize_with = "values::port")]
    pub probe_port: Option<u16>,
    /// Whether to drop V2V frames from MAC addresses other than the domains', all of which have to
    /// be given then.
    pub known_macs_only: bool,
    /// V2V frames a second that a MAC address may send; none for no limit.
    pub source_rate: Option<NonZeroU32>,
}

impl Default for Interface {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            queues: None,
            workers: None,
            ethertype: DEFAULT_ETHERTYPE,
            vlan: None,
            zero_copy: false,
            receive_ring: 4096,
            transmit_ring: 2048,
            huge_pages: true,
            probe_port: None,
            known_macs_only: false,
            source_rate: None,
        }
    }
}

impl Interface {
    /// Their names, as one text for people.
    pub fn list(&self) -> String {
        self.names.join(", ")
    }
}

/// An autonomous domain and the link to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AutonomousDomain {
    /// From 1, unique in the configuration.
    pub number: Domain,
    /// The next hop to it on this Ethernet; learned from its authentic frames if it is not given.
    #[serde(with = "values::mac")]
    pub mac: Option<Mac>,
    /// The interface that this is, or is learned, at, counted from 0. None: the first if `mac` is
    /// given, any if it is learned.
    pub interface: Option<u8>,
    /// The 802.1Q tag of its link.
    pub vlan: Option<u16>,
    /// The label of the path to it; with a label its frames have the metro form.
    pub label: Option<u16>,
    /// The shared secret for tags; none only with `insecure_no_authentication`.
    #[serde(with = "values::secret")]
    pub secret: Option<Secret>,
    /// Domains without their own autonomous server, ascending: this domain's server has their
    /// terminals. None of them is configured itself, and none is behind two.
    #[serde(default)]
    pub behind: Vec<Domain>,
}

impl AutonomousDomain {
    /// The key of one direction of its link.
    pub fn key(&self, direction: Direction) -> Key {
        Key::derive(self.secret.as_ref(), direction)
    }
}

/// The table of meetings and terminals.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Table {
    /// Its file, on tmpfs or hugetlbfs.
    pub path: PathBuf,
    /// Room for parts of meetings, a part being a meeting in one domain.
    #[serde(deserialize_with = "values::slots")]
    pub meetings: u32,
    /// Room for terminals.
    #[serde(deserialize_with = "values::slots")]
    pub terminals: u32,
}

impl Default for Table {
    fn default() -> Self {
        Self { path: PathBuf::from("/dev/shm/baton/table"), meetings: MEETINGS_DEFAULT, terminals: TERMINALS_DEFAULT }
    }
}

/// The database of key parameters.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// Its file. The engine has to be able to write its folder, where the table's snapshot is too.
    pub path: PathBuf,
    /// Whether a missing file is created.
    pub create: Create,
}

/// When a missing database is created.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Create {
    /// Unless there was one, as a table in use or a snapshot shows.
    #[default]
    IfNew,
    /// Always. If there was one, what it promised is lost, except what the table holds.
    Always,
}

impl Default for Database {
    fn default() -> Self {
        Self { path: PathBuf::from("/var/lib/baton/baton.redb"), create: Create::IfNew }
    }
}

impl Database {
    /// The table's last snapshot.
    pub fn snapshot(&self) -> PathBuf {
        self.path.with_extension("snapshot")
    }
}

/// Files, user and time limits of the running processes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Runtime {
    /// The folder of sockets and BPF pins.
    pub dir: PathBuf,
    /// The user that the engine runs as, if the keeper is root.
    pub user: String,
    /// The API's Unix socket; `<dir>/api.sock` if it is not given.
    pub api_socket: Option<PathBuf>,
    /// The folder of the pinned XDP link and maps; `<dir>/bpf` if it is not given.
    pub pin: Option<PathBuf>,
    /// The time for a clean stop, after which the engine is killed. In the file: `stop_ms`.
    #[serde(rename = "stop_ms", with = "values::millis")]
    pub stop: Duration,
    /// How long an engine's threads may stand still before it is killed and replaced. In the file:
    /// `hang_ms`.
    #[serde(rename = "hang_ms", with = "values::hang")]
    pub hang: Duration,
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("/run/baton"),
            user: "nobody".into(),
            api_socket: None,
            pin: None,
            stop: Duration::from_secs(10),
            hang: HANG_DEFAULT,
        }
    }
}

impl Runtime {
    /// The API's Unix socket.
    pub fn api_socket(&self) -> PathBuf {
        self.api_socket.clone().unwrap_or_else(|| self.dir.join("api.sock"))
    }

    /// The folder of the pinned XDP link and maps.
    pub fn pin(&self) -> PathBuf {
        self.pin.clone().unwrap_or_else(|| self.dir.join("bpf"))
    }
}

/// How the dispatch server takes control after a start.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recovery {
    /// Takeover pages in flight to a domain before it has said how many it accepts.
    #[serde(deserialize_with = "values::window")]
    pub window: u16,
    /// The first retransmission timeout. In the file: `rto_min_ms`.
    #[serde(rename = "rto_min_ms", with = "values::millis")]
    pub rto_min: Duration,
    /// The longest retransmission timeout. In the file: `rto_max_ms`.
    #[serde(rename = "rto_max_ms", with = "values::millis")]
    pub rto_max: Duration,
    /// What to do with orphans: meetings that a domain holds and this server does not know.
    pub orphans: Orphans,
    /// What to do with a table that is truncated, corrupt, or of another layout.
    pub on_bad_table: OnBadTable,
}

impl Default for Recovery {
    fn default() -> Self {
        Self {
            window: 8,
            rto_min: Duration::from_millis(20),
            rto_max: Duration::from_secs(2),
            orphans: Orphans::Leave,
            on_bad_table: OnBadTable::Refuse,
        }
    }
}

/// What to do with an orphan.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Orphans {
    /// It is listed, and reported as a problem.
    #[default]
    Leave,
    /// It is taken over and kept.
    Adopt,
    /// It is taken over and ended.
    End,
}

/// What to do with a table that is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnBadTable {
    /// The start fails, and the file is left unchanged.
    #[default]
    Refuse,
    /// The file is renamed, and recovery uses the database.
    Database,
}

/// When a link counts as up and down.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Heartbeat {
    /// Time between two heartbeats. In the file: `interval_ms`.
    #[serde(rename = "interval_ms", with = "values::millis")]
    pub interval: Duration,
    /// Heartbeats in a row without an answer after which a link is down.
    #[serde(deserialize_with = "values::beats")]
    pub down_after: u32,
    /// Answers in a row after which a link that was down is up.
    #[serde(deserialize_with = "values::beats")]
    pub up_after: u32,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { interval: Duration::from_millis(500), down_after: 4, up_after: 2 }
    }
}

/// Records of the server's performance.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Whether histogram logs are written.
    pub log: bool,
    /// Their folder; `telemetry` beside the database if it is not given.
    pub folder: Option<PathBuf>,
    /// The size at which a new file is begun, in MiB.
    #[serde(deserialize_with = "values::log_mib")]
    pub rotate_mib: u32,
    /// The age at which a new file is begun, in seconds.
    #[serde(deserialize_with = "values::log_seconds")]
    pub rotate_s: u32,
    /// How many files are kept; the oldest are deleted first.
    #[serde(deserialize_with = "values::log_files")]
    pub keep: u32,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log: true, folder: None, rotate_mib: 8, rotate_s: 3600, keep: 64 }
    }
}

/// How workers wait and where they run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Worker {
    /// CPUs that workers are pinned to.
    #[serde(deserialize_with = "values::cores")]
    pub cores: Cores,
    /// CPU that the control thread is pinned to, and its standby before it. None: not pinned,
    /// unless the workers' CPUs are chosen by Baton; then this one is too.
    pub control_core: Option<u16>,
    /// What a worker does with an empty ring.
    pub wait: Wait,
}

impl Worker {
    /// A worker's CPU, if it is pinned.
    pub fn core(&self, number: usize) -> Option<u16> {
        match &self.cores {
            Cores::These(cores) => cores.get(number).copied(),
            Cores::Chosen(Auto::Auto) => None,
        }
    }

    /// All CPUs that are pinned to.
    pub fn pinned(&self) -> impl Iterator<Item = u16> + '_ {
        let workers = (0..WORKERS_MAX).map_while(|number| self.core(number));
        workers.chain(self.control_core)
    }
}

/// What a worker does with an empty ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wait {
    /// Polls without pause: a whole CPU for the shortest latency.
    Busy,
    /// Polls for a moment, then sleeps.
    #[default]
    Adaptive,
    /// Sleeps until the kernel has a frame: for a worker that shares its CPU.
    Sleep,
}

/// Settings from the command line, which override the file's.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Overrides {
    /// The interface that V2V frames come and go by; again for each further one
    #[arg(long, value_name = "NAME")]
    pub interface: Vec<String>,
    /// Parts of meetings that a new table has room for
    #[arg(long, value_name = "NUMBER")]
    pub meetings: Option<u32>,
    /// Terminals that a new table has room for
    #[arg(long, value_name = "NUMBER")]
    pub terminals: Option<u32>,
}
