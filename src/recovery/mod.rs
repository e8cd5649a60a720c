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
mod alarms;
mod audit;
mod connect;
mod database;
mod entering;
mod event;
mod kept;
mod listing;
mod lookup;
mod meetings;
mod members;
mod orphans;
mod path;
mod phase;
mod pulse;
// The type and its room have the same word.
#[allow(clippy::module_inception)]
mod recovery;
mod refresh;
mod report;
mod request;
mod retry;
mod server;
mod settings;
mod shared;
mod state;
mod step;
mod store;
mod sweep;
mod table_store;
mod takeover;
#[cfg(test)]
mod tests;
mod update;
mod warm;
mod warming;

pub use database::{DatabaseStore, Held, KeyStore, Unreadable};
pub use event::Event;
pub use path::Path;
pub use phase::Phase;
pub use pulse::Heard;
pub use recovery::Recovery;
pub use report::{Moments, Progress, Report, ServerReport, Timeline};
pub use request::{Body, Request, Wanted};
pub use server::ServerRecovery;
pub use settings::{Orphans, Settings};
pub use store::{Absence, Cursor, Listed, Lookup, Meet, NoOrphans, OrphanList, Standing, Store, Written};
pub use table_store::TableStore;
pub use warming::{Warmed, Warming};
