//! Recovery: how a dispatch server gets its control of the conferences back.
//!
//! A conference goes on in the autonomous servers whether the dispatch server lives or not. The
//! method has four steps, a file each: `lookup` learns which meetings an autonomous server holds
//! and looks each up in the cache or the database; `connect` sets up the link; `takeover` asks for
//! control; `update` writes backwards what the autonomous server says now over what cache and
//! database said then. `audit` proves that both sides agree.
//!
//! ```text
//! cache path      TAKEOVER_BATCH ─ CONNECT ─ TAKEOVER_BATCH… ──────────────────────── REPLAY_DONE ─ AUDIT
//!                                   where the number held differs: INFO_QUERY… ┐
//!                        where version or number of members does: STATE_QUERY… ┘
//! database path   CONNECT ─ INFO_QUERY… ─ TAKEOVER_BATCH… ─ STATE_QUERY… ─ REPLAY_DONE ─ AUDIT
//! ```
//!
//! A living cache is believed as far as counts and versions agree, and proven by the audit: one
//! that agrees costs takeover pages and an audit, and nothing else. An audit that differs brings a
//! listing, and STATE of the meetings whose version differs. What came from the database may be
//! older than the autonomous servers' word, so it is in doubt, and all of its STATE is asked for.
//! So is that of all meetings where the autonomous server has restarted, and that of a part which a
//! death left in doubt, its version written and its members not.
//!
//! What always holds here: no I/O, no clock, no randomness; time is an argument. Nothing is taken
//! from absence: a meeting that a listing lacks is asked for by name, and only the autonomous
//! server's own UNKNOWN_MEETING makes it missing. What a record says counts for the domain alone
//! whose server sent it; one that cannot be is dropped, and told, and nothing waits for it.
//! Agreement is proven again and again (`agreement`, `audit`). Every request is repeated with
//! growing pauses until it is answered, for a link may be down for long; every effect is
//! idempotent, so a second answer, or a second death in the midst, changes nothing.
//!
//! [`ServerRecovery`] is the machine for one autonomous server, [`Recovery`] drives one for each.

mod agreement;
mod ask;
mod audit;
mod connect;
mod database;
mod event;
mod kept;
mod lookup;
mod orphans;
// The type and its room have the same word.
#[allow(clippy::module_inception)]
mod recovery;
mod report;
mod retry;
mod server;
mod settings;
mod state;
mod store;
mod table_store;
mod takeover;
#[cfg(test)]
mod tests;
mod told;
mod update;

use serde::{Deserialize, Serialize};

pub use agreement::Heard;
pub use database::{DatabaseStore, Held, KeyStore, Unreadable};
pub use event::{Body, Event, Request};
pub use recovery::Recovery;
pub use report::{Moments, Progress, Report, ServerReport, Timeline};
pub use server::ServerRecovery;
pub use settings::{Orphans, Settings};
pub use store::{Absence, Cursor, Listed, Lookup, Meet, NoOrphans, OrphanList, Standing, Store, Written};
pub use table_store::TableStore;
pub use takeover::Wanted;

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
