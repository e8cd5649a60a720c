//! Why an operation does not begin, or is not done: refusals that several verbs have in common.

use crate::cms::{Changed, ConferenceAnswer, Refusal, RefusalKind};
use crate::database::CommitError;
use crate::wire::{Domain, Epoch, MeetingId, Status};

/// Why an operation does not begin now.
#[derive(Debug)]
pub(super) enum NotNow {
    Wait(Waiting),
    Refuse(Refusal),
}

impl From<Refusal> for NotNow {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}

/// What an operation that has not begun waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Waiting {
    #[default]
    Turn,
    Database,
    TakeOver(Domain),
    /// Fewer commands under way.
    Room,
}

impl Waiting {
    /// The answer to a client whose request waited for this until its deadline.
    pub fn refusal(self) -> Refusal {
        let (what, remedy) = match self {
            Self::Turn => ("earlier operations on this conference took all the time".to_owned(), "ask again"),
            Self::Database => ("the database is not open yet".to_owned(), "see `baton status`, and ask again"),
            Self::TakeOver(domain) => (
                format!("the conference is not taken over in domain {domain} yet"),
                "see `baton status`, and ask again",
            ),
            Self::Room => ("too many commands are waiting".to_owned(), "ask again"),
        };
        Refusal::new(RefusalKind::Busy, what, remedy)
    }
}

pub(super) fn bad(what: impl Into<String>, remedy: &str) -> Refusal {
    Refusal::new(RefusalKind::BadRequest, what, remedy)
}

/// What an autonomous server's status means to the client.
pub(super) fn declined(domain: Domain, what: &str, status: Status) -> Refusal {
    let (kind, remedy) = match status {
        Status::Capacity => (RefusalKind::Capacity, "end conferences there, or give that autonomous server more room"),
        Status::Conflict => (RefusalKind::Conflict, "take the terminal out of its other conference first"),
        Status::UnknownTerminal => (RefusalKind::NotFound, "see `baton meeting show` for who is in it"),
        Status::UnknownMeeting => {
            (RefusalKind::Declined, "see `baton status`: the conference is missing there; end it and start it again")
        }
        _ => (RefusalKind::Declined, "see the autonomous server's own log"),
    };
    Refusal::new(kind, format!("the autonomous server of domain {domain} answered \"{status}\" to {what}"), remedy)
}

/// Another dispatch server controls a domain.
pub(super) fn controlled_elsewhere(domain: Domain, by: Epoch) -> Refusal {
    let what = format!("another dispatch server controls domain {domain}, under epoch {by}");
    Refusal::new(RefusalKind::NotInControl, what, "ask that one, or take the domain back: `baton control take`")
}

/// Another dispatch server controls everything.
pub(super) fn not_in_control(highest: Epoch) -> Refusal {
    let what = format!("another dispatch server controls, under epoch {highest}");
    Refusal::new(RefusalKind::NotInControl, what, "ask that one")
}

pub(super) fn unconfigured(domain: Domain) -> Refusal {
    let what = format!("domain {domain} is not in the configuration");
    Refusal::new(RefusalKind::NotFound, what, "add the domain to the configuration")
}

pub(super) fn undurable(error: &CommitError) -> Refusal {
    Refusal::new(RefusalKind::Database, error.to_string(), "see `baton status` and the log for what the disk says")
}

/// The autonomous servers of these domains did not answer in time.
pub(super) fn unreachable(domains: &[Domain], remedy: &str) -> Refusal {
    let domains: Vec<_> = domains.iter().map(|domain| domain.to_string()).collect();
    let (plural, verb) = if domains.len() == 1 { ("", "does") } else { ("s", "do") };
    let what = format!("the autonomous server{plural} of domain{plural} {} {verb} not answer", domains.join(", "));
    Refusal::new(RefusalKind::Unreachable, what, remedy)
}

/// The answer where a conference is over, or an errand was done already.
pub(super) fn nothing_left(meeting: MeetingId) -> ConferenceAnswer {
    ConferenceAnswer::Changed(Changed { meeting, parts: Vec::new(), refused: Vec::new() })
}
