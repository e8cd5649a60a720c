//! Snapshots of the living table, every so often, on a thread of their own.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::limits::{SNAPSHOT_AGE_MAX, SNAPSHOT_FIRST, SNAPSHOT_WHOLE_WITHIN};
use crate::sys::threads::{Nice, spawn_nice};
use crate::table::Table;
use crate::table::file::snapshot;

/// How often a table that is not whole is looked at again.
const LOOK: Duration = Duration::from_secs(1);

/// The thread. Dropping it waits for the snapshot that it is writing, and ends it.
pub(crate) struct Snapshots {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    is_whole: Arc<AtomicBool>,
}

impl Snapshots {
    /// Writes one to `path` so often that the newest is never older than [`SNAPSHOT_AGE_MAX`].
    /// Workers do not notice: the table is read without locks. Until the table is whole the last
    /// one stays.
    pub fn spawn(table: Arc<Table>, path: PathBuf) -> io::Result<Self> {
        let (stop, stopped) = bounded::<()>(0);
        let is_whole = Arc::new(AtomicBool::new(false));
        let whole = Arc::clone(&is_whole);
        let run = move || {
            let mut pause = if is_worth_writing(&whole, &stopped) { SNAPSHOT_FIRST } else { return };
            // So is the one at the end, though some domain may never have come to agree.
            whole.store(true, Ordering::Relaxed);
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let begun = Instant::now();
                match snapshot::write(&table, &path) {
                    Ok(written) => {
                        let took = begun.elapsed();
                        tracing::debug!(path = %path.display(), bytes = written.head.bytes, ?took, "snapshot written");
                    }
                    // The last one is there still.
                    Err(error) => tracing::warn!(%error, "no snapshot written"),
                }
                pause = pause_after(begun.elapsed());
            }
        };
        let thread = spawn_nice("snapshots", Nice::NobodyWaits, run)?;
        Ok(Self { stop: Some(stop), thread: Some(thread), is_whole })
    }

    /// The table holds all that it is to hold.
    pub fn begin(&self) {
        // Relaxed: nothing else follows from it.
        self.is_whole.store(true, Ordering::Relaxed);
    }

    /// Whether one of the table may take the place of the last one.
    pub fn may_write(&self) -> bool {
        self.is_whole.load(Ordering::Relaxed)
    }
}

/// Waits until the table is whole, or was not for so long that one of it is better than the last
/// one. False where the thread is to end.
fn is_worth_writing(is_whole: &AtomicBool, stopped: &Receiver<()>) -> bool {
    let begun = Instant::now();
    while !is_whole.load(Ordering::Relaxed) && begun.elapsed() < SNAPSHOT_WHOLE_WITHIN {
        if stopped.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
            return false;
        }
    }
    true
}

/// The pause behind a snapshot that took so long, where the next takes as long. What a snapshot
/// holds is as old as its beginning. A disk that takes a third of the time for it gets the rest for
/// others.
fn pause_after(took: Duration) -> Duration {
    SNAPSHOT_AGE_MAX.saturating_sub(took * 2).max(took * 2)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_one_is_in_its_place_before_the_last_is_too_old() {
        for took in [0, 1, 5, 15].map(Duration::from_secs) {
            // From the beginning of one to the end of the next.
            assert!(took + pause_after(took) + took <= SNAPSHOT_AGE_MAX, "{took:?}");
        }
        let slow = Duration::from_secs(50);
        assert_eq!(pause_after(slow), 2 * slow);
    }
}
