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
//! What always holds here: the autonomous server is the truth of a conference, the database is what we promised. A
//! client is told that something is done after both know it. [`Operations`] decides, sans I/O; [`api`] and
//! [`crate::database::DatabaseThread`] are the two places that are not, each in a thread of its own; [`View`] is read by anybody.

pub mod api;
mod metrics;
mod operations;
mod request;
mod view;

pub use operations::{Command, CommandSettings, OperationId, Operations, OperationsEvent, ReplyId};
pub use request::{
    Answer, Changed, ConferenceRequest, DomainStatus, GivenControl, NewMember, Orphan, OrphanFate, Refusal,
    RefusalKind, Refused, Reply, Request, StartMeeting, Started, Status, is_unprintable, object,
};
pub use view::{Census, MeetingRow, MeetingView, PartRow, TableDump, TerminalRow, View};
