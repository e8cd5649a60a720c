//! What a client asks the control thread for, and the answers.

use serde::{Deserialize, Serialize};

use super::Status;
use crate::cms::{ConferenceAnswer, ConferenceRequest, Refusal};
use crate::handover::{UpgradeForm, Upgrading};
use crate::wire::{Domain, Epoch, Level, MeetingId, MeetingState};

/// What a client asks the control thread for. Listings are read from the table without it: see
/// [`crate::api::View`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// For [`crate::cms::Operations`].
    Conference(ConferenceRequest),
    /// See [`crate::api::Status`].
    Status,
    /// The report of the last recovery.
    RecoveryLast,
    /// Meetings that autonomous servers hold and we do not know.
    Orphans,
    /// Adopt or end one of them.
    #[expect(missing_docs, reason = "the types say it")]
    Orphan { meeting: MeetingId, become_of: OrphanFate },
    /// Hand over to the program as it is on disk now.
    Upgrade(UpgradeForm),
    /// Give this server a term above every epoch that is known.
    TakeControl,
}

/// What an operator decides about an orphan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OrphanFate {
    /// It becomes a conference of ours.
    Adopted,
    /// It is ended at its autonomous server.
    Ended,
}

/// The answer to a request.
pub type Reply = Result<Answer, Refusal>;

/// The answer when a request is carried out: durable, and known to the autonomous servers.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// To [`Request::Conference`].
    Conference(ConferenceAnswer),
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// The report of the last recovery, `null` where there was none.
    Recovery(serde_json::Value),
    /// To [`Request::Orphans`].
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
#[expect(missing_docs, reason = "as the domain's autonomous server lists it")]
pub struct Orphan {
    pub meeting: MeetingId,
    pub domain: Domain,
    pub state: MeetingState,
    pub level: Level,
    pub participants: u16,
    /// The epoch under which it was taken over last.
    pub controller: Epoch,
}
