//! The database's thread as the control thread has it: jobs to hand over, outcomes to hear.

use std::io;
use std::sync::Arc;

use crossbeam::channel::{Receiver, bounded};

use crate::config::{Config, Create};
use crate::database::{DatabaseSettings, DatabaseThread, Job, Outcome};
use crate::limits::{DATABASE_OUTCOMES, DATABASE_PATIENCE};
use crate::link::Shared;
use crate::recovery::Path;

/// The database's thread.
pub(crate) struct DatabaseHandle {
    /// Dropped before the thread, which else might wait for room in here while its end is waited
    /// for.
    pub outcomes: Receiver<Outcome>,
    pub thread: DatabaseThread,
    /// A job for which there was no room.
    held_back: Option<Job>,
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
        Ok(Self { thread, outcomes, held_back: None })
    }

    /// Hands over the jobs that its queue has room for. False where there was none for one, which
    /// is the first the next time.
    pub fn submit(&mut self, mut next: impl FnMut() -> Option<Job>) -> bool {
        while let Some(job) = self.held_back.take().or_else(&mut next) {
            if let Err(job) = self.thread.submit(job) {
                self.held_back = Some(job);
                return false;
            }
        }
        true
    }
}
