//! Twice what a worker can do arrives: how long frames for the control thread wait, and what is
//! shed.

use std::fmt;

use baton::sla::percentile;
use baton::telemetry::Counter;
use serde::Serialize;

use super::rig::Rig;

/// Frames that arrive, some tenths of a second's.
const FRAMES: usize = 1 << 18;
/// One in so many is for the control thread.
const CONTROL_ONE_IN: usize = 64;

/// What became of the frames.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Overload {
    pub frames: usize,
    pub frames_per_second: f64,
    pub control: usize,
    pub control_refused: u64,
    pub control_wait_us_p99: f64,
    pub control_wait_us_max: f64,
    pub entered: u64,
    pub shed_known: u64,
    pub shed_reports: u64,
}

/// Offers frames twice as fast as a report takes.
pub fn measure(rig: &mut Rig, report_ns: f64) -> Overload {
    let mut bench = rig.worker(0);
    bench.load(rig.first(FRAMES));
    bench.run();
    let before = bench.count(Counter::ReportsApplied);
    let interval_ns = report_ns / 2.0;
    bench.load(rig.mixed(FRAMES, CONTROL_ONE_IN, interval_ns));
    let mut waits = Vec::with_capacity(FRAMES);
    bench.keep_up(|| rig.take_control(&mut waits));
    waits.sort_unstable();
    let us = |share: f64| percentile(&waits, share).map_or(f64::INFINITY, |ns| ns as f64 / 1e3);
    Overload {
        frames: FRAMES,
        frames_per_second: 1e9 / interval_ns,
        control: waits.len(),
        control_refused: bench.count(Counter::ControlOverflow),
        control_wait_us_p99: us(0.99),
        control_wait_us_max: us(1.0),
        entered: bench.count(Counter::ReportsApplied) - before,
        shed_known: bench.count(Counter::ShedKnown),
        shed_reports: bench.count(Counter::ShedReports),
    }
}

impl fmt::Display for Overload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "twice the load, {:.1} million frames a second, half of the reports changing nothing:",
            self.frames_per_second / 1e6
        )?;
        let Self { entered, shed_known, shed_reports, control, control_refused, .. } = self;
        writeln!(f, "  reports entered {entered}, shed: that change nothing {shed_known}, others {shed_reports}")?;
        let (p99, max) = (self.control_wait_us_p99, self.control_wait_us_max);
        write!(
            f,
            "  for the control thread {control}, refused {control_refused}; their wait: {p99:.1} µs in 99 of 100, {max:.1} µs at most"
        )
    }
}
