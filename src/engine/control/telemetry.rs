//! What this engine measures of itself: the moments of its recovery, round trips, and what the
//! status adds to what the dispatcher knows.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::dispatcher::Dispatcher;
use super::facts::Facts;
use super::workers::Workers;
use crate::api::Status;
use crate::cascade::Route;
use crate::config;
use crate::limits::RECOVERY_NOTED_AFTER;
use crate::recovery::ServerReport;
use crate::telemetry::{Aggregator, Collector, Counters, EngineNote, Recorder, RecoveryNote, Rotation, Sources, Stage};
use crate::time::Nanos;

/// Counters and histograms, and the thread that collects them.
pub(super) struct Telemetry {
    counters: Vec<Arc<Counters>>,
    recorder: Recorder,
    /// Until the thread that takes it runs.
    collector: Option<Collector>,
    timed: Timed,
    /// Goes last: it writes down what all others recorded.
    aggregator: Option<Aggregator>,
}

/// Which moments of the recovery were recorded already.
#[derive(Default)]
struct Timed {
    first: bool,
    acknowledged: bool,
    reconciled: bool,
    /// It is written down.
    noted: bool,
}

impl Telemetry {
    pub fn new(counters: Vec<Arc<Counters>>, mut collector: Collector) -> Self {
        let recorder = crate::telemetry::recorder(&mut collector);
        Self { counters, recorder, collector: Some(collector), timed: Timed::default(), aggregator: None }
    }

    /// Starts the thread that collects.
    pub fn collect(&mut self, facts: &Facts) -> io::Result<&Aggregator> {
        let config::Telemetry { rotate_mib, rotate_s, keep, .. } = facts.config.telemetry;
        let rotation = Rotation {
            bytes: u64::from(rotate_mib) << 20,
            age: Duration::from_secs(rotate_s.into()),
            keep: keep as usize,
        };
        let sources = Sources {
            collector: self.collector.take().expect("the engine begins once"),
            counters: self.counters.clone(),
            folder: facts.config.log_folder().map(|folder| (folder, rotation)),
            engine: EngineNote { epoch: facts.epoch.to_string(), pid: std::process::id(), part: 1 },
        };
        Ok(self.aggregator.insert(Aggregator::spawn(sources)?))
    }

    /// Records what this round has brought.
    pub fn note(&mut self, now: Nanos, dispatcher: &mut Dispatcher, facts: &Facts) {
        for round_trip in dispatcher.take_round_trips() {
            self.recorder.record(Stage::CommandRoundTrip, round_trip);
        }
        self.recorder.hand_over(now);
        self.note_recovery(now, dispatcher, facts);
    }

    /// Records the moments of the recovery, each once, from the engine's start.
    pub fn note_moments(&mut self, dispatcher: &Dispatcher, facts: &Facts) {
        let reached = dispatcher.recovery().moments();
        // Of what was sent before there was a control thread the moment is known, when it was
        // handed to the kernel.
        let sent = facts.first_sent.map(|sent| sent.since(facts.begun).as_nanos() as u64);
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
    fn note_recovery(&mut self, now: Nanos, dispatcher: &Dispatcher, facts: &Facts) {
        let late = now.since(facts.begun) >= RECOVERY_NOTED_AFTER;
        if self.timed.noted || !(self.timed.reconciled || late) {
            return;
        }
        self.timed.noted = true;
        let Some(aggregator) = &self.aggregator else { return };
        let report = dispatcher.recovery().report();
        // Of what was noticed before the engine began, all counts from there.
        let noticed = facts.predecessor.as_ref().map(|death| Nanos(death.noticed_ns));
        let from = noticed.unwrap_or(facts.begun);
        let ahead = report.began_ns.saturating_sub(from.0);
        let reached = report.servers.iter().filter(|server| server.all_acknowledged_ns.is_some());
        let longest = |moment: fn(&ServerReport) -> Option<u64>| {
            reached.clone().filter_map(moment).max().map_or_else(|| now.since(from).as_nanos() as u64, |ns| ahead + ns)
        };
        let sent = facts.first_sent.map(|sent| sent.since(from).as_nanos() as u64);
        let note = RecoveryNote {
            at_s: 0.0,
            epoch: facts.epoch.to_string(),
            path: facts.path.to_string(),
            succeeds: noticed.is_some(),
            meetings: report.servers.iter().map(|server| u64::from(server.progress.taken_over)).sum(),
            unreached: (report.servers.len() - reached.clone().count()) as u64,
            first_frame_ns: sent.or_else(|| report.first_takeover_ns.map(|ns| ahead + ns)),
            acknowledged_ns: longest(|server| server.all_acknowledged_ns),
            reconciled_ns: longest(|server| server.reconciled_ns),
        };
        aggregator.note_recovery(SystemTime::now() - now.since(from), note);
    }

    /// Adds to a status what the process is and what was counted and measured in it.
    pub fn complete(&self, now: Nanos, status: &mut Status, dispatcher: &Dispatcher, workers: &Workers, facts: &Facts) {
        let published = self.aggregator.as_ref().map(Aggregator::published);
        let published = published.as_deref();
        status.pid = std::process::id();
        status.uptime_ms = now.since(facts.begun).as_millis() as u64;
        status.path = Some(facts.path);
        status.stages = published.map(|published| published.totals.summaries()).unwrap_or_default();
        status.log = published.map(|published| published.state()).unwrap_or_default();
        status.rings = self.counters.iter().filter_map(|counters| counters.ring()).collect();
        status.mode.clone_from(&facts.mode);
        status.program.clone_from(&facts.program);
        for domain in &mut status.domains {
            let hop = dispatcher.topology().route(domain.domain).and_then(Route::hop);
            let names = &facts.config.interface.names;
            domain.interface = hop.and_then(|hop| names.get(usize::from(hop.interface)).cloned());
        }
        let sender = &workers.sender;
        let unsent = [("control_unroutable", sender.unroutable), ("control_overflowed", sender.overflowed)];
        for (name, count) in Counters::sum(self.counters.iter().map(|counters| &**counters)).chain(unsent) {
            *status.counters.entry(name.to_owned()).or_default() += count;
        }
    }
}
