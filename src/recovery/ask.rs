//! A request on its way: its transaction, when it is repeated, and what its answer teaches about
//! the link.

use std::time::Duration;

use super::Settings;
use crate::time::Nanos;
use crate::wire::{Transaction, Transactions};

/// The time from a request to its answer, smoothed as TCP does (RFC 6298): a link through several
/// domains must not be asked twice for every answer, and one of 100 µs need not wait long for a
/// lost one.
#[derive(Clone, Debug)]
pub(super) struct RoundTrip {
    smoothed: Option<(Duration, Duration)>,
    min: Duration,
    max: Duration,
}

impl RoundTrip {
    pub fn new(settings: &Settings) -> Self {
        Self { smoothed: None, min: settings.rto_min, max: settings.rto_max }
    }

    /// The first pause of a request.
    fn pause(&self) -> Duration {
        let (mean, deviation) = self.smoothed.unwrap_or_default();
        (mean + 4 * deviation).clamp(self.min, self.max)
    }

    fn sample(&mut self, time: Duration) {
        self.smoothed = Some(match self.smoothed {
            None => (time, time / 2),
            Some((mean, deviation)) => ((mean * 7 + time) / 8, (deviation * 3 + mean.abs_diff(time)) / 4),
        });
    }
}

/// One request that was sent and not answered yet.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub transaction: Transaction,
    /// When to send it again.
    pub due: Nanos,
    sent: Nanos,
    pause: Duration,
    attempts: u32,
    refused: bool,
}

impl Ask {
    /// A request that is sent now for the first time.
    pub fn first(transaction: Transaction, now: Nanos, round_trip: &RoundTrip) -> Self {
        let pause = round_trip.pause();
        Self { transaction, due: now + pause, sent: now, pause, attempts: 1, refused: false }
    }

    /// It is sent again now; the next pause is twice as long, up to the bound. After a refusal it
    /// goes out under a new transaction, for the refusal may be what the autonomous server
    /// remembers as the answer to the old one.
    pub fn again(&mut self, now: Nanos, round_trip: &RoundTrip, transactions: &Transactions) {
        self.pause = (self.pause * 2).min(round_trip.max);
        self.due = now + self.pause;
        self.attempts = self.attempts.saturating_add(1);
        if std::mem::take(&mut self.refused) {
            self.transaction = transactions.next_of_recovery();
        }
    }

    /// An answer came, or a page of it. Only the answer to a request sent once tells a time (Karn):
    /// another's could answer any of its copies.
    pub fn answered(&mut self, now: Nanos, round_trip: &mut RoundTrip) {
        if self.attempts == 1 && self.due > self.sent {
            round_trip.sample(now.since(self.sent));
            self.attempts = 2;
        }
        self.due = now + self.pause;
    }

    /// It was refused: it goes out anew, and not before `until`.
    pub fn refused(&mut self, until: Nanos) {
        self.refused = true;
        self.due = until;
    }

    /// What came of its answer cannot be used: it goes out anew, at once.
    pub fn renew(&mut self) {
        self.refused(Nanos(0));
    }

    /// Whether the next time it goes out is under a new transaction.
    pub fn is_refused(&self) -> bool {
        self.refused
    }

    /// How often it was sent.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound() {
        let settings =
            Settings { rto_min: Duration::from_millis(10), rto_max: Duration::from_millis(35), ..Settings::default() };
        let round_trip = RoundTrip::new(&settings);
        let mut ask = Ask::first(Transaction(1), Nanos(0), &round_trip);
        let mut pauses = Vec::new();
        for _ in 0..4 {
            let now = ask.due;
            ask.again(now, &round_trip, &Transactions::default());
            pauses.push(ask.due.since(now).as_millis());
        }
        assert_eq!(pauses, [20, 35, 35, 35]);
    }

    #[test]
    fn a_repeated_requests_answer_tells_no_time() {
        let mut round_trip = RoundTrip::new(&Settings::default());
        let mut once = Ask::first(Transaction(1), Nanos(0), &round_trip);
        once.answered(Nanos(50_000_000), &mut round_trip);
        let learned = round_trip.pause();
        assert_eq!(learned, Duration::from_millis(150), "mean 50 ms and four times a deviation of 25 ms");
        let mut twice = Ask::first(Transaction(2), Nanos(0), &round_trip);
        twice.again(Nanos(150_000_000), &round_trip, &Transactions::default());
        twice.answered(Nanos(900_000_000), &mut round_trip);
        assert_eq!(round_trip.pause(), learned);
    }
}
