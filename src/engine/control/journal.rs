//! The database as the control thread has it: a thread to tell, outcomes to hear.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::Arc;

use crossbeam::channel::{Receiver, bounded};

use crate::config::{Config, Create};
use crate::database::{
    Change, CommitError, Database, DatabaseSettings, DatabaseThread, Job, JobId, KeyParameters, Opened, Outcome,
};
use crate::limits::{DATABASE_OUTCOMES, DATABASE_PATIENCE, JOURNAL_UPDATES_MAX};
use crate::link::Shared;
use crate::recovery::Path;
use crate::wire::Epoch;

/// Jobs of recovery's updates are numbered from here, those of operations below.
const UPDATE_JOBS: u64 = 1 << 63;

/// What is to be durable, in the order in which it was decided.
///
/// Recovery's updates and operations' changes go one way out, because an update written after an
/// operation that it did not know of would undo it.
#[derive(Default)]
pub(crate) struct Journal {
    queue: VecDeque<(JobId, Vec<Change>)>,
    updates: HashSet<JobId>,
    next: u64,
    closed: bool,
}

impl Journal {
    /// There is no database, perhaps for long: nothing of recovery's is kept for it. When it opens
    /// it is held against the table.
    pub fn close(&mut self) {
        let updates = std::mem::take(&mut self.updates);
        self.queue.retain(|(id, _)| !updates.contains(id));
        self.closed = true;
    }

    /// The database is open: what recovery has for it is kept again.
    pub fn open(&mut self) {
        self.closed = false;
    }

    /// Forgets what recovery wrote of conferences that the database, open now, has unfinished:
    /// written before anybody could know that, it would undo what was written ahead of an end.
    pub fn forget_updates_of(&mut self, unfinished: &[KeyParameters]) {
        let is_unfinished = |change: &Change| match change {
            Change::Part(meeting, _) | Change::Learned(meeting, _) => {
                unfinished.iter().any(|parameters| parameters.meeting == *meeting)
            }
            _ => false,
        };
        let updates = &mut self.updates;
        self.queue.retain(|(id, changes)| !(changes.iter().any(is_unfinished) && updates.remove(id)));
    }

    /// Takes an update of recovery's. Nobody waits for it: all it says can be asked of the
    /// autonomous server again.
    pub fn update(&mut self, changes: Vec<Change>) {
        if self.closed || self.updates.len() >= JOURNAL_UPDATES_MAX {
            return;
        }
        self.next += 1;
        let id = JobId(UPDATE_JOBS | self.next);
        self.updates.insert(id);
        self.queue.push_back((id, changes));
    }

    /// Takes a commit of an operation's.
    pub fn operation(&mut self, id: JobId, changes: Vec<Change>) {
        self.queue.push_back((id, changes));
    }

    /// Takes what became of a commit; gives it back where an operation waits for it.
    pub fn committed(&mut self, id: JobId, result: Result<(), CommitError>) -> Option<Result<(), CommitError>> {
        if !self.updates.remove(&id) {
            return Some(result);
        }
        match result {
            Ok(()) => None,
            // An operation waits for nothing of this, and still must hear of it.
            Err(stale @ CommitError::StaleEpoch { .. }) => Some(Err(stale)),
            Err(error) => {
                tracing::warn!(%error, "what an autonomous server said was not stored");
                None
            }
        }
    }
}

/// The database's thread.
pub(crate) struct DatabaseHandle {
    /// Dropped before the thread, which else might wait for room in here while its end is waited
    /// for.
    pub outcomes: Receiver<Outcome>,
    pub thread: DatabaseThread,
    /// Once it is open.
    pub opened: Option<Opened>,
    /// Why it cannot be opened or written, as it was last heard.
    pub fault: Option<String>,
}

impl DatabaseHandle {
    /// Starts the database's thread, which opens the file; what it says wakes the control thread.
    ///
    /// A table that lives, and a snapshot, were there with a database: where there is none, none is
    /// made in place of it, unless the configuration says so.
    pub fn open(config: &Config, shared: &Arc<Shared>, path: Path) -> io::Result<Self> {
        let (sender, outcomes) = bounded(DATABASE_OUTCOMES);
        let snapshot = config.database.snapshot();
        let witness = match config.database.create {
            Create::Always => None,
            Create::IfNew if path == Path::Cache => Some("the table, which has control by its word,".to_owned()),
            Create::IfNew => snapshot.exists().then(|| format!("snapshot {}", snapshot.display())),
        };
        let settings = DatabaseSettings { path: config.database.path.clone(), witness, patience: DATABASE_PATIENCE };
        let shared = shared.clone();
        let tell = move |outcome| {
            // A control thread that is gone needs no telling.
            let _ = sender.send(outcome);
            shared.control.wake();
        };
        let thread = DatabaseThread::spawn(settings, tell)?;
        Ok(Self { thread, outcomes, opened: None, fault: None })
    }

    /// The database, once it is open.
    pub fn database(&self) -> Option<&Database> {
        self.opened.as_ref().map(|opened| &opened.database)
    }

    /// Whether it cannot be opened, for another reason than that somebody has it: nothing is waited
    /// for.
    pub fn is_lost(&self) -> bool {
        self.opened.is_none() && self.fault.is_some()
    }

    /// Hands over what the database's queue has room for, once it is open.
    pub fn commit(&self, journal: &mut Journal, epoch: Epoch) {
        while self.opened.is_some()
            && let Some((id, changes)) = journal.queue.pop_front()
        {
            if let Err(Job::Commit { id, changes, .. }) = self.thread.submit(Job::Commit { id, changes, epoch }) {
                journal.queue.push_front((id, changes));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::PartParameters;
    use crate::wire::{Address, Domain, Layout, Level, MeetingId, MeetingState, Run};

    fn part(state: MeetingState) -> PartParameters {
        PartParameters { domain: Domain::new(1).unwrap(), version: 4, state }
    }

    #[test]
    fn what_recovery_wrote_before_the_database_was_open_does_not_undo_an_end() {
        let mut journal = Journal::default();
        let changes = |meeting| vec![Change::Part(MeetingId(meeting), part(MeetingState::InMeeting))];
        for meeting in [1, 2] {
            journal.update(changes(meeting));
        }
        journal.operation(JobId(7), changes(2));
        let ending = KeyParameters {
            meeting: MeetingId(2),
            name: String::new(),
            level: Level::HIGHEST,
            layout: Layout::new(4).unwrap(),
            chairman: Address::default(),
            created_ms: 1,
            parts: vec![part(MeetingState::Ending)],
            members: Vec::new(),
            run: Run(7),
        };
        journal.forget_updates_of(&[ending]);
        let left: Vec<_> = journal.queue.iter().map(|(id, _)| id.0).collect();
        assert_eq!(left, [UPDATE_JOBS | 1, 7], "another conference's, and what an operation waits for");
        assert_eq!(journal.updates.len(), 1);
    }
}
