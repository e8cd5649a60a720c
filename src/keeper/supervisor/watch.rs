//! Hangs, and whoever else does not end or begin in time: an engine that lives and does nothing is
//! as good as dead.
//!
//! What always holds: there is no state of an engine in which it is waited for without an end. One
//! that controls shows it by its threads' pulses (`sys::succession`); one that is to control by the
//! pulse of its beginning; a standby has [`STANDBY_READY`] until it stands by; one that said that
//! it ends has as long as a hang may take.
//!
//! Time counts in looks, not by the clock: a keeper that was itself not let run, for the machine
//! was stopped or had no processor left, knows nothing of what its engine did meanwhile, and a look
//! late by hours counts as one that was in time.

use std::time::{Duration, Instant};

use super::Supervisor;
use crate::limits::{HANG_LOOKS, STANDBY_READY, START_PATIENCE, START_PATIENCE_MAX};
use crate::sys::clock;

/// What is known of the pulses of an engine's threads.
#[derive(Debug)]
pub(super) struct Watch {
    /// Between two looks.
    every: Duration,
    looked: Instant,
    threads: Vec<Pulse>,
}

#[derive(Clone, Copy, Debug)]
struct Pulse {
    seen: u64,
    still: Duration,
}

impl Watch {
    /// For threads that may stand still for this long.
    pub fn new(hang: Duration, now: Instant) -> Self {
        Self { every: hang / HANG_LOOKS, looked: now, threads: Vec::new() }
    }

    /// Another engine, or the same in another state: nothing of before counts.
    pub fn begin(&mut self, now: Instant) {
        self.looked = now;
        self.threads.clear();
    }

    pub fn due(&self) -> Instant {
        self.looked + self.every
    }

    /// Looks at the pulses, if that is due. Gives the thread that has stood still for so long that
    /// it will have for `longest` by the next look, and for how long it has.
    pub fn look(
        &mut self,
        pulses: impl Iterator<Item = u64>,
        longest: Duration,
        now: Instant,
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

impl Supervisor {
    /// Ends engines that hang, or that do not end by themselves.
    pub(super) fn heed_hangs(&mut self) {
        let (now, hang) = (Instant::now(), self.resources.config().runtime.hang);
        let others = self.standby.iter_mut();
        for engine in self.engine.iter_mut().chain(others) {
            if engine.is_silent() {
                // It ends, and the kernel takes it apart, or it is none that can be spoken with.
                engine.ends_within(hang);
            }
            if engine.ends_by.is_some_and(|due| now >= due) {
                engine.condemn("does not end".into());
            }
        }
        if self.stopping.is_some() || self.successor_due.is_some() {
            return;
        }
        let Some(engine) = &mut self.engine else { return };
        if engine.condemned.is_some() || engine.ends_by.is_some() || engine.yields {
            return;
        }
        let starts = START_PATIENCE.saturating_mul(1 << self.restarts.consecutive_failures().min(8));
        let (threads, longest) = match engine.ready {
            Some(_) => (1 + self.resources.workers(), hang),
            None => (1, (hang * starts).min(START_PATIENCE_MAX.max(hang))),
        };
        let succession = self.resources.succession();
        let pulses = (0..threads).map(|number| succession.pulse(number));
        let Some((number, still)) = self.watch.look(pulses, longest, now) else { return };
        let thread = if number == 0 { "control thread".into() } else { format!("worker {}", number - 1) };
        let since = clock::now() - still;
        if engine.ready.is_some() {
            // Whoever is handed its locks learns by this that control was lost earlier than they
            // came.
            succession.note_hang(since);
            engine.hung_since = Some(since);
        }
        let limit = longest.as_millis();
        let what = if engine.ready.is_some() { "hangs" } else { "does not come to control" };
        engine.condemn(format!("{what}: its {thread} has stood still for {limit} ms (`hang_ms` in [runtime])"));
    }

    /// When to look again for what [`Self::heed_hangs`] sees to.
    pub(super) fn hang_due(&self) -> Option<Instant> {
        let engine = self.engine.as_ref().filter(|engine| engine.condemned.is_none());
        let standby = self.standby.as_ref().filter(|standby| standby.condemned.is_none());
        let ends = engine.iter().chain(&standby).filter_map(|engine| engine.ends_by).min();
        let watched = engine.filter(|engine| engine.ends_by.is_none() && !engine.yields);
        let looks =
            watched.filter(|_| self.stopping.is_none() && self.successor_due.is_none()).map(|_| self.watch.due());
        looks.into_iter().chain(ends).min()
    }

    /// Until when the standby may take to stand by, if it does not yet and has not failed to.
    pub(super) fn standing_due(&self) -> Option<Instant> {
        let standby = self.standby.as_ref().filter(|standby| !standby.stands && standby.failed.is_none());
        standby.filter(|standby| standby.condemned.is_none()).map(|standby| standby.started + STANDBY_READY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANG: Duration = Duration::from_secs(1);

    fn looks(watch: &Watch, number: u32) -> Instant {
        watch.looked + watch.every * number
    }

    #[test]
    fn threads_that_move_are_left_alone_and_the_one_that_does_not_is_named() {
        let mut watch = Watch::new(HANG, Instant::now());
        let begun = watch.looked;
        for round in 1..1000 {
            let now = begun + watch.every * round;
            // A worker with nothing to do moves every other look.
            assert_eq!(watch.look([u64::from(round), u64::from(round / 2)].into_iter(), HANG, now), None);
        }
        let mut found = None;
        for round in 1000..1000 + HANG_LOOKS {
            let pulses = [u64::from(round), 499].into_iter();
            found = found.or(watch.look(pulses, HANG, begun + watch.every * round));
        }
        assert_eq!(found, Some((1, HANG - watch.every)), "before it has stood still for all of the time");
    }

    #[test]
    fn a_look_before_its_time_counts_for_nothing() {
        let mut watch = Watch::new(HANG, Instant::now());
        let first = looks(&watch, 1);
        for _ in 0..100 {
            assert_eq!(watch.look([7].into_iter(), HANG, first), None);
        }
    }

    /// A machine that was stopped for an hour: the keeper may run first when it goes on.
    #[test]
    fn a_keeper_that_did_not_run_itself_takes_nobody_for_hung() {
        let mut watch = Watch::new(HANG, Instant::now());
        for pulse in 0..100 {
            for _ in 0..2 {
                let late = watch.looked + Duration::from_secs(3600);
                assert_eq!(watch.look([pulse].into_iter(), HANG, late), None);
            }
        }
    }

    #[test]
    fn what_was_seen_of_another_engine_does_not_count() {
        let mut watch = Watch::new(HANG, Instant::now());
        for _ in 0..100 {
            for _ in 0..HANG_LOOKS - 1 {
                let now = looks(&watch, 1);
                assert_eq!(watch.look([7].into_iter(), HANG, now), None);
            }
            let now = watch.looked;
            watch.begin(now);
        }
    }
}
