//! What a running engine says of itself: counters by what became of each frame, and latency per stage.
//!
//! A worker counts into relaxed atomics that it alone writes, and records into histograms that it alone holds; once a
//! second it swaps those for empty ones through a pair of bounded queues. So the hot path shares no cache line with a
//! reader, takes no lock and allocates nothing. A thread behind them ([`Chronicle`]) merges what comes, and writes it down.

mod chronicle;
mod counters;
mod exposition;
mod folder;
mod hlog;
mod notes;
mod read;
mod rings;
pub mod sla;
mod stages;

pub use chronicle::{Chronicle, Published, Sources};
pub use counters::{Counter, Counters};
pub use exposition::{Dialect, Exposition, Samples};
pub use folder::{LogFolder, Rotation};
pub use hlog::HistogramLog;
pub use notes::{EngineNote, FramesNote, Note, NoteError, RecoveryNote};
pub use read::{Broken, Log, LogInterval};
pub use rings::RingStatus;
pub use stages::{Collector, Recorder, Stage, StageSummary, Totals, recorder};
