//! What a dispatcher wants done besides frames, commits and answers.

use std::time::Duration;

use crate::cascade::Hop;
use crate::cms::Refusal;
use crate::database::{CommitError, DatabaseError};
use crate::handover::Upgrading;
use crate::recovery::{self, Warmed};
use crate::table::TableError;
use crate::table::archive::SnapshotFault;
use crate::wire::{Address, Domain, Envelope, Epoch, Header, Key, MeetingId, Message, encode_message};

/// Something for the log. Nothing follows from it: what does was decided before.
#[derive(Debug)]
pub enum Event {
    /// The autonomous server answers heartbeats.
    LinkUp(Domain),
    /// It does not, though it is known where it is.
    LinkDown(Domain),
    /// It does not, and no frame of it has shown where it is.
    LinkUnknown(Domain),
    /// Frames to the domain go there from now on.
    NextHop(Domain, Hop),
    /// Recovery's own.
    Recovery(recovery::Event),
    /// What must come to be, and no client waits for, could not be done, and is tried again.
    Unfinished {
        /// Of which conference.
        meeting: MeetingId,
        /// Why not.
        why: Refusal,
        /// When it is tried again.
        pause: Duration,
    },
    /// Something about a conference that somebody should look at.
    Warning {
        /// Which.
        meeting: MeetingId,
        /// In words.
        what: String,
    },
    /// Another dispatch server controls the domain, under this epoch.
    GivenUp(Domain, Epoch),
    /// The table has no room to say so.
    FenceNotKept(Domain),
    /// An operator has given this server control: the epoch of the next engine.
    ControlGiven(Epoch),
    /// An operator asked for control, and the database gives none.
    ControlRefused(CommitError),
    /// A terminal's additional information finds no room, though the table has some for so many.
    Full {
        /// Whose.
        terminal: Address,
        /// Terminals that may have more than fits their slots.
        room: u32,
    },
    /// As many of them were named as are named.
    FullNamed,
    /// The damaged record of a part was thrown away, and is written anew.
    PartReplaced(Domain, MeetingId),
    /// The damaged record of a part that neither side has was thrown away. Its meeting, where that
    /// could be read.
    PartDiscarded(Domain, Option<MeetingId>),
    /// It could not be thrown away.
    PartsNotDiscarded(Domain, TableError),
    /// The damaged record of a terminal was thrown away. The meeting that it was in, where that
    /// could be read.
    TerminalDiscarded(Address, Option<MeetingId>),
    /// It could not be thrown away.
    TerminalNotDiscarded(Address, TableError),
    /// The table holds all that the database holds, and was warmed from a snapshot, or was to be.
    Warmed(Warmed),
    /// The snapshot cannot be read any further: the database serves.
    SnapshotRefused(SnapshotFault),
    /// Another process has the database.
    DatabaseHeld(DatabaseError),
    /// The database cannot be opened. It is tried again.
    DatabaseLost(DatabaseError),
    /// The database, which could not be opened, is open.
    DatabaseOpen,
    /// It is open and cannot be written.
    DatabaseUnwritable(CommitError),
    /// It is written again.
    DatabaseWritable,
    /// An update of recovery's was not written.
    UpdateNotWritten(CommitError),
    /// No generations were reserved ahead.
    NoneReserved(CommitError),
    /// The keeper has ordered the hand-over.
    HandingOver(Upgrading),
    /// It has taken the order back.
    NotHandingOver {
        /// Why, in the keeper's words.
        why: String,
    },
}

/// Something that workers are to see from now on, before anything more is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WorkerChange {
    /// Another dispatch server controls the domain: its terminals are told nothing more.
    Fence(Domain),
    /// The table holds all of the domain's terminals.
    Settle(Domain),
    /// Next hops have changed.
    NextHops,
    /// Enough terminals that found no room were named.
    NamedEnough,
}

/// Why an engine ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The keeper has ordered it: the table's snapshot is written.
    Stopped,
    /// For the next engine, which takes the table over.
    Leaves,
    /// Another dispatch server controls, under this epoch. No engine may follow.
    Fenced(Epoch),
}

/// A frame to be sent to an autonomous server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// Whose.
    pub domain: Domain,
    /// From which interface to where.
    pub envelope: Envelope,
    /// What it says.
    pub body: Body,
}

/// What a frame says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// A heartbeat, its answer, or a command.
    Message(Header, Message),
    /// A question of recovery's.
    Recovery(recovery::Request),
}

impl Transmit {
    /// Writes it as a frame with a tag by this key; gives its length.
    ///
    /// # Panics
    /// If `buffer` is shorter than [`crate::limits::FRAME_BYTES_MAX`].
    pub fn encode(&self, buffer: &mut [u8], key: &Key) -> usize {
        match &self.body {
            Body::Message(header, message) => encode_message(buffer, &self.envelope, header, message, key),
            Body::Recovery(request) => request.encode(buffer, &self.envelope, key),
        }
    }
}
