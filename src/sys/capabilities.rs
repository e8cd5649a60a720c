//! Capabilities: which a process keeps, and how it gives up the others.
//!
//! What always holds: what is given up is given up for good, and for every program that is started
//! afterwards, because the bounding set is emptied and no program that is executed gains anything
//! (`no_new_privs`).

use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};

use crate::limits::REALTIME_PRIORITY_MAX;

/// What a keeper works with: the interface's sockets and the steering program.
pub const KEEPER: CapabilitySet = CapabilitySet::NET_ADMIN.union(CapabilitySet::NET_RAW).union(CapabilitySet::BPF);

/// Every bit that the kernel's sets have room for; which of them it knows depends on its version.
const BITS: u32 = 64;

/// Nothing that this process starts from now on can have a capability. Its own stay as they are.
///
/// # Errors
/// The system's.
pub fn leave_none_to_children() -> io::Result<()> {
    set_no_new_privs(true)?;
    clear_ambient_capability_set()?;
    for bit in 0..BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            // The kernel knows no further ones.
            Err(Errno::INVAL) => break,
            // Who may not change the set is no root, and gains nothing by executing anything.
            Err(Errno::PERM) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Gives up every capability but these. One that is not there is not gained.
///
/// # Errors
/// The system's.
pub fn keep_only(keep: CapabilitySet) -> io::Result<()> {
    let keep = capabilities(None)?.permitted.intersection(keep);
    // The ambient set is cut by the kernel to what is permitted and inheritable.
    let sets = CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    Ok(set_capabilities(None, sets)?)
}

/// Gives up every capability, here and for whatever is started.
///
/// # Errors
/// The system's.
pub fn keep_none() -> io::Result<()> {
    leave_none_to_children()?;
    keep_only(CapabilitySet::empty())
}

/// Lets this process lock as much memory as it likes (`RLIMIT_MEMLOCK`), if it may raise that
/// limit. It does not bind root, but it binds a process of root's that has given up its
/// capabilities.
pub fn allow_locked_memory() {
    let all = Rlimit { current: None, maximum: None };
    if let Err(error) = setrlimit(Resource::Memlock, all) {
        tracing::debug!("memory is locked within the limit: {error}");
    }
}

/// Allows the processes that this one starts to run threads in real time, if the system lets it: a
/// process without privileges can then do so by itself (`RLIMIT_RTPRIO`, sched(7)). Where it does
/// not, threads run as others do.
pub fn allow_realtime_to_children() {
    let limit = getrlimit(Resource::Rtprio);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= REALTIME_PRIORITY_MAX);
    let wanted = Some(REALTIME_PRIORITY_MAX);
    let maximum = if enough(limit.maximum) { limit.maximum } else { wanted };
    if !enough(limit.current)
        && let Err(error) = setrlimit(Resource::Rtprio, Rlimit { current: wanted, maximum })
    {
        tracing::debug!("engines run in no real time: {error}");
    }
}
