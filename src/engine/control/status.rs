//! How the server does, in one answer.

use std::collections::BTreeMap;

use super::Control;
use super::journal::DatabaseHandle;
use crate::api::{ControlState, DatabaseState, DomainStatus, Status};
use crate::cascade::{LinkState, Route};
use crate::recovery::ServerRecovery;
use crate::telemetry::{Aggregator, Counters};
use crate::time::Nanos;
use crate::wire::Domain;

impl Control {
    /// What `baton status` shows, but for the domains' parts.
    pub(super) fn status(&self, now: Nanos) -> Status {
        let table = self.writer.table();
        let telemetry = self.aggregator.as_ref().map(Aggregator::published);
        let telemetry = telemetry.as_deref();
        let capacity = table.capacity();
        let domains: Vec<_> = self.topology.domains().map(|domain| self.domain_status(domain)).collect();
        let database = match &self.store {
            Some(DatabaseHandle { fault: Some(why), .. }) => DatabaseState::Failed(why.clone()),
            Some(store) if store.opened.is_some() => DatabaseState::Open,
            _ => DatabaseState::Opening,
        };
        Status {
            epoch: self.epoch,
            pid: std::process::id(),
            uptime_ms: now.since(self.begun).as_millis() as u64,
            path: Some(self.path),
            state: ControlState::of(&domains),
            parts: table.count_parts().into(),
            parts_capacity: capacity.meetings.into(),
            terminals: table.count_terminals().into(),
            terminals_capacity: capacity.terminals.into(),
            operations: self.operations.under_way() as u64,
            commands_in_flight: self.operations.commands() as u64,
            database,
            domains,
            counters: self.counters(),
            stages: telemetry.map(|published| published.totals.summaries()).unwrap_or_default(),
            log: telemetry.map(|published| published.state()).unwrap_or_default(),
            rings: self.counters.iter().filter_map(|counters| counters.ring()).collect(),
            mode: self.mode.clone(),
            standby: self.standby.clone(),
            program: self.upgrade.program.clone(),
            upgrade: self.upgrade.state.clone(),
        }
    }

    /// Without what is counted in the table: whoever asks counts it, so that nobody's operation
    /// waits for that.
    fn domain_status(&self, domain: Domain) -> DomainStatus {
        let (table, link) = (self.writer.table(), self.topology.link(domain));
        let hop = self.topology.route(domain).and_then(Route::hop);
        let recovery = self.recovery.server(domain);
        // A link of which nothing is known yet has not fallen silent.
        let is_silent = link.is_some_and(|link| link.state() == LinkState::Down);
        DomainStatus {
            domain,
            up: link.is_some_and(|link| link.state() == LinkState::Up),
            in_control: !is_silent && !self.is_given_up(domain) && recovery.is_some_and(ServerRecovery::is_reconciled),
            mac: hop.map(|hop| hop.mac.to_string()),
            interface: hop.and_then(|hop| self.config.interface.names.get(usize::from(hop.interface)).cloned()),
            fenced_by: table.fence(domain),
            recovery: recovery.map(ServerRecovery::phase),
            parts: 0,
            taken_over: 0,
            missing: 0,
            orphans: self.orphans.keys().filter(|(at, _)| *at == domain).count() as u64,
            round_trip_us: link.and_then(|link| link.round_trip()).map(|time| time.as_micros() as u64),
        }
    }

    fn counters(&self) -> BTreeMap<String, u64> {
        let workers = Counters::sum(self.counters.iter().map(|counters| &**counters));
        let control = [
            ("control_unexpected", self.unexpected),
            ("control_unroutable", self.sender.unroutable),
            ("control_overflowed", self.sender.overflowed),
        ];
        let own = workers.chain(control).map(|(name, count)| (name.to_owned(), count));
        own.chain(self.steered.iter().map(|(name, &count)| (format!("xdp_{name}"), count))).collect()
    }
}
