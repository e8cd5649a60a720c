//! When the next engine may start.

use std::time::Duration;

use crate::limits::{RESTART_PAUSE_MS_MAX, RESTARTS_FREE};

/// How long an engine must have controlled for its death to be an accident, not a failure.
const ACCIDENT_AFTER: Duration = Duration::from_millis(250);
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Counts engines in a row that failed: that died before they had controlled for long.
///
/// The first few are replaced at once: that one engine is killed in the middle of the recovery from
/// the death of another is the very case that this product is for. Then each pause is twice
/// the one before, up to [`RESTART_PAUSE_MS_MAX`].
#[derive(Debug, Default)]
pub struct Backoff {
    consecutive_failures: u32,
}

impl Backoff {
    /// An engine died that had controlled for `controlled`, or never had. The pause before the
    /// next.
    pub fn died(&mut self, controlled: Option<Duration>) -> Duration {
        if controlled.is_some_and(|time| time >= ACCIDENT_AFTER) {
            self.consecutive_failures = 0;
            return Duration::ZERO;
        }
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        let Some(paused) = self.consecutive_failures.checked_sub(RESTARTS_FREE + 1) else { return Duration::ZERO };
        let longest = Duration::from_millis(RESTART_PAUSE_MS_MAX);
        FIRST_PAUSE.saturating_mul(1 << paused.min(16)).min(longest)
    }

    /// An engine said that it cannot go on: what stopped it will stop the next one too. The pause
    /// before that.
    pub fn failed(&mut self, controlled: Option<Duration>) -> Duration {
        self.died(controlled).max(Duration::from_secs(1))
    }

    /// Since an engine last controlled for long.
    pub const fn consecutive_failures(&self) -> u32 {
        self.consecutive_failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Option<Duration> = Some(Duration::from_secs(3600));

    #[test]
    fn accidents_are_followed_at_once_however_many() {
        let mut restarts = Backoff::default();
        for _ in 0..1000 {
            assert_eq!(restarts.died(LONG), Duration::ZERO);
        }
    }

    #[test]
    fn kills_during_recovery_are_followed_at_once() {
        let mut restarts = Backoff::default();
        assert_eq!(restarts.died(LONG), Duration::ZERO);
        for _ in 0..RESTARTS_FREE {
            assert_eq!(restarts.died(None), Duration::ZERO);
        }
    }

    #[test]
    fn a_crash_loop_slows_down_to_its_bound_and_is_forgiven() {
        let mut restarts = Backoff::default();
        let pauses: Vec<_> = (0..100).map(|_| restarts.died(Some(Duration::from_millis(3)))).collect();
        assert!(pauses.is_sorted());
        assert_eq!(pauses[RESTARTS_FREE as usize], FIRST_PAUSE);
        assert_eq!(pauses[99], Duration::from_millis(RESTART_PAUSE_MS_MAX));
        assert_eq!(restarts.died(LONG), Duration::ZERO);
        assert_eq!(restarts.consecutive_failures(), 0);
    }

    #[test]
    fn a_failure_that_was_said_is_not_repeated_at_once() {
        assert!(Backoff::default().failed(LONG) >= Duration::from_secs(1));
    }
}
