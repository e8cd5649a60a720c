//! What was measured, as scripts read it, and what it is held against.

use std::fs;

use baton::sla::{median, percentile};
use baton::table::{Capacity, Table};
use serde::Serialize;
use serde_json::{Value, json};

use super::faults::Fault;
use super::losses::Losses;
use super::micro::Simulation;

/// One kill and what came of it. Times are from the clock just before `kill`, in microseconds;
/// takeovers and acknowledgements are those that the other side's XDP program stamped.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    pub detect_us: Option<f64>,
    pub first_takeover_us: Option<f64>,
    pub all_acknowledged_us: Option<f64>,
    pub reconciled_us: Option<f64>,
    /// Until the terminals of all that came from a snapshot were asked for.
    pub refreshed_us: Option<f64>,
    /// From the successor's `main` to the first takeover frame that it sent, if it tells.
    pub main_to_first_takeover_us: Option<f64>,
    pub meetings_taken_over: u64,
    pub reports_acknowledged: u64,
    /// Commands under an epoch that was over, which the autonomous servers refused.
    pub requests_stale: u64,
    pub losses: Losses,
}

/// One phase over all trials, from the kill. None where it was not seen.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    pub seen: usize,
    pub min_us: Option<f64>,
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
    pub max_us: Option<f64>,
    /// Ascending.
    pub raw_us: Vec<f64>,
}

impl Phase {
    fn of(times: impl Iterator<Item = Option<f64>>) -> Self {
        let mut raw_us: Vec<f64> = times.flatten().collect();
        raw_us.sort_unstable_by(f64::total_cmp);
        let at = |share| percentile(&raw_us, share);
        Self { seen: raw_us.len(), min_us: at(0.0), p50_us: at(0.5), p99_us: at(0.99), max_us: at(1.0), raw_us }
    }
}

/// One reset method at one size.
#[derive(Clone, Debug, Serialize)]
pub struct OfFault {
    pub reset: Fault,
    pub trials: usize,
    pub detect: Phase,
    pub first_takeover: Phase,
    pub all_acknowledged: Phase,
    pub reconciled: Phase,
    pub refreshed: Phase,
    pub main_to_first_takeover: Phase,
    pub frames_lost: u64,
    pub promises_lost: u64,
    pub second_controller: u64,
    pub requests_stale: u64,
    pub reports_acknowledged: u64,
    pub raw: Vec<Trial>,
}

impl OfFault {
    pub fn of(reset: Fault, raw: Vec<Trial>) -> Self {
        let phase = |time: fn(&Trial) -> Option<f64>| Phase::of(raw.iter().map(time));
        let sum = |count: fn(&Trial) -> u64| raw.iter().map(count).sum();
        Self {
            reset,
            trials: raw.len(),
            detect: phase(|trial| trial.detect_us),
            first_takeover: phase(|trial| trial.first_takeover_us),
            all_acknowledged: phase(|trial| trial.all_acknowledged_us),
            reconciled: phase(|trial| trial.reconciled_us),
            refreshed: phase(|trial| trial.refreshed_us),
            main_to_first_takeover: phase(|trial| trial.main_to_first_takeover_us),
            frames_lost: sum(|trial| trial.losses.frames),
            promises_lost: sum(|trial| trial.losses.of_promises()),
            second_controller: sum(|trial| trial.losses.second_controller),
            requests_stale: sum(|trial| trial.requests_stale),
            reports_acknowledged: sum(|trial| trial.reports_acknowledged),
            raw,
        }
    }
}

impl OfFault {
    /// The median time from the start of the next dispatch server, in milliseconds.
    fn start_to_ms(&self, moment: fn(&Trial) -> Option<f64>) -> Option<f64> {
        let since = |trial: &Trial| Some((moment(trial)? - trial.detect_us?) / 1e3);
        let all: Vec<f64> = self.raw.iter().filter_map(since).collect();
        Some(median(all)).filter(|figure| !figure.is_nan())
    }
}

/// A process's memory; the table is in it as far as it is mapped and touched.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Process {
    pub rss_kib: u64,
    pub pss_kib: u64,
    /// Huge pages are in neither of the others.
    pub hugetlb_kib: u64,
}

impl Process {
    pub fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let sum = |wanted: &[&str]| -> u64 {
            let lines = text.lines().filter_map(|line| line.split_once(':'));
            let values = lines.filter(|(name, _)| wanted.contains(name));
            values.filter_map(|(_, value)| value.split_whitespace().next()?.parse::<u64>().ok()).sum()
        };
        Some(Self {
            rss_kib: sum(&["Rss"]),
            pss_kib: sum(&["Pss"]),
            hugetlb_kib: sum(&["Shared_Hugetlb", "Private_Hugetlb"]),
        })
    }
}

/// Memory at one size.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Memory {
    pub table_bytes: u64,
    pub engine: Option<Process>,
    pub standby: Option<Process>,
    pub keeper: Option<Process>,
    pub simulation: Option<Process>,
}

/// One size.
#[derive(Clone, Debug, Serialize)]
pub struct OfSize {
    pub name: String,
    pub meetings: u32,
    pub terminals: u32,
    pub autonomous_servers: u32,
    pub field: bool,
    pub operations_acknowledged: u64,
    pub table_on: &'static str,
    pub prepared_ms: u64,
    pub memory: Memory,
    pub faults: Vec<OfFault>,
}

impl OfSize {
    pub fn engine_kill(&self) -> Option<&OfFault> {
        self.of(Fault::Engine)
    }

    fn of(&self, fault: Fault) -> Option<&OfFault> {
        self.faults.iter().find(|of| of.reset == fault)
    }

    /// What a snapshot must be worth after a reboot, where reboots were measured.
    fn reboot_targets(&self) -> Vec<Target> {
        let (Some(with), Some(without)) = (self.of(Fault::Reboot), self.of(Fault::BareReboot)) else {
            return Vec::new();
        };
        let name = |what: &str| format!("{what}, {} meetings", self.name);
        let reconciled: fn(&Trial) -> Option<f64> = |trial| trial.reconciled_us;
        let ratio = with.start_to_ms(reconciled).zip(without.start_to_ms(reconciled));
        let ratio = ratio.map(|(with, without)| with / without);
        let first = with.start_to_ms(|trial| trial.first_takeover_us);
        vec![
            at_most(name("reboot, start to reconciled, with a snapshot over without"), ratio, "", 0.3),
            at_most(name("reboot with a snapshot, start to first takeover frame, p50"), first, "ms", 1000.0),
        ]
    }
}

/// What a figure has to be.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    pub name: String,
    /// None: not measured.
    pub figure: Option<f64>,
    pub unit: &'static str,
    pub bound: f64,
    pub holds: bool,
}

fn at_most(name: String, figure: Option<f64>, unit: &'static str, bound: f64) -> Target {
    Target { name, figure, unit, bound, holds: figure.is_some_and(|figure| figure <= bound) }
}

/// Bytes that one meeting more, and one terminal more, take in a table of a million and ten.
pub fn bytes_each() -> (f64, f64) {
    let bytes = |meetings, terminals| Table::bytes(Capacity { meetings, terminals });
    let (meetings, terminals, at) = (1_000_000, 10_000_000, bytes(1_000_000, 10_000_000));
    let a_meeting = (bytes(2 * meetings, terminals) - at) as f64 / f64::from(meetings);
    (a_meeting, (bytes(meetings, 2 * terminals) - at) as f64 / f64::from(terminals))
}

/// All rows of these sizes.
pub fn targets(sizes: &[OfSize]) -> Vec<Target> {
    let mut rows = Vec::new();
    for size in sizes {
        let of =
            |phase: fn(&OfFault) -> &Phase, at: fn(&Phase) -> Option<f64>| size.engine_kill().map(phase).and_then(at);
        let name = |what: &str| format!("{what}, {} meetings", size.name);
        let first: fn(&OfFault) -> &Phase = |of| &of.first_takeover;
        rows.push(at_most(
            name("kill to first takeover frame at the peer, p50"),
            of(first, |it| it.p50_us),
            "µs",
            120.0,
        ));
        rows.push(at_most(
            name("kill to first takeover frame at the peer, p99"),
            of(first, |it| it.p99_us),
            "µs",
            if size.meetings == 1_000_000 { 2000.0 } else { 1000.0 },
        ));
        if size.field {
            let figure = of(|of| &of.all_acknowledged, |it| it.p50_us).map(|us| us / 1e3);
            rows.push(at_most(name("all re-asserted and acknowledged, p50"), figure, "ms", 3.0));
            let figure = of(|of| &of.reconciled, |it| it.p50_us).map(|us| us / 1e3);
            rows.push(at_most(name("re-asserted and reconciled, p50"), figure, "ms", 5.0));
        }
        if size.meetings == 1_000_000 {
            let figure = of(|of| &of.all_acknowledged, |it| it.p50_us).map(|us| us / 1e3);
            rows.push(at_most(name("all re-asserted and acknowledged, p50"), figure, "ms", 150.0));
            let cold = size.faults.iter().filter(|of| of.reset != Fault::Engine && of.reset.keeps_table());
            let cold: Vec<f64> = cold.flat_map(|of| of.main_to_first_takeover.raw_us.clone()).collect();
            let figure = Some(median(cold)).filter(|figure| !figure.is_nan());
            rows.push(at_most(name("cold process, main() to first takeover frame sent, p50"), figure, "µs", 300.0));
        }
        rows.extend(size.reboot_targets());
        let lost = |count: fn(&OfFault) -> u64| Some(size.faults.iter().map(count).sum::<u64>() as f64);
        let frames = |of: &OfFault| if of.reset.keeps_frames() { of.frames_lost } else { 0 };
        rows.push(at_most(name("frames lost, of faults that the keeper survives"), lost(frames), "frames", 0.0));
        let promises = lost(|of| of.promises_lost);
        rows.push(at_most(name("reports and operations acknowledged and lost, second controllers"), promises, "", 0.0));
    }
    let first = |meetings| {
        let size = sizes.iter().find(|size| size.meetings == meetings)?;
        size.engine_kill()?.first_takeover.p50_us
    };
    if let (Some(small), Some(large)) = (first(1000), first(1_000_000)) {
        let name = "kill to first takeover frame, p50 at 1,000,000 meetings over that at 1,000".to_owned();
        rows.push(at_most(name, Some(large / small), "", 1.2));
    }
    let (a_meeting, a_terminal) = bytes_each();
    rows.push(at_most("memory of a meeting in the table".into(), Some(a_meeting), "bytes", 256.0));
    rows.push(at_most("memory of a terminal in the table".into(), Some(a_terminal), "bytes", 160.0));
    rows
}

/// All of it.
pub fn json(machine: Value, settings: Value, sizes: &[OfSize], simulation: &Simulation) -> Value {
    let (a_meeting, a_terminal) = bytes_each();
    json!({
        "bench": "recovery",
        "machine": machine,
        "settings": settings,
        "sizes": sizes,
        "table_bytes_each": { "meeting": a_meeting, "terminal": a_terminal },
        "simulation": simulation,
        "targets": targets(sizes),
    })
}
