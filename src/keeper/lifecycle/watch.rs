//! Whether an engine's threads do anything, by the rounds that they count (`sys::robust_locks`).
//!
//! Time counts in looks, not by the clock: a keeper that was itself not let run, for the machine
//! was stopped or had no processor left, knows nothing of what its engine did meanwhile, and a look
//! late by hours counts as one that was in time.

use std::time::Duration;

use crate::limits::HANG_LOOKS;
use crate::time::Nanos;

/// What is known of the pulses of an engine's threads.
#[derive(Debug)]
pub struct Watch {
    /// Between two looks.
    every: Duration,
    looked: Nanos,
    threads: Vec<Pulse>,
}

#[derive(Clone, Copy, Debug)]
struct Pulse {
    seen: u64,
    still: Duration,
}

impl Watch {
    /// For threads that may stand still for this long.
    pub fn new(hang: Duration, now: Nanos) -> Self {
        Self { every: hang / HANG_LOOKS, looked: now, threads: Vec::new() }
    }

    /// Another engine, or the same in another state: nothing of before counts.
    pub fn begin(&mut self, now: Nanos) {
        self.looked = now;
        self.threads.clear();
    }

    /// When to look.
    pub fn due(&self) -> Nanos {
        self.looked + self.every
    }

    /// Looks at the pulses, if that is due. Gives the thread that has stood still for so long that
    /// it will have for `longest` by the next look, and for how long it has.
    pub fn look(
        &mut self,
        pulses: impl Iterator<Item = u64>,
        longest: Duration,
        now: Nanos,
    ) -> Option<(usize, Duration)> {
        if now < self.due() {
            return None;
        }
        self.looked = now;
        let mut hung = None;
        for (number, seen) in pulses.enumerate() {
            let Some(pulse) = self.threads.get_mut(number) else {
                self.threads.push(Pulse { seen, still: Duration::ZERO });
                continue;
            };
            // However long it is since the last look: whether the engine was let run is not known.
            let still = if pulse.seen == seen { pulse.still + self.every } else { Duration::ZERO };
            *pulse = Pulse { seen, still };
            if still + self.every >= longest && hung.is_none_or(|(_, most)| still > most) {
                hung = Some((number, still));
            }
        }
        hung
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANG: Duration = Duration::from_secs(1);

    fn watch() -> Watch {
        Watch::new(HANG, Nanos(1_000_000_000))
    }

    #[test]
    fn threads_that_move_are_left_alone_and_the_one_that_does_not_is_named() {
        let mut watch = watch();
        for round in 1..1000 {
            // A worker with nothing to do moves every other look.
            let now = watch.due();
            assert_eq!(watch.look([round, round / 2].into_iter(), HANG, now), None);
        }
        let mut found = None;
        for round in 1000..1000 + u64::from(HANG_LOOKS) {
            let now = watch.due();
            found = found.or(watch.look([round, 499].into_iter(), HANG, now));
        }
        assert_eq!(found, Some((1, HANG - watch.every)), "before it has stood still for all of the time");
    }

    #[test]
    fn a_look_before_its_time_counts_for_nothing() {
        let mut watch = watch();
        let first = watch.due();
        for _ in 0..100 {
            assert_eq!(watch.look([7].into_iter(), HANG, first), None);
        }
    }

    /// A machine that was stopped for an hour: the keeper may run first when it goes on.
    #[test]
    fn a_keeper_that_did_not_run_itself_takes_nobody_for_hung() {
        let mut watch = watch();
        for pulse in 0..100 {
            for _ in 0..2 {
                let late = watch.looked + Duration::from_secs(3600);
                assert_eq!(watch.look([pulse].into_iter(), HANG, late), None);
            }
        }
    }

    #[test]
    fn what_was_seen_of_another_engine_does_not_count() {
        let mut watch = watch();
        for _ in 0..100 {
            for _ in 0..HANG_LOOKS - 1 {
                let now = watch.due();
                assert_eq!(watch.look([7].into_iter(), HANG, now), None);
            }
            let now = watch.looked;
            watch.begin(now);
        }
    }
}
