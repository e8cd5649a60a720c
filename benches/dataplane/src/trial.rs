//! What is done with one contestant at a time: the sending side, and what it measures.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use baton::lab::testbed::netns::{Pair, Side};
use baton::sys::interface::Interface;
use baton::sys::threads;
use baton::table::Table;
use libbpf_rs::Link;
use serde::Serialize;

use crate::contestants::{self, Kind};
use crate::generator::{FRAMES, Generator};
use crate::instructions::{self, Count};
use crate::kernel::{Kernel, NUMBERS};
use crate::priority::Priority;
use crate::round_trip::{Prober, WARM_UP};
use crate::run::{Mode, Run};
use crate::{Failure, reports};

/// Frames by which it is checked that a contestant gets different ones, and how fast they come.
pub const CHECKED: u32 = NUMBERS / 2;
const CHECKED_PER_SECOND: f64 = 100_000.0;

/// Several times round every ring, before the first frame that counts.
const WARM_UP_FRAMES: u32 = 1 << 15;
const WARM_UP_PER_SECOND: f64 = 200_000.0;
/// Before each sending, what else the machine does has so long. See [`Priority`].
const BREATH: Duration = Duration::from_millis(150);

/// The least that a step of a search sends.
const STEP_FRAMES_MIN: f64 = 65_536.0;
/// How often a step is tried that loses frames: what else the machine does only ever loses some.
const ATTEMPTS: u32 = 3;
/// The share of a step's frames that is too much for another try. A twentieth of a second in which
/// the machine did something else is a tenth of a step.
const LOST_BY_FAR: f64 = 0.2;

/// Who does what with which frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Trial {
    pub contestant: Kind,
    pub mode: Mode,
    pub frame_bytes: usize,
    pub tagged: bool,
}

/// Sent as fast as the generator can.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Overload {
    pub sent_per_second: f64,
    pub per_second: f64,
    pub lost: u64,
}

/// The highest rate without loss.
#[derive(Clone, Debug, Serialize)]
pub struct Lossless {
    /// As sent; none where each step lost frames.
    pub per_second: f64,
    /// Whether the generator can send no faster, so that the contestant may be able to do more.
    pub is_generators: bool,
    pub steps: Vec<Step>,
}

/// One try of a rate.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Step {
    pub offered_per_second: f64,
    pub sent_per_second: f64,
    pub sent: u64,
    pub lost: u64,
}

/// How a search goes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Search {
    /// Halvings of the range in which the rate is.
    pub steps: u32,
    pub step_seconds: f64,
}

/// The sending side, on the left, and the pair.
pub struct Bench {
    pair: Arc<Pair>,
    generator: Generator,
    /// Streams that were made, and frames of the last one, with tags or without.
    streams: u32,
    prepared: u32,
    are_tagged: bool,
    kernel: Kernel,
    interface: u32,
    /// What counts the frames that come back, while it does.
    counts: Option<Link>,
}

impl Bench {
    /// Has this thread send from the left, on core 0.
    pub fn new(pair: Pair) -> Result<Self, Failure> {
        pair.enter(Side::Left)?;
        threads::pin(0);
        let interface = Interface::find("left")?.index;
        let mut kernel = Kernel::load()?;
        let counts = Some(kernel.attach("drop", interface)?);
        let generator = Generator::load(interface)?;
        Ok(Self {
            pair: Arc::new(pair),
            generator,
            streams: 0,
            prepared: 0,
            are_tagged: false,
            kernel,
            interface,
            counts,
        })
    }

    /// Makes frames that a trial can send. The worker has to have newer ones each time, for what it
    /// has entered already changes nothing; to all others those of before are as good.
    fn prepare(&mut self, count: u32, trial: Trial) {
        if trial.contestant != Kind::BatonWorker && self.prepared >= count && self.are_tagged == trial.tagged {
            return;
        }
        reports::write(&mut self.generator, count, trial.tagged, self.streams);
        self.streams += 1;
        (self.prepared, self.are_tagged) = (count, trial.tagged);
    }

    /// Does something while a contestant is at work; gives what that gave, and what the contestant
    /// took in all.
    fn beside<T>(
        &mut self,
        trial: Trial,
        table: Option<&Arc<Table>>,
        act: impl FnOnce(&mut Self, &Run) -> Result<T, Failure>,
    ) -> Result<(T, u64), Failure> {
        let namespace = self.pair.name(Side::Right).to_owned();
        let table = table.filter(|_| trial.contestant == Kind::BatonWorker).cloned();
        let run = Run::new(namespace, trial.mode, trial.tagged, table);
        let pair = self.pair.clone();
        std::thread::scope(|scope| {
            let run = &run;
            let consumer = scope.spawn(move || {
                pair.enter(Side::Right)?;
                if !threads::pin(1) {
                    return Err("there is no core 1 to receive on".into());
                }
                contestants::consume(trial.contestant, run)
            });
            let done = if run.is_ready(|| consumer.is_finished()) {
                sleep(Duration::from_millis(20));
                act(self, run)
            } else {
                Err("it is not ready in time".into())
            };
            run.stop();
            let taken = consumer.join().unwrap_or_else(|_| Err("it panicked".into()));
            // What the contestant says is the cause of what the sender saw.
            let taken = taken?;
            Ok((done?, taken))
        })
    }

    /// Sends prepared frames, and lets nothing come between.
    fn send(&mut self, frames: Range<u32>, trial: Trial, rate: Option<f64>) -> Result<Duration, Failure> {
        sleep(BREATH);
        let _priority = Priority::raise();
        self.generator.send(frames, trial.frame_bytes, rate)
    }

    /// Sends fresh frames at a rate, or as fast as can be; gives what became of them.
    fn step(&mut self, run: &Run, trial: Trial, count: u32, rate: Option<f64>) -> Result<Step, Failure> {
        self.prepare(count, trial);
        let counts = |bench: &Self, expected| match trial.mode {
            Mode::Echo => {
                sleep(Duration::from_millis(20));
                bench.kernel.seen()
            }
            _ => run.taken(expected).ok_or_else(|| "it does not say what it took".into()),
        };
        let before = counts(self, 0)?;
        let seconds = self.send(0..count, trial, rate)?.as_secs_f64();
        let sent = u64::from(count);
        let taken = counts(self, before + sent)? - before;
        let sent_per_second = sent as f64 / seconds;
        let lost = sent.saturating_sub(taken);
        Ok(Step { offered_per_second: rate.unwrap_or(sent_per_second), sent_per_second, sent, lost })
    }

    /// What a contestant does when more comes than it can take; then, where a search is wanted, the
    /// highest rate at which it loses nothing.
    pub fn rates(
        &mut self,
        trial: Trial,
        table: Option<&Arc<Table>>,
        frames: u32,
        search: Option<Search>,
    ) -> Result<(Overload, Option<Lossless>), Failure> {
        let act = |bench: &mut Self, run: &Run| {
            // What is done at first use, such as page faults, is done.
            bench.step(run, trial, WARM_UP_FRAMES, Some(WARM_UP_PER_SECOND))?;
            let first = bench.step(run, trial, frames, None)?;
            let seconds = first.sent as f64 / first.sent_per_second;
            let per_second = (first.sent - first.lost) as f64 / seconds;
            let overload = Overload { sent_per_second: first.sent_per_second, per_second, lost: first.lost };
            let lossless = search.map(|search| bench.search(run, trial, first, search)).transpose()?;
            Ok((overload, lossless))
        };
        Ok(self.beside(trial, table, act)?.0)
    }

    /// Halves the range between nothing and what the generator sent at its fastest.
    fn search(&mut self, run: &Run, trial: Trial, first: Step, search: Search) -> Result<Lossless, Failure> {
        let mut steps = vec![first];
        if first.lost == 0 {
            return Ok(Lossless { per_second: first.sent_per_second, is_generators: true, steps });
        }
        let (mut holds, mut fails, mut best) = (0.0, first.sent_per_second, 0.0_f64);
        let mut is_generators = true;
        for _ in 0..search.steps {
            let rate = (holds + fails) / 2.0;
            let count = (rate * search.step_seconds).clamp(STEP_FRAMES_MIN, FRAMES as f64) as u32;
            let mut held = false;
            for _ in 0..ATTEMPTS {
                let step = self.step(run, trial, count, Some(rate))?;
                steps.push(step);
                held = step.lost == 0;
                if held {
                    best = best.max(step.sent_per_second);
                }
                if held || step.lost as f64 > LOST_BY_FAR * step.sent as f64 {
                    break;
                }
            }
            if held {
                holds = rate
            } else {
                fails = rate
            }
            // Only the first one failed, which was faster than the generator is while all arrive.
            is_generators &= held;
        }
        Ok(Lossless { per_second: best, is_generators, steps })
    }

    /// One frame at a time; gives the nanoseconds of each, in their order by size.
    pub fn round_trips(&mut self, trial: Trial, count: u32) -> Result<Vec<u64>, Failure> {
        self.prepare(WARM_UP + count, trial);
        // One program at a time is on an interface.
        self.counts = None;
        let times = Interface::find("left").map_err(Failure::from).and_then(Prober::open).and_then(|mut prober| {
            let times = self.beside(trial, None, |bench, _| {
                let _priority = Priority::raise();
                prober.probe(&bench.generator, count)
            });
            drop(prober);
            times
        });
        self.counts = Some(self.kernel.attach("drop", self.interface)?);
        Ok(times?.0)
    }

    /// How many frames that differ come to a contestant, of [`CHECKED`].
    pub fn check(&mut self, trial: Trial, table: Option<&Arc<Table>>) -> Result<u64, Failure> {
        self.counts = None;
        self.kernel.forget_numbers()?;
        let before = self.kernel.different()?;
        let link = self.kernel.attach("drop_and_tell_apart", self.interface)?;
        self.prepare(CHECKED, trial);
        let done = self.beside(trial, table, |bench, run| {
            bench.send(0..CHECKED, trial, Some(CHECKED_PER_SECOND))?;
            run.taken(u64::from(CHECKED)).ok_or_else(|| "it does not say what it took".into())
        });
        sleep(Duration::from_millis(20));
        let back = self.kernel.different()? - before;
        drop(link);
        self.counts = Some(self.kernel.attach("drop", self.interface)?);
        let (_, taken) = done?;
        // The worker enters each report once, and who sends nothing back told them apart itself.
        Ok(if trial.contestant.can_echo() { back } else { taken })
    }

    /// What a frame costs in user space.
    pub fn count(&mut self, trial: Trial, memory: Option<&Path>) -> Result<Count, Failure> {
        let pair = self.pair.clone();
        self.prepare(instructions::FRAMES_COUNTED, trial);
        instructions::count((trial.contestant, trial.tagged), &pair, memory, |frames| {
            self.generator.send(frames, trial.frame_bytes, None).map(drop)
        })
    }
}
