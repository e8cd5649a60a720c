//! Who is due when, without a heap.
//!
//! Every wait of a simulated domain is one of a few lengths: at once, or the retransmission time
//! doubled so many times. Those that wait equally long are due in the order in which they began to
//! wait, so a list per length is always sorted, and putting someone in or out costs the same
//! however many wait. Twenty thousand reports a second pass through here.

use std::time::Duration;

use crate::time::Nanos;

const NOBODY: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Node {
    before: u32,
    behind: u32,
    length: u8,
    waits: bool,
    due: Nanos,
}

impl Node {
    const IDLE: Self = Self { before: NOBODY, behind: NOBODY, length: 0, waits: false, due: Nanos(0) };
}

#[derive(Clone, Copy)]
struct List {
    wait: Duration,
    first: u32,
    last: u32,
}

/// Waiting lists for members by their numbers, each of which waits in one list or none.
pub(super) struct DueLists {
    /// As many as the highest number that has waited.
    nodes: Vec<Node>,
    lists: Box<[List]>,
    waiting: usize,
}

impl DueLists {
    /// A list for each length of wait.
    pub fn new(waits: &[Duration]) -> Self {
        Self {
            nodes: Vec::new(),
            lists: waits.iter().map(|&wait| List { wait, first: NOBODY, last: NOBODY }).collect(),
            waiting: 0,
        }
    }

    /// The member waits from now on, for the length of this number, or for the longest there is. A
    /// wait that he was in is over.
    pub fn wait(&mut self, member: usize, length: usize, now: Nanos) {
        if member >= self.nodes.len() {
            self.nodes.resize(member + 1, Node::IDLE);
        }
        self.cancel(member);
        let length = length.min(self.lists.len() - 1);
        let list = &mut self.lists[length];
        // Arrival stamps may lie a little before the time of the last call; the list stays sorted
        // all the same.
        let due = match list.last {
            NOBODY => now + list.wait,
            last => (now + list.wait).max(self.nodes[last as usize].due),
        };
        self.nodes[member] = Node { before: list.last, behind: NOBODY, length: length as u8, waits: true, due };
        match list.last {
            NOBODY => list.first = member as u32,
            last => self.nodes[last as usize].behind = member as u32,
        }
        list.last = member as u32;
        self.waiting += 1;
    }

    /// The member waits no more.
    pub fn cancel(&mut self, member: usize) {
        let Some(&node) = self.nodes.get(member).filter(|node| node.waits) else { return };
        let list = &mut self.lists[usize::from(node.length)];
        match node.before {
            NOBODY => list.first = node.behind,
            before => self.nodes[before as usize].behind = node.behind,
        }
        match node.behind {
            NOBODY => list.last = node.before,
            behind => self.nodes[behind as usize].before = node.before,
        }
        self.nodes[member].waits = false;
        self.waiting -= 1;
    }

    /// Takes out one whose time has come.
    pub fn take_due(&mut self, now: Nanos) -> Option<usize> {
        let first = self.first()?;
        if self.nodes[first].due > now {
            return None;
        }
        self.cancel(first);
        Some(first)
    }

    /// When the next time comes.
    pub fn next_due(&self) -> Option<Nanos> {
        self.first().map(|first| self.nodes[first].due)
    }

    /// How many wait.
    pub const fn waiting(&self) -> usize {
        self.waiting
    }

    fn first(&self) -> Option<usize> {
        let firsts = self.lists.iter().map(|list| list.first).filter(|&first| first != NOBODY);
        firsts.map(|first| first as usize).min_by_key(|&first| self.nodes[first].due)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Random;
    use super::*;

    const WAITS: [Duration; 3] = [Duration::ZERO, Duration::from_nanos(100), Duration::from_nanos(400)];

    #[test]
    fn agrees_with_a_sorted_map_over_random_calls() {
        let mut random = Random::new(11);
        let mut lists = DueLists::new(&WAITS);
        let mut oracle = std::collections::BTreeMap::<usize, Nanos>::new();
        for now in (0..20_000).map(Nanos) {
            let member = random.below(40) as usize;
            match random.below(4) {
                0 => {
                    lists.cancel(member);
                    oracle.remove(&member);
                }
                1 => {
                    while let Some(taken) = lists.take_due(now) {
                        assert!(oracle.remove(&taken).is_some_and(|due| due <= now));
                    }
                    assert!(oracle.values().all(|&due| due > now));
                }
                _ => {
                    let length = random.below(3) as usize;
                    lists.wait(member, length, now);
                    oracle.insert(member, now + WAITS[length]);
                }
            }
            assert_eq!(lists.next_due(), oracle.values().min().copied());
            assert_eq!(lists.waiting(), oracle.len());
        }
    }

    #[test]
    fn wait_beyond_the_longest_is_the_longest() {
        let mut lists = DueLists::new(&WAITS);
        lists.wait(0, 99, Nanos(5));
        assert_eq!(lists.next_due(), Some(Nanos(405)));
    }
}
