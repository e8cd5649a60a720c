//! What operations tell the engine.

use std::time::Duration;

use crate::cms::Refusal;
use crate::wire::{Domain, Epoch, MeetingId};

/// What the engine should know of at once.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "a domain is that of an autonomous server, a meeting that of an operation")]
pub enum OperationsEvent {
    /// The table may differ from this domain's autonomous server: commands were given up
    /// unanswered, or were carried out after that; or an answer named a version that tells of a
    /// change which is unknown here, or of a memory that went back.
    Unanswered { domain: Domain },
    /// What has to be done, and no client waits for, could not be done, and is tried again.
    Unfinished { meeting: MeetingId, why: Refusal, pause: Duration },
    /// For the log: an operation goes on without something, and why, in a sentence without a full
    /// stop.
    Warning { meeting: MeetingId, what: String },
    /// Another dispatch server controls this domain. Nothing more is sent there.
    Fenced { domain: Domain, by: Epoch },
    /// A newer dispatch server has written to the database. Nothing more is sent, and every request
    /// is refused.
    Stale { highest: Epoch },
}
