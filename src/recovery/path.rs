//! Where a recovery looks meetings up.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a recovery looks meetings up: decided by fact (boot id, layout, an intact header), not by
/// guess.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Path {
    /// The table lives: the dispatch server's process died, its cache did not.
    Cache,
    /// It does not, and a snapshot of it is there: what of that the database confirms warms the new
    /// table.
    Snapshot,
    /// There is neither: the dispatch server was restarted in the method's sense, and the database
    /// alone serves.
    Database,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cache => "cache",
            Self::Snapshot => "snapshot",
            Self::Database => "database",
        })
    }
}
