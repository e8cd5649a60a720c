//! How a running engine reports on itself: counters of the frames by result, and latency for each
//! stage.
//!
//! A worker counts into relaxed atomics that only it writes, and records into histograms that only
//! it holds. Once a second it swaps those for empty ones through a pair of bounded queues. So the
//! hot path shares no cache line with a reader, takes no lock and allocates nothing. A thread
//! ([`Aggregator`]) merges the histograms and writes them to the log.

mod aggregator;
mod annotations;
mod counters;
mod exposition;
mod hlog;
mod latency;
mod log_state;
mod read;
mod rings;
mod rotation;

pub use aggregator::{Aggregator, Published, Sources};
pub use annotations::{EngineNote, FramesNote, Note, NoteError, RecoveryNote};
pub use counters::{Counter, Counters};
pub use exposition::{Dialect, Exposition, Samples};
pub use hlog::{ASKED_TAGS, HistogramLog};
pub use latency::{Collector, Recorder, Stage, StageSummary, Totals, recorder};
pub use log_state::LogState;
pub use read::{Broken, Log, LogInterval};
pub use rings::RingStatus;
pub use rotation::{LogFolder, Rotation};
