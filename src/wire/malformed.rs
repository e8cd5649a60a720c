//! What can be wrong with a frame.

use super::Status;

/// What is wrong with a frame: a value to be counted, by kind.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Malformed {
    /// Shorter than its packet.
    #[error("shorter than its packet")]
    Short,
    /// Another EtherType: not V2V, the kernel's.
    #[error("another EtherType")]
    EtherType,
    /// The packet type is none of wire.md's.
    #[error("unknown packet type")]
    PacketType,
    /// Another protocol version. Answered UNSUPPORTED_VERSION where an autonomous server gets it.
    #[error("another version")]
    Version,
    /// An opcode that is none of wire.md's.
    #[error("unknown opcode")]
    Opcode,
    /// A known opcode in the payload that is not its own.
    #[error("an opcode in the wrong payload")]
    Payload,
    /// A field bears a value that its table does not have.
    #[error("a value out of its table")]
    Value,
    /// A page number at or beyond the number of pages, or more records than a page holds.
    #[error("a page that cannot be")]
    Page,
    /// A record reaches past its page or says more information than there may be.
    #[error("a record past its page")]
    Record,
}

impl Malformed {
    /// Every kind, for counters.
    pub const ALL: [Self; 9] = [
        Self::Short,
        Self::EtherType,
        Self::PacketType,
        Self::Version,
        Self::Opcode,
        Self::Payload,
        Self::Value,
        Self::Page,
        Self::Record,
    ];

    /// What an autonomous server answers, if the frame was authentic and asked something.
    pub const fn status(self) -> Status {
        match self {
            Self::Version => Status::UnsupportedVersion,
            _ => Status::Malformed,
        }
    }
}
