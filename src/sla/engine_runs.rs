//! What the logs together say: runs of engines, and the times between them.

use std::path::PathBuf;

use super::rules::Phase;
use crate::telemetry::{Broken, Log, LogInterval, RecoveryNote};

/// All logs, ordered by their start. Times are seconds since 1970.
#[derive(Clone, Debug, Default)]
pub struct History {
    logs: Vec<(PathBuf, Log)>,
}

/// A time in which no engine was in control.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Outage {
    /// In seconds since 1970.
    pub start_s: f64,
    /// In seconds since 1970.
    pub end_s: f64,
}

/// A death, or a stop, and how control came back.
#[derive(Clone, PartialEq, Debug)]
pub struct Reset {
    /// When it was noticed; for a stop, the end of the log before it.
    pub at_s: f64,
    /// Seconds from there to the start of the recovery whose times follow: 0 if it started with the
    /// notice.
    pub before_s: f64,
    /// How control came back.
    pub recovery: RecoveryNote,
    /// Frames that the kernel dropped in the interval in which the log continues.
    pub dropped: u64,
}

impl Reset {
    /// Nanoseconds from the notice to the end of this phase; none if there was nothing to take
    /// over.
    pub fn until(&self, phase: Phase) -> Option<u64> {
        let ns = match phase {
            Phase::FirstFrame => self.recovery.first_frame_ns?,
            Phase::Acknowledged => self.recovery.acknowledged_ns,
            Phase::Reconciled => self.recovery.reconciled_ns,
        };
        Some(ns + (self.before_s * 1e9) as u64)
    }
}

/// The logs of one engine.
struct EngineRun<'a> {
    logs: Vec<&'a Log>,
}

impl EngineRun<'_> {
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
    /// Reads the history from these files.
    pub fn new(mut logs: Vec<(PathBuf, Log)>) -> Self {
        logs.sort_by(|(_, a), (_, b)| a.start_s.total_cmp(&b.start_s));
        Self { logs }
    }

    /// Keeps only what started at or after this time.
    pub fn since(mut self, start_s: f64) -> Self {
        for (_, log) in &mut self.logs {
            log.intervals.retain(|interval| interval.start_s >= start_s);
            log.frames.retain(|frames| frames.start_s >= start_s);
        }
        self.logs.retain(|(_, log)| end_of(log).is_some_and(|end| end >= start_s));
        self
    }

    /// The files, with the lines that could not be read.
    pub fn files(&self) -> impl Iterator<Item = (&PathBuf, &[Broken])> {
        self.logs.iter().map(|(path, log)| (path, &log.broken[..]))
    }

    /// From the start of the first interval to the end of the last one; none if there is no
    /// interval.
    pub fn span(&self) -> Option<(f64, f64)> {
        let starts = self.logs.iter().flat_map(|(_, log)| {
            log.intervals.first().map(|it| it.start_s).into_iter().chain(log.frames.first().map(|it| it.start_s))
        });
        let start = starts.reduce(f64::min)?;
        let end = self.logs.iter().filter_map(|(_, log)| end_of(log)).reduce(f64::max)?;
        Some((start, end))
    }

    /// The histograms of all logs.
    pub fn intervals(&self) -> impl Iterator<Item = &LogInterval> {
        self.logs.iter().flat_map(|(_, log)| &log.intervals)
    }

    /// Every tag in the logs, in alphabetical order.
    pub fn tags(&self) -> Vec<&str> {
        let mut tags: Vec<_> = self.intervals().map(|interval| &*interval.tag).collect();
        tags.sort_unstable();
        tags.dedup();
        tags
    }

    /// The counts of frames of all logs.
    pub fn frames(&self) -> impl Iterator<Item = &crate::telemetry::FramesNote> {
        self.logs.iter().flat_map(|(_, log)| &log.frames)
    }

    fn runs(&self) -> Vec<EngineRun<'_>> {
        let mut runs: Vec<(_, EngineRun<'_>)> = Vec::new();
        for (_, log) in &self.logs {
            let Some(engine) = &log.engine else { continue };
            let own = (&engine.epoch, engine.pid);
            match runs.iter_mut().find(|(known, _)| *known == own) {
                Some((_, run)) => run.logs.push(log),
                None => runs.push((own, EngineRun { logs: vec![log] })),
            }
        }
        runs.into_iter().map(|(_, run)| run).collect()
    }

    /// Whether at least one log is from an engine.
    pub fn has_engines(&self) -> bool {
        self.logs.iter().any(|(_, log)| log.engine.is_some())
    }

    /// Every death and every stop that the logs go beyond. The first start is not one.
    pub fn resets(&self) -> Vec<Reset> {
        let mut resets = Vec::new();
        let mut before: Option<f64> = None;
        for run in self.runs() {
            // If the log does not begin with the engine's start, it does not contain what was
            // before.
            let begins = run.logs.first().and_then(|log| log.engine.as_ref()).is_some_and(|engine| engine.part == 1);
            if let (Some(recovery), true) = (run.recovery(), begins) {
                let at_s = if recovery.succeeds { Some(recovery.at_s) } else { before };
                if let Some(at_s) = at_s {
                    let dropped = run.logs[0].frames.first().map_or(0, |frames| frames.dropped);
                    resets.push(Reset {
                        at_s,
                        before_s: (recovery.at_s - at_s).max(0.0),
                        recovery: recovery.clone(),
                        dropped,
                    });
                }
            }
            before = Some(run.end_s());
        }
        resets
    }

    /// The times in which no engine was in control, ordered, none touching another.
    pub fn outages(&self) -> Vec<Outage> {
        let mut all: Vec<Outage> = self
            .resets()
            .iter()
            .map(|reset| {
                let lasted = reset.until(Phase::Acknowledged).unwrap_or(0) as f64 / 1e9;
                Outage { start_s: reset.at_s, end_s: reset.at_s + lasted }
            })
            .collect();
        // An engine that died before its recovery ended was never in control.
        let runs = self.runs();
        for (run, next) in runs.iter().zip(runs.iter().skip(1)) {
            if run.recovery().is_none() {
                let back = next.recovery().map_or_else(|| next.end_s(), |it| it.at_s + it.acknowledged_ns as f64 / 1e9);
                all.push(Outage { start_s: run.start_s(), end_s: back });
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
