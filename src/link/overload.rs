//! When a worker is overloaded, and what it sheds.
//!
//! More reports can arrive than a worker can enter. Left alone, its ring fills, everything in it
//! waits for everything before it, and what finds no room is dropped by the kernel, control frames
//! too. So a worker looks at how much waits, and from some backlog on lets go what can be missed
//! most easily:
//!
//! ```text
//! backlog     1/8 of the ring   1/4             1/2           (512, 1,024, 2,048 at most)
//! is shed     reports that      all reports     probes too
//!             change nothing
//! ```
//!
//! What always holds: a report that is shed is not acknowledged, so its terminal repeats it, and
//! nothing that was acknowledged is lost. Frames for the control thread are never shed here: they
//! are handed on before any report of the backlog is looked at, and only a full queue refuses them.
//! Each step ends at half the backlog that it begins at, one step at a time, so that a worker at
//! its limit does not change its mind with each burst.

use crate::limits::{BUSY_PAUSE_NS, BUSY_PER_BURST, SHED_AT, SHED_AT_PART};
use crate::time::Nanos;

/// What is shed, the later the more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Shedding {
    Nothing,
    /// Reports of a version that the table has.
    Known,
    Reports,
    Probes,
}

impl Shedding {
    const STEPS: [Self; 3] = [Self::Known, Self::Reports, Self::Probes];
}

/// What a worker sheds just now.
#[derive(Debug)]
pub(super) struct Overload {
    /// The backlog at which each of [`Shedding::STEPS`] begins.
    begins: [usize; 3],
    /// How many of them are on.
    on: usize,
}

impl Overload {
    /// None, over a receive ring of so many entries.
    pub fn new(entries: usize) -> Self {
        Self { begins: std::array::from_fn(|step| SHED_AT[step].min(entries / SHED_AT_PART[step])), on: 0 }
    }

    /// Takes note of how many entries wait; says what is to be shed, and whether an overload begins
    /// with it.
    pub fn note(&mut self, waiting: usize) -> (Shedding, bool) {
        let before = self.on;
        let reached = self.begins.iter().take_while(|&&begins| waiting >= begins).count();
        if reached >= self.on {
            self.on = reached;
        } else if waiting < self.begins[self.on - 1] / 2 {
            self.on -= 1;
        }
        let shedding = self.on.checked_sub(1).map_or(Shedding::Nothing, |step| Shedding::STEPS[step]);
        (shedding, before == 0 && self.on > 0)
    }
}

/// Whom a worker tells that it is busy: each domain now and then, for telling costs what was to be
/// spared.
#[derive(Debug)]
pub(super) struct Refusals {
    /// When each domain may be told again.
    next: Box<[Nanos]>,
    /// How many may be told in this burst.
    left: usize,
}

impl Refusals {
    pub fn new(domains: usize) -> Self {
        Self { next: vec![Nanos(0); domains].into(), left: 0 }
    }

    /// A burst begins.
    pub fn begin(&mut self) {
        self.left = BUSY_PER_BURST;
    }

    /// Whether a domain is to be told now, if the frame that was shed is authentic.
    pub fn tell(&mut self, domain: usize, now: Nanos, authentic: impl FnOnce() -> bool) -> bool {
        if self.left == 0 || now < self.next[domain] {
            return false;
        }
        // Whether or not it is: forged frames shall not make tags be worked out.
        self.left -= 1;
        let told = authentic();
        if told {
            self.next[domain] = Nanos(now.0 + BUSY_PAUSE_NS);
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shedding_grows_with_the_backlog_and_ends_at_half_of_it_step_by_step() {
        let mut overload = Overload::new(4096);
        let script = [
            (511, Shedding::Nothing, false),
            (512, Shedding::Known, true),
            (300, Shedding::Known, false),
            (2048, Shedding::Probes, false),
            (1024, Shedding::Probes, false),
            (1023, Shedding::Reports, false),
            (512, Shedding::Reports, false),
            (511, Shedding::Known, false),
            (600, Shedding::Known, false),
            (0, Shedding::Nothing, false),
            (1024, Shedding::Reports, true),
            (0, Shedding::Known, false),
            (0, Shedding::Nothing, false),
        ];
        for (at, (waiting, sheds, begins)) in script.into_iter().enumerate() {
            assert_eq!(overload.note(waiting), (sheds, begins), "step {at}, {waiting} waiting");
        }
        let mut small = Overload::new(64);
        assert_eq!([7, 8, 16, 32].map(|waiting| small.note(waiting).0 as usize), [0, 1, 2, 3]);
    }

    #[test]
    fn a_domain_is_told_once_in_a_while_and_forgeries_do_not_count() {
        let mut refusals = Refusals::new(2);
        refusals.begin();
        assert!(!refusals.tell(0, Nanos(5), || false));
        assert!(refusals.tell(0, Nanos(5), || true) && refusals.tell(1, Nanos(5), || true));
        assert!(!refusals.tell(0, Nanos(4 + BUSY_PAUSE_NS), || true));
        assert!(refusals.tell(0, Nanos(5 + BUSY_PAUSE_NS), || true));
        refusals.begin();
        let forged = (0..2 * BUSY_PER_BURST).filter(|_| {
            let mut looked = false;
            refusals.tell(1, Nanos(9 * BUSY_PAUSE_NS), || std::mem::replace(&mut looked, true));
            looked
        });
        assert_eq!(forged.count(), BUSY_PER_BURST, "no more tags are worked out in a burst");
    }
}
