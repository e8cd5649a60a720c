//! What happens at a set rate.

use crate::time::Nanos;

/// Who was held up longer than this goes on from now and does not make up for it in a burst.
const BEHIND_NS_MAX: u64 = 100_000_000;

/// A clock that ticks so often a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticker {
    interval_ns: u64,
    next: Option<Nanos>,
}

impl Ticker {
    pub const fn per_second(rate: u32) -> Self {
        Self { interval_ns: if rate == 0 { 0 } else { 1_000_000_000 / rate as u64 }, next: None }
    }

    pub const fn every(interval: std::time::Duration) -> Self {
        Self { interval_ns: interval.as_nanos() as u64, next: None }
    }

    /// Whether a tick is due; it is over then.
    pub fn tick(&mut self, now: Nanos) -> bool {
        if !self.is_due(now) {
            return false;
        }
        let due = self.next.filter(|due| now.0 - due.0 <= BEHIND_NS_MAX).unwrap_or(now);
        self.next = Some(Nanos(due.0 + self.interval_ns));
        true
    }

    pub fn is_due(&self, now: Nanos) -> bool {
        self.interval_ns != 0 && self.next.is_none_or(|due| due <= now)
    }

    /// The next tick; the first comes at once.
    pub fn next(&self) -> Option<Nanos> {
        (self.interval_ns != 0).then(|| self.next.unwrap_or(Nanos(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_as_often_as_said_and_does_not_make_up_for_a_long_wait() {
        let mut pace = Ticker::per_second(1000);
        let ticks = |pace: &mut Ticker, from: u64, to: u64| {
            (from..to).map(|at| Nanos(at * 100_000)).filter(|&now| pace.tick(now)).count()
        };
        assert_eq!(ticks(&mut pace, 0, 10_000), 1000);
        assert_eq!(ticks(&mut pace, 100_000, 110_000), 1000);
        assert!(!Ticker::per_second(0).tick(Nanos(5)));
        assert_eq!(Ticker::per_second(0).next(), None);
    }
}
