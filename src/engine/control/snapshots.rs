//! Snapshots of the living table, every so often, on a thread of their own.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::{RecvTimeoutError, Sender, bounded};

use crate::limits::SNAPSHOT_INTERVAL;
use crate::sys::threads::{Nice, spawn_nice};
use crate::table::Table;
use crate::table::file::snapshot;

/// The thread. Dropping it waits for the snapshot that it is writing, and ends it.
pub(crate) struct Snapshots {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Snapshots {
    /// Writes one to `path` every [`SNAPSHOT_INTERVAL`]. Workers do not notice: the table is read
    /// without locks.
    pub fn spawn(table: Arc<Table>, path: PathBuf) -> io::Result<Self> {
        let (stop, stopped) = bounded::<()>(0);
        let run = move || {
            while stopped.recv_timeout(SNAPSHOT_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                match snapshot::write(&table, &path) {
                    Ok(bytes) => tracing::debug!(path = %path.display(), bytes, "snapshot written"),
                    Err(error) => tracing::warn!(path = %path.display(), %error, "no snapshot written"),
                }
            }
        };
        let thread = spawn_nice("snapshots", Nice::NobodyWaits, run)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Snapshots {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed by its hook; there is nobody else to tell.
            let _ = thread.join();
        }
    }
}
