//! The state of the server, as `/status` answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::handover::{Program, UpgradeState};
use crate::telemetry::{RingStatus, StageSummary};
use crate::wire::{Domain, Epoch};

/// How the server does.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Under which epoch it controls.
    pub epoch: Epoch,
    /// The engine's process.
    pub pid: u32,
    /// How long the engine has run.
    pub uptime_ms: u64,
    /// `cache` or `database`: by which path this engine recovered.
    pub path: String,
    /// `in control` of all domains, `partly in control`, or `recovering`: of none.
    pub state: String,
    /// Parts of meetings in the table, and room for them.
    pub parts: u64,
    /// Room for parts.
    pub parts_capacity: u64,
    /// Terminals in the table.
    pub terminals: u64,
    /// Room for terminals.
    pub terminals_capacity: u64,
    /// Operations under way.
    pub operations: u64,
    /// Commands on their way to autonomous servers.
    pub commands_in_flight: u64,
    /// `opening`, `open`, or why not.
    pub database: String,
    /// Each autonomous domain of the configuration.
    pub domains: Vec<DomainStatus>,
    /// By name.
    pub counters: BTreeMap<String, u64>,
    /// Latency by stage, since the engine's start.
    pub stages: Vec<StageSummary>,
    /// How the histogram log does.
    #[serde(default)]
    pub log: String,
    /// The rings of each worker.
    #[serde(default)]
    pub rings: Vec<RingStatus>,
    /// How frames are taken from the driver.
    pub mode: String,
    /// `ready`, `starting`, or why there is no standby.
    #[serde(default)]
    pub standby: String,
    /// What the engine runs.
    pub program: Program,
    /// How the last upgrade does.
    pub upgrade: UpgradeState,
}

impl Status {
    /// `in control` where every domain is, `partly in control` where some are, `recovering` where
    /// none is.
    pub fn state_of(domains: &[DomainStatus]) -> &'static str {
        match domains.iter().filter(|domain| domain.in_control).count() {
            0 => "recovering",
            some if some < domains.len() => "partly in control",
            _ => "in control",
        }
    }

    /// The state, with how many domains it is true of where that is not all or none.
    pub fn state_in_words(&self) -> String {
        let all = self.domains.len();
        match self.domains.iter().filter(|domain| domain.in_control).count() {
            some if some > 0 && some < all => format!("{} ({some} of {all} domains)", self.state),
            _ => self.state.clone(),
        }
    }
}

/// How an autonomous domain does.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DomainStatus {
    /// Which.
    pub domain: Domain,
    /// Whether its autonomous server answers.
    pub up: bool,
    /// Its next hop, once known.
    #[serde(default)]
    pub mac: Option<String>,
    /// The interface that it is at.
    #[serde(default)]
    pub interface: Option<String>,
    /// Under which epoch another dispatch server controls it, if one does.
    #[serde(default)]
    pub fenced_by: Option<Epoch>,
    /// Whether we control it: both sides agree on its meetings, and its autonomous server has not
    /// fallen silent since.
    #[serde(default)]
    pub in_control: bool,
    /// Where its recovery is, or came to while its autonomous server answered.
    pub recovery: String,
    /// Our parts in it.
    pub parts: u64,
    /// Of these, taken over under the current epoch.
    pub taken_over: u64,
    /// Of these, not held by the autonomous server.
    pub missing: u64,
    /// What it holds and we do not know.
    pub orphans: u64,
    /// Round trip of the last heartbeat.
    #[serde(default)]
    pub round_trip_us: Option<u64>,
}

impl DomainStatus {
    /// Where its recovery is, for people: what was agreed before it fell silent, or before another
    /// dispatch server took it, is not what is.
    pub fn recovery_now(&self) -> String {
        match self.fenced_by {
            Some(by) => format!("not in control: {by}"),
            None if self.recovery == "reconciled" && !self.in_control => "unreachable".into(),
            None => self.recovery.clone(),
        }
    }
}
