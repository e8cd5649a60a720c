//! The contestants. Each is used in the best way that it has for many updates.

mod lmdb;
mod maps;
mod ours;
mod store;

use std::path::Path;

use clap::ValueEnum;
use serde::Serialize;

pub use store::Store;

use crate::Failure;

/// A contestant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Baton's table on huge pages (hugetlbfs), a burst at a time, as a worker uses it.
    Table,
    /// The same on tmpfs.
    TableTmpfs,
    /// The same on the heap.
    TableHeap,
    /// The table on huge pages, one report after the other, nothing fetched ahead.
    TableSingly,
    /// DashMap, `get_mut`.
    Dashmap,
    /// papaya with a lock in each value, so that a record is changed where it lies.
    PapayaLocks,
    /// papaya, `update`: a new value for each change.
    Papaya,
    /// `scc::HashMap`, `update_sync`.
    Scc,
    /// LMDB with a writable map on tmpfs, without syncing, ten thousand updates a transaction.
    Lmdb,
}

impl Kind {
    /// What it is called in tables and targets.
    pub fn name(self) -> String {
        self.to_possible_value().expect("no contestant is hidden").get_name().to_owned()
    }

    /// Whether two threads can update it beside each other.
    pub fn takes_two_writers(self) -> bool {
        self != Self::Lmdb
    }
}

/// Makes a contestant with so many terminals. `folder` is an empty one of its own, on the memory
/// that it is about.
pub fn make(kind: Kind, records: u32, folder: &Path) -> Result<Box<dyn Store>, Failure> {
    Ok(match kind {
        Kind::Table | Kind::TableTmpfs => Box::new(ours::Ours::mapped(records, folder, true)?),
        Kind::TableHeap => Box::new(ours::Ours::on_heap(records)?),
        Kind::TableSingly => Box::new(ours::Ours::mapped(records, folder, false)?),
        Kind::Dashmap => Box::new(maps::Dash::new(records)),
        Kind::PapayaLocks => Box::new(maps::PapayaLocks::new(records)),
        Kind::Papaya => Box::new(maps::Papaya::new(records)),
        Kind::Scc => Box::new(maps::Scc::new(records)),
        Kind::Lmdb => Box::new(lmdb::Lmdb::new(records, folder)?),
    })
}
