//! Who takes part: which terminals are in which conference.

use std::collections::{BTreeMap, BTreeSet};

use super::workload::{Expected, Ledger};
use crate::wire::{Domain, Layout, MeetingId, Role};

/// The first terminal of each domain.
pub const FIRST_DEVICE: u16 = 1001;

/// So many conferences, each with as many members, over these domains: half of them in one domain
/// alone, and half with two fifths of their members in the next domain.
pub fn conferences(domains: u64, meetings: usize, members: usize) -> Ledger {
    let mut next = vec![FIRST_DEVICE; domains as usize];
    let mut conferences = BTreeMap::new();
    for number in 0..meetings {
        let home = number % next.len();
        let spans = number / next.len() % 2 == 1 && next.len() > 1;
        let away = if spans { members * 2 / 5 } else { 0 };
        let mut present = BTreeMap::new();
        for place in 0..members {
            let domain = if place < members - away { home } else { (home + 1) % next.len() };
            let address = Domain::new(domain as u64 + 1).expect("counted from 1").device(next[domain]);
            next[domain] += 1;
            let role = if place == 0 { Role::Chairman } else { Role::Participant };
            present.insert(address, (role, false));
        }
        let layout = [4, 9, 16, 1][number % 4];
        let expected = Expected { layout: Layout::new(layout).expect("a layout"), members: present };
        conferences.insert(MeetingId(number as u64 + 1), expected);
    }
    Ledger { meetings: conferences, ended: BTreeSet::new() }
}

/// Terminals that the fullest domain needs.
pub fn terminals_per_domain(ledger: &Ledger) -> u16 {
    let mut most = 0;
    for expected in ledger.meetings.values() {
        for terminal in expected.members.keys() {
            most = most.max(terminal.device() - FIRST_DEVICE + 1);
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_terminal_is_in_one_conference() {
        let ledger = conferences(4, 1000, 10);
        let all: BTreeSet<_> = ledger.meetings.values().flat_map(|expected| expected.members.keys()).collect();
        assert_eq!((ledger.meetings.len(), all.len()), (1000, 10_000));
        assert_eq!(terminals_per_domain(&ledger), 2500, "the domains are equally full");
        let spanning = ledger.meetings.values().filter(|expected| {
            let domains: BTreeSet<_> = expected.members.keys().map(|terminal| terminal.domain()).collect();
            domains.len() == 2
        });
        assert_eq!(spanning.count(), 500);
    }
}
