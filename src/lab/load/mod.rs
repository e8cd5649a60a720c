//! An open-loop load: frames leave when they are due, whether or not earlier ones were answered.
//!
//! So a server that falls behind does not slow down the load that it is measured with. The latency
//! of an answer counts from the moment at which its request *was to be* sent, not from when there
//! was room for it. All frames of a load have a sequence number. A rule derives the frame and the
//! terminal from that number ([`Composer`]), so every answer identifies its request, and only one
//! bit for each frame has to be remembered ([`Tally`]).
//!
//! There are two ways of sending: AF_XDP rings ([`Rings`]), where this process writes and tags each
//! frame, and live frames ([`Live`]), which the kernel makes and a small program fills from
//! prepared ones, several times as many a second.

mod compose;
mod every;
mod frames;
mod kind;
mod live;
pub mod live_frames;
mod pace;
pub mod pcap;
mod population;
mod rings;
mod search;
pub mod sink;
mod summary;
mod tally;
#[cfg(test)]
mod tests;

use std::num::NonZeroU64;
use std::time::Duration;

pub use compose::Composer;
pub use kind::{Class, Kind};
pub use live::Live;
pub use pace::Pace;
pub use population::{Party, Population};
pub use rings::Rings;
pub use search::{Search, SearchSettings, Trial};
pub use summary::{Answers, By, LatencySummary, Summary};
pub use tally::{Counts, Tally};

use crate::limits::LOAD_COUNT_MAX;
use crate::sdk::EndpointError;
use crate::sys::bpf::SteerError;
use crate::sys::interface::InterfaceError;
use crate::time::Nanos;
use live_frames::LiveError;

/// How much is sent, and how fast.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The first frame's sequence number. See [`Plan::next_first`].
    pub first: u64,
    /// The number of frames to send, at most [`LOAD_COUNT_MAX`].
    pub count: u64,
    /// Frames a second; none: as many as possible.
    pub rate: Option<NonZeroU64>,
    /// When to end even if not all frames are sent.
    pub time: Option<Duration>,
    /// How long to wait for answers after the last frame.
    pub wait: Duration,
}

impl Plan {
    /// A plan for a duration: with a rate it is a number of frames, without one a time.
    pub fn lasting(rate: Option<NonZeroU64>, time: Duration, wait: Duration) -> Self {
        let frames = rate.map(|rate| u128::from(rate.get()) * time.as_nanos() / 1_000_000_000);
        let count = frames.map_or(LOAD_COUNT_MAX, |frames| frames.clamp(1, LOAD_COUNT_MAX.into()) as u64);
        Self { first: 0, count, rate, time: Some(time), wait }
    }

    /// The first sequence number of a load that follows this one after it sent so many frames: late
    /// answers to this one do not match that one, and versions of terminals keep growing.
    pub fn next_first(self, sent: u64, terminals: u32) -> u64 {
        (self.first + sent).next_multiple_of(u64::from(terminals) * kind::PERIOD)
    }
}

/// The state of a load, reported while it runs.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The time of the report.
    pub now: Nanos,
    /// The number of frames sent so far.
    pub sent: u64,
    /// Whether this is the last report.
    pub over: bool,
}

/// Is called with the state of a load several times a second; may take what the tally recorded
/// since.
pub type Watch<'a> = &'a mut dyn FnMut(Moment, &mut Tally);

/// Why a load cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The operator named an interface that cannot be used.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// AF_XDP rings are not available.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// No program can be attached to the interface.
    #[error(transparent)]
    Steer(#[from] SteerError),
    /// Live frames are not available.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// The operator's: a core that does not exist.
    #[error("cannot be pinned to core {0}: name one that is here and that this process may use")]
    Core(u16),
    /// Another call of the system failed.
    #[error("the load: {what}: {error}")]
    System {
        /// The step that failed.
        what: &'static str,
        /// What the call returned.
        error: std::io::Error,
    },
}

/// Pins the calling thread, if a core is given.
fn pin(core: Option<u16>) -> Result<(), LoadError> {
    match core {
        Some(core) if !crate::sys::threads::pin(core) => Err(LoadError::Core(core)),
        _ => Ok(()),
    }
}
