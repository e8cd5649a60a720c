//! The highest rate that a server bears, by halving (RFC 2544 section 26.1 calls it throughput).
//!
//! Sans I/O: [`Search::next`] says which rate to try, [`Search::record`] takes what came of it. Two
//! rates are looked for at once, because every trial tells of both: the *non-drop rate*, the
//! highest tried without a frame lost, and the *partial-drop rate*, the highest tried with no more
//! than a ratio lost.

use serde::Serialize;

use crate::limits::LOAD_TRIALS_MAX;

/// What is looked for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SearchSettings {
    /// The lowest rate that counts: what fails there fails.
    pub from: u64,
    /// The highest; none: what the sender reaches without a rate.
    pub to: Option<u64>,
    /// The part of frames that the partial-drop rate may lose.
    pub loss_ratio: f64,
    /// Halving ends where what is left is such a part of the rate.
    pub resolution: f64,
}

/// One trial.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Trial {
    /// The rate asked for; none: as many as go.
    pub asked: Option<u64>,
    /// The rate sent at.
    pub rate: f64,
    /// Frames sent.
    pub sent: u64,
    /// Frames lost.
    pub lost: u64,
    /// Their part.
    pub loss_ratio: f64,
}

/// Halving what lies between a rate that is borne and one that is not.
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
        // Not monotonic: noise may pass above what failed. Then the lower failure stands, as one
        // that was seen.
        if passed {
            if self.failed.is_none_or(|failed| rate < failed) {
                self.passed = Some(self.passed.map_or(rate, |before| before.max(rate)));
            }
        } else {
            self.failed = Some(self.failed.map_or(rate, |before| before.min(rate)));
            self.passed = self.passed.filter(|&before| before < rate);
        }
    }

    /// The rate to try, if it is not known well enough yet.
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
    /// Nothing tried yet.
    pub const fn new(settings: SearchSettings) -> Self {
        let nothing = Bracket { passed: None, failed: None };
        Self { settings, none_lost: nothing, some_lost: nothing, trials: Vec::new() }
    }

    /// The next rate to try: `Some(None)` is as fast as it goes, `None` that all is known.
    pub fn next(&self) -> Option<Option<u64>> {
        if self.trials.is_empty() {
            return Some(self.settings.to);
        }
        if self.trials.len() >= LOAD_TRIALS_MAX as usize {
            return None;
        }
        let SearchSettings { from, resolution, .. } = self.settings;
        // The partial-drop rate is the higher one: what is learned there narrows the other.
        self.some_lost.next(from, resolution).or_else(|| self.none_lost.next(from, resolution)).map(Some)
    }

    /// What came of the rate that [`Self::next`] gave. The rate that counts is what was sent, which
    /// may be less than was asked for: what nobody sent, nobody bore.
    pub fn record(&mut self, trial: Trial) {
        let rate = trial.asked.map_or(trial.rate, |asked| trial.rate.min(asked as f64));
        // The lower end of what failed is what was asked for, else halving would try one rate again
        // and again.
        let failed = trial.asked.map_or(trial.rate, |asked| asked as f64);
        let note = |bracket: &mut Bracket, passed: bool| bracket.note(if passed { rate } else { failed }, passed);
        note(&mut self.none_lost, trial.lost == 0);
        note(&mut self.some_lost, trial.loss_ratio <= self.settings.loss_ratio);
        self.trials.push(trial);
    }

    /// All trials, as they were made.
    pub fn trials(&self) -> &[Trial] {
        &self.trials
    }

    /// The non-drop rate; none where frames were lost at the lowest rate too.
    pub const fn non_drop_rate(&self) -> Option<f64> {
        self.none_lost.passed
    }

    /// The partial-drop rate; likewise.
    pub const fn partial_drop_rate(&self) -> Option<f64> {
        self.some_lost.passed
    }

    /// Whether the sender's highest rate was borne without loss: then the server may bear more.
    pub const fn is_limited_by_sender(&self) -> bool {
        self.none_lost.failed.is_none()
    }
}
