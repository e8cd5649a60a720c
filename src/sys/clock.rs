//! The clock that the kernel's arrival stamps are read against.

use rustix::time::{ClockId, clock_gettime};

use crate::time::Nanos;

/// `CLOCK_MONOTONIC`, now.
pub fn now() -> Nanos {
    let time = clock_gettime(ClockId::Monotonic);
    Nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
