//! Where an upgrade is.

use std::time::Duration;

use super::action::EngineId;
use super::process::Process;
use crate::time::Nanos;

/// Where an upgrade is.
#[derive(Debug, Default)]
pub enum Stage {
    #[default]
    Idle,
    /// An engine is started that shall stand by in place of the present standby.
    /// Where it is of the new program, the engine that controls then hands over to it, and it is on
    /// `trial` for this time; else it is of the program that was kept, and nothing follows.
    Awaited { candidate: Box<Process>, due: Nanos, trial: Option<Duration> },
    /// The engine that controlled has been ordered to yield, or has yielded, to this one.
    Trial {
        engine: EngineId,
        time: Duration,
        /// Its end, once that engine controls.
        until: Option<Nanos>,
        /// Until when the engine that controlled may take to yield.
        yield_due: Option<Nanos>,
    },
}
