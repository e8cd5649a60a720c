//! Step 2, connect: the link to the autonomous server, set up with V2V unicast packets.

use super::request::Request;
use super::shared::Shared;
use crate::cascade::Purpose;
use crate::time::Nanos;
use crate::wire::{MeetingId, Message, Opcode, Transaction};

/// Whether CONNECT was answered.
#[derive(Debug, Default)]
pub(super) struct Connect {
    is_connected: bool,
}

impl Connect {
    pub fn is_connected(&self) -> bool {
        self.is_connected
    }

    pub fn poll(&mut self, shared: &mut Shared, now: Nanos) -> Option<Request> {
        if self.is_connected {
            return None;
        }
        let transaction = match shared.exchange.poll_due(now, Purpose::Connect) {
            Some(due) => {
                shared.note_repeat(&due);
                due.transaction
            }
            None => shared.exchange.ask(now, Purpose::Connect, Opcode::Connect, MeetingId::NONE)?,
        };
        let message = Message::Connect { window: shared.settings.window };
        Some(shared.request(transaction, MeetingId::NONE, message))
    }

    /// Takes the answer: meetings that the autonomous server holds, and takeover pages that it lets
    /// be outstanding.
    pub fn handle_ack(&mut self, shared: &mut Shared, now: Nanos, transaction: Transaction, held: u32, window: u16) {
        shared.exchange.answered(now, transaction);
        shared.exchange.set_window(Purpose::Takeover, window.clamp(1, shared.settings.window));
        shared.progress.held = Some(held);
        shared.timeline.connected.get_or_insert(now);
        self.is_connected = true;
    }
}
