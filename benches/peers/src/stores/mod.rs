//! The stores, each as its users would have it: settings as they come, but for what makes a write
//! durable before it is acknowledged.

mod kamailio;
mod lmdb;
mod redb;
mod redis;
mod sqlite;
mod store;
mod table;

use std::fmt;
use std::path::Path;
use std::process::Command;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub use store::{BATCH, Failure, Reading, Store};

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Baton's table.
    Baton,
    /// LMDB, through heed.
    Lmdb,
    /// An embedded database of B-trees, as Baton uses it.
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
