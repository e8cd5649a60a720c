//! The simulation on an interface: one thread between its rings and the autonomous servers.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::World;
use super::control::Control;
use crate::sdk::{Endpoint, EndpointError, EndpointSettings};
use crate::sys::clock;

/// What is due gathers for so long before the thread gets up for it. Frames that arrive wake it at
/// once, so that answers do not wait; twenty thousand reports a second leave ten at a time, for two
/// thousand wake-ups.
const GATHER: Duration = Duration::from_micros(500);
/// The longest sleep: somebody may ask over the control socket.
const SLEEP_MAX: Duration = Duration::from_millis(5);

/// How the simulation's thread waits and where it runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Manner {
    /// It never sleeps: a whole core, so that how fast a thread is woken is not in what is
    /// measured.
    pub spin: bool,
    /// The core that it is pinned to.
    pub core: Option<usize>,
}

/// Why a simulation cannot run, or ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its interface.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// Its control socket.
    #[error("cannot listen at {}: {error}; is another simulation there?", path.display())]
    Control {
        /// Where it was to be.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// The CPU that the thread could not be pinned to.
    #[error("cannot be pinned to core {0}: name one that is here and that this process may use")]
    Core(usize),
}

/// Autonomous servers on an interface.
pub struct Simulation {
    endpoint: Endpoint,
    world: World,
    control: Option<Control>,
}

impl Simulation {
    /// Takes the interface's V2V frames, then listens at the control socket: who can connect to
    /// that knows that the autonomous servers are there.
    pub fn open(
        interface: &str,
        settings: &EndpointSettings,
        control: Option<&Path>,
        world: impl FnOnce(&Endpoint) -> World,
    ) -> Result<Self, RunError> {
        let endpoint = Endpoint::open(interface, settings)?;
        let world = world(&endpoint);
        let listen = |path| Control::listen(path).map_err(|error| RunError::Control { path: path.to_owned(), error });
        let control = control.map(listen).transpose()?;
        Ok(Self { endpoint, world, control })
    }

    /// The interface's end of it.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Runs until the control socket says stop, or the interface fails.
    pub fn run(mut self, manner: Manner) -> Result<(), RunError> {
        if let Some(core) = manner.core
            && !core_affinity::set_for_current(core_affinity::CoreId { id: core })
        {
            return Err(RunError::Core(core));
        }
        let Self { endpoint, world, control } = &mut self;
        loop {
            let now = clock::now();
            if control.as_ref().is_some_and(|control| !control.answer(now, world)) {
                return Ok(());
            }
            world.handle_timeout(now);
            // What there is no room for now is sent in the next turn, and `poll_timeout` says that
            // it is due.
            world.transmit(now, |write| endpoint.send(write));
            endpoint.flush()?;
            if manner.spin {
                // A burst takes as long as it takes: without a stamp of its own a frame came when
                // its turn did.
                endpoint
                    .receive(Duration::ZERO, |bytes, at| world.handle_frame(at.unwrap_or_else(clock::now), bytes))?;
                continue;
            }
            let sleep = world.poll_timeout().map_or(SLEEP_MAX, |due| due.since(now).clamp(GATHER, SLEEP_MAX));
            // An interface that stamps nothing leaves the time at which the frame is looked at.
            endpoint.receive(sleep, |bytes, arrived| world.handle_frame(arrived.unwrap_or_else(clock::now), bytes))?;
        }
    }
}
