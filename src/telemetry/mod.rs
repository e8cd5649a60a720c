//! What a running engine says of itself: counters by what became of each frame, and latency per stage.
//!
//! A worker counts into relaxed atomics that it alone writes, and records into histograms that it alone holds; once a
//! second it swaps those for empty ones through a pair of bounded queues. So the hot path shares no cache line with a
//! reader, takes no lock and allocates nothing.

mod counters;
mod hlog;
mod notes;
mod stages;

pub use counters::{Counter, Counters};
pub use hlog::HistogramLog;
pub use notes::{EngineNote, FramesNote, Note, NoteError, RecoveryNote};
pub use stages::{Collector, Recorder, Stage, StageSummary, recorder};
