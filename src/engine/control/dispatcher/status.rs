//! How the server does, as far as it is decided here. What the process is and what was counted and
//! measured in it the control thread adds.

use std::collections::BTreeMap;

use super::links::Links;
use super::records::Records;
use crate::api::{ControlState, DomainStatus, Status};
use crate::cascade::{LinkState, Route};
use crate::cms::Operations;
use crate::handover::{StandbyState, UpgradeState};
use crate::recovery::{Recovery, ServerRecovery};
use crate::wire::{Domain, Epoch};

/// What the keeper has said, for the status alone.
pub(super) struct KeeperWords {
    /// How the standby does.
    pub standby: StandbyState,
    /// What became of the frames that steering saw.
    pub steered: BTreeMap<String, u64>,
    /// How the last upgrade does.
    pub upgrade: UpgradeState,
}

impl Default for KeeperWords {
    fn default() -> Self {
        Self { standby: StandbyState::Absent("none yet".into()), steered: BTreeMap::new(), upgrade: UpgradeState::None }
    }
}

/// The parts of a dispatcher that a status is about.
pub(super) struct Seen<'a> {
    pub epoch: Epoch,
    pub links: &'a Links,
    pub recovery: &'a Recovery,
    pub operations: &'a Operations,
    pub records: &'a Records,
    pub keeper: &'a KeeperWords,
    /// Frames that were counted, by name.
    pub counted: [(&'static str, u64); 3],
}

/// What `baton status` shows of this, but for the domains' parts.
pub(super) fn status(seen: &Seen<'_>) -> Status {
    let table = seen.records.writer.table();
    let capacity = table.capacity();
    let domains: Vec<_> = seen.links.topology.domains().map(|domain| domain_status(seen, domain)).collect();
    let keeper = seen.keeper;
    let control = seen.counted.into_iter().map(|(name, count)| (name.to_owned(), count));
    let steered = keeper.steered.iter().map(|(name, &count)| (format!("xdp_{name}"), count));
    Status {
        epoch: seen.epoch,
        state: ControlState::of(&domains),
        parts: table.count_parts().into(),
        parts_capacity: capacity.meetings.into(),
        terminals: table.count_terminals().into(),
        terminals_capacity: capacity.terminals.into(),
        operations: seen.operations.under_way() as u64,
        commands_in_flight: seen.operations.commands() as u64,
        database: seen.records.database.seen(),
        snapshot: seen.records.warmed().cloned(),
        domains,
        counters: control.chain(steered).collect(),
        standby: keeper.standby.clone(),
        upgrade: keeper.upgrade.clone(),
        ..Status::default()
    }
}

/// Without what is counted in the table: the API counts it, so that nobody's operation waits for
/// that.
fn domain_status(seen: &Seen<'_>, domain: Domain) -> DomainStatus {
    let topology = &seen.links.topology;
    let link = topology.link(domain);
    let hop = topology.route(domain).and_then(Route::hop);
    let recovery = seen.recovery.server(domain);
    // A link of which nothing is known yet has not fallen silent.
    let is_silent = link.is_some_and(|link| link.state() == LinkState::Down);
    let is_given_up = recovery.is_some_and(|server| server.fenced_by().is_some());
    DomainStatus {
        domain,
        up: link.is_some_and(|link| link.state() == LinkState::Up),
        in_control: !is_silent && !is_given_up && recovery.is_some_and(ServerRecovery::is_reconciled),
        mac: hop.map(|hop| hop.mac.to_string()),
        interface: None,
        fenced_by: seen.records.writer.table().fence(domain),
        recovery: recovery.map(ServerRecovery::phase),
        parts: 0,
        taken_over: 0,
        missing: 0,
        orphans: seen.records.orphans.count_in(domain) as u64,
        round_trip_us: link.and_then(|link| link.round_trip()).map(|time| time.as_micros() as u64),
    }
}
