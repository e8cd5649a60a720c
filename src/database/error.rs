//! What can go wrong with a commit, and who is at fault.

use crate::wire::{Domain, Epoch, MeetingId};

/// Why a commit wrote nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is about")]
pub enum CommitError {
    /// A newer dispatch server has written: we are not in control any more.
    #[error("the database was written under epoch {highest}, above this one: another dispatch server controls")]
    StaleEpoch { highest: Epoch },
    /// The id of a new conference is in use.
    #[error("{0:?} exists already")]
    Exists(MeetingId),
    /// A change to a conference that the database does not have.
    #[error("{0:?} is not in the database")]
    Unknown(MeetingId),
    /// The disk or file system failed; nothing of the commit is promised.
    #[error("the database could not be written: {0}")]
    Storage(String),
    /// The generations of the term are used up, and a higher term would pass a fence that an
    /// operator is to lift.
    #[error(
        "the generations of term {term} are used up, and domain {domain} is controlled by another dispatch server under \
         epoch {by}: `baton control take` gives this one a higher term"
    )]
    Fenced { term: u32, domain: Domain, by: Epoch },
    /// The highest term that is known is the last one that there is.
    #[error(
        "there is no term above {highest}, which an autonomous server says that it has seen: see `baton control show` for \
         which, and what is wrong with it"
    )]
    NoTerm { highest: u32 },
}

impl From<redb::Error> for CommitError {
    fn from(error: redb::Error) -> Self {
        Self::Storage(error.to_string())
    }
}
