//! What a recovery was like: for `baton recovery last`, the status page and the tests.

use serde::{Deserialize, Serialize};

use super::path::Path;
use super::phase::Phase;
use crate::time::Nanos;
use crate::wire::{Domain, Epoch, MeetingId};

/// When each thing happened first. None: not yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Timeline {
    /// The machine began.
    pub began: Nanos,
    /// CONNECT_ACK came.
    pub connected: Option<Nanos>,
    /// The listing was complete.
    pub listed: Option<Nanos>,
    /// The first TAKEOVER_BATCH was handed out to be sent.
    pub first_takeover: Option<Nanos>,
    /// Every takeover was answered.
    pub all_acknowledged: Option<Nanos>,
    /// Every meeting taken over was updated backwards.
    pub updated: Option<Nanos>,
    /// The audit agreed.
    pub reconciled: Option<Nanos>,
    /// What terminals did since the snapshot was asked for, of all that came from it.
    pub refreshed: Option<Nanos>,
}

/// How far one machine is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Meetings that the autonomous server said it holds.
    pub held: Option<u32>,
    /// Meetings whose takeover was asked for.
    pub asked: u32,
    /// Meetings taken over.
    pub taken_over: u32,
    /// Meetings updated backwards.
    pub updated: u32,
    /// Meetings whose terminals were asked for after both sides agreed, because they were what a
    /// snapshot said.
    #[serde(default)]
    pub refreshed: u32,
    /// Meetings that it does not have.
    pub missing: u32,
    /// Meetings that we do not know.
    pub orphans: u32,
    /// Meetings whose start or end is to be finished.
    pub unfinished: u32,
    /// Meetings whose takeover it refused.
    pub refused: u32,
    /// Requests that were sent more than once.
    pub repeated: u64,
    /// Times that it was busy.
    pub busy: u64,
    /// Audits that differed.
    pub differing: u32,
    /// Records of its lists that cannot be, and were dropped.
    pub malformed: u64,
    /// Records of its lists about terminals that are not its own, and were dropped.
    pub foreign: u64,
}

/// A whole recovery, over all autonomous servers. Times are nanoseconds since it began.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Cache, snapshot or database.
    pub path: Path,
    /// The epoch that it was done under.
    pub epoch: Epoch,
    /// `CLOCK_MONOTONIC` when it began, nanoseconds.
    pub began_ns: u64,
    /// The first takeover frame of all.
    pub first_takeover_ns: Option<u64>,
    /// Every takeover everywhere answered.
    pub all_acknowledged_ns: Option<u64>,
    /// Every audit agreed.
    pub reconciled_ns: Option<u64>,
    /// Each autonomous server, by its domain.
    pub servers: Vec<ServerReport>,
}

/// What all autonomous servers together have reached, in nanoseconds since the recovery began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moments {
    /// The first takeover frame of all.
    pub first_takeover_ns: Option<u64>,
    /// Every takeover everywhere answered.
    pub all_acknowledged_ns: Option<u64>,
    /// Every audit agreed.
    pub reconciled_ns: Option<u64>,
}

/// The recovery of one autonomous server. Times are nanoseconds since the recovery began.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServerReport {
    /// Whose autonomous server it is about.
    pub domain: Domain,
    /// How far it is.
    pub phase: Phase,
    /// Under which epoch another dispatch server controls it: nothing is sent to it any more.
    pub fenced_by: Option<Epoch>,
    /// CONNECT_ACK came.
    pub connected_ns: Option<u64>,
    /// The listing was complete.
    pub listed_ns: Option<u64>,
    /// The first takeover frame.
    pub first_takeover_ns: Option<u64>,
    /// Every takeover answered.
    pub all_acknowledged_ns: Option<u64>,
    /// Every meeting updated.
    pub updated_ns: Option<u64>,
    /// The audit agreed.
    pub reconciled_ns: Option<u64>,
    /// Terminals of what came from a snapshot were asked for.
    #[serde(default)]
    pub refreshed_ns: Option<u64>,
    /// Counts.
    #[serde(flatten)]
    pub progress: Progress,
    /// The first of the meetings that it does not have, ascending; `missing` counts all.
    pub missing_meetings: Vec<MeetingId>,
    /// The first of the meetings that we do not know, ascending; `orphans` counts all.
    pub orphan_meetings: Vec<MeetingId>,
}
