//! Between the dispatcher and the workers: what they hand on goes in, what they are to see and to
//! send goes out.

use std::sync::Arc;

use super::dispatcher::{Dispatcher, WorkerChange};
use super::sender::Sender;
use crate::limits::TROUBLES_MAX;
use crate::link::Shared;
use crate::link::troubles::Trouble;
use crate::time::Nanos;

/// The control thread's end of the workers.
pub(crate) struct Workers {
    pub shared: Arc<Shared>,
    pub sender: Sender,
}

impl Workers {
    /// Gives the dispatcher what workers have handed on, `most` frames of it. Says whether there
    /// was anything.
    pub fn take(&mut self, now: Nanos, dispatcher: &mut Dispatcher, most: usize) -> bool {
        let mut any = false;
        for _ in 0..most {
            if self.shared.inbox.take(|bytes, _| dispatcher.handle_frame(now, bytes)).is_none() {
                break;
            }
            any = true;
        }
        for _ in 0..TROUBLES_MAX {
            let Some(trouble) = self.shared.troubles.take() else { break };
            dispatcher.handle_trouble(now, trouble);
            any = true;
            // To throw a record away it looks through the whole index, which of a large table takes
            // a while; many of them in one round would pass for a hang.
            if matches!(trouble, Trouble::Damaged(_)) {
                break;
            }
        }
        for peer in self.shared.peers.iter() {
            if let Some(meetings) = peer.take_stray() {
                dispatcher.handle_stray(now, peer.domain, meetings);
            }
            if let Some(hop) = peer.seen() {
                dispatcher.handle_seen(now, peer.domain, hop);
            }
        }
        any
    }

    /// Lets workers see what has changed, and then has them send `most` frames, or as many as there
    /// is room for. Says whether there was any.
    pub fn give(&mut self, now: Nanos, dispatcher: &mut Dispatcher, most: usize) -> bool {
        self.change(dispatcher);
        let mut any = false;
        for _ in 0..most {
            // One full outbox holds up what is asked for, which may be for its worker; no answer
            // that goes by another.
            let has_room = self.sender.has_room();
            let next = if has_room { dispatcher.poll_transmit(now) } else { dispatcher.poll_answer() };
            let Some(transmit) = next else { break };
            self.sender.send(&transmit);
            any = true;
        }
        // A domain that does not answer where it was is tried elsewhere.
        self.change(dispatcher);
        self.sender.deliver();
        any
    }

    fn change(&self, dispatcher: &mut Dispatcher) {
        let peers = &self.shared.peers;
        while let Some(change) = dispatcher.poll_worker_change() {
            match change {
                WorkerChange::Fence(domain) => {
                    if let Some((_, peer)) = peers.find(domain) {
                        peer.fence();
                    }
                }
                WorkerChange::Settle(domain) => {
                    if let Some((place, _)) = peers.find(domain) {
                        self.shared.settle(place);
                    }
                }
                WorkerChange::NextHops => peers.follow(dispatcher.topology()),
                WorkerChange::NamedEnough => self.shared.troubles.have_enough(),
            }
        }
    }
}
