//! The keeper: what outlives an engine.
//!
//! A small, privileged process with one thread that parses no frame. It opens what must survive an engine ([`Estate`]: the
//! table, the UMEM, the AF_XDP sockets, the pinned XDP link and maps, the API's listening socket), starts an engine without
//! privileges, hands it the descriptors ([`handover`]), sees it die, and hands them to the next.
//!
//! What always holds:
//!
//! - One engine at a time has been handed the estate, and the next is handed it only when the kernel has proven the death
//!   of the one before. The proof is its pidfd: readable only when its last thread has left the address space for good, so
//!   that nothing of it can write to table or rings any more. Measured on two cores, that is 0.4 ms after a SIGKILL for a
//!   process that has mapped next to nothing and 2 to 4 ms where 50 MB of 4 KiB pages have to be unmapped; a closed
//!   socket would tell no sooner, because the kernel closes files after it has unmapped memory (`do_exit`, kernel/exit.c).
//! - The next engine has been started already, and waits for its inheritance: starting a program costs a millisecond
//!   that nobody has then. This is the place of the warm standby, too.
//! - An engine that cannot come to control anything is not started in a tight loop ([`Restarts`]).
//! - Once the estate is open the keeper holds three capabilities and cannot become anybody else: engines are started by the
//!   `starter`, which has none. They run confined ([`crate::sys::seccomp`]).
//! - Under a service manager that keeps descriptors (`store`) the rings outlive the keeper as well.

mod engine;
mod estate;
pub mod handover;
mod restarts;
mod starter;
mod store;
mod supervisor;
mod table;
#[cfg(test)]
mod tests;

pub use estate::{Estate, KeeperError};
pub use restarts::Restarts;
pub use starter::serve as start_engines;

use starter::Starter;
use store::Store;

use crate::config::Config;
use crate::sys::capabilities;
use crate::sys::notify::{self, ServiceManager};
use crate::sys::process::{User, is_root};
use crate::sys::signals::StopSignals;

/// Runs a keeper until it is asked to stop, by SIGTERM or SIGINT. With `store`, the service manager keeps what a restart is to
/// find again.
///
/// # Errors
/// What an operator has to see to: see [`KeeperError`].
pub fn run(config: Config, store: bool) -> Result<(), KeeperError> {
    // Before anything opens descriptors.
    let stored = notify::stored();
    let manager = ServiceManager::of_environment()
        .map_err(|error| KeeperError::System { doing: "speak with the service manager", error })?;
    if store && !manager.is_there() {
        return Err(KeeperError::NoManager);
    }
    let stop = StopSignals::install().map_err(|error| KeeperError::System { doing: "handle signals", error })?;
    // Without privileges there are none to drop; what needs them says so itself.
    let user = if is_root() { Some(find_user(&config.runtime.user)?) } else { None };
    let system = |doing| move |error| KeeperError::System { doing, error };
    capabilities::allow_realtime_to_children();
    capabilities::leave_none_to_children().map_err(system("give up capabilities of programs that are started"))?;
    // It takes what is given up next.
    let starter = Starter::start(user.as_ref()).map_err(system("start the process that starts engines"))?;
    let estate = Estate::open(config, user.as_ref(), Store::open(&manager, stored, store))?;
    capabilities::keep_only(capabilities::KEEPER).map_err(system("give up capabilities"))?;
    supervisor::Supervisor::new(estate, starter, stop, manager).run()
}

fn find_user(name: &str) -> Result<User, KeeperError> {
    User::find(name).map_err(|error| KeeperError::User { name: name.into(), error })
}
