//! Rings in memory: the same worker loop, without a kernel.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::ring::{Flushed, Received, Ring};
use crate::limits::FRAME_BYTES_MAX;
use crate::time::Nanos;

/// Entries that the receive ring says it has. More arrive all the same.
const ENTRIES: usize = 4096;

/// What outlives the worker, as the kernel's rings do.
#[derive(Default)]
struct Shared {
    receive: VecDeque<(Vec<u8>, Option<Nanos>)>,
    sent: VecDeque<Vec<u8>>,
    gone: bool,
}

/// A pair of rings. Clones are the same rings in other hands: what one received and did not
/// release, another receives again.
#[derive(Clone)]
pub struct MemoryRing {
    shared: Arc<Mutex<Shared>>,
    /// What this one holds.
    held: Vec<(Vec<u8>, Option<Nanos>)>,
    queued: Vec<Vec<u8>>,
    room: usize,
}

impl MemoryRing {
    /// Empty rings; `room` frames may be on their way out.
    pub fn new(room: usize) -> Self {
        Self { shared: Arc::default(), held: Vec::new(), queued: Vec::new(), room }
    }

    /// The same rings, in the hands of a successor.
    #[must_use]
    pub fn inherit(&self) -> Self {
        Self { shared: self.shared.clone(), held: Vec::new(), queued: Vec::new(), room: self.room }
    }

    /// A frame arrives.
    pub fn arrive(&self, bytes: &[u8], arrived: Option<Nanos>) {
        self.shared.lock().receive.push_back((bytes.to_vec(), arrived));
    }

    /// The next frame that was sent.
    pub fn sent(&self) -> Option<Vec<u8>> {
        self.shared.lock().sent.pop_front()
    }

    /// The interface goes.
    pub fn go(&self) {
        self.shared.lock().gone = true;
    }

    /// Entries that nobody has released.
    pub fn unreleased(&self) -> usize {
        self.shared.lock().receive.len()
    }
}

impl Ring for MemoryRing {
    fn entries(&self) -> usize {
        ENTRIES
    }

    fn waiting(&self) -> usize {
        self.unreleased() - self.held.len()
    }

    fn receive(&mut self, max: usize) -> usize {
        let shared = self.shared.lock();
        let held = self.held.len();
        self.held.extend(shared.receive.iter().skip(held).take(max).cloned());
        self.held.len()
    }

    fn received(&self, i: usize) -> Received<'_> {
        let (bytes, arrived) = &self.held[i];
        Received { bytes, arrived: *arrived }
    }

    fn release(&mut self, n: usize) {
        self.held.drain(..n);
        self.shared.lock().receive.drain(..n);
    }

    fn transmit(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        if self.queued.len() + self.shared.lock().sent.len() >= self.room {
            return false;
        }
        let mut frame = vec![0; FRAME_BYTES_MAX];
        let length = write(&mut frame);
        frame.truncate(length);
        self.queued.push(frame);
        true
    }

    fn flush(&mut self) -> Flushed {
        let mut shared = self.shared.lock();
        if shared.gone {
            return Flushed::Gone;
        }
        shared.sent.extend(self.queued.drain(..));
        Flushed::All
    }
}
