//! Waking a thread that waits in its poll, and only then.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use mio::{Registry, Token};

/// Wakes one thread out of its `mio` poll. Costs a load where that thread is awake.
pub struct Waker {
    waker: mio::Waker,
    waiting: AtomicBool,
}

impl Waker {
    /// Wakes the thread that polls this registry.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        Ok(Self { waker: mio::Waker::new(registry, token)?, waiting: AtomicBool::new(false) })
    }

    /// Called after something was queued for the thread.
    pub fn wake(&self) {
        // Pairs with the fence in `announce`: either this sees that the thread waits, or the
        // thread, looking at its queues once more after announcing, sees what was queued.
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) && self.waiting.swap(false, Ordering::Relaxed) {
            // An eventfd that is full is readable all the same: the thread wakes.
            let _ = self.waker.wake();
        }
    }

    /// Called by the thread before it waits. It must look at its queues once more between this and
    /// its poll.
    pub fn announce(&self) {
        self.waiting.store(true, Ordering::Relaxed);
        // Pairs with the fence in `wake`.
        fence(Ordering::SeqCst);
    }

    /// Called by the thread when it no longer waits.
    pub fn awake(&self) {
        self.waiting.store(false, Ordering::Relaxed);
    }
}
