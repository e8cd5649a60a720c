//! Where a recovery looks meetings up.

use serde::{Deserialize, Serialize};

/// Where a recovery looks meetings up: decided by fact (boot id, layout, an intact header), not by
/// guess.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Path {
    /// The table lives: the dispatch server's process died, its cache did not.
    Cache,
    /// It does not: the dispatch server was restarted in the method's sense.
    Database,
}
