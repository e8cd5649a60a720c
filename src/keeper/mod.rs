//! The keeper: what outlives an engine.
//!
//! A small, privileged process with one thread that parses no frame. It opens what must survive an
//! engine ([`Resources`]: the table, the UMEM, the AF_XDP sockets, the pinned XDP link and maps,
//! the API's listening socket), starts an engine without privileges, hands it the descriptors
//! ([`crate::handover`]), sees it die, and hands them to the next.
//!
//! What it decides is `lifecycle`, which is pure; what it does is `supervisor`, the shell
//! around that.
//!
//! What always holds:
//!
//! - One engine works with table and rings at a time. Its standby has all of it mapped and touches
//!   none of it before the kernel has handed it every lock of the engine's threads
//!   ([`crate::sys::robust_locks`]). Where there is no standby, a new engine is handed the
//!   resources when the pidfd has proven the death of the one before: readable only when its last
//!   thread has left the address space for good. That is later by what unmapping takes, 40 to 80 µs
//!   for each MB of 4 KiB pages (`do_exit`, kernel/exit.c).
//! - An engine that hangs counts as dead and is killed (`lifecycle`). What an engine says is
//!   trusted no more than what comes in a frame (`hearing`). What it can write to is replaced
//!   when engines fail one after the other (`renewal`).
//! - An engine that cannot come to control anything is not started in a tight loop ([`Backoff`]).
//! - Once the resources are open the keeper holds three capabilities and can act as no other user:
//!   engines are started by the starter (`spawner`), which has none. They run confined
//!   ([`crate::sys::seccomp`]).
//! - A program that is put in the place of the keeper's own starts nothing before an upgrade is
//!   asked for, and takes nothing over that it would understand otherwise
//!   ([`crate::handover::compat`]).
//! - Under a service manager that keeps descriptors (`fd_store`) the rings outlive the keeper as
//!   well.

mod backoff;
mod bpf_pins;
mod engine;
mod error;
mod fd_store;
mod folders;
mod hearing;
pub(crate) mod interfaces;
mod lifecycle;
mod mandate;
mod obstacles;
mod renewal;
mod resources;
mod spawner;
mod supervisor;
mod table;
#[cfg(test)]
mod tests;

pub use backoff::Backoff;
pub use error::KeeperError;
pub use mandate::{Mandate, MandateError, Standing};
pub(crate) use obstacles::{Obstacle, obstacles};
pub use resources::Resources;
pub use spawner::serve as start_engines;

use fd_store::Store;
use spawner::Starter;

use crate::config::Config;
use crate::sys::capabilities;
use crate::sys::process::{User, is_root};
use crate::sys::sd_notify::{self, ServiceManager};
use crate::sys::signals::{StopSignals, ignore_file_limit};

/// Runs a keeper until it is asked to stop, by SIGTERM, SIGINT or SIGHUP. With `store`, the service
/// manager keeps what a restart is to find again.
///
/// # Errors
/// What an operator has to see to: see [`KeeperError`].
pub fn run(config: Config, store: bool) -> Result<(), KeeperError> {
    // Before anything opens descriptors.
    let stored = sd_notify::stored();
    let manager = ServiceManager::of_environment()
        .map_err(|error| KeeperError::System { doing: "speak with the service manager", error })?;
    if store && !manager.is_there() {
        return Err(KeeperError::NoManager);
    }
    ignore_file_limit();
    let stop = StopSignals::install().map_err(|error| KeeperError::System { doing: "handle signals", error })?;
    // Before it is replaced.
    let program =
        std::env::current_exe().map_err(|error| KeeperError::System { doing: "find the program's own file", error })?;
    // Without privileges there are none to drop; what needs them says so itself.
    let user = if is_root() { Some(find_user(&config.runtime.user)?) } else { None };
    let system = |doing| move |error| KeeperError::System { doing, error };
    capabilities::allow_realtime_to_children();
    capabilities::leave_none_to_children().map_err(system("give up capabilities of programs that are started"))?;
    // It takes what is given up next.
    let starter = Starter::start(user.as_ref()).map_err(system("start the process that starts engines"))?;
    // Not for engines: for the sockets that may have to be made anew when this may not be done any
    // more.
    capabilities::allow_locked_memory();
    let resources = Resources::open(config, user.as_ref(), Store::open(&manager, stored, store))?;
    capabilities::keep_only(capabilities::KEEPER).map_err(system("give up capabilities"))?;
    supervisor::Supervisor::new(resources, (starter, program), stop, manager).run()
}

fn find_user(name: &str) -> Result<User, KeeperError> {
    User::find(name).map_err(|error| KeeperError::User { name: name.into(), error })
}
