//! What a conference is, and what may be done to it.
//!
//! ```text
//! clients ──HTTP──► api ──Request──► operations ──Command──► autonomous servers
//!                    ▲                │      ▲
//!                    └────Reply───────┘      └── acknowledgements
//!                                     │
//!                                     └──Change──► database (its own thread, group commit)
//! ```
//!
//! What always holds here: the autonomous server has the truth about a conference, the database has
//! our promises. A client is told that something is done after both know it. [`Operations`]
//! decides, sans I/O.

mod operations;
mod request;

pub use operations::{Command, CommandSettings, OperationId, Operations, OperationsEvent, ReplyId};
pub use request::{
    Changed, ConferenceAnswer, ConferenceReply, ConferenceRequest, NewMember, Refusal, RefusalKind, Refused,
    StartMeeting, Started, object,
};
