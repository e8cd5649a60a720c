//! What is done with frames, and what the two sides of that share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use baton::lab::testbed::netns::Pair;
use baton::table::Table;
use serde::Serialize;

/// What is done with a frame.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    Drop,
    Echo,
    /// As `Echo`, one frame at a time: how long until it is back.
    RoundTrip,
    /// Read, entered in the table, acknowledged by the page.
    Report,
    /// The same with tags checked and made.
    ReportTagged,
}

impl Mode {
    /// Whether frames are sent back.
    pub fn echoes(self) -> bool {
        matches!(self, Self::Echo | Self::RoundTrip)
    }
}

/// What the two sides of a run share.
pub struct Run {
    pub pair: Arc<Pair>,
    pub mode: Mode,
    /// The table of the worker, where there is one.
    pub table: Option<Arc<Table>>,
    pub ready: AtomicBool,
    pub stop: AtomicBool,
}

impl Run {
    pub fn begin(&self) {
        // Release pairs with the Acquire of who waits for it: the programs and sockets are in
        // place.
        self.ready.store(true, Ordering::Release);
    }

    pub fn goes_on(&self) -> bool {
        // Relaxed: it orders nothing but itself.
        !self.stop.load(Ordering::Relaxed)
    }
}
