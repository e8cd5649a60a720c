//! The database of key parameters: durable before a client is answered.
//!
//! One redb file. A row is a tuple of integers, so that the file is readable by anything that reads
//! redb:
//!
//! ```text
//! meetings          meeting             → level, layout, chairman, created ms, name
//! parts             meeting, domain     → version, state
//! parts by domain   domain, meeting     → –
//! members           meeting, terminal   → role, flags, window
//! terminals         terminal            → a TerminalState record of the wire format
//! ended             meeting             → ended ms, epoch
//! runs              meeting             → run, of an ended one as well
//! fences            domain              → the epoch under which another dispatch server controls it
//! ended by time     ended ms, meeting   → –
//! wanted            meeting, what, terminal → role, or number of windows
//! facts             name                → number: format, epoch, term, generation end, next meeting
//! ```
//!
//! What always holds: a part has its row by domain, a member and a part have their meeting. Each
//! commit bears the epoch under which it was decided and is refused once a higher one has written
//! ([`CommitError::StaleEpoch`]), so a dispatch server that was thought dead cannot undo what its
//! successor promised. Members are rows of their own, for adding one to a conference of thousands
//! must not write thousands.

mod change;
mod error;
mod key_parameters;
#[cfg(any(test, feature = "lab"))]
mod memory;
mod reader;
mod rows;
mod tables;
#[cfg(test)]
mod tests;
mod thread;
mod wanted;

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;
use redb::{ReadableDatabase, ReadableTable, WriteTransaction};

pub use change::Change;
pub use error::CommitError;
pub use key_parameters::{KeyParameters, Member, PartParameters};
pub use thread::{DatabaseSettings, DatabaseThread, Job, JobId, Opened, Outcome};
pub use wanted::Wanted;

use self::tables::{FACTS, FENCES, Reader, Writer, read_fences};
use crate::limits::{DATABASE_CACHE_BYTES, ENDED_KEPT};
use crate::sys::durable::{folder_of, sync_folder};
use crate::sys::random;
use crate::wire::{Address, Domain, Epoch, MeetingId, Run, TerminalState};

/// Generations that a term has.
const GENERATIONS: u32 = 1 << 16;

/// The form of the rows. The first is brought into it when a file of that is opened; any other is
/// refused.
pub(crate) const FORMAT: u64 = 2;
const FIRST_FORMAT: u64 = 1;

/// Generations that no other engine will ever use: `first..end` of `term`, with `nonce`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reservation {
    #[expect(missing_docs, reason = "see `Epoch`")]
    pub term: u32,
    #[expect(missing_docs, reason = "see `Epoch`")]
    pub first: u16,
    /// One behind the last.
    pub end: u32,
    /// Random, another one for each block.
    pub nonce: u16,
}

impl Reservation {
    /// The first one of the block.
    pub const fn epoch(&self) -> Epoch {
        Epoch::new(self.term, self.first).with_nonce(self.nonce)
    }
}

/// Why the database cannot be used: by a fault of the operator or of the disk.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is about")]
pub enum DatabaseError {
    /// Another process has it open.
    #[error("database {path} is held by another process; stop that one, or wait if it is just dying")]
    Held { path: PathBuf },
    /// There is no file, and there was one.
    #[error(
        "there is no database {path}, and {witness} says that there was one: bring it back, or have one begun with nothing in it by [database] create = \"always\", for one start"
    )]
    Lost {
        path: PathBuf,
        /// What says that there was one.
        witness: String,
    },
    /// Not a database of ours, or one of another version.
    #[error(
        "{path} is not a database that this version reads ({why}); it was left as it is: name another file in [database] path, or bring back the version that wrote it"
    )]
    Foreign { path: PathBuf, why: String },
    /// The disk or file system failed.
    #[error("database {path}: {source}")]
    Storage { path: PathBuf, source: Box<redb::Error> },
}

/// The open database. Clones share it; reads see the last commit and never wait for a writer.
#[derive(Clone, Debug)]
pub struct Database {
    /// None between closing and opening again after a failed flush.
    redb: Arc<RwLock<Option<redb::Database>>>,
    path: Arc<Path>,
}

impl Database {
    /// As [`Self::open`], but where `witness` says that there was a file, none is created in place
    /// of it.
    pub fn open_as(path: &Path, witness: Option<&str>) -> Result<Self, DatabaseError> {
        match witness {
            // Between this look and the opening nothing else creates the file or deletes it.
            Some(witness) if !path.exists() => {
                Err(DatabaseError::Lost { path: path.to_owned(), witness: witness.to_owned() })
            }
            _ => Self::open(path),
        }
    }

    /// Whether it can be written: writes a row that means nothing, durably.
    pub fn probe(&self) -> Result<(), CommitError> {
        Ok(self.write_probe()?)
    }

    fn write_probe(&self) -> Result<(), redb::Error> {
        let transaction = begin_write(&self.redb.read())?;
        {
            let mut facts = transaction.open_table(FACTS)?;
            let probes = facts.get("probes")?.map_or(0, |fact| fact.value());
            facts.insert("probes", probes.wrapping_add(1))?;
        }
        Ok(transaction.commit()?)
    }

    /// A part and the digest of its members ([`Member::digest`]), as they are kept; none where
    /// there is no such part.
    pub fn part(&self, meeting: MeetingId, domain: Domain) -> Result<Option<(PartParameters, u64)>, DatabaseError> {
        self.read(|reader| reader.part(meeting, domain))
    }

    /// Opens the file, and creates it where there is none. An unclean end of the last process is
    /// repaired first.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        let redb = open_file(path)?;
        Ok(Self { redb: Arc::new(RwLock::new(Some(redb))), path: path.into() })
    }

    /// Closes the file and opens it again, for all clones: what a failed flush left in memory is
    /// forgotten, and what the disk has is read.
    pub fn reopen(&self) -> Result<(), DatabaseError> {
        let mut redb = self.redb.write();
        drop(redb.take());
        *redb = Some(open_file(&self.path)?);
        Ok(())
    }

    #[expect(missing_docs, reason = "the path that it was opened by")]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes all of `changes` or none, durably. Refused once a higher epoch than `epoch` has
    /// written.
    pub fn commit(&self, changes: &[Change], epoch: Epoch) -> Result<(), CommitError> {
        self.commit_group(&[(changes, epoch)])?.remove(0)
    }

    /// Writes several commits with one flush. Each is taken whole or refused on its own; the outer
    /// error is the disk's, and then none of them is promised.
    pub fn commit_group(&self, group: &[(&[Change], Epoch)]) -> Result<Vec<Result<(), CommitError>>, CommitError> {
        self.write_group(group).map_err(CommitError::from)
    }

    fn write_group(&self, group: &[(&[Change], Epoch)]) -> Result<Vec<Result<(), CommitError>>, redb::Error> {
        let transaction = begin_write(&self.redb.read())?;
        let results = {
            let mut rows = Writer::open(&transaction)?;
            let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
            let mut results = Vec::with_capacity(group.len());
            for &(changes, epoch) in group {
                results.push(match rows.check(changes, epoch)? {
                    Ok(()) => {
                        rows.apply(changes, epoch, now_ms)?;
                        Ok(())
                    }
                    Err(refused) => Err(refused),
                });
            }
            rows.forget_ended(ENDED_KEPT)?;
            results
        };
        transaction.commit()?;
        Ok(results)
    }

    /// Reserves the next `count` generations, durably: once this returns none of them is ever given
    /// out again.
    ///
    /// # Errors
    /// The disk's, and [`CommitError::Fenced`]: where a term's generations are used up the next
    /// term begins, but never past a fence, which only [`Self::take_control`] passes.
    pub fn reserve_generations(&self, count: u16) -> Result<Reservation, CommitError> {
        let redb = self.redb.read();
        let transaction = begin_write(&redb)?;
        let (term, end) = reserved(&transaction)?;
        let reservation = match u16::try_from(end) {
            Ok(first) if end + u32::from(count.max(1)) <= GENERATIONS => block(term, first, count),
            _ => {
                let fenced = fences(&transaction)?.into_iter().find(|(_, by)| by.term() >= term);
                if let Some((domain, by)) = fenced {
                    return Err(CommitError::Fenced { term, domain, by });
                }
                block(above(term)?, 1, count)
            }
        };
        reserve(transaction, &reservation)?;
        Ok(reservation)
    }

    /// Gives this server control, durably: generations of a term above `seen`, above every term
    /// that it had, and above every fence. What cannot be passed ([`Epoch::is_passable`]) stays
    /// above it: its domain is not controlled, and the others are.
    pub fn take_control(&self, seen: Epoch, count: u16) -> Result<Reservation, CommitError> {
        let redb = self.redb.read();
        let transaction = begin_write(&redb)?;
        let (own, _) = reserved(&transaction)?;
        let fenced = fences(&transaction)?.into_iter().map(|(_, by)| by);
        let passed = fenced.chain([seen]).filter(|by| by.is_passable(own)).map(Epoch::term).max().unwrap_or(0);
        let reservation = block(above(own.max(passed))?, 1, count);
        reserve(transaction, &reservation)?;
        Ok(reservation)
    }

    /// Every fence that was ever written: a domain, and the epoch under which another dispatch
    /// server controls it. Those below our own term do not count any more.
    pub fn fences(&self) -> Result<Vec<(Domain, Epoch)>, DatabaseError> {
        self.read(|reader| reader.fences())
    }

    /// The term of the last reservation; none before the first.
    pub fn term(&self) -> Result<Option<u32>, DatabaseError> {
        self.read(|reader| reader.fact("term")).map(|term| term.map(|term| term as u32))
    }

    /// The highest epoch that has written.
    pub fn epoch(&self) -> Result<Epoch, DatabaseError> {
        self.read(|reader| reader.fact("epoch")).map(|epoch| Epoch(epoch.unwrap_or(0)))
    }

    /// The id that is next to be chosen: above all that were chosen here. What clients chose, or
    /// autonomous servers have, may be above it.
    pub fn next_meeting(&self) -> Result<MeetingId, DatabaseError> {
        self.read(|reader| reader.fact("next meeting")).map(|next| MeetingId(next.unwrap_or(1)))
    }

    /// What is known of a conference that has not ended.
    pub fn meeting(&self, meeting: MeetingId) -> Result<Option<KeyParameters>, DatabaseError> {
        self.read(|reader| reader.meeting(meeting))
    }

    /// Name and time of creation (milliseconds since 1970) of a conference that has not ended.
    pub fn name(&self, meeting: MeetingId) -> Result<Option<(String, u64)>, DatabaseError> {
        self.read(|reader| reader.name(meeting))
    }

    /// Names and times of creation of all of them.
    pub fn names(&self) -> Result<HashMap<MeetingId, (String, u64)>, DatabaseError> {
        self.read(|reader| reader.names())
    }

    /// The run of a conference that was here and has ended; none where there was none of this
    /// number.
    pub fn ended(&self, meeting: MeetingId) -> Result<Option<Run>, DatabaseError> {
        self.read(|reader| reader.ended(meeting))
    }

    /// Calls `each` with every conference that has not ended, by ascending id.
    pub fn for_each_meeting(&self, mut each: impl FnMut(KeyParameters)) -> Result<(), DatabaseError> {
        self.read(|reader| reader.for_each_meeting(&mut each))
    }

    /// Those conferences of which an operation was begun and not finished; see
    /// [`KeyParameters::is_unfinished`].
    pub fn unfinished(&self) -> Result<Vec<KeyParameters>, DatabaseError> {
        self.read(|reader| reader.unfinished())
    }

    /// What is still to be made so in conferences, by ascending id.
    pub fn wanted(&self) -> Result<Vec<(MeetingId, Wanted)>, DatabaseError> {
        self.read(|reader| reader.wanted())
    }

    /// The parts of a domain, by ascending id from `first` on, at most `limit`.
    pub fn parts_in(
        &self,
        domain: Domain,
        first: MeetingId,
        limit: usize,
    ) -> Result<Vec<(MeetingId, PartParameters)>, DatabaseError> {
        self.read(|reader| reader.parts_in(domain, first, limit))
    }

    /// The meetings that have a part in this domain, by ascending id from `first` on, at most
    /// `limit`.
    pub fn meetings_in(&self, domain: Domain, first: MeetingId, limit: usize) -> Result<Vec<MeetingId>, DatabaseError> {
        self.read(|reader| reader.meetings_in(domain, first, limit))
    }

    /// A terminal's last state, if one was written.
    pub fn terminal(&self, terminal: Address) -> Result<Option<TerminalState>, DatabaseError> {
        self.last_commit()?.terminal(terminal)
    }

    /// What the last commit left, for many look-ups: to begin one costs as much as some of them.
    /// Pages that are written anew are not free while it is held.
    pub fn last_commit(&self) -> Result<LastCommit, DatabaseError> {
        Ok(LastCommit { reader: self.reader().map_err(|error| self.failed(error))?, path: Arc::clone(&self.path) })
    }

    fn read<T>(&self, read: impl FnOnce(&Reader) -> Result<T, redb::Error>) -> Result<T, DatabaseError> {
        self.reader().and_then(|reader| read(&reader)).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: redb::Error) -> DatabaseError {
        DatabaseError::Storage { path: self.path.to_path_buf(), source: Box::new(error) }
    }

    fn reader(&self) -> Result<Reader, redb::Error> {
        let redb = self.redb.read();
        Reader::open(&redb.as_ref().ok_or(redb::Error::DatabaseClosed)?.begin_read()?)
    }
}

/// The database as one commit left it, whatever is written meanwhile.
pub struct LastCommit {
    reader: Reader,
    path: Arc<Path>,
}

impl LastCommit {
    /// The run of a conference and its part in a domain; none where it has none there, or has
    /// ended.
    pub fn run_and_part(
        &self,
        meeting: MeetingId,
        domain: Domain,
    ) -> Result<Option<(Run, PartParameters)>, DatabaseError> {
        self.reader.run_and_part(meeting, domain).map_err(|error| self.failed(error))
    }

    /// A terminal's last state, if one was written.
    pub fn terminal(&self, terminal: Address) -> Result<Option<TerminalState>, DatabaseError> {
        self.reader.terminal(terminal).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: redb::Error) -> DatabaseError {
        DatabaseError::Storage { path: self.path.to_path_buf(), source: Box::new(error) }
    }
}

/// Term and end of the generations that are reserved.
fn reserved(transaction: &WriteTransaction) -> Result<(u32, u32), redb::Error> {
    let facts = transaction.open_table(FACTS)?;
    let fact = |name| Ok::<_, redb::Error>(facts.get(name)?.map_or(1, |fact| fact.value() as u32));
    Ok((fact("term")?, fact("generation end")?))
}

fn fences(transaction: &WriteTransaction) -> Result<Vec<(Domain, Epoch)>, redb::Error> {
    read_fences(&transaction.open_table(FENCES)?)
}

/// The term above one. There is none above the last, and its generations must not be given twice.
fn above(term: u32) -> Result<u32, CommitError> {
    term.checked_add(1).ok_or(CommitError::NoTerm { highest: term })
}

/// A block of generations, with a nonce of its own.
fn block(term: u32, first: u16, count: u16) -> Reservation {
    let end = (u32::from(first) + u32::from(count.max(1))).min(GENERATIONS);
    Reservation { term, first, end, nonce: random::number() as u16 }
}

fn reserve(transaction: WriteTransaction, reservation: &Reservation) -> Result<(), redb::Error> {
    {
        let mut facts = transaction.open_table(FACTS)?;
        facts.insert("term", u64::from(reservation.term))?;
        facts.insert("generation end", u64::from(reservation.end))?;
    }
    Ok(transaction.commit()?)
}

fn begin_write(redb: &Option<redb::Database>) -> Result<WriteTransaction, redb::Error> {
    Ok(redb.as_ref().ok_or(redb::Error::DatabaseClosed)?.begin_write()?)
}

fn open_file(path: &Path) -> Result<redb::Database, DatabaseError> {
    open_with(path, |builder| builder.create(path), || sync_folder(folder_of(path)))
}

/// Opens what `create` makes of redb's settings; `path` is how errors name it. `settle` makes the
/// name of a new file durable, before anything is written that says that it is not new.
fn open_with(
    path: &Path,
    create: impl FnOnce(&redb::Builder) -> Result<redb::Database, redb::DatabaseError>,
    settle: impl FnOnce() -> std::io::Result<()>,
) -> Result<redb::Database, DatabaseError> {
    let storage = |error: redb::Error| DatabaseError::Storage { path: path.into(), source: Box::new(error) };
    let foreign = |why: String| DatabaseError::Foreign { path: path.into(), why };
    let mut builder = redb::Builder::new();
    let opened = create(builder.set_check_integrity_on_open(true).set_cache_size(DATABASE_CACHE_BYTES));
    let redb = opened.map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => DatabaseError::Held { path: path.into() },
        redb::DatabaseError::UpgradeRequired(version) => foreign(format!("file format {version}")),
        redb::DatabaseError::Storage(redb::StorageError::Corrupted(why)) => foreign(why),
        redb::DatabaseError::Storage(redb::StorageError::Io(error)) if error.kind() == ErrorKind::InvalidData => {
            foreign(error.to_string())
        }
        other => storage(other.into()),
    })?;
    let format = prepare(&redb, settle).map_err(storage)?;
    if format != FORMAT { Err(foreign(format!("rows of format {format}"))) } else { Ok(redb) }
}

/// Creates what is missing, so that readers find every table, and brings the first format into this
/// one; gives the format of the rows.
fn prepare(redb: &redb::Database, settle: impl FnOnce() -> std::io::Result<()>) -> Result<u64, redb::Error> {
    let format = {
        let transaction = redb.begin_read()?;
        match transaction.open_table(FACTS) {
            Ok(facts) => facts.get("format")?.map(|fact| fact.value()),
            Err(redb::TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(error.into()),
        }
    };
    if let Some(format) = format
        && format != FIRST_FORMAT
    {
        return Ok(format);
    }
    settle()?;
    // All of it or nothing: a cut in the midst leaves a file of the first format, or none.
    let transaction = redb.begin_write()?;
    let mut rows = Writer::open(&transaction)?;
    if format.is_some() {
        rows.migrate_first()?;
    }
    drop(rows);
    transaction.open_table(FACTS)?.insert("format", FORMAT)?;
    transaction.commit()?;
    Ok(FORMAT)
}
