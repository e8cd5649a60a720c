//! How far a machine is, in a word.

use serde::{Deserialize, Serialize};

/// What the machine for one autonomous server is doing: of what overlaps, the first that is not
/// done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// CONNECT is not answered yet.
    Connecting,
    /// Takeovers are outstanding, or on the database path what is to be taken over is not known
    /// yet.
    TakingOver,
    /// Listing or updating backwards.
    Updating,
    /// REPLAY_DONE is not answered yet.
    Auditing,
    /// Both sides agree.
    Reconciled,
    /// They do not, after several rounds. Further rounds follow, with pauses.
    Differing,
    /// Somebody else controls this domain, under a higher epoch: nothing is sent to it any more.
    Stale,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Connecting => "connecting",
            Self::TakingOver => "taking over",
            Self::Updating => "updating",
            Self::Auditing => "auditing",
            Self::Reconciled => "reconciled",
            Self::Differing => "differing",
            Self::Stale => "stale",
        })
    }
}
