//! The frames that recovery sends.

use std::sync::Arc;

use super::store::Cursor;
use crate::wire::{Domain, Envelope, Header, Key, Message, Opcode, TakeoverEntry, encode_message, encode_page};

/// One takeover, and where the walk over the cache stood when it gave it.
pub type Wanted = (TakeoverEntry, Option<Cursor>);

/// A frame to be sent to a domain's autonomous server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// Whom it asks.
    pub domain: Domain,
    /// Transaction, epoch and meeting.
    pub header: Header,
    /// What it asks.
    pub body: Body,
}

/// What a request asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// A protocol payload.
    Message(Message),
    /// TAKEOVER_BATCH: one page, a transaction of its own.
    Takeover(Arc<[Wanted]>),
}

impl Request {
    /// Its opcode's number.
    pub fn opcode(&self) -> u8 {
        match &self.body {
            Body::Message(message) => message.opcode(),
            Body::Takeover(_) => Opcode::TakeoverBatch.wire(),
        }
    }

    /// Whether this is a takeover frame.
    #[cfg(test)]
    pub fn is_takeover(&self) -> bool {
        matches!(self.body, Body::Takeover(_))
    }

    /// Writes it as a frame; gives its length.
    ///
    /// # Panics
    /// If `buffer` is shorter than [`crate::limits::FRAME_BYTES_MAX`].
    pub fn encode(&self, buffer: &mut [u8], envelope: &Envelope, key: &Key) -> usize {
        match &self.body {
            Body::Message(message) => encode_message(buffer, envelope, &self.header, message, key),
            Body::Takeover(wanted) => {
                let entries = wanted.iter().map(|(entry, _)| *entry);
                encode_page(buffer, envelope, Opcode::TakeoverBatch, &self.header, (0, 1), entries, key).0
            }
        }
    }
}
