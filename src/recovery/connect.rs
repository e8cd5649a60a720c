//! Step 2, connect: the link to the autonomous server, set up with V2V unicast packets.

use super::ServerRecovery;
use super::ask::Ask;
use crate::limits;
use crate::time::Nanos;
use crate::wire::{Epoch, MeetingId, Message, Opcode};

/// CONNECT and what its answer said.
#[derive(Clone, Debug, Default)]
pub(super) struct Connect {
    ask: Option<Ask>,
    connected: bool,
    window: Option<u16>,
}

impl Connect {
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Takeover pages that the autonomous server lets be outstanding; before it said so, what any
    /// takes.
    pub fn window(&self) -> u16 {
        self.window.unwrap_or(limits::TAKEOVER_WINDOW_FIRST)
    }

    pub fn ask_mut(&mut self) -> Option<&mut Ask> {
        self.ask.as_mut()
    }

    pub fn due(&self) -> Option<Nanos> {
        self.ask.as_ref().map(|ask| ask.due)
    }
}

impl ServerRecovery {
    pub(super) fn poll_connect(&mut self, now: Nanos) -> Option<super::Request> {
        if self.connect.connected {
            return None;
        }
        let transaction = match &mut self.connect.ask {
            Some(ask) if ask.due > now => return None,
            Some(ask) => {
                ask.again(now, &self.round_trip, &self.transactions);
                let (attempts, transaction) = (ask.attempts(), ask.transaction);
                self.note_attempts(attempts, Opcode::Connect, MeetingId::NONE);
                transaction
            }
            None => {
                let transaction = self.transactions.next_of_recovery();
                self.connect.ask = Some(Ask::first(transaction, now, &self.round_trip));
                transaction
            }
        };
        let message = Message::Connect { window: self.settings.window };
        Some(self.request(transaction, MeetingId::NONE, message))
    }

    pub(super) fn handle_connect_ack(&mut self, now: Nanos, (highest, boot): (Epoch, u32), held: u32, window: u16) {
        if highest > self.epoch {
            return self.fence(highest);
        }
        self.note_answered(Opcode::Connect);
        // What was asked for until now may have been answered out of the memory that went with its
        // last life.
        if self.note_boot(boot as u16) {
            return self.restart_forgetful(now);
        }
        if let Some(mut ask) = self.connect.ask.take() {
            ask.answered(now, &mut self.round_trip);
        }
        self.connect.connected = true;
        self.connect.window = Some(window.clamp(1, self.settings.window));
        self.progress.held = Some(held);
        self.timeline.connected.get_or_insert(now);
    }
}
