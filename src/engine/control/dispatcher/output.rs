//! What was decided and nobody has fetched yet.

use std::collections::VecDeque;

use super::event::{Event, Transmit, WorkerChange};
use crate::api::Reply;
use crate::cms::ReplyId;
use crate::handover::protocol::Notice;
use crate::limits::CONTROL_BATCH;

/// Bounded by what a round takes in, for everything is fetched between two rounds.
#[derive(Default)]
pub(super) struct Output {
    /// Answers to heartbeats.
    pub answers: VecDeque<Transmit>,
    pub replies: VecDeque<(ReplyId, Reply)>,
    pub notices: VecDeque<Notice>,
    pub changes: VecDeque<WorkerChange>,
    pub events: VecDeque<Event>,
    /// Frames that no part expected.
    pub unexpected: u64,
    /// Frames for which no next hop was known. They are repeated, as any that is lost.
    pub unroutable: u64,
    /// Answers for which there was no room.
    overflowed: u64,
    /// It is the turn of an answer.
    answers_next: bool,
}

impl Output {
    /// Has a frame answered. Where the workers take none, answers are the first to go: a heartbeat
    /// comes again.
    pub fn answer(&mut self, transmit: Transmit) {
        if self.answers.len() < CONTROL_BATCH {
            self.answers.push_back(transmit);
        } else {
            self.overflowed += 1;
        }
    }

    /// Whether an answer goes before anything else; every other time it does.
    pub fn takes_turn(&mut self) -> bool {
        self.answers_next = !self.answers_next;
        self.answers_next
    }

    /// What was counted of frames, by name.
    pub fn counted(&self) -> [(&'static str, u64); 3] {
        [
            ("control_unexpected", self.unexpected),
            ("control_unroutable", self.unroutable),
            ("control_overflowed", self.overflowed),
        ]
    }

    pub fn reply(&mut self, client: ReplyId, reply: Reply) {
        self.replies.push_back((client, reply));
    }

    pub fn event(&mut self, event: Event) {
        self.events.push_back(event);
    }
}
