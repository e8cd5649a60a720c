//! When each frame is due.

use std::num::NonZeroU64;

use crate::time::Nanos;

const PICOSECONDS: u64 = 1_000_000_000_000;

/// A rate and its start. The arithmetic is that of `bpf/load.bpf.c`, so that both compute the same
/// moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    begin: Nanos,
    interval_ps: u64,
}

impl Pace {
    /// This many frames a second, the first one now.
    pub fn new(begin: Nanos, rate: NonZeroU64) -> Self {
        Self { begin, interval_ps: (PICOSECONDS / rate).max(1) }
    }

    /// When the `nth` frame is due, counted from 0.
    pub fn due(&self, nth: u64) -> Nanos {
        Nanos(self.begin.0 + (u128::from(nth) * u128::from(self.interval_ps) / 1000) as u64)
    }

    /// The number of frames due by now.
    pub fn by(&self, now: Nanos) -> u64 {
        let Some(passed) = now.0.checked_sub(self.begin.0) else { return 0 };
        // `due` rounds down: frames due within this nanosecond count.
        let ps = (u128::from(passed) + 1) * 1000 - 1;
        (ps / u128::from(self.interval_ps)) as u64 + 1
    }
}
