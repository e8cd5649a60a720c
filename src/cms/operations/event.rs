//! What operations tell the engine.

use std::time::Duration;

use crate::cms::Refusal;
use crate::wire::{Domain, Epoch, MeetingId};

/// What the engine should know of at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OperationsEvent {
    /// The table may differ from this domain's autonomous server: commands were given up
    /// unanswered, or were carried out after that; or an answer named a version that tells of a
    /// change which is unknown here, or of a memory that went back.
    Unanswered {
        /// The domain of the autonomous server.
        domain: Domain,
    },
    /// What has to be done, and no client waits for, could not be done, and is tried again.
    Unfinished {
        /// The conference that it belongs to.
        meeting: MeetingId,
        /// What stood against it.
        why: Refusal,
        /// How long until it is tried again.
        pause: Duration,
    },
    /// An operation goes on without something. For the log.
    Warning {
        /// The conference that it belongs to.
        meeting: MeetingId,
        /// What is missing, and why, in a sentence without a full stop.
        what: String,
    },
    /// Another dispatch server controls this domain. Nothing more is sent there.
    Fenced {
        /// The domain whose autonomous server said so.
        domain: Domain,
        /// The epoch of the other dispatch server.
        by: Epoch,
    },
    /// A newer dispatch server has written to the database. Nothing more is sent, and every request
    /// is refused.
    Stale {
        /// The highest epoch that is known.
        highest: Epoch,
    },
}
