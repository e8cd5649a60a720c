//! The configuration, validated: whoever holds a [`Config`] need not check it again.
//!
//! It is read from TOML ([`Config::read`]), where every key has a default but the interface's name
//! and the domains. A key that is wrong is refused with file, line, key and what was expected, and
//! so is a key that does not exist: a misspelt `insecure_no_authentication` or `secret` must not
//! pass for a default. The command line overrides some of it ([`Overrides`]).
//!
//! The keeper reads it and hands it on to each engine in the manifest, so a file that is edited
//! under a running keeper changes nothing until that is started again, and an engine needs no right
//! to read secrets.

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

use crate::limits::{HANG_DEFAULT, MEETINGS_DEFAULT, TERMINALS_DEFAULT, WORKERS_MAX};
use crate::wire::{Address, DEFAULT_ETHERTYPE, Direction, Domain, Key, Mac, Secret};

/// Where a configuration is looked for when nobody names another place.
pub const DEFAULT_FILE: &str = "/etc/baton/baton.toml";

/// All that an operator sets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// The file that it was read from.
    pub file: PathBuf,
    /// Who this dispatch server is.
    pub dispatch: Dispatch,
    /// The interfaces that V2V frames come and go by.
    pub interface: Interface,
    /// The autonomous domains, ascending by number, each once, at least one.
    pub domains: Vec<AutonomousDomain>,
    /// The table of meetings and terminals.
    pub table: Table,
    /// The database of key parameters.
    pub database: Database,
    /// Where the running processes have their place.
    pub runtime: Runtime,
    /// How control is taken back.
    pub recovery: Recovery,
    /// When a link counts as up and down.
    pub heartbeat: Heartbeat,
    /// How workers wait and where they run.
    pub worker: Worker,
    /// What is written down of how it does.
    pub telemetry: Telemetry,
    /// Files of secrets that everybody may read, and their modes.
    #[serde(skip)]
    exposed: Vec<(PathBuf, u32)>,
}

impl Config {
    /// The folder of histogram logs; none where they are not wanted.
    pub fn log_folder(&self) -> Option<PathBuf> {
        let Telemetry { log, folder, .. } = &self.telemetry;
        let beside = || self.database.path.with_file_name("telemetry");
        log.then(|| folder.clone().unwrap_or_else(beside))
    }
}

/// Who this dispatch server is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dispatch {
    /// Its V2V address. Never a domain's device 0, which is that domain's autonomous server.
    #[serde(deserialize_with = "values::device")]
    pub address: Address,
}

impl Default for Dispatch {
    fn default() -> Self {
        // The last device of the first domain: terminals are numbered from the other end.
        Self { address: Domain::new(1).expect("1 is a domain").device(u16::MAX) }
    }
}

/// The interfaces that V2V frames come and go by, all set up alike.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Interface {
    /// Their names. Empty only before [`Config::read`] has checked it. In the file: `name`, of one
    /// or of several.
    #[serde(rename = "name", deserialize_with = "values::interface_names")]
    pub names: Vec<String>,
    /// Receive queues of each to serve, from 0; none for all that it has.
    #[serde(deserialize_with = "values::queues")]
    pub queues: Option<u32>,
    /// Worker threads over all queues of all, each with a ring of its own; none for one a queue.
    #[serde(deserialize_with = "values::workers")]
    pub workers: Option<u32>,
    /// What V2V frames bear.
    #[serde(deserialize_with = "values::ethertype")]
    pub ethertype: u16,
    /// The 802.1Q tag that frames are sent with, where a domain names no other.
    #[serde(deserialize_with = "values::vlan")]
    pub vlan: Option<u16>,
    /// Whether the driver may put frames into the UMEM itself. A driver that cannot is an error at
    /// start.
    pub zero_copy: bool,
    /// Frames that a queue can hold for its workers: a power of two.
    #[serde(deserialize_with = "values::ring_entries")]
    pub receive_ring: u32,
    /// Frames that a worker can have on their way out: a power of two.
    #[serde(deserialize_with = "values::ring_entries")]
    pub transmit_ring: u32,
    /// Whether the UMEM is asked for in huge pages first.
    pub huge_pages: bool,
    /// The UDP port whose packet generator probes are counted; none for none.
    #[serde(deserialize_with = "values::port")]
    pub probe_port: Option<u16>,
    /// Whether V2V frames are dropped that come from none of the domains' MAC addresses, which are
    /// all to be named then.
    pub known_macs_only: bool,
    /// V2V frames a second that a MAC address may send; none: as many as it likes.
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
    /// Their names, for people.
    pub fn list(&self) -> String {
        self.names.join(", ")
    }
}

/// An autonomous domain and the link to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AutonomousDomain {
    /// Its number.
    pub number: Domain,
    /// Where frames to it go on this Ethernet; learned from its authentic frames where it is not
    /// named.
    #[serde(with = "values::mac")]
    pub mac: Option<Mac>,
    /// At which of the interfaces, counted from 0, that is, or is learned. None: named, at the
    /// first; learned, at any.
    pub interface: Option<u8>,
    /// The 802.1Q tag of its link.
    pub vlan: Option<u16>,
    /// The label of the path to it: its frames have the metro form then.
    pub label: Option<u16>,
    /// What tags are made and checked with; none in a laboratory alone, asked for by name.
    #[serde(with = "values::secret")]
    pub secret: Option<Secret>,
    /// Domains without an autonomous server of their own whose terminals are this one's, ascending.
    /// None is configured itself, and none is behind two.
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
    /// Parts of meetings (a meeting in one domain) that it has room for.
    #[serde(deserialize_with = "values::slots")]
    pub meetings: u32,
    /// Terminals that it has room for.
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
    /// Its file. Its folder is the engine's to write; the snapshot lies beside it.
    pub path: PathBuf,
    /// Whether a file is created where there is none.
    pub create: Create,
}

/// When a database is created where its file is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Create {
    /// When nothing says that there was one: neither a table that lives nor a snapshot.
    #[default]
    IfNew,
    /// Always. What was promised by one that is lost is lost then, but for what the table holds.
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

/// Where the running processes have their place.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Runtime {
    /// The folder of sockets and pins.
    pub dir: PathBuf,
    /// Whom the engine runs as, when the keeper is root.
    pub user: String,
    /// The API's Unix socket; `<dir>/api.sock` where it is not named.
    pub api_socket: Option<PathBuf>,
    /// The folder of the pinned XDP link and maps; `<dir>/bpf` where it is not named.
    pub pin: Option<PathBuf>,
    /// How long a clean stop may take before the engine is killed. In the file: `stop_ms`.
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

/// How control is taken back.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recovery {
    /// Takeover pages on their way to a domain at once, before it has said how many it takes.
    #[serde(deserialize_with = "values::window")]
    pub window: u16,
    /// The first time that an answer is waited for before the request is repeated. In the file:
    /// `rto_min_ms`.
    #[serde(rename = "rto_min_ms", with = "values::millis")]
    pub rto_min: Duration,
    /// The longest that a repetition waits. In the file: `rto_max_ms`.
    #[serde(rename = "rto_max_ms", with = "values::millis")]
    pub rto_max: Duration,
    /// What is done with meetings that a domain holds under our control and we do not know.
    pub orphans: Orphans,
    /// What is done with a table that is cut, corrupt, or of another layout.
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

/// What is done with an orphan.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Orphans {
    /// Listed and alarmed, no more.
    #[default]
    Leave,
    /// Taken over and kept.
    Adopt,
    /// Taken over and ended.
    End,
}

/// What is done with a table that is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnBadTable {
    /// The start fails, and the file stays as it is.
    #[default]
    Refuse,
    /// The file is moved aside, and the database serves.
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

/// What is written down of how the server does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Whether histogram logs are written.
    pub log: bool,
    /// Their folder; `telemetry` beside the database where it is not named.
    pub folder: Option<PathBuf>,
    /// A file that has grown to this is followed by the next one, MiB.
    #[serde(deserialize_with = "values::log_mib")]
    pub rotate_mib: u32,
    /// And one that is so old, seconds.
    #[serde(deserialize_with = "values::log_seconds")]
    pub rotate_s: u32,
    /// Files that are kept; the oldest go first.
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
    /// CPU that the control thread is pinned to, and before it what stands by for it; none: not
    /// pinned, unless those of workers are chosen: then this one is too.
    pub control_core: Option<u16>,
    /// What a worker does with an empty ring.
    pub wait: Wait,
}

/// CPUs that workers are pinned to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
pub enum Cores {
    /// These, in the workers' order; who has none is not pinned.
    These(Vec<u16>),
    /// Cores at the interface that the machine can spare.
    Chosen(Auto),
}

/// The word for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Auto {
    /// `auto`
    Auto,
}

impl Default for Cores {
    fn default() -> Self {
        Self::These(Vec::new())
    }
}

impl Worker {
    /// The CPU of a worker, if it is pinned.
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
    /// Looks again and again: a whole CPU for the shortest latency.
    Busy,
    /// Looks again for a moment, then sleeps.
    #[default]
    Adaptive,
    /// Sleeps until the kernel has a frame for it: for a worker that shares its CPU.
    Sleep,
}

/// What the command line sets over the file.
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
