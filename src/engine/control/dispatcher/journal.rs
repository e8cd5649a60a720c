//! What is to be durable, in the order in which it was decided.
//!
//! Recovery's updates and operations' changes go one way out, because an update written after an
//! operation that it did not know of would undo it.

use std::collections::{HashSet, VecDeque};

use crate::database::{Change, CommitError, Job, JobId, KeyParameters};
use crate::limits::JOURNAL_UPDATES_MAX;
use crate::wire::Epoch;

/// Jobs of recovery's updates are numbered from here, those of operations below.
const UPDATE_JOBS: u64 = 1 << 63;

/// What waits for the database. Of recovery's updates there are at most [`JOURNAL_UPDATES_MAX`], of
/// operations' commits one each.
#[derive(Default)]
pub(crate) struct Journal {
    queue: VecDeque<(JobId, Vec<Change>)>,
    updates: HashSet<JobId>,
    next: u64,
    closed: bool,
    /// What goes before the queue: requests for generations.
    asked: VecDeque<Job>,
    /// What does not wait for the database to be open.
    hurried: Option<Job>,
}

/// Whose commit came to an end.
#[derive(Debug)]
pub(super) enum Committed {
    /// An operation's, which waits for it.
    Operation(Result<(), CommitError>),
    /// Recovery's.
    Update(Result<(), CommitError>),
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

    /// Whether all that recovery had for the database is written.
    pub fn is_up_to_date(&self) -> bool {
        self.updates.is_empty()
    }

    /// Takes a commit of an operation's.
    pub fn operation(&mut self, id: JobId, changes: Vec<Change>) {
        self.queue.push_back((id, changes));
    }

    /// Takes a request for generations.
    pub fn ask(&mut self, job: Job) {
        self.asked.push_back(job);
    }

    /// Takes what the database is to be given before it is open. It is written when it is.
    pub fn hurry(&mut self, job: Job) {
        self.hurried = Some(job);
    }

    /// Takes what became of a commit.
    pub(super) fn committed(&mut self, id: JobId, result: Result<(), CommitError>) -> Committed {
        if self.updates.remove(&id) { Committed::Update(result) } else { Committed::Operation(result) }
    }

    /// The next job for the database.
    pub fn poll(&mut self, is_open: bool, epoch: Epoch) -> Option<Job> {
        if let Some(job) = self.hurried.take() {
            return Some(job);
        }
        if !is_open {
            return None;
        }
        self.asked.pop_front().or_else(|| {
            let (id, changes) = self.queue.pop_front()?;
            Some(Job::Commit { id, changes, epoch })
        })
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

    #[test]
    fn a_database_that_is_not_open_is_given_nothing_but_what_is_hurried() {
        let mut journal = Journal::default();
        journal.operation(JobId(7), Vec::new());
        journal.ask(Job::Reserve { count: 1 });
        assert!(journal.poll(false, Epoch::NONE).is_none());
        journal.hurry(Job::Commit { id: JobId(0), changes: Vec::new(), epoch: Epoch::NONE });
        assert!(matches!(journal.poll(false, Epoch::NONE), Some(Job::Commit { id: JobId(0), .. })));
        assert!(matches!(journal.poll(true, Epoch::NONE), Some(Job::Reserve { .. })));
        assert!(matches!(journal.poll(true, Epoch::NONE), Some(Job::Commit { id: JobId(7), .. })));
        assert!(journal.poll(true, Epoch::NONE).is_none());
    }
}
