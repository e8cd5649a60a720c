//! What a simulated autonomous server counts.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Latencies are told in nanoseconds up to a minute.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Everything counted, since the start or the last reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Frames taken in.
    pub frames_received: u64,
    /// Handed to the ring; the kernel may still drop them.
    pub frames_sent: u64,
    /// Frames with another EtherType, or for another domain.
    pub frames_foreign: u64,
    /// Frames that no sense could be made of.
    pub frames_malformed: u64,
    /// Frames that failed their tag.
    pub frames_unauthentic: u64,
    /// Answers that nobody was asked for, and error answers: never answered.
    pub frames_unasked: u64,
    /// Requests of the dispatch server.
    pub requests: u64,
    /// Those that were repeated, and got the answer that they had got.
    pub requests_repeated: u64,
    /// Those that were refused for their epoch.
    pub requests_stale: u64,
    /// Those that were told to come again later.
    pub requests_busy: u64,
    /// Answers dropped for want of room; their requests will be repeated.
    pub answers_dropped: u64,
    /// Versions and keep-alives reported.
    pub reports_sent: u64,
    /// Those of them that were acknowledged by their own version.
    pub reports_acknowledged: u64,
    /// Reports sent once more because no acknowledgement came in time.
    pub reports_retransmitted: u64,
    /// Versions whose own acknowledgement did not come in time, or came only with a later
    /// version's.
    pub reports_unanswered: u64,
    /// Acknowledgements with an error status, such as UNKNOWN_TERMINAL.
    pub reports_refused: u64,
    /// Reports that were due while every terminal looked at waited for an acknowledgement.
    pub reports_held_back: u64,
    /// Acknowledgements of what is acknowledged already.
    pub acks_repeated: u64,
    /// Acknowledgements of a terminal or version that there is not.
    pub acks_strange: u64,
    /// Acknowledgements of an earlier leader's term: they say nothing of what the present one
    /// holds.
    pub acks_stale: u64,
    /// To the dispatch server, whether answered or not.
    pub probes_sent: u64,
    /// Probes echoed; each once.
    pub probes_echoed: u64,
    /// Echoes of a probe that was echoed already, or of none.
    pub probes_strange: u64,
    /// To the dispatch server, of all domains together.
    pub heartbeats_sent: u64,
    /// Heartbeats answered by the dispatch server.
    pub heartbeats_answered: u64,
}

impl Counters {
    /// Probes whose echo did not come, or not yet.
    pub const fn probes_unanswered(&self) -> u64 {
        self.probes_sent.saturating_sub(self.probes_echoed)
    }
}

impl std::ops::AddAssign<&Self> for Counters {
    fn add_assign(&mut self, other: &Self) {
        self.frames_received += other.frames_received;
        self.frames_sent += other.frames_sent;
        self.frames_foreign += other.frames_foreign;
        self.frames_malformed += other.frames_malformed;
        self.frames_unauthentic += other.frames_unauthentic;
        self.frames_unasked += other.frames_unasked;
        self.requests += other.requests;
        self.requests_repeated += other.requests_repeated;
        self.requests_stale += other.requests_stale;
        self.requests_busy += other.requests_busy;
        self.answers_dropped += other.answers_dropped;
        self.reports_sent += other.reports_sent;
        self.reports_acknowledged += other.reports_acknowledged;
        self.reports_retransmitted += other.reports_retransmitted;
        self.reports_unanswered += other.reports_unanswered;
        self.reports_refused += other.reports_refused;
        self.reports_held_back += other.reports_held_back;
        self.acks_repeated += other.acks_repeated;
        self.acks_strange += other.acks_strange;
        self.acks_stale += other.acks_stale;
        self.probes_sent += other.probes_sent;
        self.probes_echoed += other.probes_echoed;
        self.probes_strange += other.probes_strange;
        self.heartbeats_sent += other.heartbeats_sent;
        self.heartbeats_answered += other.heartbeats_answered;
    }
}

/// An empty histogram of latencies in nanoseconds.
pub(super) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 2).expect("the bounds are in order and two digits are few")
}

/// A histogram in a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// Half were at most this.
    pub p50_ns: u64,
    /// All but one in a hundred.
    pub p99_ns: u64,
    /// All but one in a thousand.
    pub p999_ns: u64,
    /// All.
    pub max_ns: u64,
}

impl From<&Histogram<u64>> for Latency {
    fn from(all: &Histogram<u64>) -> Self {
        Self {
            count: all.len(),
            p50_ns: all.value_at_quantile(0.5),
            p99_ns: all.value_at_quantile(0.99),
            p999_ns: all.value_at_quantile(0.999),
            max_ns: all.max(),
        }
    }
}
