//! Whether the other end of a link lives: heartbeats out, their answers in.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

use crate::config::Heartbeat;
use crate::time::Nanos;

/// Whether an autonomous server answers heartbeats.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// Nothing has been heard yet, and not waited for long enough to say that it is down.
    Unknown,
    /// Heartbeats are answered.
    Up,
    /// They are not.
    Down,
}

/// One link's heartbeats.
#[derive(Clone, Debug)]
pub struct Liveness {
    settings: Heartbeat,
    state: LinkState,
    next: Nanos,
    /// The oldest heartbeat whose answer still counts: an answer to an older one says nothing about
    /// now.
    since: Nanos,
    /// When those were sent whose answers count, ascending.
    sent: VecDeque<Nanos>,
    unanswered: u32,
    in_a_row: u32,
    round_trip: Option<Duration>,
    meetings_held: u32,
}

impl Liveness {
    pub(super) fn new(settings: Heartbeat) -> Self {
        Self {
            settings,
            state: LinkState::Unknown,
            next: Nanos(0),
            since: Nanos(0),
            sent: VecDeque::new(),
            unanswered: 0,
            in_a_row: 0,
            round_trip: None,
            meetings_held: 0,
        }
    }

    /// As of the last heartbeat or timeout that was handled.
    pub const fn state(&self) -> LinkState {
        self.state
    }

    /// The time between the last answered heartbeat and its answer. A measurement for people: no
    /// timeout follows from it, because a page takes longer to answer than a heartbeat.
    pub const fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// Meetings that the domain's server held when it last answered.
    pub const fn meetings_held(&self) -> u32 {
        self.meetings_held
    }

    /// Heartbeats in a row that were not answered.
    pub const fn unanswered(&self) -> u32 {
        self.unanswered
    }

    pub(super) const fn next_beat(&self) -> Nanos {
        self.next
    }

    pub(super) fn is_due(&self, now: Nanos) -> bool {
        now >= self.next
    }

    pub(super) fn hurry(&mut self) {
        self.next = Nanos(0);
    }

    /// Counts a heartbeat that goes out now. True where the ones before it have been left
    /// unanswered once too often and the link goes down by it.
    pub(super) fn beat(&mut self, now: Nanos) -> bool {
        // From now and not from when it was due: after a pause there is nothing to catch up with.
        self.next = now + self.settings.interval;
        let window = self.settings.interval * self.settings.down_after;
        self.since = now - window;
        self.sent.retain(|sent| *sent >= self.since);
        self.sent.push_back(now);
        self.unanswered = self.unanswered.saturating_add(1);
        if self.unanswered <= self.settings.down_after || self.state == LinkState::Down {
            return false;
        }
        self.in_a_row = 0;
        self.state = LinkState::Down;
        true
    }

    /// Takes the answer to the heartbeat that was sent at `sent`. Gives whether the link comes up
    /// by it, and none where it does not count.
    ///
    /// `sent` is our own clock, echoed: an answer to what was never sent, to what was answered
    /// before, or to what was sent too long ago does not count. So a recorded answer keeps no dead
    /// link up.
    pub(super) fn handle_ack(&mut self, now: Nanos, sent: Nanos, meetings_held: u32) -> Option<bool> {
        let place = self.sent.iter().position(|one| *one == sent)?;
        if sent > now || sent < self.since {
            return None;
        }
        // Those before it are answered too late, if ever.
        self.sent.drain(..=place);
        self.round_trip = Some(now.since(sent));
        self.meetings_held = meetings_held;
        self.unanswered = 0;
        self.in_a_row = self.in_a_row.saturating_add(1);
        // Only a link that was down has to prove itself; the first answer of all is enough.
        let enough = self.state == LinkState::Unknown || self.in_a_row >= self.settings.up_after;
        let comes_up = self.state != LinkState::Up && enough;
        if comes_up {
            self.state = LinkState::Up;
        }
        Some(comes_up)
    }
}
