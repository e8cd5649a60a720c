//! A load over AF_XDP rings: one thread writes the frames that are due, and takes the answers in
//! between.

use std::time::Duration;

use super::summary::Sent;
use super::{By, Composer, LoadError, Moment, Pace, Plan, Summary, Tally, Watch, pin};
use crate::limits::{BURST, LOAD_FRAME_BYTES_MAX};
use crate::sdk::{Endpoint, EndpointSettings};
use crate::sys::af_xdp::Statistics;
use crate::sys::clock;
use crate::time::Nanos;

/// A sleeping thread is woken this much too late, and more: for frames that are due sooner, the
/// thread waits awake.
const WAKE: Duration = Duration::from_micros(80);
/// The longest sleep, so that the end of the load and its watcher are served in time.
const SLEEP_MAX: Duration = Duration::from_millis(5);
/// How long after its time a load may send the frames that were due in it.
pub(super) const LATE_MAX: Duration = Duration::from_millis(100);
/// The interval between two reports to the watcher.
const WATCH: Duration = Duration::from_millis(50);

/// The rings of an interface that receives V2V answers. `composer` may be changed between loads.
#[derive(Debug)]
pub struct Rings {
    endpoint: Endpoint,
    core: Option<u16>,
    /// Writes the frames.
    pub composer: Composer,
}

/// The settings of the interface: more room than a device has, for answers that arrive while frames
/// are written.
pub(super) fn settings(ethertype: u16) -> EndpointSettings {
    EndpointSettings { ethertype, receive: 16_384, transmit: 2048, huge_pages: false }
}

impl Rings {
    /// Opens the interface; frames have its address as their source.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn open(interface: &str, mut composer: Composer, core: Option<u16>) -> Result<Self, LoadError> {
        let endpoint = Endpoint::open(interface, &settings(composer.ethertype))?;
        composer.src_mac = endpoint.mac();
        Ok(Self { endpoint, core, composer })
    }

    /// Sends a load, and waits for its answers.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn run(&mut self, plan: &Plan, watch: Watch<'_>) -> Result<Summary, LoadError> {
        pin(self.core)?;
        let Self { endpoint, composer, .. } = self;
        let before = endpoint.statistics()?;
        let mut tally = Tally::new(plan.first);
        let begin = clock::now();
        let pace = plan.rate.map(|rate| Pace::new(begin, rate));
        match pace {
            Some(pace) => tally.set_pace(pace),
            None => tally.set_unpaced(),
        }
        let limit = plan.time.map(|time| if pace.is_some() { time + LATE_MAX } else { time });
        let (mut late, mut longest, mut last) = (0, 0, begin);
        let mut watched = begin;
        loop {
            let now = clock::now();
            // Frames that are due before the end are sent, even late; a load with a rate that is
            // too high ends nevertheless.
            let over = limit.is_some_and(|limit| now.since(begin) >= limit);
            let count = if over { tally.sent() } else { plan.count };
            let due = pace.map_or(count, |pace| pace.by(now)).min(count);
            let room = due - tally.sent();
            let mut wrote = 0;
            while wrote < room.min(BURST as u64) {
                let nth = tally.sent();
                let sent = pace.map_or(now, |pace| pace.due(nth));
                let write = |buffer: &mut [u8]| {
                    let length = composer.frame(plan.first + nth, sent, &mut buffer[..LOAD_FRAME_BYTES_MAX]);
                    longest = longest.max(length);
                    length
                };
                if !endpoint.send(write) {
                    break;
                }
                late = late.max(now.since(sent).as_nanos() as u64);
                tally.note_sent(now);
                wrote += 1;
            }
            if wrote > 0 {
                last = now;
            }
            let flushed = endpoint.flush()?;
            let done = tally.sent() >= count;
            let sleep = match pace {
                _ if !flushed || done => Duration::ZERO,
                Some(pace) => pace.due(tally.sent()).since(clock::now()).saturating_sub(WAKE).min(SLEEP_MAX),
                None => Duration::ZERO,
            };
            endpoint.receive(sleep, |bytes, at| tally.handle(bytes, at.unwrap_or_else(clock::now), composer))?;
            if now.since(watched) >= WATCH {
                watched = now;
                watch(Moment { now, sent: tally.sent(), over: false }, &mut tally);
            }
            if done && flushed {
                break;
            }
        }
        listen(endpoint, &mut tally, composer, plan, watch)?;
        let received = endpoint.statistics()?;
        let received = since(received, before);
        // Between the first and the last frame there is one interval less than frames.
        let timed = tally.sent().saturating_sub(1);
        let sent = Sent {
            by: By::Rings,
            nanoseconds: last.since(begin).as_nanos() as u64,
            timed,
            frame_bytes_max: longest,
            late_ns_max: pace.map(|_| late),
            received: Some(received),
            repeated: false,
        };
        Ok(Summary::new(composer, plan, &tally, &sent))
    }
}

/// Takes answers until none is missing, or the wait is over.
pub(super) fn listen(
    endpoint: &mut Endpoint,
    tally: &mut Tally,
    composer: &Composer,
    plan: &Plan,
    watch: Watch<'_>,
) -> Result<(), LoadError> {
    let expected = composer.kind.answers(plan.first, tally.sent());
    let begin = clock::now();
    let mut now: Nanos = begin;
    // If no answers are expected, wait nevertheless: an answer would be a strange one.
    while now.since(begin) < plan.wait && (expected == 0 || tally.counts().answered < expected) {
        endpoint.flush()?;
        endpoint.receive(SLEEP_MAX, |bytes, at| tally.handle(bytes, at.unwrap_or_else(clock::now), composer))?;
        now = clock::now();
        watch(Moment { now, sent: tally.sent(), over: false }, tally);
    }
    watch(Moment { now, sent: tally.sent(), over: true }, tally);
    Ok(())
}

/// The difference between two readings of the kernel's counters.
pub(super) fn since(after: Statistics, before: Statistics) -> Statistics {
    Statistics {
        receive_dropped: after.receive_dropped - before.receive_dropped,
        receive_ring_full: after.receive_ring_full - before.receive_ring_full,
        fill_ring_empty: after.fill_ring_empty - before.fill_ring_empty,
        receive_invalid: after.receive_invalid - before.receive_invalid,
        transmit_invalid: after.transmit_invalid - before.transmit_invalid,
        transmit_ring_empty: after.transmit_ring_empty - before.transmit_ring_empty,
    }
}
