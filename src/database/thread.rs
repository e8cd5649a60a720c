//! The database's own thread: group commit, so that a thousand operations cost a handful of
//! flushes.

use std::io;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, TrySendError, bounded};

use super::{Change, CommitError, Database, DatabaseError, Reservation};
use super::{KeyParameters, Wanted};
use crate::limits::{COMMIT_GROUP, DATABASE_QUEUE};
use crate::sys::threads::{Nice, spawn_nice};
use crate::wire::{Domain, Epoch, MeetingId};

/// The first and the longest pause between two tries for the lock of a process that is dying.
const RETRY: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_millis(500);
/// The longest pause between two tries of a file that cannot be opened for another reason.
const MENDING_MAX: Duration = Duration::from_secs(10);
/// Between two tries to write what could not be written.
const PROBE: Duration = Duration::from_secs(1);

/// The number of a commit; chosen by the caller.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct JobId(pub u64);

/// Where the database is, and how long to wait for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DatabaseSettings {
    /// The file.
    pub path: PathBuf,
    /// What says that there was a file, so that none may be created in place of it.
    pub witness: Option<String>,
    /// How long this thread still waits for a process that holds the file, after it was to end with
    /// changes yet to be written; and how often it says that a process holds it.
    pub patience: Duration,
}

/// What the thread is asked for.
#[derive(Debug)]
pub enum Job {
    /// Write all of the changes or none, durably.
    Commit {
        /// Given back in [`Outcome::Committed`].
        id: JobId,
        #[expect(missing_docs, reason = "see `Database::commit`")]
        changes: Vec<Change>,
        /// The epoch under which they were decided.
        epoch: Epoch,
    },
    /// Reserve generations durably; see [`Database::reserve_generations`].
    Reserve {
        /// The number of generations.
        count: u16,
    },
    /// Reserve generations of a new term, durably; see [`Database::take_control`].
    TakeControl {
        /// The highest epoch that is known.
        seen: Epoch,
        /// The number of generations.
        count: u16,
    },
}

/// What the thread reports.
#[derive(Debug)]
pub enum Outcome {
    /// The file cannot be opened, and is tried until the thread is dropped. That another process
    /// has it is said every so often, anything else once.
    Waiting(DatabaseError),
    /// It is open. Comes before any other outcome but [`Outcome::Waiting`].
    Opened(Opened),
    /// The thread was dropped before the file could be opened; every job is answered with an error.
    Failed(DatabaseError),
    /// It is open, and was not written: nothing is, until [`Outcome::Writable`] says so.
    Unwritable(CommitError),
    /// It is written again.
    Writable,
    /// A commit is durable, or refused.
    Committed {
        /// As in [`Job::Commit`].
        id: JobId,
        #[expect(missing_docs, reason = "see the error")]
        result: Result<(), CommitError>,
    },
    /// Generations are reserved, durably.
    Reserved(Result<Reservation, CommitError>),
    /// What [`Job::TakeControl`] asked for is reserved, durably.
    Given(Result<Reservation, CommitError>),
}

/// What the database says when it opens.
#[derive(Debug)]
pub struct Opened {
    /// For reading, from any thread.
    pub database: Database,
    /// The highest epoch that wrote.
    pub epoch: Epoch,
    /// An id that no conference has or had.
    pub next_meeting: MeetingId,
    /// Conferences of which an operation was begun and not finished.
    pub unfinished: Vec<KeyParameters>,
    /// Domains that another dispatch server controls, and under which epochs.
    pub fences: Vec<(Domain, Epoch)>,
    /// What is still to be made so in conferences, by ascending id.
    pub wanted: Vec<(MeetingId, Wanted)>,
}

/// The thread. Dropping it finishes the jobs that wait, then closes the file.
#[derive(Debug)]
pub struct DatabaseThread {
    jobs: Option<Sender<Job>>,
    /// Nothing is sent: that it is dropped is the signal to end.
    alive: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl DatabaseThread {
    /// Starts it; it opens the file first. `tell` is called on the thread, in the order of the
    /// jobs, and must not block for long: every commit behind it waits.
    pub fn spawn(settings: DatabaseSettings, tell: impl FnMut(Outcome) + Send + 'static) -> io::Result<Self> {
        let (sender, jobs) = bounded(DATABASE_QUEUE);
        let (alive, wanted) = bounded(0);
        let run = Run { jobs, wanted, tell, unwritable: false };
        let thread = spawn_nice("database", Nice::ClientsWait, move || run.run(&settings))?;
        Ok(Self { jobs: Some(sender), alive: Some(alive), thread: Some(thread) })
    }

    /// Hands a job over without waiting; gives it back where [`DATABASE_QUEUE`] wait already.
    pub fn submit(&self, job: Job) -> Result<(), Job> {
        let jobs = self.jobs.as_ref().expect("there until it is dropped");
        jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => job,
        })
    }
}

impl Drop for DatabaseThread {
    fn drop(&mut self) {
        self.jobs = None;
        self.alive = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed by its hook already.
            let _ = thread.join();
        }
    }
}

struct Run<F> {
    jobs: Receiver<Job>,
    wanted: Receiver<()>,
    tell: F,
    /// The last write failed.
    unwritable: bool,
}

impl<F: FnMut(Outcome)> Run<F> {
    fn run(mut self, settings: &DatabaseSettings) {
        let opened = self.open(settings).and_then(|database| {
            let epoch = database.epoch()?;
            let next_meeting = database.next_meeting()?;
            let unfinished = database.unfinished()?;
            let fences = database.fences()?;
            let wanted = database.wanted()?;
            Ok(Opened { database, epoch, next_meeting, unfinished, fences, wanted })
        });
        match opened {
            Ok(opened) => {
                let database = opened.database.clone();
                (self.tell)(Outcome::Opened(opened));
                self.serve(&database);
            }
            Err(error) => {
                let why = error.to_string();
                (self.tell)(Outcome::Failed(error));
                self.refuse(&why);
            }
        }
    }

    /// Opens the file. The lock of a process that was killed is released with its last descriptor,
    /// which is some milliseconds after others learn of its death. A thread of it that hangs in the
    /// kernel keeps the lock for longer, but not for ever; and a disk that cannot be read or
    /// written is repaired some day. So it is tried for as long as the database is wanted.
    fn open(&mut self, settings: &DatabaseSettings) -> Result<Database, DatabaseError> {
        let begun = Instant::now();
        let mut pause = RETRY;
        let mut say = begun;
        let mut said = String::new();
        loop {
            let error = match Database::open_as(&settings.path, settings.witness.as_deref()) {
                Ok(database) => return Ok(database),
                Err(error) => error,
            };
            let is_held = matches!(error, DatabaseError::Held { .. });
            if !(self.is_wanted() || is_held && begun.elapsed() < settings.patience) {
                return Err(error);
            }
            let why = error.to_string();
            if why != said || is_held && Instant::now() >= say {
                said = why;
                (self.tell)(Outcome::Waiting(error));
                say = Instant::now() + settings.patience.max(RETRY_MAX);
            }
            if self.is_wanted() {
                // Nothing is ever sent: it ends early when the database is not wanted any more.
                let _ = self.wanted.recv_timeout(pause);
            } else {
                std::thread::sleep(pause);
            }
            pause = (pause * 2).min(if is_held { RETRY_MAX } else { MENDING_MAX });
        }
    }

    fn is_wanted(&self) -> bool {
        self.wanted.try_recv() != Err(TryRecvError::Disconnected)
    }

    /// Waits for the next job, and tries now and then to write while the disk fails. None where no
    /// more jobs come.
    fn next_job(&mut self, database: &Database) -> Option<Job> {
        while self.unwritable {
            match self.jobs.recv_timeout(PROBE) {
                Ok(job) => return Some(job),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    let written = database.probe();
                    self.note_written(written.as_ref().map(drop));
                    if written.is_err() {
                        // To get rid of what a failed flush left in memory.
                        let _ = database.reopen();
                    }
                }
            }
        }
        self.jobs.recv().ok()
    }

    /// Reports when the disk begins to fail, and when it works again.
    fn note_written(&mut self, written: Result<(), &CommitError>) {
        match written {
            Ok(()) if std::mem::take(&mut self.unwritable) => (self.tell)(Outcome::Writable),
            Err(error) if !std::mem::replace(&mut self.unwritable, true) => {
                (self.tell)(Outcome::Unwritable(error.clone()));
            }
            _ => {}
        }
    }

    fn serve(&mut self, database: &Database) {
        let mut group = Vec::with_capacity(COMMIT_GROUP);
        while let Some(first) = self.next_job(database) {
            let mut next = Some(first);
            while let Some(job) = next.take() {
                match job {
                    Job::Commit { id, changes, epoch } => group.push((id, changes, epoch)),
                    // What was asked for before it is answered before it.
                    Job::Reserve { count } => {
                        self.commit(database, &mut group);
                        (self.tell)(Outcome::Reserved(database.reserve_generations(count)));
                    }
                    Job::TakeControl { seen, count } => {
                        self.commit(database, &mut group);
                        (self.tell)(Outcome::Given(database.take_control(seen, count)));
                    }
                }
                if group.len() < COMMIT_GROUP {
                    next = self.jobs.try_recv().ok();
                }
            }
            self.commit(database, &mut group);
        }
    }

    fn commit(&mut self, database: &Database, group: &mut Vec<(JobId, Vec<Change>, Epoch)>) {
        if group.is_empty() {
            return;
        }
        let commits: Vec<_> = group.iter().map(|(_, changes, epoch)| (changes.as_slice(), *epoch)).collect();
        // After a failed flush it is unknown what reached the disk, so the file is read anew, and
        // everything that was not promised yet is written again. Applying a commit twice writes the
        // same rows.
        let written = database.commit_group(&commits).or_else(|error| {
            tracing::error!(%error, "database not written; opening it again");
            database.reopen().map_err(|error| CommitError::Storage(error.to_string()))?;
            database.commit_group(&commits)
        });
        self.note_written(written.as_ref().map(drop));
        match written {
            Ok(results) => {
                for ((id, ..), result) in group.drain(..).zip(results) {
                    (self.tell)(Outcome::Committed { id, result });
                }
            }
            Err(error) => {
                for (id, ..) in group.drain(..) {
                    (self.tell)(Outcome::Committed { id, result: Err(error.clone()) });
                }
            }
        }
    }

    fn refuse(&mut self, why: &str) {
        while let Ok(job) = self.jobs.recv() {
            let error = CommitError::Storage(why.to_owned());
            (self.tell)(match job {
                Job::Commit { id, .. } => Outcome::Committed { id, result: Err(error) },
                Job::Reserve { .. } => Outcome::Reserved(Err(error)),
                Job::TakeControl { .. } => Outcome::Given(Err(error)),
            });
        }
    }
}
