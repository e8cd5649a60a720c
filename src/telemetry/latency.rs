//! Latency per stage, in histograms.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::time::Nanos;

/// The stages that are timed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// From the XDP program's stamp until the worker takes the frame from its ring. Every frame of
    /// a burst counts like its oldest, so that no figure is too small.
    RingWait,
    /// From there until the table holds the content of the frame: tag, parse, look up, update.
    /// Every frame of a burst counts like its last.
    Processing,
    /// From the first sending of a command to its answer.
    CommandRoundTrip,
    /// From the engine's start until its first takeover frame is on its way out.
    RecoveryFirstFrame,
    /// From the engine's start until every takeover was answered.
    RecoveryAcknowledged,
    /// From the engine's start until every autonomous server's audit agreed.
    RecoveryReconciled,
}

impl Stage {
    /// Every stage, by index.
    pub const ALL: [Self; 6] = [
        Self::RingWait,
        Self::Processing,
        Self::CommandRoundTrip,
        Self::RecoveryFirstFrame,
        Self::RecoveryAcknowledged,
        Self::RecoveryReconciled,
    ];

    /// The name in listings and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RingWait => "ring_wait",
            Self::Processing => "processing",
            Self::CommandRoundTrip => "command_round_trip",
            Self::RecoveryFirstFrame => "recovery_first_frame",
            Self::RecoveryAcknowledged => "recovery_acknowledged",
            Self::RecoveryReconciled => "recovery_reconciled",
        }
    }
}

/// One minute: longer times are recorded as this.
const LONGEST_NS: u64 = 60_000_000_000;
/// Two significant digits: 1 % of the value, in about 26 KiB a stage.
const DIGITS: u8 = 2;
/// A recorder hands over when the next of these periods begins, by the clock: all recorders at
/// once, so that a collector that comes a little later finds what each has of the same second.
pub(super) const HAND_OVER_NS: u64 = 1_000_000_000;

/// The histograms of all stages for one period.
struct Histograms([Histogram<u64>; Stage::ALL.len()]);

impl Histograms {
    fn new() -> Box<Self> {
        let histogram =
            || Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).expect("the bounds are constants in order");
        Box::new(Self(std::array::from_fn(|_| histogram())))
    }

    /// Adds another's values and empties it.
    fn take_from(&mut self, other: &mut Self) {
        for (to, from) in self.0.iter_mut().zip(&mut other.0) {
            to.add(&*from).expect("all histograms have the same bounds");
            from.reset();
        }
    }
}

/// The recording end, owned by one thread.
pub struct Recorder {
    /// None: nothing is recorded.
    current: Option<Box<Histograms>>,
    /// The second in which it last handed over.
    second: u64,
    full: Arc<ArrayQueue<Box<Histograms>>>,
    empty: Arc<ArrayQueue<Box<Histograms>>>,
}

impl Recorder {
    /// A recorder that records nothing: to measure what recording costs.
    pub fn deaf() -> Self {
        let none = || Arc::new(ArrayQueue::new(1));
        Self { current: None, second: 0, full: none(), empty: none() }
    }

    /// Whether anything is recorded.
    pub const fn listens(&self) -> bool {
        self.current.is_some()
    }

    /// Records a duration. No allocation, no lock.
    pub fn record(&mut self, stage: Stage, time: Duration) {
        self.record_ns(stage, time.as_nanos() as u64, 1);
    }

    /// Records a duration in nanoseconds, a number of times.
    #[inline]
    pub fn record_ns(&mut self, stage: Stage, ns: u64, count: u64) {
        if let Some(current) = &mut self.current {
            current.0[stage as usize].saturating_record_n(ns.clamp(1, LONGEST_NS), count);
        }
    }

    /// Once a second, hands the recorded values to the collector, and returns true; if the
    /// collector has not returned an empty set, continues recording.
    pub fn hand_over(&mut self, now: Nanos) -> bool {
        let second = now.0 / HAND_OVER_NS;
        if second == self.second {
            return false;
        }
        self.second = second;
        if let Some(empty) = self.empty.pop() {
            // There are as many places as sets of histograms, so there is room for this one.
            let _ = self.current.replace(empty).map(|full| self.full.push(full));
        }
        true
    }
}

impl Drop for Recorder {
    /// The last values of a thread are not lost with it.
    fn drop(&mut self) {
        // There are as many places as sets of histograms, so there is room for this one.
        let _ = self.current.take().map(|last| self.full.push(last));
    }
}

/// The reading end of one recorder.
struct Source {
    full: Arc<ArrayQueue<Box<Histograms>>>,
    empty: Arc<ArrayQueue<Box<Histograms>>>,
}

/// Merges the values that the recorders hand over, interval by interval.
pub struct Collector {
    sources: Vec<Source>,
    interval: Box<Histograms>,
    totals: Arc<Totals>,
}

/// Everything recorded since the engine's start. For any thread but a worker's.
pub struct Totals(Mutex<Box<Histograms>>);

/// A new recorder, whose values this collector merges.
pub fn recorder(collector: &mut Collector) -> Recorder {
    let full = Arc::new(ArrayQueue::new(2));
    let empty = Arc::new(ArrayQueue::new(2));
    let _ = empty.push(Histograms::new());
    collector.sources.push(Source { full: full.clone(), empty: empty.clone() });
    Recorder { current: Some(Histograms::new()), second: 0, full, empty }
}

impl Default for Collector {
    fn default() -> Self {
        let totals = Arc::new(Totals(Mutex::new(Histograms::new())));
        Self { sources: Vec::new(), interval: Histograms::new(), totals }
    }
}

impl Collector {
    /// Takes what was handed over since the last call, and passes on each stage that has values.
    pub fn collect(&mut self, mut each: impl FnMut(Stage, &Histogram<u64>)) {
        for source in &self.sources {
            while let Some(mut histograms) = source.full.pop() {
                self.interval.take_from(&mut histograms);
                let _ = source.empty.push(histograms);
            }
        }
        for (stage, histogram) in Stage::ALL.into_iter().zip(&self.interval.0) {
            if !histogram.is_empty() {
                each(stage, histogram);
            }
        }
        self.totals.0.lock().take_from(&mut self.interval);
    }

    /// The totals that this collector adds to.
    pub fn totals(&self) -> Arc<Totals> {
        Arc::clone(&self.totals)
    }
}

impl Totals {
    /// Passes on each stage that has values.
    pub fn each(&self, mut each: impl FnMut(Stage, &Histogram<u64>)) {
        for (stage, histogram) in Stage::ALL.into_iter().zip(&self.0.lock().0) {
            if !histogram.is_empty() {
                each(stage, histogram);
            }
        }
    }

    /// The figures of each stage that has values.
    pub fn summaries(&self) -> Vec<StageSummary> {
        let total = self.0.lock();
        let stages = Stage::ALL.iter().zip(&total.0).filter(|(_, histogram)| !histogram.is_empty());
        stages
            .map(|(stage, histogram)| StageSummary {
                stage: stage.name().into(),
                count: histogram.len(),
                p50_ns: histogram.value_at_quantile(0.50),
                p99_ns: histogram.value_at_quantile(0.99),
                p999_ns: histogram.value_at_quantile(0.999),
                max_ns: histogram.max(),
            })
            .collect()
    }
}

/// The figures of one stage since the engine's start, in nanoseconds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StageSummary {
    /// [`Stage::name`].
    pub stage: String,
    /// The number of recorded values.
    pub count: u64,
    /// Half of the values are at most this.
    pub p50_ns: u64,
    /// 99 in 100 values are at most this.
    pub p99_ns: u64,
    /// 999 in 1,000 values are at most this.
    pub p999_ns: u64,
    /// The largest value.
    pub max_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_recorder_hands_over_is_in_the_summary_once() {
        let mut collector = Collector::default();
        let mut recorder = recorder(&mut collector);
        let mut now = Nanos(0);
        for round in 1..=5_u64 {
            recorder.record(Stage::RingWait, Duration::from_micros(round));
            now = now + Duration::from_nanos(HAND_OVER_NS);
            recorder.hand_over(now);
            let mut counts = Vec::new();
            collector.collect(|stage, histogram| counts.push((stage, histogram.len())));
            assert_eq!(counts, [(Stage::RingWait, 1)], "an interval holds what was recorded in it");
        }
        let [ring_wait] = &collector.totals().summaries()[..] else { panic!("one stage was recorded") };
        assert_eq!((&*ring_wait.stage, ring_wait.count), ("ring_wait", 5));
        assert!((2_900..=3_100).contains(&ring_wait.p50_ns), "{ring_wait:?}");
    }

    #[test]
    fn a_collector_that_stays_away_loses_nothing() {
        let mut collector = Collector::default();
        let mut recorder = recorder(&mut collector);
        for second in 1..=10 {
            recorder.record(Stage::Processing, Duration::from_nanos(100));
            recorder.hand_over(Nanos(second * 1_000_000_000));
        }
        for second in 11..=14 {
            collector.collect(|_, _| ());
            recorder.hand_over(Nanos(second * 1_000_000_000));
        }
        collector.collect(|_, _| ());
        assert_eq!(collector.totals().summaries()[0].count, 10);
    }
}
