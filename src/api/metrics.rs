//! The state of the server as metrics. Names are `baton_<what>_<unit>`, units SI's.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::{Census, ControlState, DatabaseState, Status};
use crate::handover::StandbyState;
use crate::recovery::{Path, Phase};
pub use crate::telemetry::Dialect;
use crate::telemetry::{Exposition, LogState, Totals};

/// A family of counters: name, help, label, and of each of the label's values what its counter in
/// [`Status::counters`] is called.
type Family = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);

const COUNTERS: &[Family] = &[
    ("baton_frames_received", "Frames that workers took from their rings.", "", &[("", "received")]),
    ("baton_frames_sent", "Frames handed to the kernel.", "", &[("", "sent")]),
    (
        "baton_reports",
        "Terminals' reports, by what became of them.",
        "result",
        &[
            ("applied", "reports_applied"),
            ("known", "reports_known"),
            ("unknown", "reports_unknown"),
            ("deferred", "reports_deferred"),
            ("full", "reports_full"),
            ("fenced", "fenced"),
        ],
    ),
    (
        "baton_probes",
        "Probes that came: echoed ones, and those of packet generators, which are counted alone.",
        "kind",
        &[("echoed", "probes_echoed"), ("generator", "generator_probes")],
    ),
    (
        "baton_acknowledgements",
        "Acknowledgements of reports: handed to the kernel, or without room on the way out.",
        "result",
        &[("sent", "acknowledged"), ("dropped", "acknowledgements_dropped")],
    ),
    (
        "baton_control_frames",
        "Frames for the control thread: those that reached its queue, and those that found it full.",
        "result",
        &[("queued", "to_control"), ("overflowed", "control_overflow")],
    ),
    (
        "baton_frames_shed",
        "Frames left undone because more came than could be done.",
        "kind",
        &[("known_report", "shed_known"), ("report", "shed_reports"), ("probe", "shed_probes")],
    ),
    ("baton_overloads", "Times that a worker became overloaded and began to shed.", "", &[("", "overloads")]),
    ("baton_busy_answers", "Answers BUSY to what was shed.", "", &[("", "busy_told")]),
];

/// Counters whose names begin so are one family, labelled by the whole name.
const REFUSED: [&str; 5] = ["malformed_", "unknown_domain", "unauthentic", "misaddressed", "misdirected"];

/// Writes all of it. `recovery` is what `/recovery/last` answers.
pub fn expose(dialect: Dialect, status: &Status, census: &Census, recovery: &Value, totals: &Totals) -> String {
    let mut all = Exposition::new(dialect);
    process(&mut all, status);
    counters(&mut all, &status.counters);
    rings(&mut all, status);
    table(&mut all, status, census);
    links(&mut all, status);
    last_recovery(&mut all, recovery);
    let mut stages = all.histograms("baton_stage_duration_seconds", "Time that a stage of the work took.");
    totals.each(|stage, histogram| {
        stages.histogram(&[("stage", &stage.name())], histogram);
    });
    all.finish()
}

fn process(all: &mut Exposition, status: &Status) {
    let started = SystemTime::now() - Duration::from_millis(status.uptime_ms);
    let started = started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as f64 / 1000.0;
    let yes = |fact: bool| u8::from(fact);
    all.gauges("baton_up", "Whether an engine answers.").sample(&[], 1);
    let build: [(&str, &dyn Display); 2] = [("version", &status.program.version), ("mode", &status.mode)];
    all.gauges("baton_build_info", "What runs, and how frames are taken from the driver.").sample(&build, 1);
    all.gauges("baton_engine_start_time_seconds", "When the engine that controls took over.").sample(&[], started);
    all.gauges("baton_in_control", "Whether every domain is controlled; baton_domain_in_control says which.")
        .sample(&[], yes(status.state == ControlState::InControl));
    all.gauges("baton_standby_ready", "Whether an engine stands by.")
        .sample(&[], yes(status.standby == StandbyState::Ready));
    all.gauges(
        "baton_recovered_by_table",
        "Whether this engine recovered by the table, and not by snapshot or database.",
    )
    .sample(&[], yes(status.path == Some(Path::Cache)));
    all.gauges("baton_epoch_term", "The database's part of the epoch.").sample(&[], status.epoch.term());
    all.gauges("baton_epoch_generation", "The table's part of the epoch: it changes with every recovery.")
        .sample(&[], status.epoch.generation());
    all.gauges("baton_operations_under_way", "Operations that clients wait for.").sample(&[], status.operations);
    all.gauges("baton_commands_in_flight", "Commands that autonomous servers have not answered.")
        .sample(&[], status.commands_in_flight);
    all.gauges("baton_database_open", "Whether the database is open.")
        .sample(&[], yes(status.database == DatabaseState::Open));
    all.gauges("baton_log_writing", "Whether the histogram log is written.")
        .sample(&[], yes(matches!(status.log, LogState::Writes(_))));
}

fn counters(all: &mut Exposition, counters: &BTreeMap<String, u64>) {
    let get = |name: &str| counters.get(name).copied().unwrap_or(0);
    for (family, help, label, values) in COUNTERS {
        let mut samples = all.counters(family, help);
        for (value, counter) in *values {
            if label.is_empty() {
                samples.sample(&[], get(counter));
            } else {
                samples.sample(&[(label, value)], get(counter));
            }
        }
    }
    let mut by_rest = |family: &str, help: &str, label: &str, of: &dyn Fn(&str) -> Option<String>| {
        let mut samples = all.counters(family, help);
        for (name, &count) in counters {
            if let Some(value) = of(name) {
                samples.sample(&[(label, &value)], count);
            }
        }
    };
    by_rest("baton_frames_refused", "Frames that were not believed or not understood.", "reason", &|name| {
        REFUSED.iter().any(|start| name.starts_with(start)).then(|| name.to_owned())
    });
    by_rest("baton_xdp_frames", "Frames that the XDP program saw, by its verdict.", "verdict", &|name| {
        name.strip_prefix("xdp_").map(str::to_owned)
    });
    by_rest(
        "baton_control_events",
        "What the control thread could not do anything with, or not pass on.",
        "event",
        &|name| {
            ["control_unexpected", "control_unroutable", "control_overflowed"]
                .contains(&name)
                .then(|| name["control_".len()..].to_owned())
        },
    );
}

fn rings(all: &mut Exposition, status: &Status) {
    type Read = fn(&crate::telemetry::RingStatus) -> u64;
    type Family<'a> = (&'a str, &'a str, &'a [(&'a str, Read)]);
    let sized: &[Family<'_>] = &[
        (
            "baton_ring_entries",
            "Entries that a ring has.",
            &[("receive", |ring| ring.receive_entries.into()), ("transmit", |ring| ring.transmit_entries.into())],
        ),
        (
            "baton_ring_waiting",
            "Entries that wait: for the worker in the receive ring, for the kernel in the others. The fill ring is its queue's.",
            &[
                ("receive", |ring| ring.receive_waiting.into()),
                ("transmit", |ring| ring.transmit_waiting.into()),
                ("fill", |ring| ring.fill_waiting.into()),
            ],
        ),
        ("baton_umem_free", "Chunks of the UMEM that are free.", &[("transmit", |ring| ring.transmit_free.into())]),
    ];
    for (family, help, kinds) in sized {
        let mut samples = all.gauges(family, help);
        for ring in &status.rings {
            for (kind, read) in *kinds {
                samples.sample(&[("queue", &ring.queue), ("socket", &ring.ring), ("ring", kind)], read(ring));
            }
        }
    }
    let counted: &[(&str, Read)] = &[
        ("receive_dropped", |ring| ring.kernel_receive_dropped),
        ("receive_ring_full", |ring| ring.kernel_receive_ring_full),
        ("fill_ring_empty", |ring| ring.kernel_fill_ring_empty),
        ("receive_invalid", |ring| ring.kernel_receive_invalid),
        ("transmit_invalid", |ring| ring.kernel_transmit_invalid),
        ("transmit_ring_empty", |ring| ring.kernel_transmit_ring_empty),
    ];
    let mut samples = all.counters("baton_xdp_socket_events", "XDP_STATISTICS of a socket since it was bound.");
    for ring in &status.rings {
        for (event, read) in counted {
            samples.sample(&[("queue", &ring.queue), ("socket", &ring.ring), ("event", event)], read(ring));
        }
    }
}

fn table(all: &mut Exposition, status: &Status, census: &Census) {
    let mut parts = all.gauges("baton_meeting_parts", "Parts of meetings (a meeting in one domain), by state.");
    for (state, count) in &census.states {
        parts.sample(&[("state", &state.replace(' ', "_"))], count);
    }
    all.gauges("baton_meeting_parts_capacity", "Parts of meetings that the table has room for.")
        .sample(&[], status.parts_capacity);
    all.gauges("baton_terminals", "Terminals in the table.").sample(&[], status.terminals);
    all.gauges("baton_terminals_capacity", "Terminals that the table has room for.")
        .sample(&[], status.terminals_capacity);
}

fn links(all: &mut Exposition, status: &Status) {
    type Read = fn(&super::DomainStatus) -> u64;
    let families: &[(&str, &str, Read)] = &[
        ("baton_link_up", "Whether a domain's autonomous server answers.", |domain| domain.up.into()),
        ("baton_domain_in_control", "Whether a domain is controlled: reconciled, and not silent since.", |domain| {
            domain.in_control.into()
        }),
        ("baton_domain_reconciled", "Whether both sides agree on a domain's meetings.", |domain| {
            (domain.recovery == Some(Phase::Reconciled)).into()
        }),
        ("baton_domain_parts", "Our parts of meetings in a domain.", |domain| domain.parts),
        ("baton_domain_parts_taken_over", "Of those, the ones under the current epoch.", |domain| domain.taken_over),
        ("baton_domain_parts_missing", "Of those, the ones that the autonomous server does not have.", |domain| {
            domain.missing
        }),
        ("baton_domain_orphans", "Meetings that the autonomous server has and we do not know.", |domain| {
            domain.orphans
        }),
    ];
    for (family, help, read) in families {
        let mut samples = all.gauges(family, help);
        for domain in &status.domains {
            samples.sample(&[("domain", &domain.domain)], read(domain));
        }
    }
    let mut samples = all.gauges("baton_link_round_trip_seconds", "Round trip of the last heartbeat.");
    for domain in &status.domains {
        if let Some(time) = domain.round_trip_us {
            samples.sample(&[("domain", &domain.domain)], time as f64 / 1e6);
        }
    }
}

fn last_recovery(all: &mut Exposition, recovery: &Value) {
    let mut samples = all.gauges(
        "baton_recovery_duration_seconds",
        "How long after the engine's beginning its recovery had come so far.",
    );
    for (phase, key) in [
        ("first_frame", "first_takeover_sent_ns"),
        ("acknowledged", "all_acknowledged_ns"),
        ("reconciled", "reconciled_ns"),
    ] {
        if let Some(ns) = recovery[key].as_u64() {
            samples.sample(&[("phase", &phase)], ns as f64 / 1e9);
        }
    }
    let mut samples =
        all.gauges("baton_recovery_meetings", "Parts of meetings in the last recovery, by what became of them.");
    for what in ["asked", "taken_over", "updated", "missing", "orphans", "refused"] {
        let servers = recovery["servers"].as_array().into_iter().flatten();
        samples.sample(&[("result", &what)], servers.filter_map(|server| server[what].as_u64()).sum::<u64>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Counters;

    #[test]
    fn every_counter_has_its_family() {
        let none: [Counters; 1] = Default::default();
        let own = ["control_unexpected", "control_unroutable", "control_overflowed", "xdp_steered"].map(str::to_owned);
        let names = Counters::sum(none.iter()).map(|(name, _)| name.to_owned()).chain(own);
        // A number of its own for each, to be found again.
        let all: BTreeMap<String, u64> = names.zip(1_000_001..).collect();
        let mut text = Exposition::new(Dialect::Prometheus);
        counters(&mut text, &all);
        let text = text.finish();
        for (name, number) in all {
            assert_eq!(text.matches(&format!(" {number}\n")).count(), 1, "{name} is in one family:\n{text}");
        }
    }
}
