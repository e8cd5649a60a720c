//! The stores, each as its users would have it: settings as they come, but for what makes a write
//! durable before it is acknowledged.

mod kamailio;
mod lmdb;
mod redb;
mod redis;
mod sqlite;
mod table;

use std::fmt;
use std::path::Path;
use std::process::Command;

use baton::sys::clock;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::records::{Meeting, Member, Tally};

/// A failure of any part: it ends the run, and is printed.
pub type Failure = Box<dyn std::error::Error>;

/// Meetings that are written, and made durable, at once.
pub const BATCH: u64 = 1_000;

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Baton's table.
    Baton,
    /// LMDB, through heed.
    Lmdb,
    /// redb.
    Redb,
    /// SQLite, through rusqlite.
    Sqlite,
    /// Redis with its append-only file.
    RedisAof,
    /// Redis with its snapshot.
    RedisRdb,
    /// Kamailio's dialog module.
    Kamailio,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.to_possible_value().expect("none is hidden").get_name())
    }
}

/// A store that is open in a process of its own, as who fills it or who comes after.
pub trait Store {
    /// Writes the meetings from number 0 on. On return they are acknowledged.
    fn fill(&mut self, meetings: u64) -> Result<(), Failure>;

    /// Reads the first meeting, then all meetings, then all members. What is decoded is handed to
    /// the reading and nothing is kept.
    fn read(&mut self, meetings: u64, reading: &mut Reading) -> Result<(), Failure>;

    /// Writes meeting 0 once more, as it is: the process that is killed next has written.
    fn touch(&mut self) -> Result<(), Failure>;
}

impl Kind {
    /// Opens it in its folder, which is new where it is to be filled.
    pub fn open(self, folder: &Path, fill: Option<u64>) -> Result<Box<dyn Store>, Failure> {
        Ok(match self {
            Self::Baton => Box::new(table::Shared::open(folder, fill)?),
            Self::Lmdb => Box::new(lmdb::Lmdb::open(folder)?),
            Self::Redb => Box::new(redb::Redb::open(folder)?),
            Self::Sqlite => Box::new(sqlite::Sqlite::open(folder, fill.is_some())?),
            Self::RedisAof | Self::RedisRdb => Box::new(redis::Client::connect(folder, self == Self::RedisRdb)?),
            Self::Kamailio => Box::new(kamailio::Dialogs::new(folder)),
        })
    }

    /// The server that holds it, where a process that reads has none of it itself.
    pub fn server(self, folder: &Path) -> Result<Option<Command>, Failure> {
        match self {
            Self::RedisAof | Self::RedisRdb => Ok(Some(redis::server(folder, self == Self::RedisRdb))),
            Self::Kamailio => kamailio::server(folder).map(Some),
            _ => Ok(None),
        }
    }

    /// Whether it is filled through its server.
    pub fn fills_through_server(self) -> bool {
        matches!(self, Self::RedisAof | Self::RedisRdb)
    }

    /// Whether it holds members: a SIP dialog has its two ends and no more.
    pub fn holds_members(self) -> bool {
        self != Self::Kamailio
    }
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
    pub fn first(&mut self, meeting: &Meeting) {
        self.first = std::hint::black_box(meeting.id);
        self.first_ns = clock::now().0;
    }

    /// A meeting was read.
    #[inline]
    pub fn meeting(&mut self, meeting: &Meeting) {
        self.tally.meeting(meeting);
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
