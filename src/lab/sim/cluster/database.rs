//! The database's thread, under the simulation's clock: commits in their order, grouped, sometimes
//! slow, sometimes failing, and lost by a death that comes before them.
//!
//! The rows and what is refused of them are the database's own code; only the disk and the thread
//! are made up.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use crate::database::{CommitError, Database, DatabaseError, Job, Opened, Outcome};
use crate::lab::sim::Random;
use crate::limits::DATABASE_QUEUE;
use crate::time::Nanos;

/// Jobs that are written with one flush, at most.
const GROUP_MAX: u64 = 16;
/// Between two tries to write what could not be written.
const PROBE: Duration = Duration::from_secs(1);

/// The disk that a database is on. It outlives processes.
pub struct Disk {
    /// What is durable.
    pub database: Database,
    /// It is not opened before.
    pub opens: Nanos,
    /// Until then it is broken, and not another process's.
    pub is_broken: bool,
    /// Nothing is written before.
    pub fails_until: Nanos,
    /// The longest that a flush takes.
    pub flush_max: Duration,
}

impl Disk {
    /// A new one, which is fast and takes everything.
    pub(super) fn new() -> Self {
        let database = Database::in_memory().expect("memory takes everything");
        Self { database, opens: Nanos(0), is_broken: false, fails_until: Nanos(0), flush_max: Duration::ZERO }
    }

    /// What is learned when the database opens.
    pub(super) fn open(&self) -> Opened {
        let database = self.database.clone();
        let read = || {
            Ok::<_, DatabaseError>(Opened {
                epoch: database.epoch()?,
                next_meeting: database.next_meeting()?,
                unfinished: database.unfinished()?,
                fences: database.fences()?,
                wanted: database.wanted()?,
                database: database.clone(),
            })
        };
        read().expect("memory can be read")
    }
}

/// One engine's database thread.
pub(super) struct DatabaseModel {
    is_open: bool,
    has_said: bool,
    jobs: VecDeque<Job>,
    /// Jobs that are being flushed, until when.
    flushing: Option<(Nanos, Vec<Job>)>,
    outcomes: VecDeque<Outcome>,
    is_unwritable: bool,
    probe: Nanos,
    random: Random,
}

impl DatabaseModel {
    pub fn new(is_open: bool, random: Random) -> Self {
        Self {
            is_open,
            has_said: false,
            jobs: VecDeque::new(),
            flushing: None,
            outcomes: VecDeque::new(),
            is_unwritable: false,
            probe: Nanos(0),
            random,
        }
    }

    pub fn has_room(&self) -> bool {
        self.jobs.len() < DATABASE_QUEUE
    }

    pub fn submit(&mut self, job: Job) {
        self.jobs.push_back(job);
    }

    pub fn poll_outcome(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    /// Whether nothing is on its way to the disk, or back.
    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.flushing.is_none() && self.outcomes.is_empty()
    }

    pub fn handle_timeout(&mut self, now: Nanos, disk: &Disk) {
        if !self.is_open {
            return self.try_to_open(now, disk);
        }
        if let Some((_, group)) = self.flushing.take_if(|(done, _)| *done <= now) {
            self.flushed(now, group, disk);
        }
        if self.flushing.is_none() && !self.jobs.is_empty() {
            let jobs = (1 + self.random.below(GROUP_MAX)).min(self.jobs.len() as u64);
            let takes = Duration::from_nanos(self.random.below(disk.flush_max.as_nanos() as u64 + 1));
            self.flushing = Some((now + takes, self.jobs.drain(..jobs as usize).collect()));
        }
        if self.is_unwritable && self.probe <= now {
            self.heard(now, now >= disk.fails_until);
        }
    }

    pub fn poll_timeout(&self, disk: &Disk) -> Option<Nanos> {
        if !self.outcomes.is_empty() {
            return Some(Nanos(0));
        }
        if !self.is_open {
            return Some(if self.has_said { disk.opens } else { Nanos(0) });
        }
        let waiting = (self.flushing.is_none() && !self.jobs.is_empty()).then_some(Nanos(0));
        let flushed = self.flushing.as_ref().map(|(done, _)| *done);
        [waiting, flushed, self.is_unwritable.then_some(self.probe)].into_iter().flatten().min()
    }

    /// The process dies. What is being flushed may have reached the disk, and nobody has heard.
    pub fn die(mut self, now: Nanos, disk: &Disk) {
        if let Some((_, group)) = self.flushing.take()
            && self.random.below(2) == 0
        {
            self.flushed(now, group, disk);
        }
    }

    /// The process ends in order: what waits is written.
    pub fn close(mut self, now: Nanos, disk: &Disk) {
        let flushing = self.flushing.take().into_iter().flat_map(|(_, group)| group);
        let rest: Vec<_> = flushing.chain(std::mem::take(&mut self.jobs)).collect();
        if self.is_open {
            self.flushed(now, rest, disk);
        }
    }

    fn try_to_open(&mut self, now: Nanos, disk: &Disk) {
        if now >= disk.opens {
            self.is_open = true;
            self.outcomes.push_back(Outcome::Opened(disk.open()));
        } else if !self.has_said {
            self.has_said = true;
            let path = PathBuf::from("memory");
            self.outcomes.push_back(Outcome::Waiting(if disk.is_broken {
                DatabaseError::Foreign { path, why: "it is broken for a while".into() }
            } else {
                DatabaseError::Held { path }
            }));
        }
    }

    fn flushed(&mut self, now: Nanos, group: Vec<Job>, disk: &Disk) {
        let is_written = now >= disk.fails_until;
        self.heard(now, is_written);
        let database = &disk.database;
        let failed = || CommitError::Storage("no space left on device".into());
        for job in group {
            self.outcomes.push_back(match job {
                Job::Commit { id, changes, epoch } => {
                    let written = if is_written { database.commit(&changes, epoch) } else { Err(failed()) };
                    Outcome::Committed { id, result: written }
                }
                Job::Reserve { .. } if !is_written => Outcome::Reserved(Err(failed())),
                Job::TakeControl { .. } if !is_written => Outcome::Given(Err(failed())),
                Job::Reserve { count } => Outcome::Reserved(database.reserve_generations(count)),
                Job::TakeControl { seen, count } => Outcome::Given(database.take_control(seen, count)),
            });
        }
    }

    /// Tells when the disk begins to fail, and when it has ended to.
    fn heard(&mut self, now: Nanos, is_written: bool) {
        self.probe = now + PROBE;
        if is_written && self.is_unwritable {
            self.outcomes.push_back(Outcome::Writable);
        } else if !is_written && !self.is_unwritable {
            self.outcomes.push_back(Outcome::Unwritable(CommitError::Storage("no space left on device".into())));
        }
        self.is_unwritable = !is_written;
    }
}
