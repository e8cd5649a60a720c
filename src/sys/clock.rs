//! The clock in which the kernel stamps the arrival of frames.

use rustix::time::{ClockId, clock_gettime};

use crate::time::Nanos;

/// The present time of `CLOCK_MONOTONIC`.
pub fn now() -> Nanos {
    let time = clock_gettime(ClockId::Monotonic);
    Nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
