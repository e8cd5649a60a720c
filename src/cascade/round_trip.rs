//! How long an answer takes, smoothed as TCP does it.

use std::time::Duration;

/// Mean and deviation of the time from a request to its answer, by RFC 6298: a link through several
/// domains must not be asked twice for every answer, and one of 100 µs need not wait long for a
/// lost one.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundTrip {
    smoothed: Option<(Duration, Duration)>,
}

impl RoundTrip {
    /// Takes one measured time.
    pub fn sample(&mut self, time: Duration) {
        self.smoothed = Some(match self.smoothed {
            None => (time, time / 2),
            Some((mean, deviation)) => ((mean * 7 + time) / 8, (deviation * 3 + mean.abs_diff(time)) / 4),
        });
    }

    /// The time after which an answer is late: SRTT + 4 · RTTVAR. Zero before the first sample.
    pub fn timeout(&self) -> Duration {
        let (mean, deviation) = self.smoothed.unwrap_or_default();
        mean + 4 * deviation
    }
}
