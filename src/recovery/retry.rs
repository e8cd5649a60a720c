//! Meetings that are asked about again later, each with a pause of its own that grows.
//!
//! What one meeting is refused must not hold up the others, and must not be forgotten either: its
//! server may give tomorrow what it declines today.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::time::Nanos;
use crate::wire::MeetingId;

/// Meetings that wait, by when their time comes. They are meetings of our own: no peer makes them
/// more.
#[derive(Clone, Debug, Default)]
pub(super) struct Retries {
    /// Each with its last pause, and when it is due where it waits.
    waits: HashMap<MeetingId, (Duration, Option<Nanos>)>,
    due: BTreeSet<(Nanos, MeetingId)>,
}

impl Retries {
    /// Puts a meeting off: for `min` the first time, then for twice as long each time, up to `max`.
    pub fn postpone(&mut self, meeting: MeetingId, now: Nanos, (min, max): (Duration, Duration)) {
        let (pause, due) = self.waits.entry(meeting).or_default();
        if due.is_none() {
            *pause = (*pause * 2).clamp(min, max);
            *due = Some(now + *pause);
            self.due.insert((now + *pause, meeting));
        }
    }

    /// A meeting whose time has come.
    pub fn pop_due(&mut self, now: Nanos) -> Option<MeetingId> {
        let first = *self.due.first().filter(|(due, _)| *due <= now)?;
        self.due.remove(&first);
        if let Some((_, due)) = self.waits.get_mut(&first.1) {
            *due = None;
        }
        Some(first.1)
    }

    /// It is as it should be: the next pause is the shortest again.
    pub fn settle(&mut self, meeting: MeetingId) {
        if !self.waits.is_empty()
            && let Some((_, Some(due))) = self.waits.remove(&meeting)
        {
            self.due.remove(&(due, meeting));
        }
    }

    /// Whether it was put off and has not been settled.
    pub fn contains(&self, meeting: MeetingId) -> bool {
        !self.waits.is_empty() && self.waits.contains_key(&meeting)
    }

    /// When the first of them is to be asked about.
    pub fn due(&self) -> Option<Nanos> {
        self.due.first().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_it_is_settled() {
        let (mut retries, meeting) = (Retries::default(), MeetingId(7));
        let bounds = (Duration::from_secs(1), Duration::from_secs(3));
        let mut now = Nanos(0);
        let mut pauses = Vec::new();
        for _ in 0..4 {
            retries.postpone(meeting, now, bounds);
            retries.postpone(meeting, now, bounds);
            let due = retries.due().unwrap();
            pauses.push(due.since(now).as_secs());
            assert_eq!(retries.pop_due(now), None);
            now = due;
            assert_eq!((retries.pop_due(now), retries.due()), (Some(meeting), None));
        }
        assert_eq!(pauses, [1, 2, 3, 3]);
        retries.settle(meeting);
        retries.postpone(meeting, now, bounds);
        assert_eq!(retries.due(), Some(now + bounds.0));
        retries.settle(meeting);
        assert_eq!((retries.due(), retries.contains(meeting)), (None, false));
    }
}
