//! A load of live frames: one thread is in the kernel for as long as the load lasts, another takes
//! the answers.
//!
//! Frames are prepared and sent in turn. If no tag depends on the content
//! (`insecure_no_authentication`), the program gives each turn's reports their version, and each
//! probe its sequence number, so that all frames differ. If there is a secret, tags are made
//! beforehand, for as many frames as there is room. A longer load repeats them, and answers then no
//! longer tell which frame they answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::live_frames::{LiveFrames, LiveHow, takes_redirected};
use super::rings::{LATE_MAX, since};
use super::summary::Sent;
use super::{By, Composer, Kind, LoadError, Moment, Pace, Plan, Population, Summary, Tally, Watch, pin, rings};
use crate::limits::{LOAD_FRAME_BYTES_MAX, LOAD_FRAMES_MAX};
use crate::sdk::Endpoint;
use crate::sys::interface::Interface;
use crate::sys::{clock, interrupt};
use crate::time::Nanos;

/// The interval at which the program's progress is read.
const LOOK: Duration = Duration::from_millis(2);
/// After a frame's header and its first field comes a report's version. In data payloads, a page's
/// header and a meeting come before.
const VERSION_AT_PROTOCOL: usize = 24 + 8;
const VERSION_AT_DATA: usize = 24 + 8 + 8 + 8;
const PROBE_AT: usize = 24;

/// An interface for live frames. `composer` may be changed between loads.
#[derive(Debug)]
pub struct Live {
    interface: Interface,
    endpoint: Option<Endpoint>,
    core: Option<u16>,
    /// Writes the frames.
    pub composer: Composer,
}

impl Live {
    /// Opens the interface; with `answers`, also for its V2V frames. At the other end, frames
    /// arrive on the receive queue with the number of the core.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn open(interface: &str, mut composer: Composer, core: Option<u16>, answers: bool) -> Result<Self, LoadError> {
        let found = Interface::find(interface)?;
        composer.src_mac = found.mac()?;
        let endpoint = answers.then(|| Endpoint::open(interface, &rings::settings(composer.ethertype))).transpose()?;
        if !takes_redirected(&found) {
            return Err(super::live_frames::LiveError::NoTransmit { interface: interface.to_owned() }.into());
        }
        interrupt::allow().map_err(|error| LoadError::System { what: "setting a signal up", error })?;
        Ok(Self { interface: found, endpoint, core, composer })
    }

    /// Sends a load, and waits for its answers.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn run(&mut self, plan: &Plan, watch: Watch<'_>) -> Result<Summary, LoadError> {
        let Prepared { frames, how, length, entries, renewed } = self.prepare(plan)?;
        let before = self.endpoint.as_ref().map(Endpoint::statistics).transpose()?;
        let mut tally = Tally::new(plan.first);
        let running = Running::start(frames, length, how, self.core)?;
        let attended = self.attend(&running, plan, &mut tally, watch);
        let frames = running.end()?;
        attended?;
        let progress = frames.progress()?;
        tally.set_sent(progress.sent);
        if let Some(endpoint) = &mut self.endpoint {
            rings::listen(endpoint, &mut tally, &self.composer, plan, watch)?;
        } else {
            watch(Moment { now: clock::now(), sent: progress.sent, over: true }, &mut tally);
        }
        let after = self.endpoint.as_ref().map(Endpoint::statistics).transpose()?;
        let sent = Sent {
            by: By::Xdp,
            nanoseconds: progress.marked_ns.saturating_sub(progress.first_ns),
            timed: progress.marked,
            frame_bytes_max: length,
            late_ns_max: None,
            received: after.zip(before).map(|(after, before)| since(after, before)),
            repeated: !renewed && progress.sent > entries,
        };
        Ok(Summary::new(&self.composer, plan, &tally, &sent))
    }

    /// Takes answers while the thread sends.
    fn attend(&mut self, running: &Running, plan: &Plan, tally: &mut Tally, watch: Watch<'_>) -> Result<(), LoadError> {
        // Frames that are due before the end are sent, even late; a load with a rate that is too
        // high ends nevertheless.
        let limit = plan.time.map(|time| if plan.rate.is_some() { time + LATE_MAX } else { time });
        while !running.thread.is_finished() {
            let progress = running.frames.progress()?;
            let now = clock::now();
            if progress.first_ns != 0 {
                let begin = Nanos(progress.first_ns);
                if let Some(rate) = plan.rate {
                    tally.set_pace(Pace::new(begin, rate));
                }
                if progress.sent >= plan.count || limit.is_some_and(|limit| now.since(begin) >= limit) {
                    running.call_back();
                }
            }
            tally.set_sent(progress.sent);
            self.take(tally, plan.count - progress.sent)?;
            watch(Moment { now, sent: progress.sent, over: false }, tally);
        }
        Ok(())
    }

    /// Takes the answers that are there, or waits a moment.
    fn take(&mut self, tally: &mut Tally, left: u64) -> Result<(), LoadError> {
        let Some(endpoint) = &mut self.endpoint else {
            thread::sleep(LOOK);
            return Ok(());
        };
        let composer = &self.composer;
        // Answers to frames that the program sent after its progress was read are not strange.
        let sent = tally.sent();
        tally.set_sent(sent + left);
        let taken = endpoint.receive(LOOK, |bytes, at| tally.handle(bytes, at.unwrap_or_else(clock::now), composer));
        tally.set_sent(sent);
        taken?;
        Ok(())
    }

    fn prepare(&self, plan: &Plan) -> Result<Prepared, LoadError> {
        let composer = &self.composer;
        let terminals = u64::from(composer.population.terminals());
        let untagged = composer.population.parties().iter().all(super::Party::has_no_secret);
        let prefix = composer.prefix_common().filter(|_| untagged);
        let version_at = prefix.and_then(|prefix| match composer.kind {
            Kind::Reports => Some(prefix + VERSION_AT_PROTOCOL),
            Kind::Infos => Some(prefix + VERSION_AT_DATA),
            _ => None,
        });
        let probe_at = prefix.filter(|_| composer.kind == Kind::Probes).map(|prefix| prefix + PROBE_AT);
        let renewed = version_at.is_some() || probe_at.is_some();
        let whole = if renewed { terminals } else { wanted(plan, &composer.population) };
        let entries = whole.min(plan.count.max(1)).min(u64::from(LOAD_FRAMES_MAX));
        let tag_at = composer.tag_at().map(|at| at as u32);
        let mut longest = 0;
        let frame = |index: u32, buffer: &mut [u8]| {
            let length = composer.frame(plan.first + u64::from(index), Nanos(0), buffer);
            longest = longest.max(length);
            length
        };
        let frames = LiveFrames::load(entries as u32, tag_at, frame)?;
        let how = LiveHow {
            interface: self.interface.index,
            count: plan.count,
            rate: plan.rate,
            sequence: plan.first,
            version: version_at.map(|at| (at as u32, composer.version(plan.first))),
            probe_at: probe_at.map(|at| at as u32),
            tag_at,
        };
        Ok(Prepared { frames: Arc::new(frames), how, length: longest.min(LOAD_FRAME_BYTES_MAX), entries, renewed })
    }
}

struct Prepared {
    frames: Arc<LiveFrames>,
    how: LiveHow,
    length: usize,
    entries: u64,
    /// The program makes all frames differ.
    renewed: bool,
}

/// The number of frames to prepare if the program does not make them differ: all of the load, or as
/// many complete turns as there is room for.
fn wanted(plan: &Plan, population: &Population) -> u64 {
    let (room, turn) = (u64::from(LOAD_FRAMES_MAX), u64::from(population.terminals()));
    if plan.count <= room { plan.count } else { (room / turn).max(1) * turn }
}

/// The thread that is in the kernel.
struct Running {
    frames: Arc<LiveFrames>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), LoadError>>,
}

impl Running {
    fn start(frames: Arc<LiveFrames>, length: usize, how: LiveHow, core: Option<u16>) -> Result<Self, LoadError> {
        frames.prepare(&how)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (theirs, told) = (frames.clone(), stop.clone());
        let thread = thread::Builder::new().name("live".into()).spawn(move || {
            pin(core)?;
            // Acquire: pairs with the release in `call_back`; only the flag itself is communicated.
            while !told.load(Ordering::Acquire) {
                let left = how.count - theirs.progress()?.sent;
                if left == 0 {
                    break;
                }
                // At a given rate the program drops frames that are not due, and so runs far more
                // often than it sends.
                let repeat = if how.rate.is_some() { i32::MAX as u32 } else { left.min(i32::MAX as u64) as u32 };
                theirs.run(length, repeat)?;
            }
            Ok(())
        });
        let thread = thread.map_err(|error| LoadError::System { what: "starting a thread", error })?;
        Ok(Self { frames, stop, thread })
    }

    /// Makes the thread end. Repeat until it has ended: the signal may come between two calls.
    fn call_back(&self) {
        // Release: pairs with the acquire of the thread's loop.
        self.stop.store(true, Ordering::Release);
        interrupt::interrupt(&self.thread);
    }

    fn end(self) -> Result<Arc<LiveFrames>, LoadError> {
        while !self.thread.is_finished() {
            self.call_back();
            thread::sleep(LOOK);
        }
        let Self { frames, thread, .. } = self;
        match thread.join() {
            Ok(ended) => ended.map(|()| frames),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}
