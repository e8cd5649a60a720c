//! What the logs tell together: lives of engines, and what lay between them.

use std::path::PathBuf;

use super::rules::Phase;
use crate::telemetry::{Broken, Log, LogInterval, RecoveryNote};

/// All logs, in the order of their beginnings. Times are seconds since 1970.
#[derive(Clone, Debug, Default)]
pub struct History {
    logs: Vec<(PathBuf, Log)>,
}

/// A time in which nobody was in control.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Outage {
    /// From.
    pub start_s: f64,
    /// Until.
    pub end_s: f64,
}

/// A death, or a stop, and how control came back.
#[derive(Clone, PartialEq, Debug)]
pub struct Reset {
    /// When it was noticed; of a stop, the end of the log before.
    pub at_s: f64,
    /// Seconds from there until the recovery whose times follow began: 0 where it began with the
    /// notice.
    pub before_s: f64,
    /// The recovery.
    pub recovery: RecoveryNote,
    /// Frames that the kernel dropped in the interval in which the log goes on.
    pub dropped: u64,
}

impl Reset {
    /// Nanoseconds from the notice until then; none where nothing was to be taken over.
    pub fn until(&self, phase: Phase) -> Option<u64> {
        let ns = match phase {
            Phase::FirstFrame => self.recovery.first_frame_ns?,
            Phase::Acknowledged => self.recovery.acknowledged_ns,
            Phase::Reconciled => self.recovery.reconciled_ns,
        };
        Some(ns + (self.before_s * 1e9) as u64)
    }
}

/// The logs of an engine.
struct Life<'a> {
    logs: Vec<&'a Log>,
}

impl Life<'_> {
    fn start_s(&self) -> f64 {
        self.logs.first().map_or(0.0, |log| log.start_s)
    }

    fn end_s(&self) -> f64 {
        self.logs.iter().filter_map(|log| end_of(log)).fold(self.start_s(), f64::max)
    }

    fn recovery(&self) -> Option<&RecoveryNote> {
        self.logs.iter().flat_map(|log| &log.recoveries).next()
    }
}

fn end_of(log: &Log) -> Option<f64> {
    let frames = log.frames.last().map(|frames| frames.start_s + frames.length_s);
    let interval = log.intervals.last().map(|interval| interval.start_s + interval.length_s);
    frames.into_iter().chain(interval).reduce(f64::max)
}

impl History {
    /// Of these files.
    pub fn new(mut logs: Vec<(PathBuf, Log)>) -> Self {
        logs.sort_by(|(_, a), (_, b)| a.start_s.total_cmp(&b.start_s));
        Self { logs }
    }

    /// Only what began at or after this.
    pub fn since(mut self, start_s: f64) -> Self {
        for (_, log) in &mut self.logs {
            log.intervals.retain(|interval| interval.start_s >= start_s);
            log.frames.retain(|frames| frames.start_s >= start_s);
        }
        self.logs.retain(|(_, log)| end_of(log).is_some_and(|end| end >= start_s));
        self
    }

    /// The files, with what could not be read of them.
    pub fn files(&self) -> impl Iterator<Item = (&PathBuf, &[Broken])> {
        self.logs.iter().map(|(path, log)| (path, &log.broken[..]))
    }

    /// From the first interval's beginning to the last one's end; none where there is no interval.
    pub fn span(&self) -> Option<(f64, f64)> {
        let starts = self.logs.iter().flat_map(|(_, log)| {
            log.intervals.first().map(|it| it.start_s).into_iter().chain(log.frames.first().map(|it| it.start_s))
        });
        let start = starts.reduce(f64::min)?;
        let end = self.logs.iter().filter_map(|(_, log)| end_of(log)).reduce(f64::max)?;
        Some((start, end))
    }

    /// Every interval.
    pub fn intervals(&self) -> impl Iterator<Item = &LogInterval> {
        self.logs.iter().flat_map(|(_, log)| &log.intervals)
    }

    /// Every tag that there is, in alphabetical order.
    pub fn tags(&self) -> Vec<&str> {
        let mut tags: Vec<_> = self.intervals().map(|interval| &*interval.tag).collect();
        tags.sort_unstable();
        tags.dedup();
        tags
    }

    /// What became of frames.
    pub fn frames(&self) -> impl Iterator<Item = &crate::telemetry::FramesNote> {
        self.logs.iter().flat_map(|(_, log)| &log.frames)
    }

    fn lives(&self) -> Vec<Life<'_>> {
        let mut lives: Vec<(_, Life<'_>)> = Vec::new();
        for (_, log) in &self.logs {
            let Some(engine) = &log.engine else { continue };
            let own = (&engine.epoch, engine.pid);
            match lives.iter_mut().find(|(known, _)| *known == own) {
                Some((_, life)) => life.logs.push(log),
                None => lives.push((own, Life { logs: vec![log] })),
            }
        }
        lives.into_iter().map(|(_, life)| life).collect()
    }

    /// Whether an engine's logs are among them.
    pub fn has_engines(&self) -> bool {
        self.logs.iter().any(|(_, log)| log.engine.is_some())
    }

    /// Every death and every stop that is followed in the logs. Not the first beginning.
    pub fn resets(&self) -> Vec<Reset> {
        let mut resets = Vec::new();
        let mut before: Option<f64> = None;
        for life in self.lives() {
            // Where the log does not begin with the life, what was before is not in it.
            let begins = life.logs.first().and_then(|log| log.engine.as_ref()).is_some_and(|engine| engine.part == 1);
            if let (Some(recovery), true) = (life.recovery(), begins) {
                let at_s = if recovery.succeeds { Some(recovery.at_s) } else { before };
                if let Some(at_s) = at_s {
                    let dropped = life.logs[0].frames.first().map_or(0, |frames| frames.dropped);
                    resets.push(Reset {
                        at_s,
                        before_s: (recovery.at_s - at_s).max(0.0),
                        recovery: recovery.clone(),
                        dropped,
                    });
                }
            }
            before = Some(life.end_s());
        }
        resets
    }

    /// The times in which nobody was in control, in their order, none touching another.
    pub fn outages(&self) -> Vec<Outage> {
        let mut all: Vec<Outage> = self
            .resets()
            .iter()
            .map(|reset| {
                let lasted = reset.until(Phase::Acknowledged).unwrap_or(0) as f64 / 1e9;
                Outage { start_s: reset.at_s, end_s: reset.at_s + lasted }
            })
            .collect();
        // Who died before it was through was never in control.
        let lives = self.lives();
        for (life, next) in lives.iter().zip(lives.iter().skip(1)) {
            if life.recovery().is_none() {
                let back = next.recovery().map_or_else(|| next.end_s(), |it| it.at_s + it.acknowledged_ns as f64 / 1e9);
                all.push(Outage { start_s: life.start_s(), end_s: back });
            }
        }
        all.sort_by(|a, b| a.start_s.total_cmp(&b.start_s));
        all.into_iter().fold(Vec::new(), |mut merged: Vec<Outage>, outage| {
            match merged.last_mut() {
                Some(last) if outage.start_s <= last.end_s => last.end_s = last.end_s.max(outage.end_s),
                _ => merged.push(outage),
            }
            merged
        })
    }
}
