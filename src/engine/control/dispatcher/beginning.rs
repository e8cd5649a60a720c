//! What a dispatcher begins with: everything that a take-over has by the time its first frames are
//! out.

use super::journal::Journal;
use crate::cascade::Topology;
use crate::database::Opened;
use crate::recovery::{Path, Recovery, Warming};
use crate::table::Writer;
use crate::wire::Epoch;

/// What a dispatcher begins with.
pub(crate) struct Beginning {
    /// By which path it recovers.
    pub path: Path,
    /// Under which it controls. Nobody else has it, durably.
    pub epoch: Epoch,
    /// What V2V frames bear on this site.
    pub ethertype: u16,
    pub topology: Topology,
    /// Begun already, where the first frames are out.
    pub recovery: Recovery,
    /// What the first frames' walk found to be written.
    pub journal: Journal,
    pub writer: Writer,
    /// The database, where it is open already because the epoch had to come from it.
    pub opened: Option<Opened>,
    /// The snapshot that a new table is warmed from, or why there is none.
    pub warming: Option<Warming>,
    /// What runs of conferences are drawn from: a random number, another one for each engine.
    pub runs: u64,
}
