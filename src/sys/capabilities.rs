//! Capabilities: which ones a process keeps, and how it gives up the others.
//!
//! What always holds: a capability that was given up is gone for good, also for every program that
//! is started afterwards, because the bounding set is empty and no executed program gains
//! privileges (`no_new_privs`).

use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};

use crate::limits::REALTIME_PRIORITY_MAX;

/// The capabilities that a keeper works with: for the interface's sockets and the steering program.
pub const KEEPER: CapabilitySet = CapabilitySet::NET_ADMIN.union(CapabilitySet::NET_RAW).union(CapabilitySet::BPF);

/// Number of bits in the kernel's sets; how many of them it knows depends on its version.
const BITS: u32 = 64;

/// Prevents every process that this one starts from having a capability. Its own stay as they are.
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
            // A process that may not change the set is not root, and gains nothing by executing a
            // program.
            Err(Errno::PERM) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Gives up every capability except these. One that the process does not have is not gained.
///
/// # Errors
/// The system's.
pub fn keep_only(keep: CapabilitySet) -> io::Result<()> {
    let keep = capabilities(None)?.permitted.intersection(keep);
    // The kernel itself cuts the ambient set to what is permitted and inheritable.
    let sets = CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    Ok(set_capabilities(None, sets)?)
}

/// Gives up every capability, for this process and for all that it starts.
///
/// # Errors
/// The system's.
pub fn keep_none() -> io::Result<()> {
    leave_none_to_children()?;
    keep_only(CapabilitySet::empty())
}

/// Lets this process lock any amount of memory (`RLIMIT_MEMLOCK`), if it may raise that limit. The
/// limit does not apply to root, but it applies to a root process that has given up its
/// capabilities.
pub fn allow_locked_memory() {
    let all = Rlimit { current: None, maximum: None };
    if let Err(error) = setrlimit(Resource::Memlock, all) {
        tracing::debug!("memory is locked within the limit: {error}");
    }
}

/// Allows the processes that this one starts to run threads in real time, if the system permits it:
/// a process without privileges can then do so by itself (`RLIMIT_RTPRIO`, sched(7)). Otherwise
/// their threads run with normal priority.
pub fn allow_realtime_to_children() {
    let limit = getrlimit(Resource::Rtprio);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= REALTIME_PRIORITY_MAX);
    let wanted = Some(REALTIME_PRIORITY_MAX);
    let maximum = if enough(limit.maximum) { limit.maximum } else { wanted };
    if !enough(limit.current)
        && let Err(error) = setrlimit(Resource::Rtprio, Rlimit { current: wanted, maximum })
    {
        tracing::debug!("engines cannot run in real time: {error}");
    }
}
