//! What the machines want the engine to know.

use std::time::{Duration, SystemTime};

use super::Control;
use super::journal::DatabaseHandle;
use crate::cascade::{Hop, LinkEvent};
use crate::cms::OperationsEvent;
use crate::handover::protocol::Notice;
use crate::limits::{CONTROL_BATCH, NEXT_HOPS_PER_SECOND, RECOVERY_NOTED_AFTER};
use crate::recovery::{DatabaseStore, Event, Path, ServerReport, TableStore};
use crate::telemetry::{RecoveryNote, Stage};
use crate::time::Nanos;
use crate::wire::{Domain, Epoch};

/// Next hops that the keeper is told, no more than [`NEXT_HOPS_PER_SECOND`]: frames of a domain
/// that come from two places in turn would crowd out what it must hear. One that is not told is
/// learned again by whoever comes next.
#[derive(Default)]
pub(super) struct Told {
    since: Nanos,
    hops: u32,
}

/// Which moments of the recovery were recorded already.
#[derive(Default)]
pub(super) struct Timed {
    pub(super) first: bool,
    pub(super) acknowledged: bool,
    pub(super) reconciled: bool,
    /// It is written down.
    pub(super) noted: bool,
}

impl Told {
    fn allows(&mut self, now: Nanos) -> bool {
        if now.since(self.since) >= Duration::from_secs(1) {
            *self = Self { since: now, hops: 0 };
        }
        self.hops += 1;
        self.hops <= NEXT_HOPS_PER_SECOND
    }
}

impl Control {
    /// Takes what the machines want the engine to know.
    pub(super) fn handle_events(&mut self, now: Nanos) -> bool {
        let (mut any, mut learned) = (false, Vec::new());
        for peer in self.shared.peers.iter() {
            if let Some(meetings) = peer.take_stray() {
                self.recovery.handle_stray(now, peer.domain, meetings, &mut holdings!(self));
            }
            if let Some(hop) = peer.seen()
                && self.topology.handle_authentic(peer.domain, hop)
            {
                learned.push((peer.domain, hop));
            }
        }
        for (domain, hop) in learned {
            any = true;
            self.handle_learned(now, domain, hop);
        }
        while let Some(event) = self.topology.poll_event() {
            any = true;
            match event {
                LinkEvent::Up(domain) => {
                    tracing::info!(%domain, "link up");
                    // What it did while it was away is asked for; what recovery had begun goes on.
                    if self.recovery.server(domain).is_some_and(|server| server.is_reconciled()) {
                        self.recovery.restart(now, domain);
                    }
                }
                LinkEvent::Moved(domain, hop) => self.handle_learned(now, domain, hop),
                LinkEvent::Down(domain) if self.topology.next_hop(domain).is_none() => {
                    tracing::warn!(%domain, "link down: no frame of it came yet to learn where it is; or name its `mac`");
                }
                LinkEvent::Down(domain) => tracing::warn!(%domain, "link down: heartbeats are not answered"),
            }
        }
        for handled in 0..CONTROL_BATCH {
            let Some(event) = self.recovery.poll_event() else {
                if handled > 0 {
                    self.note_moments();
                }
                break;
            };
            any = true;
            self.handle_recovery_event(now, event);
        }
        while let Some(event) = self.operations.poll_event() {
            any = true;
            match event {
                OperationsEvent::Stale { highest } => self.fence(highest),
                OperationsEvent::Fenced { domain, by } => self.recovery.fence(domain, by),
                OperationsEvent::Unanswered { domain } => self.recovery.doubt(domain),
                OperationsEvent::Unfinished { meeting, why, pause } => {
                    tracing::warn!(%meeting, %why, ?pause, "what was begun is not finished yet; it is tried again");
                }
                OperationsEvent::Warning { meeting, what } => tracing::warn!(%meeting, "{what}"),
            }
        }
        any
    }

    /// A domain is elsewhere than was known: what was on its way to it may have gone nowhere.
    fn handle_learned(&mut self, now: Nanos, domain: Domain, hop: Hop) {
        let interface = &self.config.interface.names[usize::from(hop.interface)];
        tracing::info!(%domain, mac = %hop.mac, interface, "next hop learned");
        if self.told.allows(now) {
            let _ = self.keeper.tell(&Notice::NextHop { domain, hop });
        }
        self.recovery.restart(now, domain);
    }

    /// Stops controlling anything at once, workers included.
    pub(super) fn fence(&mut self, highest: Epoch) {
        self.fenced = Some(highest);
        // Before any lock goes: a standby would control under an epoch that is as old.
        self.succession.close();
        self.shared.stop();
    }

    fn handle_recovery_event(&mut self, now: Nanos, event: Event) {
        match event {
            Event::Stale { domain, highest } => self.give_up_domain(now, domain, highest),
            Event::Orphan { domain, summary } => {
                tracing::warn!(%domain, meeting = %summary.meeting, "orphan: held there and not known here");
                self.operations.handle_orphan(summary.meeting);
            }
            Event::Missing { domain, meeting } => {
                tracing::warn!(%domain, %meeting, "missing: known here and not held there");
            }
            Event::Unfinished { domain, meeting } => {
                // Operations learn of it from the database, which had it first.
                tracing::info!(%domain, %meeting, "an operation was cut short; it is being finished");
            }
            Event::Remnant { domain, meeting } => {
                tracing::warn!(%domain, %meeting, "it has ended, and is still held there: it is being ended there too");
            }
            Event::Refused { domain, meeting, opcode, status } => {
                tracing::warn!(%domain, %meeting, opcode, %status, "refused");
            }
            Event::Restarted { domain } => {
                tracing::warn!(%domain, "the autonomous server has restarted: what it holds is asked for again");
            }
            Event::BadRecord { domain, opcode, meeting } => {
                tracing::warn!(
                    %domain, ?opcode, %meeting,
                    "a list has a record that cannot be (a value, a number that is out of order or comes twice): such are \
                     dropped; see malformed in `baton recovery last`"
                );
            }
            Event::Foreign { domain, terminal } => {
                tracing::warn!(
                    %domain, %terminal,
                    "its list names a terminal that is not its domain's: such are dropped; if it has the terminal, name \
                     the terminal's domain in `behind`"
                );
            }
            Event::Unanswered { domain, opcode, meeting } => {
                tracing::warn!(%domain, ?opcode, %meeting, "asked many times without a usable answer; it is asked further");
            }
            Event::ManyOrphans { domain } => {
                tracing::warn!(%domain, "it holds more orphans than are shown; the others are counted");
            }
            Event::Endless { domain } => tracing::error!(%domain, "its listing does not end; what was listed counts"),
            Event::Full { domain, meeting } => {
                tracing::error!(%domain, %meeting, "no room in the table: create it with more");
            }
            Event::Silent { domain } => {
                tracing::warn!(%domain, "no answer to REPLAY_DONE: nothing proves that both sides agree")
            }
            Event::Differing { domain, ours, theirs } => {
                tracing::warn!(%domain, ?ours, ?theirs, "audit differs: listing again");
            }
            Event::AllAcknowledged { domain } => {
                tracing::debug!(%domain, "all takeovers acknowledged");
                self.operations.handle_taken_over(now, &mut self.writer);
            }
            Event::Reconciled { domain } => {
                tracing::info!(%domain, "reconciled");
                if let Some((place, _)) = self.shared.peers.find(domain) {
                    self.shared.settle(place);
                }
                self.discard_parts(domain);
                self.operations.handle_taken_over(now, &mut self.writer);
            }
        }
    }

    /// Records the moments of the recovery, each once, from the engine's start.
    fn note_moments(&mut self) {
        let reached = self.recovery.moments();
        // Of what was sent before there was a control thread the moment is known, when it was
        // handed to the kernel.
        let sent = self.first_sent.map(|sent| sent.since(self.begun).as_nanos() as u64);
        let moments = [
            (Stage::RecoveryFirstFrame, sent.or(reached.first_takeover_ns), &mut self.timed.first),
            (Stage::RecoveryAcknowledged, reached.all_acknowledged_ns, &mut self.timed.acknowledged),
            (Stage::RecoveryReconciled, reached.reconciled_ns, &mut self.timed.reconciled),
        ];
        for (stage, moment, done) in moments {
            if let Some(moment) = moment
                && !*done
            {
                *done = true;
                self.recorder.record(stage, Duration::from_nanos(moment));
            }
        }
    }

    /// Has the recovery written down, once: when all is reconciled, or after
    /// [`RECOVERY_NOTED_AFTER`] for those that were reached.
    pub(super) fn note_recovery(&mut self, now: Nanos) {
        let late = now.since(self.begun) >= RECOVERY_NOTED_AFTER;
        if self.timed.noted || !(self.timed.reconciled || late) {
            return;
        }
        self.timed.noted = true;
        let Some(aggregator) = &self.aggregator else { return };
        let report = self.recovery.report();
        // Of what was noticed before the engine began, all counts from there.
        let noticed = self.predecessor.as_ref().map(|death| Nanos(death.noticed_ns));
        let from = noticed.unwrap_or(self.begun);
        let ahead = report.began_ns.saturating_sub(from.0);
        let reached = report.servers.iter().filter(|server| server.all_acknowledged_ns.is_some());
        let longest = |moment: fn(&ServerReport) -> Option<u64>| {
            reached.clone().filter_map(moment).max().map_or_else(|| now.since(from).as_nanos() as u64, |ns| ahead + ns)
        };
        let sent = self.first_sent.map(|sent| sent.since(from).as_nanos() as u64);
        let note = RecoveryNote {
            at_s: 0.0,
            epoch: self.epoch.to_string(),
            path: if self.path == Path::Cache { "cache" } else { "database" }.into(),
            succeeds: noticed.is_some(),
            meetings: report.servers.iter().map(|server| u64::from(server.progress.taken_over)).sum(),
            unreached: (report.servers.len() - reached.clone().count()) as u64,
            first_frame_ns: sent.or_else(|| report.first_takeover_ns.map(|ns| ahead + ns)),
            acknowledged_ns: longest(|server| server.all_acknowledged_ns),
            reconciled_ns: longest(|server| server.reconciled_ns),
        };
        aggregator.note_recovery(SystemTime::now() - now.since(from), note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_hops_are_told_no_faster_than_a_keeper_takes_them() {
        let mut told = Told::default();
        let second = |at: u64| Nanos(at * 1_000_000_000);
        let allowed = |told: &mut Told, at| (0..3 * NEXT_HOPS_PER_SECOND).filter(|_| told.allows(second(at))).count();
        assert_eq!(allowed(&mut told, 5), NEXT_HOPS_PER_SECOND as usize);
        assert_eq!(allowed(&mut told, 6), NEXT_HOPS_PER_SECOND as usize);
    }
}
