//! What is done with frames, and what the two sides of that share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use baton::sys::clock;
use baton::table::Table;
use baton::time::Nanos;
use clap::ValueEnum;
use nix::sys::signal::{Signal, raise};
use serde::Serialize;

/// Nobody takes as long to set itself up, or to say what it took.
const PATIENCE: Duration = Duration::from_secs(10);
/// A contestant that took nothing for so long has taken all that it ever will.
const SETTLED: Duration = Duration::from_millis(10);
/// Nanoseconds from a frame to the next where instructions are counted: four million a second.
const COUNTED_INTERVAL_NS: u64 = 250;

/// What is done with a frame.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Whatever the contestant can, with few frames: whether it gets different ones.
    Check,
    /// Received, counted, given back.
    Drop,
    /// Read, entered in the table, acknowledged by the page.
    Report,
    /// Sent back with its MAC addresses swapped.
    Echo,
    /// As `Echo`, one frame at a time: how long until it is back.
    RoundTrip,
}

impl Mode {
    /// Whether frames are sent back by who can do that.
    pub fn echoes(self) -> bool {
        matches!(self, Self::Check | Self::Echo | Self::RoundTrip)
    }
}

/// What the two sides of a run share.
pub struct Run {
    /// The contestant's.
    pub namespace: String,
    pub mode: Mode,
    pub tagged: bool,
    /// The table of the worker, where there is one.
    pub table: Option<Arc<Table>>,
    ready: AtomicBool,
    stop: AtomicBool,
    /// The sender wants to know what was taken, and has not been told.
    asked: AtomicBool,
    taken: AtomicU64,
    /// Where instructions are counted: the process stops itself whenever so many frames more were
    /// taken.
    group: Option<u64>,
}

impl Run {
    pub fn new(namespace: String, mode: Mode, tagged: bool, table: Option<Arc<Table>>) -> Self {
        Self {
            namespace,
            mode,
            tagged,
            table,
            ready: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            taken: AtomicU64::new(0),
            group: None,
        }
    }

    /// As [`Self::new`], in a process whose instructions are counted.
    pub fn counted(tagged: bool, table: Option<Arc<Table>>, group: u64) -> Self {
        Self { group: Some(group), ..Self::new(String::new(), Mode::Drop, tagged, table) }
    }

    /// Said by the contestant: its programs and sockets are in place.
    pub fn begin(&self) {
        // Release pairs with the Acquire of `is_ready`.
        self.ready.store(true, Ordering::Release);
        if self.group.is_some() {
            stop_here();
        }
    }

    /// Asked by the contestant again and again: whether to go on. `taken` is called when the sender
    /// wants to know how many frames there were.
    #[inline]
    pub fn goes_on(&self, mut taken: impl FnMut() -> u64) -> bool {
        if let Some(group) = self.group {
            // Relaxed: this thread alone uses it here.
            if taken() >= self.taken.load(Ordering::Relaxed) + group {
                self.taken.fetch_add(group, Ordering::Relaxed);
                stop_here();
            }
        } else if self.asked.load(Ordering::Relaxed) {
            self.taken.store(taken(), Ordering::Relaxed);
            // Release pairs with the Acquire of `taken`.
            self.asked.store(false, Ordering::Release);
        }
        // Relaxed: it orders nothing but itself.
        !self.stop.load(Ordering::Relaxed)
    }

    /// The time for somebody who took so many frames. Where instructions are counted, a frame takes
    /// thousands of times as long as otherwise, and what is done after a time would be done each
    /// time: there the time is made up.
    #[inline]
    pub fn now(&self, taken: impl FnOnce() -> u64) -> Nanos {
        match self.group {
            Some(_) => Nanos(1_000_000_000 + taken() * COUNTED_INTERVAL_NS),
            None => clock::now(),
        }
    }

    /// Waits until the contestant is in place, unless `is_gone` says that it gave up.
    pub fn is_ready(&self, is_gone: impl Fn() -> bool) -> bool {
        let begun = Instant::now();
        loop {
            if self.ready.load(Ordering::Acquire) {
                return true;
            }
            if is_gone() || begun.elapsed() > PATIENCE {
                return false;
            }
            sleep(Duration::from_millis(1));
        }
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Asked by the sender: how many frames the contestant has taken, when it has these or takes
    /// none any more; none where it does not say.
    pub fn taken(&self, expected: u64) -> Option<u64> {
        let mut last = self.ask()?;
        while last < expected {
            sleep(SETTLED);
            let now = self.ask()?;
            if now == last {
                break;
            }
            last = now;
        }
        Some(last)
    }

    fn ask(&self) -> Option<u64> {
        self.asked.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        while self.asked.load(Ordering::Acquire) {
            if begun.elapsed() > PATIENCE {
                return None;
            }
            sleep(Duration::from_micros(100));
        }
        Some(self.taken.load(Ordering::Relaxed))
    }
}

/// Stops this process until who counts has it go on.
#[cold]
#[inline(never)]
fn stop_here() {
    // It fails for no signal that there is.
    let _ = raise(Signal::SIGSTOP);
}
