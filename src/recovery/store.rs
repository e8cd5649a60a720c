//! What recovery looks up and writes back to: the cache and the database, as one thing.

use super::database::Unreadable;
use crate::wire::{Address, Domain, Epoch, MeetingId, MeetingSummary, Run, TakeoverEntry, TerminalState};

/// Where a walk over the parts of a domain stands. What the number means is the walked thing's own
/// affair; 0 is the beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cursor(pub u64);

/// Gets what a walk meets, and says whether it wants more.
pub type Meet<'a> = &'a mut dyn FnMut(TakeoverEntry, Cursor) -> bool;

/// What is known of a meeting that an autonomous server listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// It is in the cache now, from the cache or the database, at this version.
    Found {
        /// Of the part in this domain.
        version: u64,
        /// The epoch that the part was taken over or started under.
        epoch: Epoch,
    },
    /// Neither holds it: an orphan.
    Unknown,
    /// We hold another conference of that number.
    Another,
    /// The database says that this very conference ended.
    Ended,
    /// The cache lacks it and the database cannot be read yet. It is listed again later.
    NotYet,
    /// The cache lacks it and the database can never be read.
    Unknowable,
    /// The database holds it and the cache has no room for it: an alarm.
    Full,
}

/// What became of an update.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    /// All of it is in the cache.
    Whole,
    /// Another writer held a record just then: it is asked for again.
    Later,
    /// The cache has no room for all of it: an alarm. The rest is in.
    Full,
}

/// What an autonomous server says of the members of a meeting, in answer to a question of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listed<'a> {
    /// Its members, ascending and each once; all of them are terminals of the domain
    /// ([`Store::owns`]).
    pub terminals: &'a [TerminalState],
    /// Members whose records could not be read, ascending: they stay what they are.
    pub unread: &'a [Address],
    /// Whether there may be members that the list does not name.
    pub is_cut: bool,
    /// The versions of the members in the cache when it was asked ([`Store::member_versions`]).
    pub asked: &'a [(Address, u32)],
}

/// The orphans that operators are shown.
pub trait OrphanList {
    /// One was seen, perhaps not for the first time.
    fn note(&mut self, domain: Domain, summary: &MeetingSummary);

    /// Of those of this domain these alone are left.
    fn keep(&mut self, domain: Domain, is_left: &dyn Fn(MeetingId) -> bool);
}

/// No list: before there is anybody to show it to.
#[derive(Clone, Copy, Debug)]
pub struct NoOrphans;

impl OrphanList for NoOrphans {
    fn note(&mut self, _: Domain, _: &MeetingSummary) {}

    fn keep(&mut self, _: Domain, _: &dyn Fn(MeetingId) -> bool) {}
}

/// What to do about a meeting that was taken over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It is in meeting, with as many members as the autonomous server says.
    InMeeting,
    /// It is in meeting, and has more members or fewer: a death cut short what was entered ahead of
    /// its command.
    Differing,
    /// It is in meeting, and in doubt: its version was written and its members were not yet, or
    /// its terminals are what a snapshot says.
    InDoubt,
    /// It came from the database, which has one layout and one chairman for all parts: a version
    /// that is the autonomous server's proves neither.
    Unlisted,
    /// The death cut its start or end short (`starting`, `ending` written ahead): the engine
    /// finishes it, and with it its members.
    Unfinished,
}

/// What it means that an autonomous server said UNKNOWN_MEETING.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absence {
    /// We hold it and it does not: it is `missing` now, an alarm, and counts in no audit.
    Missing,
    /// Its start or end was cut short; the engine finishes it, no alarm.
    Unfinished,
    /// It was ended meanwhile: nobody holds it.
    Gone,
}

/// The cache (the table) and the database, as the recovery of one autonomous server after another
/// needs them.
///
/// Calls come from the control thread alone; no call waits. Writes to the database that follow from
/// one may come to be durable later, because everything they say can be asked of the autonomous
/// server again.
pub trait Store {
    /// Walks over the live parts of this domain in the cache from where `cursor` stands, level 1
    /// first, while `meet` wants another one; it gets each with the cursor behind it. One may have
    /// been marked missing before. False where there are no more. The very first call must not
    /// depend on how much the cache holds. A part whose level rises during the walk may not be met:
    /// the counts of what is held differ then, and bring a listing.
    fn walk_cache(&mut self, domain: Domain, cursor: &mut Cursor, meet: Meet<'_>) -> bool;

    /// Walks over the parts of this domain in the snapshot that a new cache is warmed from, from
    /// where `cursor` stands, level 1 first, while `meet` wants another one. Each is put into the
    /// cache as the database confirms it: what that has as another conference's, or has not, is
    /// left out. A bounded number is looked at. False where there are no more, or the snapshot
    /// cannot be read any further; where the database cannot be read the cursor stays.
    fn walk_snapshot(&mut self, _domain: Domain, _cursor: &mut Cursor, _meet: Meet<'_>) -> Result<bool, Unreadable> {
        Ok(false)
    }

    /// Whether the cache holds all that the database holds.
    fn is_whole(&self) -> bool {
        true
    }

    /// As [`Self::walk_cache`], over the parts that are not under this epoch.
    fn walk_untaken(&mut self, _domain: Domain, _epoch: Epoch, _cursor: &mut Cursor, _meet: Meet<'_>) -> bool {
        false
    }

    /// Walks over the parts of this domain in the cache that were taken over under this epoch and
    /// are in doubt. A bounded number is looked at.
    fn walk_doubts(&mut self, _domain: Domain, _epoch: Epoch, _cursor: &mut Cursor, _meet: Meet<'_>) -> bool {
        false
    }

    /// Whether a part is in doubt, and nothing that its autonomous server lists of it is a reason
    /// for that.
    fn is_as_listed(&self, _domain: Domain, _summary: &MeetingSummary) -> bool {
        false
    }

    /// The next part of this domain in the database that has not ended; it is put into the cache if
    /// it is not there. None at the end, which a database that cannot be read is not: the cursor
    /// stays, and the walk goes on from there.
    fn next_in_database(&mut self, domain: Domain, cursor: &mut Cursor) -> Result<Option<TakeoverEntry>, Unreadable>;

    /// Looks a listed meeting up: in the cache, else in the database, from where it is put into the
    /// cache with the key parameters and members that the database has, and in doubt.
    fn look_up(&mut self, domain: Domain, summary: &MeetingSummary) -> Lookup;

    /// The version of a part in the cache; none where it is not there.
    fn version(&self, domain: Domain, meeting: MeetingId) -> Option<u64>;

    /// Whether the cache has this very conference's part in the domain, and it can be read.
    fn holds(&self, domain: Domain, summary: &MeetingSummary) -> bool {
        self.version(domain, summary.meeting).is_some()
    }

    /// The members of a part in the cache, ascending, with their versions.
    fn member_versions(&self, domain: Domain, meeting: MeetingId) -> Vec<(Address, u32)>;

    /// Whether a terminal is this domain's, so that its autonomous server may speak for it.
    fn owns(&self, domain: Domain, terminal: Address) -> bool;

    /// Whether the cache has a part in this domain that cannot be read.
    fn has_damaged(&self, _domain: Domain) -> bool {
        false
    }

    /// Whether the database can never be read, so that nothing is to be waited for.
    fn is_database_lost(&self) -> bool {
        false
    }

    /// How often parts of this domain, and perhaps of others, were changed; none where that is not
    /// counted.
    fn changes(&self, _domain: Domain) -> Option<u64> {
        None
    }

    /// Both sides differ: what is kept of the parts of this domain beside their records, so that
    /// they need not be read, is made anew from these.
    fn recount(&mut self, _domain: Domain) {}

    /// The autonomous server has given control: the part's state becomes *in meeting*, its epoch
    /// `epoch`. A part that is `starting` or `ending` stays so and is [`Standing::Unfinished`].
    /// `participants` are what the server counts. Where a walk over the cache gave the part,
    /// `found` is where it stood then: the part is most likely still there.
    fn taken_over(
        &mut self,
        domain: Domain,
        meeting: MeetingId,
        found: Option<Cursor>,
        epoch: Epoch,
        participants: u16,
    ) -> Standing;

    /// First unit of the update: level, layout, chairman, participants and version of the part
    /// become what the autonomous server says, unless the part has a newer version. That counts for
    /// nothing where it `may_go_back` and no operation is under way: an autonomous server whose
    /// memory went back would never agree. Where the version changes the members may have too, and
    /// the part is in doubt from the same store on. Gives whether its members are to be asked for:
    /// it is in doubt, or has more of them or fewer; false where there is no such part.
    fn update_meeting(&mut self, domain: Domain, summary: &MeetingSummary, may_go_back: bool) -> bool;

    /// Second to fourth unit: business state, decode state and additional information (role, flags,
    /// channel, stream with them) of each terminal, unless it has reported something newer since it
    /// was asked about. Nothing of another domain is touched. The list is complete, unless it is
    /// cut: a terminal that is not in it left, one that is only in it joined. While only some of it
    /// is written the part is in doubt, and after the last of it no more. A part that is `starting`
    /// or `ending` is left as it is. `others` gets the meetings that have a terminal of the list as
    /// well, or had it until now: they are to be asked about, and this one too where it did not get
    /// it.
    fn update_terminals(
        &mut self,
        domain: Domain,
        meeting: MeetingId,
        listed: &Listed<'_>,
        others: &mut Vec<MeetingId>,
    ) -> Written;

    /// As [`Self::update_terminals`], of a part that came from a snapshot: the database is only
    /// given what it lacks, for there may be a million of them.
    fn refresh_terminals(
        &mut self,
        domain: Domain,
        meeting: MeetingId,
        listed: &Listed<'_>,
        others: &mut Vec<MeetingId>,
    ) -> Written {
        self.update_terminals(domain, meeting, listed, others)
    }

    /// The autonomous server said that it has no such meeting. It is never ended for that; see
    /// [`Absence`]. A part marked missing loses its epoch, so that the audit does not count it.
    fn missing(&mut self, domain: Domain, meeting: MeetingId) -> Absence;

    /// An orphan was seen, perhaps not for the first time. For the list that operators read.
    fn orphan(&mut self, domain: Domain, summary: &MeetingSummary);

    /// A listing is at its end: of the orphans of this domain these are left.
    fn keep_orphans(&mut self, domain: Domain, is_left: &dyn Fn(MeetingId) -> bool);

    /// Puts an orphan into cache and database by what its summary says, in doubt. False where there
    /// is no room.
    fn adopt(&mut self, domain: Domain, summary: &MeetingSummary) -> bool;

    /// Count and digest (wire.md §6) of the parts of this domain under this epoch, but for those
    /// that are what the database says of the whole conference: until their summaries have come,
    /// both sides do not agree.
    fn audit(&self, domain: Domain, epoch: Epoch) -> (u32, u64);
}

/// Whether what is listed is the conference that we hold under its number. A record of ours may be
/// older than runs.
pub(super) fn is_same(ours: Run, listed: Run) -> bool {
    ours == listed || ours == Run::NONE
}
