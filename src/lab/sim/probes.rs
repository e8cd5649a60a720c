//! Probes: numbered frames that are never repeated, so that each one unanswered is a frame lost.

use hdrhistogram::Histogram;

use super::Counters;
use crate::time::Nanos;

/// Probes whose echo is still told from an echo's repetition.
const WINDOW: u64 = 1 << 17;

/// The probes of one domain.
pub(super) struct Probes {
    next: u64,
    /// Probes before this belong to an earlier count.
    since: u64,
    /// A bit for each of the last probes, by its number modulo the window: set when its echo came.
    echoed: Box<[u64]>,
    round_trip: Histogram<u64>,
}

impl Probes {
    pub fn new() -> Self {
        let echoed = vec![0; WINDOW as usize / 64].into();
        Self { next: 0, since: 0, echoed, round_trip: super::counters::latencies() }
    }

    /// The next probe's number. It counts as sent.
    pub fn send(&mut self, counters: &mut Counters) -> u64 {
        let sequence = self.next;
        self.next += 1;
        let (word, bit) = place(sequence);
        self.echoed[word] &= !bit;
        counters.probes_sent += 1;
        sequence
    }

    pub fn handle_echo(&mut self, now: Nanos, (sent, sequence): (Nanos, u64), counters: &mut Counters) {
        let (word, bit) = place(sequence);
        let ours = (self.since..self.next).contains(&sequence) && self.next - sequence <= WINDOW;
        if !ours || self.echoed[word] & bit != 0 {
            counters.probes_strange += 1;
            return;
        }
        self.echoed[word] |= bit;
        counters.probes_echoed += 1;
        self.round_trip.saturating_record(now.since(sent).as_nanos() as u64);
    }

    /// From a probe to its echo, in nanoseconds.
    pub const fn round_trip(&self) -> &Histogram<u64> {
        &self.round_trip
    }

    /// Counting begins anew; echoes of earlier probes are not counted.
    pub fn reset(&mut self) {
        self.since = self.next;
        self.round_trip.reset();
    }
}

const fn place(sequence: u64) -> (usize, u64) {
    let place = sequence % WINDOW;
    (place as usize / 64, 1 << (place % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_probe_counts_once_however_often_echoed() {
        let (mut probes, mut counters) = (Probes::new(), Counters::default());
        for _ in 0..WINDOW + 10 {
            let sequence = probes.send(&mut counters);
            probes.handle_echo(Nanos(9), (Nanos(5), sequence), &mut counters);
            probes.handle_echo(Nanos(9), (Nanos(5), sequence), &mut counters);
        }
        assert_eq!((counters.probes_echoed, counters.probes_strange), (WINDOW + 10, WINDOW + 10));
        assert_eq!(counters.probes_unanswered(), 0);
    }

    #[test]
    fn echo_from_before_the_reset_is_strange() {
        let (mut probes, mut counters) = (Probes::new(), Counters::default());
        let old = probes.send(&mut counters);
        probes.reset();
        counters = Counters::default();
        probes.send(&mut counters);
        probes.handle_echo(Nanos(1), (Nanos(0), old), &mut counters);
        probes.handle_echo(Nanos(1), (Nanos(0), 77), &mut counters);
        assert_eq!((counters.probes_echoed, counters.probes_unanswered(), counters.probes_strange), (0, 1, 2));
    }
}
