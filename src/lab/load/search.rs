//! The highest rate that a server can take, by bisection (RFC 2544 section 26.1 calls it
//! throughput).
//!
//! Sans I/O: [`Search::next`] says which rate to try, [`Search::record`] takes the result. Two
//! rates are searched for at once, because every trial tells about both: the *non-drop rate*, the
//! highest rate tried without a lost frame, and the *partial-drop rate*, the highest rate tried
//! with at most a given share lost.

use serde::Serialize;

use crate::limits::LOAD_TRIALS_MAX;

/// The range and precision of a search.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SearchSettings {
    /// The lowest rate that counts: if it fails, the search fails.
    pub from: u64,
    /// The highest rate; none: what the sender reaches without a limit.
    pub to: Option<u64>,
    /// The share of frames that the partial-drop rate may lose.
    pub loss_ratio: f64,
    /// Bisection ends when the remaining interval is this share of the rate.
    pub resolution: f64,
}

/// One trial.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Trial {
    /// The requested rate; none: as fast as possible.
    pub asked: Option<u64>,
    /// The rate at which frames were sent.
    pub rate: f64,
    /// The number of frames sent.
    pub sent: u64,
    /// The number of frames lost.
    pub lost: u64,
    /// `lost` as a share of `sent`.
    pub loss_ratio: f64,
}

/// Bisects between a rate that passed and one that failed.
#[derive(Clone, PartialEq, Debug)]
pub struct Search {
    settings: SearchSettings,
    none_lost: Bracket,
    some_lost: Bracket,
    trials: Vec<Trial>,
}

/// The highest rate that passed, the lowest that failed.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Bracket {
    passed: Option<f64>,
    failed: Option<f64>,
}

impl Bracket {
    fn note(&mut self, rate: f64, passed: bool) {
        // Results are not monotonic: by chance a rate may pass above one that failed. The lower
        // failure then counts, because it was observed.
        if passed {
            if self.failed.is_none_or(|failed| rate < failed) {
                self.passed = Some(self.passed.map_or(rate, |before| before.max(rate)));
            }
        } else {
            self.failed = Some(self.failed.map_or(rate, |before| before.min(rate)));
            self.passed = self.passed.filter(|&before| before < rate);
        }
    }

    /// The next rate to try, if the result is not precise enough yet.
    fn next(&self, from: u64, resolution: f64) -> Option<u64> {
        let failed = self.failed?;
        let passed = self.passed.unwrap_or(0.0);
        if failed <= from as f64 || failed - passed <= (resolution * failed).max(1.0) {
            return None;
        }
        let middle = if self.passed.is_some() { f64::midpoint(passed, failed) } else { failed / 2.0 };
        Some((middle.round() as u64).max(from))
    }
}

impl Search {
    /// A search without trials.
    pub const fn new(settings: SearchSettings) -> Self {
        let nothing = Bracket { passed: None, failed: None };
        Self { settings, none_lost: nothing, some_lost: nothing, trials: Vec::new() }
    }

    /// The next rate to try: `Some(None)` is as fast as possible, `None` means that the search is
    /// over.
    pub fn next(&self) -> Option<Option<u64>> {
        if self.trials.is_empty() {
            return Some(self.settings.to);
        }
        if self.trials.len() >= LOAD_TRIALS_MAX as usize {
            return None;
        }
        let SearchSettings { from, resolution, .. } = self.settings;
        // The partial-drop rate is the higher one: its trials narrow the other.
        self.some_lost.next(from, resolution).or_else(|| self.none_lost.next(from, resolution)).map(Some)
    }

    /// Records the result of the rate that [`Self::next`] returned. The rate that counts is the one
    /// at which frames were sent, which may be less than requested: the server cannot have passed
    /// at a rate that was not sent.
    pub fn record(&mut self, trial: Trial) {
        let rate = trial.asked.map_or(trial.rate, |asked| trial.rate.min(asked as f64));
        // A failure is recorded at the requested rate, otherwise bisection would try one rate again
        // and again.
        let failed = trial.asked.map_or(trial.rate, |asked| asked as f64);
        let note = |bracket: &mut Bracket, passed: bool| bracket.note(if passed { rate } else { failed }, passed);
        note(&mut self.none_lost, trial.lost == 0);
        note(&mut self.some_lost, trial.loss_ratio <= self.settings.loss_ratio);
        self.trials.push(trial);
    }

    /// All trials, in their order.
    pub fn trials(&self) -> &[Trial] {
        &self.trials
    }

    /// The non-drop rate; none if frames were lost at the lowest rate too.
    pub const fn non_drop_rate(&self) -> Option<f64> {
        self.none_lost.passed
    }

    /// The partial-drop rate; none if the lowest rate lost too many frames.
    pub const fn partial_drop_rate(&self) -> Option<f64> {
        self.some_lost.passed
    }

    /// Whether the sender's highest rate passed without loss: then the server may be able to take
    /// more.
    pub const fn is_limited_by_sender(&self) -> bool {
        self.none_lost.failed.is_none()
    }
}
