//! How the server does, as clients are told.
//!
//! Each state is an enum here and a text in JSON: the words of docs/operations.md, and where there
//! is no word for it, the reason in a sentence.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::handover::{AttachedAll, Program, StandbyState, UpgradeState};
use crate::recovery::{Path, Phase, Warmed};
use crate::telemetry::{LogState, RingStatus, StageSummary};
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
    /// By which path this engine recovered; every engine says it.
    pub path: Option<Path>,
    /// What came of the snapshot that a new table was warmed from; none where the table was there,
    /// or no snapshot was.
    pub snapshot: Option<Warmed>,
    /// Of how many domains it is in control.
    pub state: ControlState,
    /// Parts of meetings in the table.
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
    /// Whether operations can be made durable.
    pub database: DatabaseState,
    /// Each autonomous domain of the configuration.
    pub domains: Vec<DomainStatus>,
    /// All that is counted, by name.
    pub counters: BTreeMap<String, u64>,
    /// Latency by stage, since the engine's start.
    pub stages: Vec<StageSummary>,
    /// How the writing of the histogram log goes.
    pub log: LogState,
    /// The rings of each worker.
    pub rings: Vec<RingStatus>,
    /// How frames are taken from the driver.
    pub mode: AttachedAll,
    /// Whether an engine stands by.
    pub standby: StandbyState,
    /// What the engine runs.
    pub program: Program,
    /// How the last upgrade does.
    pub upgrade: UpgradeState,
}

impl Status {
    /// The state, with the number of domains that it is true of where that is not all or none.
    pub fn state_in_words(&self) -> String {
        let all = self.domains.len();
        match self.domains.iter().filter(|domain| domain.in_control).count() {
            some if some > 0 && some < all => format!("{} ({some} of {all} domains)", self.state),
            _ => self.state.to_string(),
        }
    }
}

/// Of how many domains a server is in control.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum ControlState {
    /// Of none.
    #[default]
    #[serde(rename = "recovering")]
    Recovering,
    /// Of some.
    #[serde(rename = "partly in control")]
    Partly,
    /// Of all.
    #[serde(rename = "in control")]
    InControl,
}

impl ControlState {
    /// Of a server with these domains.
    pub fn of(domains: &[DomainStatus]) -> Self {
        match domains.iter().filter(|domain| domain.in_control).count() {
            0 => Self::Recovering,
            some if some < domains.len() => Self::Partly,
            _ => Self::InControl,
        }
    }
}

impl fmt::Display for ControlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Recovering => "recovering",
            Self::Partly => "partly in control",
            Self::InControl => "in control",
        })
    }
}

/// Whether the database takes operations. In JSON it is its text.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum DatabaseState {
    /// Not yet: operations wait.
    #[default]
    Opening,
    /// It does.
    Open,
    /// It cannot be opened, or not be written: why, in a sentence.
    Failed(String),
}

impl fmt::Display for DatabaseState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Opening => "opening",
            Self::Open => "open",
            Self::Failed(why) => why,
        })
    }
}

impl From<DatabaseState> for String {
    fn from(state: DatabaseState) -> Self {
        match state {
            DatabaseState::Failed(why) => why,
            state => state.to_string(),
        }
    }
}

impl From<String> for DatabaseState {
    fn from(text: String) -> Self {
        match &*text {
            "opening" => Self::Opening,
            "open" => Self::Open,
            _ => Self::Failed(text),
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
    /// The network interface that it is reached by, once known.
    #[serde(default)]
    pub interface: Option<String>,
    /// Under which epoch another dispatch server controls it, if one does.
    #[serde(default)]
    pub fenced_by: Option<Epoch>,
    /// Whether we control it: both sides agree on its meetings, and its autonomous server has not
    /// fallen silent since.
    #[serde(default)]
    pub in_control: bool,
    /// Where its recovery is, or came to while its autonomous server answered; none where nothing
    /// is recovered from it.
    #[serde(with = "phase")]
    pub recovery: Option<Phase>,
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
        match (self.fenced_by, self.recovery) {
            (Some(by), _) => format!("not in control: {by}"),
            (None, Some(Phase::Reconciled)) if !self.in_control => "unreachable".into(),
            (None, phase) => phase::text(phase),
        }
    }
}

/// A phase as people read it, in JSON too: `taking over`. No phase is the empty text.
mod phase {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::recovery::Phase;

    const ALL: [Phase; 7] = [
        Phase::Connecting,
        Phase::TakingOver,
        Phase::Updating,
        Phase::Auditing,
        Phase::Reconciled,
        Phase::Differing,
        Phase::Stale,
    ];

    pub(super) fn text(phase: Option<Phase>) -> String {
        phase.map_or_else(String::new, |phase| phase.to_string())
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
    pub(super) fn serialize<S: Serializer>(phase: &Option<Phase>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(*phase))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Phase>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let phase = ALL.into_iter().find(|phase| phase.to_string() == text);
        if phase.is_none() && !text.is_empty() {
            return Err(D::Error::custom(format!("`{text}` is no phase of a recovery")));
        }
        Ok(phase)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn same<T: Serialize + serde::de::DeserializeOwned + PartialEq + fmt::Debug>(value: T, text: &str) {
        assert_eq!(serde_json::to_value(&value).unwrap(), json!(text));
        assert_eq!(serde_json::from_value::<T>(json!(text)).unwrap(), value);
    }

    #[test]
    fn each_state_is_its_text_in_json() {
        same(ControlState::InControl, "in control");
        same(ControlState::Partly, "partly in control");
        same(ControlState::Recovering, "recovering");
        same(DatabaseState::Opening, "opening");
        same(DatabaseState::Open, "open");
        same(DatabaseState::Failed("open, and not written: no room".into()), "open, and not written: no room");
        same(StandbyState::Ready, "ready");
        same(StandbyState::Starting, "starting");
        same(StandbyState::Absent("none yet".into()), "none yet");
        same(LogState::None, "");
        same(LogState::Off, "off");
        same(LogState::Writes("/var/log".into()), "writes to /var/log");
        same(LogState::Fails("cannot write to /var/log: no room".into()), "cannot write to /var/log: no room");
        same(Some(Path::Cache), "cache");
        same(AttachedAll::default(), "");
        use crate::handover::Attached::{Generic, Native};
        same(AttachedAll::of([Native, Native].into_iter()), "native");
        same(AttachedAll::of([Native, Generic].into_iter()), "native, generic");
    }

    #[test]
    fn a_domain_tells_the_phase_of_its_recovery_as_people_read_it() {
        let domain = json!({
            "domain": 1, "up": true, "mac": null, "interface": null, "fenced_by": null, "in_control": false,
            "recovery": "taking over", "parts": 0, "taken_over": 0, "missing": 0, "orphans": 0, "round_trip_us": null,
        });
        let read: DomainStatus = serde_json::from_value(domain.clone()).unwrap();
        assert_eq!(read.recovery, Some(Phase::TakingOver));
        assert_eq!(serde_json::to_value(&read).unwrap(), domain);
        let nothing = DomainStatus { recovery: None, ..read };
        assert_eq!(serde_json::to_value(nothing).unwrap()["recovery"], "");
    }
}
