//! What is shown, from what the server says: two answers make rates.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::api::Status;

/// Points of the sparkline.
const REMEMBERED: usize = 120;
/// Counters of what comes and goes, and their names on the screen.
const RATES: [(&str, &str); 6] = [
    ("received", "frames received"),
    ("reports_applied", "reports applied"),
    ("reports_known", "reports known"),
    ("acknowledged", "acknowledged"),
    ("probes_echoed", "probes echoed"),
    ("sent", "frames sent"),
];
/// Counters that tell of nothing amiss, beside those.
const HARMLESS: [&str; 4] = ["to_control", "generator_probes", "xdp_steered", "xdp_probe"];

/// What the server said at a time.
#[derive(Clone, Debug)]
pub struct Answer {
    pub at: Instant,
    pub status: Status,
    /// `/recovery/last`.
    pub recovery: Value,
    /// The engine's keeper, where that can be seen.
    pub keeper: Option<u32>,
}

/// A counter, and how fast it grows; none where there is nothing to compare with.
#[derive(Clone, PartialEq, Debug)]
pub struct Rate {
    pub name: String,
    pub total: u64,
    pub per_second: Option<f64>,
}

/// Everything on the screen.
#[derive(Debug, Default)]
pub struct Model {
    now: Option<Answer>,
    before: Option<Answer>,
    received: VecDeque<u64>,
    /// Since when there is no answer, and why.
    pub silent: Option<(Instant, String)>,
    pub paused: bool,
    pub help: bool,
    /// The first domain that is shown.
    pub scroll: usize,
}

impl Model {
    /// Takes an answer in.
    pub fn answered(&mut self, answer: Answer) {
        if self.paused {
            return;
        }
        self.silent = None;
        self.before = self.now.replace(answer);
        if let Some(rate) = self.rate_of("received") {
            if self.received.len() == REMEMBERED {
                self.received.pop_front();
            }
            self.received.push_back(rate as u64);
        }
        self.scroll = self.scroll.min(self.domains().saturating_sub(1));
    }

    /// Hears that there is none.
    pub fn unanswered(&mut self, at: Instant, why: String) {
        let since = self.silent.as_ref().map_or(at, |&(since, _)| since);
        self.silent = Some((since, why));
    }

    /// What the server said last.
    pub fn status(&self) -> Option<&Status> {
        self.now.as_ref().map(|answer| &answer.status)
    }

    /// The last recovery, as the server tells it.
    pub fn recovery(&self) -> Option<&Value> {
        self.now.as_ref().map(|answer| &answer.recovery)
    }

    /// The engine's keeper.
    pub fn keeper(&self) -> Option<u32> {
        self.now.as_ref()?.keeper
    }

    /// How many domains there are to scroll over.
    pub fn domains(&self) -> usize {
        self.status().map_or(0, |status| status.domains.len())
    }

    /// Frames received a second, the latest last.
    pub fn received(&self) -> impl DoubleEndedIterator<Item = u64> + ExactSizeIterator + '_ {
        self.received.iter().copied()
    }

    /// The two last answers, where one engine gave both: another's counters begin at nothing.
    fn compared(&self) -> Option<(&Answer, &Answer, Duration)> {
        let (now, before) = (self.now.as_ref()?, self.before.as_ref()?);
        let time = now.at.saturating_duration_since(before.at);
        (now.status.pid == before.status.pid && !time.is_zero()).then_some((now, before, time))
    }

    fn rate_of(&self, counter: &str) -> Option<f64> {
        let (now, before, time) = self.compared()?;
        let read = |answer: &Answer| answer.status.counters.get(counter).copied().unwrap_or(0);
        // Of what the keeper counts a new keeper begins at nothing.
        Some(read(now).checked_sub(read(before))? as f64 / time.as_secs_f64())
    }

    /// What comes and goes.
    pub fn rates(&self) -> Vec<Rate> {
        let none = BTreeMap::new();
        let counters = self.status().map_or(&none, |status| &status.counters);
        let rate = |(counter, name): (&str, &str)| Rate {
            name: name.into(),
            total: counters.get(counter).copied().unwrap_or(0),
            per_second: self.rate_of(counter),
        };
        RATES.map(rate).into()
    }

    /// What was dropped, shed or refused: what grows fastest first, then what is most.
    pub fn drops(&self) -> Vec<Rate> {
        let Some(status) = self.status() else { return Vec::new() };
        let of_kernel =
            status.rings.iter().map(|ring| ring.kernel_receive_dropped + ring.kernel_receive_ring_full).sum();
        let kernel = Rate { name: "kernel: ring full".into(), total: of_kernel, per_second: None };
        let is_amiss = |name: &str| !HARMLESS.contains(&name) && RATES.iter().all(|(known, _)| *known != name);
        let counted = status.counters.iter().filter(|(name, _)| is_amiss(name)).map(|(name, &total)| Rate {
            name: name.replace('_', " "),
            total,
            per_second: self.rate_of(name),
        });
        let mut all: Vec<_> = counted.chain([kernel]).filter(|rate| rate.total > 0).collect();
        let grows = |rate: &Rate| rate.per_second.unwrap_or(0.0);
        all.sort_by(|a, b| grows(b).total_cmp(&grows(a)).then(b.total.cmp(&a.total)));
        all
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An answer of an engine with these counters, so many milliseconds after `begin`.
    pub fn answer(begin: Instant, after_ms: u64, pid: u32, counters: &[(&str, u64)]) -> Answer {
        let domain = |number: u64| {
            serde_json::json!({
                "domain": number, "up": number != 2, "in_control": number != 2, "mac": "02:00:00:00:00:01", "recovery": "reconciled", "parts": 250,
                "taken_over": 250, "missing": 0, "orphans": 1, "round_trip_us": 87,
            })
        };
        let stage = |name: &str| {
            serde_json::json!({
                "stage": name, "count": 1_234_567, "p50_ns": 5_730, "p99_ns": 26_400, "p999_ns": 80_900, "max_ns": 2_230_000,
            })
        };
        let stages = crate::telemetry::Stage::ALL.map(crate::telemetry::Stage::name);
        let status = serde_json::json!({
            "epoch": crate::wire::Epoch::new(1, pid as u16), "pid": pid, "uptime_ms": 93_000, "path": "cache",
            "state": "partly in control", "parts": 500, "parts_capacity": 65_536, "terminals": 5_000, "terminals_capacity": 262_144,
            "operations": 3, "commands_in_flight": 7, "database": "open",
            "domains": (1..=44).map(domain).collect::<Vec<_>>(),
            "counters": counters.iter().map(|&(name, count)| (name.to_owned(), count)).collect::<BTreeMap<_, _>>(),
            "stages": stages.map(stage),
            "mode": "native", "standby": "ready",
            "program": crate::handover::Program::default(), "upgrade": crate::handover::UpgradeState::default(),
        });
        let recovery = serde_json::json!({
            "path": "cache", "first_takeover_sent_ns": 101_000, "all_acknowledged_ns": 1_340_000, "reconciled_ns": 2_080_000,
        });
        Answer {
            at: begin + Duration::from_millis(after_ms),
            status: serde_json::from_value(status).unwrap(),
            recovery,
            keeper: Some(41),
        }
    }

    fn per_second(model: &Model, name: &str) -> Option<f64> {
        model.rates().into_iter().find(|rate| rate.name == name).unwrap().per_second
    }

    #[test]
    fn two_answers_of_one_engine_make_a_rate() {
        let (mut model, begin) = (Model::default(), Instant::now());
        model.answered(answer(begin, 0, 7, &[("received", 1_000)]));
        assert_eq!(per_second(&model, "frames received"), None, "one makes none");
        model.answered(answer(begin, 2_000, 7, &[("received", 5_000), ("shed_probes", 10), ("xdp_stranger", 4)]));
        assert_eq!(per_second(&model, "frames received"), Some(2_000.0));
        let drops: Vec<_> = model.drops().into_iter().map(|rate| (rate.name, rate.total)).collect();
        assert_eq!(drops, [("shed probes".to_owned(), 10), ("xdp stranger".to_owned(), 4)], "the fastest first");
        assert_eq!(model.received().collect::<Vec<_>>(), [2_000]);
    }

    #[test]
    fn another_engine_begins_anew_and_silence_is_told_until_it_answers() {
        let (mut model, begin) = (Model::default(), Instant::now());
        model.answered(answer(begin, 0, 7, &[("received", 90_000)]));
        model.unanswered(begin, "nobody listens".into());
        model.unanswered(begin + Duration::from_secs(1), "the connection broke".into());
        assert_eq!(model.silent, Some((begin, "the connection broke".into())), "since the first time");
        model.answered(answer(begin, 3_000, 8, &[("received", 10)]));
        assert_eq!((per_second(&model, "frames received"), model.silent.is_none()), (None, true));
        // A keeper's counters begin anew with it.
        model.answered(answer(begin, 4_000, 8, &[("received", 5)]));
        assert_eq!(per_second(&model, "frames received"), None);
    }

    #[test]
    fn what_is_paused_stands_still() {
        let (mut model, begin) = (Model::default(), Instant::now());
        model.answered(answer(begin, 0, 7, &[]));
        model.paused = true;
        model.answered(answer(begin, 1_000, 8, &[]));
        assert_eq!(model.status().unwrap().pid, 7);
    }
}
