//! Why a change is not made.

use crate::wire::{Domain, MeetingId};

/// Why a change was not made. Unless its method says otherwise, the table is as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TableError {
    /// Of what there is no free slot.
    #[error("the table has no more {0}; create it with a larger capacity")]
    Full(&'static str),
    /// The part or terminal is in the table already.
    #[error("it is in the table already")]
    Exists,
    /// There is no such part.
    #[error("{0:?} has no part in {1:?}")]
    UnknownPart(MeetingId, Domain),
    /// The terminal is a member of this other meeting.
    #[error("the terminal is in {0:?}")]
    Conflict(MeetingId),
    /// The terminal has no address in a domain.
    #[error("a terminal needs an address in a domain")]
    NoAddress,
    /// Another writer has claimed the record. Nothing is wrong; try again.
    #[error("another writer is changing it; try again")]
    Contended,
    /// A record's checksum does not match its bytes.
    #[error("a record of the table is damaged; its autonomous server still knows it")]
    Damaged,
}
