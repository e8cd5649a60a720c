//! Counts the answers to the frames of a load.
//!
//! A bit for each frame says whether it was answered, so an answer counts once. When a frame was to
//! be sent follows from its sequence number and the [`Pace`]. At the highest rate, where no time
//! was intended, the last [`LOAD_TIMES`] times of sending are kept.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{Class, Composer, Pace};
use crate::limits::LOAD_TIMES;
use crate::time::Nanos;
use crate::wire::{Address, Frame, Message, Opcode, ReportAck, Status};

/// Longer latencies are recorded as this: a minute.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Three significant digits: a thousandth of the value.
const DIGITS: u8 = 3;
/// The largest number of a terminal's reports that one acknowledgement covers.
const COVERED_MAX: u64 = 64;
const WORD: u64 = u64::BITS as u64;

/// An empty histogram of latencies in nanoseconds.
pub(super) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS).expect("the bounds are constants in order")
}

/// When a frame was to be sent.
#[derive(Debug)]
enum Intended {
    Unknown,
    Paced(Pace),
    /// The actual time of sending, by the sequence number modulo the length.
    Sent(Box<[u64]>),
}

/// Counts of answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Counts {
    /// Frames of this load that were answered, each counted once.
    pub answered: u64,
    /// Reports among them that the acknowledgement of a later one covers. It would also cover a
    /// report that was lost on the way.
    pub covered: u64,
    /// Acknowledgements among them that refuse: the server does not know the terminal or meeting.
    pub refused: u64,
    /// Answers that overtook an earlier frame's of their class (RFC 4737).
    pub reordered: u64,
    /// Answers to frames that had been answered before.
    pub repeated: u64,
    /// Answers to frames that this load did not send.
    pub strange: u64,
    /// Frames with a wrong tag, or from a domain that is not part of the load.
    pub unauthentic: u64,
    /// Requests of the dispatch server to autonomous servers, which a load does not simulate.
    pub other: u64,
}

/// The results of the frames of one load.
#[derive(Debug)]
pub struct Tally {
    first: u64,
    /// Number of frames sent: later ones cannot be answered.
    sent: u64,
    answered: Vec<u64>,
    /// The next sequence number that is in order, by class.
    next: [u64; Class::ANSWERED.len()],
    counts: Counts,
    intended: Intended,
    total: Vec<Histogram<u64>>,
    /// Values since [`Self::take_interval`].
    interval: Vec<Histogram<u64>>,
}

impl Tally {
    /// For frames from this sequence number on.
    pub fn new(first: u64) -> Self {
        let empty = || Class::ANSWERED.iter().map(|_| latencies()).collect();
        Self {
            first,
            sent: 0,
            answered: Vec::new(),
            next: [0; Class::ANSWERED.len()],
            counts: Counts::default(),
            intended: Intended::Unknown,
            total: empty(),
            interval: empty(),
        }
    }

    /// Frames were to be sent at this pace.
    pub(super) fn set_pace(&mut self, pace: Pace) {
        self.intended = Intended::Paced(pace);
    }

    /// Frames are sent when there is room: [`Self::note_sent`] says when.
    pub(super) fn set_unpaced(&mut self) {
        self.intended = Intended::Sent(vec![0; LOAD_TIMES].into());
    }

    /// The next frame was sent.
    pub(super) fn note_sent(&mut self, now: Nanos) {
        if let Intended::Sent(times) = &mut self.intended {
            times[self.sent as usize % LOAD_TIMES] = now.0;
        }
        self.sent += 1;
    }

    /// Sets the number of frames sent so far.
    pub(super) const fn set_sent(&mut self, sent: u64) {
        self.sent = sent;
    }

    /// The number of frames sent.
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// The counts of answers so far.
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Latencies of a class of [`Class::ANSWERED`].
    pub fn latency(&self, class: Class) -> Option<&Histogram<u64>> {
        place(class).map(|place| &self.total[place])
    }

    /// Passes on the values of each class since the last call, if there are any, and forgets them.
    pub fn take_interval(&mut self, mut take: impl FnMut(Class, &Histogram<u64>)) {
        for (class, histogram) in Class::ANSWERED.into_iter().zip(&mut self.interval) {
            if !histogram.is_empty() {
                take(class, histogram);
                histogram.reset();
            }
        }
    }

    /// Processes a frame that was received at this time.
    pub fn handle(&mut self, bytes: &[u8], now: Nanos, composer: &Composer) {
        let Ok(frame) = Frame::parse(bytes, composer.ethertype) else { return };
        let party = frame.envelope().to.domain().and_then(|domain| composer.population.find(domain));
        let Some((_, party)) = party.filter(|(_, party)| frame.authentic(&party.inbound)) else {
            self.counts.unauthentic += 1;
            return;
        };
        debug_assert!(composer.population.find(party.domain).is_some());
        if let (Ok(Opcode::ReportAckBatch), Ok(page)) = (frame.opcode(), frame.page()) {
            let Ok(records) = page.records::<ReportAck>() else { return };
            for ReportAck { terminal, version, status } in records.flatten() {
                self.acknowledged((terminal, version, status), now, composer);
            }
            return;
        }
        match frame.message() {
            Ok(Message::ProbeEcho { sent_ns, sequence }) => {
                self.answer(sequence, Class::Probe, now, Some(Nanos(sent_ns)), composer);
            }
            Ok(Message::HeartbeatAck { sent_ns, .. }) => {
                // The transaction has the low half of a sequence number that is not above the last
                // one sent.
                let (last, low) = (self.first + self.sent, u64::from(frame.header().transaction.0));
                let sequence = last & !u64::from(u32::MAX) | low;
                let sequence = if sequence > last { sequence.wrapping_sub(1 << 32) } else { sequence };
                self.answer(sequence, Class::Heartbeat, now, Some(Nanos(sent_ns)), composer);
            }
            Ok(Message::ReportAck { terminal, version } | Message::ReportInfoAck { terminal, version }) => {
                self.acknowledged((terminal, version, Status::Ok), now, composer);
            }
            _ => self.counts.other += 1,
        }
    }

    fn acknowledged(&mut self, (terminal, version, status): (Address, u32, Status), now: Nanos, composer: &Composer) {
        let Some(sequence) = composer.sequence_of(terminal, version) else {
            self.counts.strange += 1;
            return;
        };
        let class = composer.kind.class(sequence);
        if !matches!(class, Class::Report | Class::Info) || !self.answer(sequence, class, now, None, composer) {
            return;
        }
        self.counts.refused += u64::from(!status.is_success());
        // The acknowledgement of a terminal's last version covers its earlier ones.
        let turn = u64::from(composer.population.terminals());
        for back in 1..=COVERED_MAX {
            let Some(earlier) = sequence.checked_sub(back * turn).filter(|&earlier| earlier >= self.first) else {
                break;
            };
            if composer.kind.class(earlier) == class {
                if !self.mark(earlier) {
                    break;
                }
                self.counts.covered += 1;
            }
        }
    }

    /// Records an answer to a frame; returns whether it is the first. The time in the frame itself
    /// is used if nothing else is known of it.
    fn answer(&mut self, sequence: u64, class: Class, now: Nanos, said: Option<Nanos>, composer: &Composer) -> bool {
        let nth = sequence.wrapping_sub(self.first);
        let Some(place) = place(class).filter(|_| nth < self.sent && composer.kind.class(sequence) == class) else {
            self.counts.strange += 1;
            return false;
        };
        if !self.mark(sequence) {
            self.counts.repeated += 1;
            return false;
        }
        self.counts.reordered += u64::from(sequence < self.next[place]);
        self.next[place] = self.next[place].max(sequence + 1);
        let sent = match &self.intended {
            Intended::Paced(pace) => Some(pace.due(nth)),
            Intended::Sent(times) if self.sent - nth <= LOAD_TIMES as u64 => {
                Some(Nanos(times[nth as usize % LOAD_TIMES]))
            }
            Intended::Sent(_) | Intended::Unknown => said.filter(|said| said.0 != 0),
        };
        if let Some(sent) = sent {
            let ns = (now.since(sent).as_nanos() as u64).clamp(1, LATENCY_NS_MAX);
            self.total[place].saturating_record(ns);
            self.interval[place].saturating_record(ns);
        }
        true
    }

    /// Notes that a frame was answered; false if it was before.
    fn mark(&mut self, sequence: u64) -> bool {
        let nth = sequence - self.first;
        let (word, bit) = ((nth / WORD) as usize, 1 << (nth % WORD));
        if word >= self.answered.len() {
            self.answered.resize((word + 1).next_multiple_of(1024), 0);
        }
        let new = self.answered[word] & bit == 0;
        self.answered[word] |= bit;
        self.counts.answered += u64::from(new);
        new
    }
}

/// The index of a class that is answered.
fn place(class: Class) -> Option<usize> {
    Class::ANSWERED.iter().position(|&answered| answered == class)
}
