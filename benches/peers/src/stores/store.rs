//! What every store can do, and what is read from it.

use baton::sys::clock;

use crate::records::{Key, Member, Tally};

/// A failure of any part: it ends the run, and is printed.
pub type Failure = Box<dyn std::error::Error>;

/// Meetings that are written, and made durable, at once.
pub const BATCH: u64 = 1_000;

/// A store that is open in a process of its own, as who fills it or who comes after.
pub trait Store {
    /// Writes the meetings from number 0 on. On return they are acknowledged.
    fn fill(&mut self, meetings: u64) -> Result<(), Failure>;

    /// Reads number, version and level of the first meeting, then of all meetings, then all
    /// members. What is decoded is handed to the reading and nothing is kept.
    fn read(&mut self, meetings: u64, reading: &mut Reading) -> Result<(), Failure>;

    /// Writes meeting 0 once more, as it is: the process that is killed next has written.
    fn touch(&mut self) -> Result<(), Failure>;
}

/// What a successor has read, and when; nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Default)]
pub struct Reading {
    /// What it has read.
    pub tally: Tally,
    /// The first meeting was read, without its members.
    pub first_ns: u64,
    /// The last meeting was.
    pub meetings_ns: u64,
    /// The last member was.
    pub members_ns: u64,
    first: u64,
}

impl Reading {
    /// The first meeting was read. It counts with the others, later.
    pub fn first(&mut self, key: Key) {
        self.first = std::hint::black_box(key.id);
        self.first_ns = clock::now().0;
    }

    /// A meeting was read.
    #[inline]
    pub fn meeting(&mut self, key: Key) {
        self.tally.meeting(key);
    }

    /// All meetings were.
    pub fn meetings_done(&mut self) {
        self.tally = std::hint::black_box(self.tally);
        self.meetings_ns = clock::now().0;
    }

    /// A member was read.
    #[inline]
    pub fn member(&mut self, member: &Member) {
        self.tally.member(member);
    }

    /// All members were.
    pub fn members_done(&mut self) {
        self.tally = std::hint::black_box(self.tally);
        self.members_ns = clock::now().0;
    }
}
