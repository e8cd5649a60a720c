//! Compares rules with logs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::engine_runs::History;
use super::rules::{Kind, Rule, Rules};

/// The results of all rules.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Verdicts {
    /// Whether every rule was held. A rule without data was not, unless that was allowed.
    pub held: bool,
    /// The result of each rule.
    pub rules: Vec<Verdict>,
    /// Lines of the logs that could not be read.
    pub broken: Vec<BrokenLine>,
}

/// The result of one rule. Times and latencies are in seconds.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Verdict {
    /// The rule's name.
    pub rule: String,
    /// What it bounds: a percentile of a stage, loss, availability, a reset's phase.
    pub what: String,
    /// `held`, `breached`, `no data`.
    pub verdict: &'static str,
    /// `s` or `share`.
    pub unit: &'static str,
    /// The limit from the rule, in `unit`.
    pub bound: f64,
    /// The worst value that occurred.
    pub worst: Option<f64>,
    /// Where it occurred: the start of the window, or the reset, in seconds since 1970.
    pub at_s: Option<f64>,
    /// The length of that window.
    pub window_s: Option<f64>,
    /// The number of windows or resets that were examined.
    pub looked_at: usize,
    /// The number of these that breached the rule.
    pub breached: usize,
}

/// A line that could not be read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct BrokenLine {
    /// The path of the log.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// The reason, in words.
    pub why: String,
}

/// The value of one window or reset: when, how long, how much.
struct Figure {
    at_s: f64,
    window_s: f64,
    value: f64,
}

/// Compares rules with logs. With `allow_missing`, a rule without data is no breach.
pub fn evaluate(rules: &Rules, history: &History, allow_missing: bool) -> Verdicts {
    let rules: Vec<_> = rules.rules.iter().map(|rule| verdict(rule, history)).collect();
    let held = rules.iter().all(|rule| rule.verdict == "held" || allow_missing && rule.verdict == "no data");
    let line = |path: &Path, broken: &crate::telemetry::Broken| BrokenLine {
        file: path.display().to_string(),
        line: broken.line,
        why: broken.why.clone(),
    };
    let broken = history.files().flat_map(|(path, all)| all.iter().map(move |broken| line(path, broken)));
    Verdicts { held, rules, broken: broken.collect() }
}

fn verdict(rule: &Rule, history: &History) -> Verdict {
    let seconds = |bound: &Duration| bound.as_secs_f64();
    let (figures, bound, unit, at_most) = match &rule.kind {
        Kind::Latency { stage, percentile, bound } => {
            (latencies(history, stage, *percentile, rule.window), seconds(bound), "s", true)
        }
        Kind::Loss { bound } => (losses(history, rule.window), *bound, "share", true),
        Kind::Availability { bound } => (availabilities(history, rule.window), *bound, "share", false),
        Kind::Reset { phase, bound } => {
            let resets = history.resets();
            let figure = |reset: &super::Reset| {
                let value = reset.until(*phase)? as f64 / 1e9;
                Some(Figure { at_s: reset.at_s, window_s: value, value })
            };
            (resets.iter().filter_map(figure).collect(), seconds(bound), "s", true)
        }
    };
    let is_reset = matches!(rule.kind, Kind::Reset { .. });
    let breaches = |value: f64| if at_most { value > bound } else { value < bound };
    let worst = figures.iter().reduce(|worst, figure| {
        let is_worse = if at_most { figure.value > worst.value } else { figure.value < worst.value };
        if is_worse { figure } else { worst }
    });
    let breached = figures.iter().filter(|figure| breaches(figure.value)).count();
    Verdict {
        rule: rule.name.clone(),
        what: rule.kind.to_string(),
        verdict: match (worst, breached) {
            // A server that never died cannot have breached a rule about resets.
            (None, _) if is_reset && history.has_engines() && history.resets().is_empty() => "held",
            (None, _) => "no data",
            (_, 0) => "held",
            _ => "breached",
        },
        unit,
        bound,
        worst: worst.map(|figure| figure.value),
        at_s: worst.map(|figure| figure.at_s),
        window_s: worst.map(|figure| figure.window_s),
        looked_at: figures.len(),
        breached,
    }
}

/// The windows of one length from the first interval on, or a single window for everything.
struct Windows {
    start_s: f64,
    end_s: f64,
    length_s: f64,
}

impl Windows {
    fn of(history: &History, window: Option<Duration>) -> Option<Self> {
        let (start_s, end_s) = history.span()?;
        let all = (end_s - start_s).max(f64::MIN_POSITIVE);
        Some(Self { start_s, end_s, length_s: window.map_or(all, |window| window.as_secs_f64()) })
    }

    /// The number of the window for this time. An interval counts completely where it starts.
    fn number(&self, at_s: f64) -> u64 {
        // Intervals' times are in milliseconds; rounding must not put one into the window before.
        let number = ((at_s - self.start_s + 0.0005) / self.length_s).max(0.0) as u64;
        number.min(self.count() - 1)
    }

    fn count(&self) -> u64 {
        ((self.end_s - self.start_s) / self.length_s).ceil().max(1.0) as u64
    }

    fn start_of(&self, number: u64) -> f64 {
        self.start_s + number as f64 * self.length_s
    }

    /// The last may be shorter.
    fn length_of(&self, number: u64) -> f64 {
        self.length_s.min(self.end_s - self.start_of(number)).max(f64::MIN_POSITIVE)
    }
}

fn latencies(history: &History, stage: &str, percentile: f64, window: Option<Duration>) -> Vec<Figure> {
    let Some(windows) = Windows::of(history, window) else { return Vec::new() };
    let mut merged = BTreeMap::<u64, Histogram<u64>>::new();
    for interval in history.intervals().filter(|interval| interval.tag == stage) {
        let whole = merged.entry(windows.number(interval.start_s)).or_insert_with(any_histogram);
        merge(whole, &interval.histogram());
    }
    let figure = |(number, histogram): (u64, Histogram<u64>)| Figure {
        at_s: windows.start_of(number),
        window_s: windows.length_of(number),
        value: histogram.value_at_quantile(percentile / 100.0) as f64 / 1e9,
    };
    merged.into_iter().map(figure).collect()
}

/// A histogram that accepts the values of every other one, to three digits.
pub(super) fn any_histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new(3).expect("three digits are allowed");
    histogram.auto(true);
    histogram
}

/// Adds recorded values, each as the largest value that it may have been, so that no figure is too
/// small.
pub(super) fn merge(whole: &mut Histogram<u64>, part: &Histogram<u64>) {
    for value in part.iter_recorded() {
        whole.record_n(value.value_iterated_to(), value.count_at_value()).expect("it grows with what is added");
    }
}

fn losses(history: &History, window: Option<Duration>) -> Vec<Figure> {
    let Some(windows) = Windows::of(history, window) else { return Vec::new() };
    let mut sums = BTreeMap::<u64, (u64, u64)>::new();
    for frames in history.frames() {
        let (lost, all) = sums.entry(windows.number(frames.start_s)).or_default();
        *lost += frames.shed + frames.dropped;
        *all += frames.received + frames.dropped;
    }
    let figure = |(number, (lost, all)): (u64, (u64, u64))| Figure {
        at_s: windows.start_of(number),
        window_s: windows.length_of(number),
        value: if all == 0 { 0.0 } else { lost as f64 / all as f64 },
    };
    sums.into_iter().map(figure).collect()
}

fn availabilities(history: &History, window: Option<Duration>) -> Vec<Figure> {
    let Some(windows) = Windows::of(history, window).filter(|_| history.has_engines()) else { return Vec::new() };
    let outages = history.outages();
    let figure = |number| {
        let (start, length) = (windows.start_of(number), windows.length_of(number));
        let out: f64 =
            outages.iter().map(|outage| (outage.end_s.min(start + length) - outage.start_s.max(start)).max(0.0)).sum();
        Figure { at_s: start, window_s: length, value: 1.0 - out / length }
    };
    (0..windows.count()).map(figure).collect()
}
