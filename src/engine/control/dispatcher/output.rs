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
    /// Answers for which there was no room.
    pub overflowed: u64,
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

    pub fn reply(&mut self, client: ReplyId, reply: Reply) {
        self.replies.push_back((client, reply));
    }

    pub fn event(&mut self, event: Event) {
        self.events.push_back(event);
    }
}
