//! The database, as recovery reads it and writes it back.

use crate::database::{Change, Database, KeyParameters, LastCommit, PartParameters};
use crate::wire::{Domain, MeetingId, Run};

/// The database cannot be read: it is not open yet, or the disk failed. Nothing follows from that
/// about any meeting.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the database cannot be read just now")]
pub struct Unreadable;

/// What the database says of a meeting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Held {
    /// These are its key parameters.
    Alive(Box<KeyParameters>),
    /// It has ended, and was this one of those that bear its number.
    Ended(Run),
    /// It was never there.
    Unknown,
}

/// Key parameters of meetings, to be read now and written soon.
pub trait KeyStore {
    /// What is known of a meeting.
    fn meeting(&self, meeting: MeetingId) -> Result<Held, Unreadable>;

    /// The part of this domain with the lowest id from `first` on.
    fn next_part(&self, domain: Domain, first: MeetingId) -> Result<Option<(MeetingId, PartParameters)>, Unreadable>;

    /// The meetings that have a part in this domain, by ascending id from `first` on, at most
    /// `limit`.
    fn meetings_in(&self, domain: Domain, first: MeetingId, limit: usize) -> Result<Vec<MeetingId>, Unreadable>;

    /// What the last commit left, for many look-ups.
    fn last_commit(&self) -> Result<LastCommit, Unreadable>;

    /// A part and the digest of its members ([`crate::database::Member::digest`]), as they are
    /// kept; none where there is no such part.
    fn kept(&self, meeting: MeetingId, domain: Domain) -> Result<Option<(PartParameters, u64)>, Unreadable>;

    /// Whether nothing can ever be read.
    fn is_lost(&self) -> bool {
        false
    }

    /// Has all of this written or none, in the order of the calls. Does not wait.
    fn write(&mut self, changes: Vec<Change>);
}

/// The database behind [`KeyStore`]: reads go to it, writes to a function that has them committed.
pub struct DatabaseStore<'a, W> {
    /// None while another process still has it open.
    pub database: Option<&'a Database>,
    /// It was refused, and nobody waits for it.
    pub is_lost: bool,
    /// Takes one commit.
    pub write: W,
}

impl<W: FnMut(Vec<Change>)> KeyStore for DatabaseStore<'_, W> {
    fn meeting(&self, meeting: MeetingId) -> Result<Held, Unreadable> {
        let database = self.database.ok_or(Unreadable)?;
        if let Some(parameters) = database.meeting(meeting).map_err(|_| Unreadable)? {
            return Ok(Held::Alive(Box::new(parameters)));
        }
        Ok(database.ended(meeting).map_err(|_| Unreadable)?.map_or(Held::Unknown, Held::Ended))
    }

    fn is_lost(&self) -> bool {
        self.is_lost
    }

    fn next_part(&self, domain: Domain, first: MeetingId) -> Result<Option<(MeetingId, PartParameters)>, Unreadable> {
        let parts = self.database.ok_or(Unreadable)?.parts_in(domain, first, 1).map_err(|_| Unreadable)?;
        Ok(parts.into_iter().next())
    }

    fn meetings_in(&self, domain: Domain, first: MeetingId, limit: usize) -> Result<Vec<MeetingId>, Unreadable> {
        self.database.ok_or(Unreadable)?.meetings_in(domain, first, limit).map_err(|_| Unreadable)
    }

    fn last_commit(&self) -> Result<LastCommit, Unreadable> {
        self.database.ok_or(Unreadable)?.last_commit().map_err(|_| Unreadable)
    }

    fn kept(&self, meeting: MeetingId, domain: Domain) -> Result<Option<(PartParameters, u64)>, Unreadable> {
        self.database.ok_or(Unreadable)?.part(meeting, domain).map_err(|_| Unreadable)
    }

    fn write(&mut self, changes: Vec<Change>) {
        (self.write)(changes);
    }
}
