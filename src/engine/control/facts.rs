//! What does not change in an engine's life.

use crate::config::Config;
use crate::handover::protocol::Death;
use crate::handover::{AttachedAll, Program};
use crate::recovery::Path;
use crate::time::Nanos;
use crate::wire::Epoch;

/// How an engine began, and what it runs by.
pub(super) struct Facts {
    pub begun: Nanos,
    pub path: Path,
    pub epoch: Epoch,
    pub config: Config,
    pub program: Program,
    pub mode: AttachedAll,
    pub predecessor: Option<Death>,
    pub first_sent: Option<Nanos>,
    pub born: Option<Nanos>,
}

impl Facts {
    /// Adds to the report of this engine's recovery whose death it followed, and when the first
    /// frame was handed to the kernel.
    pub fn complete(&self, report: &mut serde_json::Value) {
        report["predecessor"] = serde_json::json!(self.predecessor);
        let since = |begun: Nanos| self.first_sent.map(|sent| sent.since(begun).as_nanos() as u64);
        report["first_takeover_sent_ns"] = serde_json::json!(since(self.begun));
        report["main_to_first_takeover_ns"] = serde_json::json!(self.born.and_then(since));
    }
}
