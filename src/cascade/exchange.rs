//! The one table of what is asked of an autonomous server and not answered yet.
//!
//! ```text
//! ask ──► outstanding ──┬─ answered, close ──────────────────► gone
//!             ▲         ├─ due ──────► the same number again ─┐
//!             │         └─ BUSY, due ► a new number ──────────┤
//!             └───────────────────────────────────────────────┘
//! ```
//!
//! Recovery, commands and heartbeats draw their transactions from one ascending sequence (wire.md,
//! rule 9): an autonomous server that remembers its last answers takes a lower number for a repeat
//! from long ago, and refuses it. So whose an answer is, this table alone can say, and no bit of
//! the number. What is asked, and what an answer does, are its users' to know: they keep that by
//! transaction and write the frame anew for each repeat.
//!
//! A request is repeated for ever, for a link may be down for long; it is given up by its asker.
//! The first pause is that of RFC 6298, within the configured bounds: SRTT + 4 · RTTVAR, and twice
//! the pause after each repeat, for later requests too until one is answered that was sent once.
//! Only such an answer tells a time (Karn), for another's could answer any of its copies. One thing
//! differs from TCP: before the first sample the pause is the shortest one and not a second,
//! because the frames of a takeover must not wait that long for a lost one.
//!
//! Recovery goes before commands: their caller polls recovery first, and no window of
//! commands takes a place of recovery's.

use std::time::Duration;

use super::round_trip::RoundTrip;
use crate::limits::{COMMANDS_WINDOW, STATE_QUERIES_MAX, TAKEOVER_WINDOW_FIRST, TRANSACTIONS_REMEMBERED};
use crate::time::Nanos;
use crate::wire::{Domain, Epoch, Header, MeetingId, Opcode, Transaction};

/// What a request is for. Each has a window of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Sets the link up; one at a time.
    Connect,
    /// A page of takeovers.
    Takeover,
    /// Pages of the listing. Each repeat is a new request, so that pages of two answers never mix.
    Listing,
    /// The terminals of one meeting.
    State,
    /// The end of a meeting that recovery decides.
    End,
    /// REPLAY_DONE.
    Audit,
    /// A command of an operation.
    Command,
}

const PURPOSES: usize = Purpose::Command as usize + 1;

/// Requests that may be outstanding until somebody says otherwise, by purpose.
const WINDOWS: [u16; PURPOSES] =
    [1, TAKEOVER_WINDOW_FIRST, 1, STATE_QUERIES_MAX, STATE_QUERIES_MAX, 1, COMMANDS_WINDOW];

/// A request that is to be sent again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Due {
    /// The transaction that it bears from now on.
    pub transaction: Transaction,
    /// The one that it bore until now: the same, unless it is asked anew.
    pub before: Transaction,
    /// How often it was sent, this time included.
    pub attempts: u32,
    /// What it asks.
    pub opcode: Opcode,
    /// What it asks about.
    pub meeting: MeetingId,
}

impl Due {
    /// Whether it is another request to the autonomous server: what came of its answer so far does
    /// not count.
    pub fn is_anew(&self) -> bool {
        self.transaction != self.before
    }
}

/// Owner of the exchange with each domain.
pub trait Exchanges {
    /// That of one domain; none for a domain that the configuration does not name.
    fn exchange(&mut self, domain: Domain) -> Option<&mut Exchange>;
}

/// One request on its way.
#[derive(Clone, Debug)]
struct Request {
    transaction: Transaction,
    purpose: Purpose,
    opcode: Opcode,
    meeting: MeetingId,
    /// When it was sent first.
    sent: Nanos,
    /// When it is sent again, and how long it will have waited then.
    due: Nanos,
    pause: Duration,
    attempts: u32,
    /// A part of its answer came.
    is_heard: bool,
    /// The autonomous server may remember another answer than the one that is wanted, BUSY for one:
    /// it goes out under a new transaction.
    is_anew: bool,
}

/// The requests outstanding at one autonomous server.
///
/// The order of calls: [`Self::asked`] says what an authentic answer answers, and one of
/// [`Self::answered`], [`Self::heard`], [`Self::postpone`] and [`Self::close`] what becomes of the
/// request then. To transmit, first [`Self::poll_due`] until it gives none, then [`Self::ask`]
/// while [`Self::has_room`]; poll again no later than [`Self::due`].
#[derive(Clone, Debug)]
pub struct Exchange {
    epoch: Epoch,
    pub(super) last: Transaction,
    /// Ascending by transaction, in serial arithmetic from the first.
    requests: Vec<Request>,
    windows: [u16; PURPOSES],
    outstanding: [u16; PURPOSES],
    /// Nothing of a purpose is due before this.
    not_before: [Nanos; PURPOSES],
    round_trip: RoundTrip,
    /// The longest pause since the last sample.
    backed_off: Duration,
    rto_min: Duration,
    rto_max: Duration,
}

impl Exchange {
    /// Nothing is asked yet. Pauses lie between `rto_min` and `rto_max`.
    pub fn new(epoch: Epoch, rto_min: Duration, rto_max: Duration) -> Self {
        Self {
            epoch,
            last: Transaction(0),
            // What leaves before the first answer needs no memory then.
            requests: Vec::with_capacity(usize::from(TAKEOVER_WINDOW_FIRST) + PURPOSES),
            windows: WINDOWS,
            outstanding: [0; PURPOSES],
            not_before: [Nanos(u64::MAX); PURPOSES],
            round_trip: RoundTrip::default(),
            backed_off: Duration::ZERO,
            rto_min,
            rto_max: rto_max.max(rto_min),
        }
    }

    /// Sets the epoch of one that was made ahead and that nothing was asked through.
    pub fn begin(&mut self, epoch: Epoch) {
        debug_assert!(self.requests.is_empty(), "a request has one epoch");
        self.epoch = epoch;
    }

    /// Sets how many requests of a purpose may be outstanding. What is outstanding stays so.
    pub fn set_window(&mut self, purpose: Purpose, window: u16) {
        self.windows[purpose as usize] = window;
    }

    /// Whether another request of this purpose may be asked.
    pub fn has_room(&self, purpose: Purpose) -> bool {
        self.outstanding(purpose) < self.windows[purpose as usize]
    }

    /// Requests of this purpose that are not answered.
    pub fn outstanding(&self, purpose: Purpose) -> u16 {
        self.outstanding[purpose as usize]
    }

    /// The pause before a request that is sent now is repeated.
    pub fn rto(&self) -> Duration {
        self.round_trip.timeout().max(self.backed_off).clamp(self.rto_min, self.rto_max)
    }

    /// The longest pause.
    pub fn rto_max(&self) -> Duration {
        self.rto_max
    }

    /// The next transaction, of a request that is not repeated.
    pub fn draw(&mut self) -> Transaction {
        loop {
            self.last = Transaction(self.last.0.wrapping_add(1));
            // 0 is of frames that nobody answers.
            if self.last != Transaction(0) && self.find(self.last).is_none() {
                return self.last;
            }
        }
    }

    /// Asks something, now; gives its transaction. None where the window is full.
    pub fn ask(&mut self, now: Nanos, purpose: Purpose, opcode: Opcode, meeting: MeetingId) -> Option<Transaction> {
        if !self.has_room(purpose) {
            return None;
        }
        let (transaction, pause) = (self.draw(), self.rto());
        self.insert(Request {
            transaction,
            purpose,
            opcode,
            meeting,
            sent: now,
            due: now + pause,
            pause,
            attempts: 1,
            is_heard: false,
            is_anew: false,
        });
        Some(transaction)
    }

    /// What an authentic answer answers, by transaction, epoch, meeting and opcode. None: nothing
    /// that is outstanding. A refusal may bear the opcode that it refuses.
    pub fn asked(&self, header: &Header, opcode: u8) -> Option<Purpose> {
        let request = &self.requests[self.find(header.transaction)?];
        let answers = request.opcode.answer().map(Opcode::wire) == Some(opcode) || request.opcode.wire() == opcode;
        (answers && header.epoch == self.epoch && header.meeting == request.meeting).then_some(request.purpose)
    }

    /// The whole answer came: the request is gone. Gives how long it took from the first sending.
    pub fn answered(&mut self, now: Nanos, transaction: Transaction) -> Option<Duration> {
        self.heard(now, transaction);
        Some(now.since(self.remove(transaction)?.sent))
    }

    /// A part of the answer came. The rest of it may take as long again.
    pub fn heard(&mut self, now: Nanos, transaction: Transaction) {
        let Some(at) = self.find(transaction) else { return };
        let request = &mut self.requests[at];
        if request.attempts == 1 && !request.is_heard && !request.is_anew {
            self.round_trip.sample(now.since(request.sent));
            self.backed_off = Duration::ZERO;
        }
        request.is_heard = true;
        let due = now + request.pause;
        self.set_due(at, due);
    }

    /// It goes out anew, and not before `until`: it was refused as BUSY, or what came of its answer
    /// cannot be used. False where that was said before: the same refusal again, which anybody may
    /// have recorded, puts nothing off.
    pub fn postpone(&mut self, transaction: Transaction, until: Nanos) -> bool {
        let Some(at) = self.find(transaction) else { return false };
        if std::mem::replace(&mut self.requests[at].is_anew, true) {
            return false;
        }
        self.set_due(at, until);
        true
    }

    /// Gives a request up. False where it is not outstanding.
    pub fn close(&mut self, transaction: Transaction) -> bool {
        self.remove(transaction).is_some()
    }

    /// Gives up every request whose purpose `is_meant`.
    pub fn close_all(&mut self, is_meant: impl Fn(Purpose) -> bool) {
        let Self { requests, outstanding, .. } = self;
        requests.retain(|request| {
            outstanding[request.purpose as usize] -= u16::from(is_meant(request.purpose));
            !is_meant(request.purpose)
        });
    }

    /// Forgets how long answers took: the other side, or the way to it, is another one now.
    pub fn forget_round_trip(&mut self) {
        self.round_trip = RoundTrip::default();
        self.backed_off = Duration::ZERO;
    }

    /// How often a request was sent; 0 where it is not outstanding.
    pub fn attempts(&self, transaction: Transaction) -> u32 {
        self.find(transaction).map_or(0, |at| self.requests[at].attempts)
    }

    /// The oldest request of this purpose that is due. It counts as sent now; the next pause is
    /// twice as long, up to the bound.
    pub fn poll_due(&mut self, now: Nanos, purpose: Purpose) -> Option<Due> {
        if self.not_before[purpose as usize] > now {
            return None;
        }
        let Some(at) = self.requests.iter().position(|request| request.purpose == purpose && request.due <= now) else {
            self.not_before[purpose as usize] = self.due(purpose).unwrap_or(Nanos(u64::MAX));
            return None;
        };
        let rto_max = self.rto_max;
        let request = &mut self.requests[at];
        request.attempts = request.attempts.saturating_add(1);
        request.pause = (request.pause * 2).min(rto_max);
        let (before, pause, is_anew) = (request.transaction, request.pause, request.is_anew);
        let is_far_behind = self.last.0.wrapping_sub(before.0) > TRANSACTIONS_REMEMBERED / 2;
        if !is_anew {
            self.backed_off = self.backed_off.max(pause);
        }
        self.set_due(at, now + pause);
        let at = if is_anew || is_far_behind || purpose == Purpose::Listing { self.renumber(at) } else { at };
        let Request { transaction, attempts, opcode, meeting, .. } = self.requests[at];
        Some(Due { transaction, before, attempts, opcode, meeting })
    }

    /// When the first request of this purpose is to be sent again.
    pub fn due(&self, purpose: Purpose) -> Option<Nanos> {
        if self.outstanding(purpose) == 0 {
            return None;
        }
        self.requests.iter().filter(|request| request.purpose == purpose).map(|request| request.due).min()
    }

    /// Gives a request the next number; gives where it is then. What was sampled of it, or is to
    /// be, was of the old one.
    fn renumber(&mut self, at: usize) -> usize {
        let mut request = self.requests.remove(at);
        request.transaction = self.draw();
        request.is_anew = false;
        self.requests.push(request);
        self.requests.len() - 1
    }

    fn insert(&mut self, request: Request) {
        self.outstanding[request.purpose as usize] += 1;
        let not_before = &mut self.not_before[request.purpose as usize];
        *not_before = request.due.min(*not_before);
        self.requests.push(request);
    }

    fn remove(&mut self, transaction: Transaction) -> Option<Request> {
        let request = self.requests.remove(self.find(transaction)?);
        self.outstanding[request.purpose as usize] -= 1;
        Some(request)
    }

    fn set_due(&mut self, at: usize, due: Nanos) {
        let request = &mut self.requests[at];
        request.due = due;
        let not_before = &mut self.not_before[request.purpose as usize];
        *not_before = due.min(*not_before);
    }

    /// Numbers ascend, and none stays outstanding for long enough to be overtaken by the sequence:
    /// a repeat of one that is far behind bears a new one.
    fn find(&self, transaction: Transaction) -> Option<usize> {
        let first = self.requests.first()?.transaction;
        let behind = |transaction: Transaction| transaction.0.wrapping_sub(first.0);
        self.requests.binary_search_by_key(&behind(transaction), |request| behind(request.transaction)).ok()
    }
}
