//! The meetings of a simulated domain by id: a million of them, taken over by ascending id in a few
//! nanoseconds each.
//!
//! Ids and records lie side by side, sorted. Who asks for the next id finds it where it was last
//! found, plus one; any other is searched for among the ids alone, which are few cache lines. A
//! record that is taken out leaves its place, because the id is likely to come back; places without
//! a record go when they are many.

use super::meeting::Meeting;
use crate::wire::MeetingId;

/// So many places without a record are always borne with.
const EMPTY_MIN: usize = 1024;

/// Meetings by ascending id.
#[derive(Debug, Default)]
pub(super) struct MeetingMap {
    ids: Vec<MeetingId>,
    meetings: Vec<Option<Meeting>>,
    held: usize,
    /// Where the last one was found.
    last: usize,
}

impl MeetingMap {
    pub fn len(&self) -> usize {
        self.held
    }

    pub fn get(&self, id: MeetingId) -> Option<&Meeting> {
        self.meetings[self.ids.binary_search(&id).ok()?].as_ref()
    }

    pub fn get_mut(&mut self, id: MeetingId) -> Option<&mut Meeting> {
        let next = self.last + 1;
        self.last = if self.ids.get(next) == Some(&id) { next } else { self.ids.binary_search(&id).ok()? };
        self.meetings[self.last].as_mut()
    }

    pub fn insert(&mut self, id: MeetingId, meeting: Meeting) {
        // A new id is mostly the highest.
        let place = if self.ids.last() < Some(&id) { Err(self.ids.len()) } else { self.ids.binary_search(&id) };
        match place {
            Ok(place) => self.held += usize::from(self.meetings[place].replace(meeting).is_none()),
            Err(place) => {
                self.ids.insert(place, id);
                self.meetings.insert(place, Some(meeting));
                self.held += 1;
            }
        }
    }

    pub fn remove(&mut self, id: MeetingId) -> Option<Meeting> {
        let removed = self.meetings[self.ids.binary_search(&id).ok()?].take()?;
        self.held -= 1;
        if self.ids.len() - self.held > EMPTY_MIN.max(self.held / 2) {
            let mut kept = self.meetings.iter().map(Option::is_some);
            self.ids.retain(|_| kept.next() == Some(true));
            self.meetings.retain(Option::is_some);
        }
        Some(removed)
    }

    /// From `first` on.
    pub fn from(&self, first: MeetingId) -> impl Iterator<Item = (MeetingId, &Meeting)> {
        let begin = self.ids.partition_point(|&id| id < first);
        let from = self.ids[begin..].iter().zip(&self.meetings[begin..]);
        from.filter_map(|(&id, meeting)| Some((id, meeting.as_ref()?)))
    }
}

impl FromIterator<(MeetingId, Meeting)> for MeetingMap {
    /// Of meetings by ascending id.
    fn from_iter<I: IntoIterator<Item = (MeetingId, Meeting)>>(sorted: I) -> Self {
        let (ids, meetings): (Vec<_>, Vec<_>) = sorted.into_iter().map(|(id, meeting)| (id, Some(meeting))).unzip();
        assert!(ids.is_sorted_by(|a, b| a < b), "the rule gives ids in their order");
        Self { held: ids.len(), ids, meetings, last: 0 }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Random;
    use super::*;
    use crate::wire::{Address, Epoch, Layout, Level, MeetingState, Run};

    fn meeting(version: u64) -> Meeting {
        Meeting {
            version,
            controller: Epoch::NONE,
            state: MeetingState::InMeeting,
            level: Level::LOWEST,
            layout: Layout::new(4).unwrap(),
            chairman: Address::default(),
            members: Default::default(),
            run: Run(7),
        }
    }

    #[test]
    fn agrees_with_a_sorted_map_over_random_calls() {
        let mut random = Random::new(3);
        let mut roll: MeetingMap = (1..=2000).map(|id| (MeetingId(id), meeting(0))).collect();
        let mut oracle: BTreeMap<_, _> = (1..=2000).map(|id| (MeetingId(id), 0)).collect();
        for version in 1..40_000 {
            let id = MeetingId(random.below(6000));
            // In phases, so that it grows, and shrinks until places are given up.
            match (random.below(4), version / 5000 % 2) {
                (0, _) => assert_eq!(roll.get_mut(id).map(|it| it.version), oracle.get(&id).copied()),
                (1, 0) | (2 | 3, 1) => {
                    assert_eq!(roll.remove(id).map(|it| it.version), oracle.remove(&id));
                }
                _ => {
                    roll.insert(id, meeting(version));
                    oracle.insert(id, version);
                }
            }
            assert_eq!((roll.len(), roll.get(id).map(|it| it.version)), (oracle.len(), oracle.get(&id).copied()));
        }
        for first in [0, 1, 777, 5999, 6000].map(MeetingId) {
            let ours: Vec<_> = roll.from(first).map(|(id, it)| (id, it.version)).collect();
            assert_eq!(ours, oracle.range(first..).map(|(&id, &version)| (id, version)).collect::<Vec<_>>());
        }
        let ascending = roll.from(MeetingId::NONE).map(|(id, _)| id).collect::<Vec<_>>();
        assert!(ascending.into_iter().all(|id| roll.get_mut(id).is_some()), "each next to the last");
    }
}
