//! The V2V 2.0 wire format: bytes ⇄ types, no I/O.
//!
//! ```text
//! dst MAC 6 │ src MAC 6 │ [802.1Q 4] │ EtherType 2 │ DA 8 │ SA 8 │ rsv 2 │ [label 4] │ payload 64 or 1056
//! ```
//!
//! What always holds: a frame is read through checked views of the bytes that arrived. Nothing in a
//! frame can make this module panic, read out of bounds or allocate; a fault in it is a
//! [`Malformed`] value to be counted. Encoding writes into the caller's buffer and cannot run out
//! of room, because the types bound all sizes.
//!
//! [`Frame::parse`] finds the packet, [`Frame::authentic`] checks its tag, [`Frame::message`] reads
//! a protocol payload's body, [`Records`] walks a data payload's page.

mod address;
pub mod epoch_with_text;
mod frame;
mod generator;
mod info;
mod malformed;
mod message;
mod page;
mod payload;
mod pdu;
mod records;
mod report;
mod tag;
mod terminal_state;
#[cfg(test)]
mod tests;
mod transaction;
mod values;

pub use address::{Address, Domain, Mac, MeetingId, Run};
pub use frame::{DEFAULT_ETHERTYPE, Envelope, Frame, encode_message, encode_page};
pub(crate) use frame::{seal_with, unsealed};
pub use generator::GeneratorProbe;
pub use info::Info;
pub use malformed::Malformed;
pub use message::Message;
pub use page::Record;
pub use payload::PacketType;
pub use pdu::{Epoch, FlagsHeader, Header, Opcode, VERSION};
pub use records::{Link, LinkKind, MeetingSummary, Page, Records, ReportAck, TakeoverEntry, TakeoverResult};
pub use report::Report;
pub(crate) use tag::{Covered, TAG_BYTES};
pub use tag::{Direction, Key, Secret, TagKey, digest_of, mix};
pub use terminal_state::TerminalState;
pub use transaction::Transaction;
pub use values::{Business, Decode, Flags, Layout, Level, MeetingState, Role, Status, StreamKind, WINDOW_NONE};
