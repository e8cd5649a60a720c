//! What a client asks the control thread for, and what it is told.

use serde::{Deserialize, Serialize};

use super::Status;
use crate::cms::{ConferenceAnswer, ConferenceRequest, Refusal};
use crate::handover::{UpgradeForm, Upgrading};
use crate::wire::{Domain, Epoch, Level, MeetingId, MeetingState};

/// What a client asks the control thread for. Listings are read from the table without it: see
/// [`crate::api::View`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Do something to a conference: [`crate::cms::Operations`] does it.
    Conference(ConferenceRequest),
    /// How the server does.
    Status,
    /// The report of the last recovery.
    RecoveryLast,
    /// Meetings that autonomous servers hold and we do not know.
    Orphans,
    /// Adopt or end one of them.
    Orphan {
        /// Which.
        meeting: MeetingId,
        /// What is to become of it.
        become_of: OrphanFate,
    },
    /// Hand over to the program as it is on disk now.
    Upgrade(UpgradeForm),
    /// Give this server a term above every epoch that is known of.
    TakeControl,
}

/// What an operator has become of an orphan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OrphanFate {
    /// It becomes a conference of ours.
    Adopted,
    /// It is ended at its autonomous server.
    Ended,
}

/// What became of a request.
pub type Reply = Result<Answer, Refusal>;

/// What a client is told when its request is done: durable, and known to the autonomous servers.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// It is done to the conference.
    Conference(ConferenceAnswer),
    /// How the server does.
    Status(Box<Status>),
    /// The report of the last recovery, `null` where there was none.
    Recovery(serde_json::Value),
    /// What autonomous servers hold and we do not know.
    Orphans(Vec<Orphan>),
    /// The hand-over begins.
    Upgrading(Upgrading),
    /// The next engine controls under this epoch.
    Control(GivenControl),
}

/// Control that an operator gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GivenControl {
    /// The first epoch of the new term.
    pub epoch: Epoch,
}

/// A meeting that an autonomous server holds and we do not know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Orphan {
    /// Which.
    pub meeting: MeetingId,
    /// Where.
    pub domain: Domain,
    /// What it is in there.
    pub state: MeetingState,
    /// Its level.
    pub level: Level,
    /// Members there.
    pub participants: u16,
    /// Under which epoch it was taken last.
    pub controller: Epoch,
}
