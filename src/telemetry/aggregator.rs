//! The thread that merges recorded values once a second, and writes them to the log.
//!
//! What always holds: nothing waits for it. Recorders hand over through bounded queues, and
//! continue recording if it is late. A slow or full disk costs intervals of the log, which is
//! reported, but no frame.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use super::annotations::{EngineNote, FramesNote, Note, RecoveryNote};
use super::counters::{Counter, Counters};
use super::hlog::{HistogramLog, head};
use super::latency::{Collector, HAND_OVER_NS, Totals};
use super::log_state::LogState;
use super::rotation::{LogFolder, Rotation};
use crate::limits::RECENT_INTERVALS_MAX;
use crate::sys::clock;
use crate::sys::threads::{Nice, spawn_nice};

/// It collects this long after the recorders have handed over: a worker that sleeps wakes up ten
/// times a second.
const LATE_NS: u64 = 200_000_000;
/// The counters that together are the shed frames.
const SHED: [Counter; 4] = [Counter::ShedKnown, Counter::ShedReports, Counter::ShedProbes, Counter::ControlOverflow];

/// Where the thread reads, and where it writes.
pub struct Sources {
    /// Receives what the recorders hand over.
    pub collector: Collector,
    /// One for each worker.
    pub counters: Vec<Arc<Counters>>,
    /// The folder of the logs, and their rotation; none: no files.
    pub folder: Option<(PathBuf, Rotation)>,
    /// The engine that writes.
    pub engine: EngineNote,
}

/// The thread. Dropping it writes the last interval and ends the thread.
pub struct Aggregator {
    recoveries: Sender<(SystemTime, RecoveryNote)>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    published: Arc<Published>,
}

/// The results, readable by any thread.
pub struct Published {
    /// Everything recorded since the engine's start.
    pub totals: Arc<Totals>,
    engine: EngineNote,
    /// The engine's start, from which all times count.
    begun: SystemTime,
    /// The last intervals, in the form in which they are written.
    recent: Mutex<VecDeque<Vec<u8>>>,
    state: Mutex<LogState>,
}

impl Published {
    /// For an engine that starts now, and has written nothing.
    pub fn new(totals: Arc<Totals>, engine: EngineNote) -> Self {
        let recent = Mutex::new(VecDeque::with_capacity(RECENT_INTERVALS_MAX));
        Self { totals, engine, begun: SystemTime::now(), recent, state: Mutex::new(LogState::Off) }
    }

    /// The log of the last minutes, in the form of a log file.
    pub fn recent(&self) -> Vec<u8> {
        let text = head(&self.engine, self.begun, self.begun).expect("memory takes what is written");
        self.recent.lock().iter().fold(text, |mut text, interval| {
            text.extend_from_slice(interval);
            text
        })
    }

    /// How the writing goes.
    pub fn state(&self) -> LogState {
        self.state.lock().clone()
    }
}

impl Aggregator {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system's: no more threads.
    pub fn spawn(sources: Sources) -> io::Result<Self> {
        let published = Arc::new(Published::new(sources.collector.totals(), sources.engine));
        let (stop, stopped) = bounded::<()>(0);
        let (recoveries, noted) = bounded(4);
        let writer = Writer {
            collector: sources.collector,
            counters: sources.counters,
            files: None,
            place: sources.folder,
            published: Arc::clone(&published),
            recoveries: noted,
            since: published.begun,
            seen: Seen::default(),
        };
        let thread = spawn_nice("aggregator", Nice::NobodyWaits, move || writer.run(&stopped))?;
        Ok(Self { recoveries, stop: Some(stop), thread: Some(thread), published })
    }

    /// The results, readable by any thread.
    pub fn published(&self) -> Arc<Published> {
        Arc::clone(&self.published)
    }

    /// Records a recovery that started at this time. An engine has only one, so there is room for
    /// it.
    pub fn note_recovery(&self, at: SystemTime, note: RecoveryNote) {
        let _ = self.recoveries.try_send((at, note));
    }
}

impl Drop for Aggregator {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The panic hook has printed a panic of the thread; nothing else can be told.
            let _ = thread.join();
        }
    }
}

/// The counters at the last reading.
#[derive(Clone, Copy, Default)]
struct Seen {
    received: u64,
    shed: u64,
    /// None before the first reading by an engine that does not know its predecessor's value.
    dropped: Option<u64>,
}

struct Writer {
    collector: Collector,
    counters: Vec<Arc<Counters>>,
    files: Option<LogFolder>,
    /// Where the files will be, until they are opened.
    place: Option<(PathBuf, Rotation)>,
    published: Arc<Published>,
    recoveries: Receiver<(SystemTime, RecoveryNote)>,
    since: SystemTime,
    seen: Seen,
}

impl Writer {
    fn run(mut self, stopped: &Receiver<()>) {
        self.open();
        loop {
            // The next whole second, plus the time that a recorder may need to notice it.
            let into = (clock::now().0 + HAND_OVER_NS - LATE_NS) % HAND_OVER_NS;
            let wait = Duration::from_nanos(HAND_OVER_NS - into);
            let ends = stopped.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected);
            self.interval(SystemTime::now());
            if ends {
                return;
            }
        }
    }

    fn open(&mut self) {
        let Some((path, rotation)) = &self.place else { return };
        match LogFolder::open(path, *rotation, self.published.engine.clone(), self.published.begun) {
            Ok((files, last)) => {
                // What the kernel dropped while there was no engine counts from the predecessor's
                // last reading.
                self.seen.dropped = Some(last.unwrap_or(0));
                *self.published.state.lock() = LogState::Writes(path.display().to_string());
                self.files = Some(files);
            }
            Err(error) => self.fails(&error),
        }
    }

    fn fails(&self, error: &io::Error) {
        let Some((path, _)) = &self.place else { return };
        let why = format!("cannot write to {}: {error}", path.display());
        let mut told = self.published.state.lock();
        if !matches!(&*told, LogState::Fails(before) if *before == why) {
            tracing::warn!("histogram log: {why}; these intervals are missing from it");
            *told = LogState::Fails(why);
        }
    }

    /// Writes what was recorded since the last interval.
    fn interval(&mut self, now: SystemTime) {
        let begun = self.published.begun;
        let (start, length) = (
            self.since.duration_since(begun).unwrap_or_default(),
            // If the clock was set back, the interval has length 0; if it was set forward, a large
            // one.
            now.duration_since(self.since).unwrap_or_default(),
        );
        let frames = self.frames(start, length);
        let recoveries: Vec<_> = self.recoveries.try_iter().collect();
        let mut log = HistogramLog::go_on(Vec::new());
        let mut wrote = Ok(());
        self.collector.collect(|stage, histogram| {
            let line = log.write(Some(stage.name()), start, length, histogram);
            wrote = std::mem::replace(&mut wrote, Ok(())).and(line);
        });
        let notes = recoveries.into_iter().map(|(at, note)| {
            let at_s = match at.duration_since(begun) {
                Ok(after) => after.as_secs_f64(),
                Err(before) => -before.duration().as_secs_f64(),
            };
            Note::Recovery(RecoveryNote { at_s, ..note })
        });
        for note in notes.chain([Note::Frames(frames)]) {
            wrote = wrote.and_then(|()| log.note(&note));
        }
        let lines = wrote.and_then(|()| log.finish()).expect("memory takes what is written");
        if self.files.is_none() {
            self.open();
        }
        let path = self.place.as_ref().map(|(path, _)| path.display().to_string());
        if let (Some(files), Some(path)) = (&mut self.files, path) {
            match files.append(self.since, &lines) {
                Ok(()) => *self.published.state.lock() = LogState::Writes(path),
                Err(error) => self.fails(&error),
            }
        }
        let mut recent = self.published.recent.lock();
        if recent.len() == RECENT_INTERVALS_MAX {
            recent.pop_front();
        }
        recent.push_back(lines);
        self.since = now;
    }

    fn frames(&mut self, start: Duration, length: Duration) -> FramesNote {
        let sum = |counter| self.counters.iter().map(|one| one.read(counter)).sum::<u64>();
        let (received, shed) = (sum(Counter::Received), SHED.map(sum).iter().sum::<u64>());
        let rings = self.counters.iter().filter_map(|one| one.ring());
        let ever: u64 = rings.map(|ring| ring.kernel_receive_dropped + ring.kernel_receive_ring_full).sum();
        // For newly bound sockets, everything is new.
        let before = self.seen.dropped.unwrap_or(ever);
        let dropped = if ever < before { ever } else { ever - before };
        let seen = std::mem::replace(&mut self.seen, Seen { received, shed, dropped: Some(ever) });
        FramesNote {
            start_s: start.as_secs_f64(),
            length_s: length.as_secs_f64(),
            received: received - seen.received,
            shed: shed - seen.shed,
            dropped,
            dropped_ever: ever,
        }
    }
}
