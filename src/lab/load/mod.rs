//! An open-loop load: frames leave when they are due, whether or not what came before them was
//! answered.
//!
//! So a server that falls behind does not slow down what it is measured by, and how late an answer
//! is counts from the moment at which its request *was to be* sent, not from when there was room
//! for it. A sequence runs through all frames of a load; which frame bears which number, from which
//! terminal, follows from it by rule ([`Composer`]), so that any answer tells what it answers and
//! nothing has to be remembered but a bit for each frame ([`Tally`]).
//!
//! Two ways lead out: AF_XDP rings ([`Rings`]), where this process writes and tags each frame, and
//! live frames ([`Live`]), which the kernel makes and a small program fills from prepared ones,
//! several times as many a second.

mod compose;
mod every;
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
    /// The first frame's sequence. See [`Plan::next_first`].
    pub first: u64,
    /// Frames to send, at most [`LOAD_COUNT_MAX`].
    pub count: u64,
    /// Frames a second; none: as many as go.
    pub rate: Option<NonZeroU64>,
    /// When to end though not all are sent.
    pub time: Option<Duration>,
    /// How long after the last frame answers are waited for.
    pub wait: Duration,
}

impl Plan {
    /// At this rate for so long: with a rate that is a number of frames, without one a time.
    pub fn lasting(rate: Option<NonZeroU64>, time: Duration, wait: Duration) -> Self {
        let frames = rate.map(|rate| u128::from(rate.get()) * time.as_nanos() / 1_000_000_000);
        let count = frames.map_or(LOAD_COUNT_MAX, |frames| frames.clamp(1, LOAD_COUNT_MAX.into()) as u64);
        Self { first: 0, count, rate, time: Some(time), wait }
    }

    /// The first sequence of a load that follows one which sent so many: late answers to that are
    /// none to this, and versions of terminals go on growing.
    pub fn next_first(self, sent: u64, terminals: u32) -> u64 {
        (self.first + sent).next_multiple_of(u64::from(terminals) * kind::PERIOD)
    }
}

/// How a load stands, told while it runs.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Now.
    pub now: Nanos,
    /// Frames sent.
    pub sent: u64,
    /// Whether this is the last word.
    pub over: bool,
}

/// Told how a load stands, several times a second; may take what the tally recorded since.
pub type Watch<'a> = &'a mut dyn FnMut(Moment, &mut Tally);

/// Why a load cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The interface.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// Its rings.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// A program on it.
    #[error(transparent)]
    Steer(#[from] SteerError),
    /// Live frames.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// The operator's: a core that is not there.
    #[error("cannot be pinned to core {0}: name one that is here and that this process may use")]
    Core(u16),
    /// The system's.
    #[error("the load: {what}: {error}")]
    System {
        /// What was done.
        what: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
}

/// Pins the calling thread, where a core is named.
fn pin(core: Option<u16>) -> Result<(), LoadError> {
    match core {
        Some(core) if !crate::sys::threads::pin(core) => Err(LoadError::Core(core)),
        _ => Ok(()),
    }
}
