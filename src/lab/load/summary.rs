//! The result of a load, in figures.

use std::collections::BTreeMap;

use serde::Serialize;

use super::tally::Counts;
use super::{Class, Composer, Kind, Plan, Tally};
use crate::sys::af_xdp::Statistics;

/// The way in which frames are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// AF_XDP: each frame written and tagged as it is sent
    Rings,
    /// Live frames of the kernel: prepared ones in turn, millions a second
    Xdp,
}

/// The result of a load.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Summary {
    /// The kind of frames.
    pub what: Kind,
    /// How they were sent.
    pub by: By,
    /// The requested frames a second; none: as many as possible.
    pub rate_asked: Option<u64>,
    /// The number of frames sent.
    pub sent: u64,
    /// Frames a second from the first to the last.
    pub rate: f64,
    /// From the first frame to the last.
    pub seconds: f64,
    /// The longest of the frames, in bytes without what Ethernet adds.
    pub frame_bytes_max: usize,
    /// How late a frame was sent at most, in nanoseconds: the sender's own share of a latency.
    pub late_ns_max: Option<u64>,
    /// The counts of answers; none if answers were not received.
    pub answers: Option<Answers>,
    /// Answers that the kernel dropped before this process saw them: they count as lost, but were
    /// not.
    pub dropped_here: u64,
}

/// The answers to a load.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Answers {
    /// Frames that are answered if nothing is lost.
    pub expected: u64,
    /// Frames without an answer; none if answers do not identify their frames, because prepared
    /// frames were sent again.
    pub lost: Option<u64>,
    /// `lost` as a share of `expected`.
    pub loss_ratio: Option<f64>,
    /// The counts by kind.
    #[serde(flatten)]
    pub counts: Counts,
    /// Nanoseconds from when a frame was to be sent to its answer, by class.
    pub latency: BTreeMap<&'static str, LatencySummary>,
}

/// The main figures of a histogram, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct LatencySummary {
    /// The number of measured values.
    pub count: u64,
    /// Half of the values are at most this.
    pub p50_ns: u64,
    /// Nine in ten values are at most this.
    pub p90_ns: u64,
    /// 99 in 100 values are at most this.
    pub p99_ns: u64,
    /// 999 in 1,000 values are at most this.
    pub p999_ns: u64,
    /// The largest value.
    pub max_ns: u64,
}

/// What a sender knows of a load besides the tally.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub by: By,
    /// From the first frame to the last.
    pub nanoseconds: u64,
    /// Frames sent between those two moments.
    pub timed: u64,
    pub frame_bytes_max: usize,
    pub late_ns_max: Option<u64>,
    /// None: answers were not received.
    pub received: Option<Statistics>,
    /// Prepared frames were sent again unchanged.
    pub repeated: bool,
}

impl Summary {
    pub(super) fn new(composer: &Composer, plan: &Plan, tally: &Tally, sent: &Sent) -> Self {
        let seconds = sent.nanoseconds as f64 / 1e9;
        let rate = if sent.nanoseconds == 0 { 0.0 } else { sent.timed as f64 / seconds };
        let dropped_here =
            sent.received.map_or(0, |lost| lost.receive_dropped + lost.receive_ring_full + lost.fill_ring_empty);
        Self {
            what: composer.kind,
            by: sent.by,
            rate_asked: plan.rate.map(Into::into),
            sent: tally.sent(),
            rate,
            seconds,
            frame_bytes_max: sent.frame_bytes_max,
            late_ns_max: sent.late_ns_max,
            answers: sent.received.map(|_| Answers::new(composer, plan, tally, sent.repeated)),
            dropped_here,
        }
    }

    /// Whether answers were expected and none came.
    pub fn is_silent(&self) -> bool {
        self.answers.as_ref().is_some_and(|answers| {
            answers.expected > 0 && answers.counts.answered + answers.counts.repeated + answers.counts.unauthentic == 0
        })
    }
}

impl Answers {
    fn new(composer: &Composer, plan: &Plan, tally: &Tally, repeated: bool) -> Self {
        let expected = composer.kind.answers(plan.first, tally.sent());
        let counts = *tally.counts();
        let lost = (!repeated).then(|| expected.saturating_sub(counts.answered));
        let loss_ratio = lost.map(|lost| if expected == 0 { 0.0 } else { lost as f64 / expected as f64 });
        let measured = |class: &Class| {
            let histogram = tally.latency(*class).filter(|histogram| !histogram.is_empty())?;
            Some((class.name(), LatencySummary::of(histogram)))
        };
        Self { expected, lost, loss_ratio, counts, latency: Class::ANSWERED.iter().filter_map(measured).collect() }
    }
}

impl LatencySummary {
    fn of(histogram: &hdrhistogram::Histogram<u64>) -> Self {
        Self {
            count: histogram.len(),
            p50_ns: histogram.value_at_quantile(0.50),
            p90_ns: histogram.value_at_quantile(0.90),
            p99_ns: histogram.value_at_quantile(0.99),
            p999_ns: histogram.value_at_quantile(0.999),
            max_ns: histogram.max(),
        }
    }
}
