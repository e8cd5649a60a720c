//! What can go wrong with AF_XDP, and who can mend it.

use std::io;

/// Why AF_XDP is not available, or failed.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// The operator's: a setting is out of its range.
    #[error("{value} {what}: {least} to {most} are possible")]
    Settings {
        /// The counted resource, in the plural.
        what: &'static str,
        /// The number that was asked for.
        value: u32,
        /// The smallest allowed number.
        least: u32,
        /// The largest allowed number.
        most: u32,
    },
    /// The operator's: a ring of a size that no ring has.
    #[error("{value} {what}: the kernel's rings have a power of two of them, such as {power}", power = .value.next_power_of_two())]
    NoPowerOfTwo {
        /// The counted resource, in the plural.
        what: &'static str,
        /// The number that was asked for.
        value: u32,
    },
    /// The operator's: the process lacks privileges.
    #[error("AF_XDP sockets need CAP_NET_RAW and CAP_NET_ADMIN, and were refused: start it as root")]
    Privilege,
    /// The operator's: the interface was removed.
    #[error("interface {interface} is gone")]
    InterfaceGone {
        /// The name of the interface.
        interface: String,
    },
    /// The operator's: the interface has fewer queues.
    #[error(
        "interface {interface} has no queue {queue} for both directions; `ethtool -l {interface}` lists its queues"
    )]
    NoQueue {
        /// The name of the interface.
        interface: String,
        /// The queue that was asked for.
        queue: u32,
    },
    /// The operator's: another process uses the queue.
    #[error("queue {queue} of {interface} is taken, by {holders}: end that, or use another interface")]
    Occupied {
        /// The name of the interface.
        interface: String,
        /// The queue that was asked for.
        queue: u32,
        /// The processes that have it.
        holders: String,
    },
    /// The operator's: the driver does not support user memory.
    #[error("the driver of {interface} has no zero-copy mode: leave the setting out")]
    NoZeroCopy {
        /// The name of the interface.
        interface: String,
    },
    /// The machine's: there is not enough memory.
    #[error("no memory of {bytes} bytes for frames: {error}")]
    Memory {
        /// The size that was asked for.
        bytes: usize,
        /// The kernel's error.
        error: io::Error,
    },
    /// The operator's: lockable memory is short, even for the smallest rings.
    #[error("{bytes} bytes of frames may not be locked in memory: give the process CAP_IPC_LOCK, or raise `ulimit -l`")]
    LockedMemory {
        /// The size that was asked for.
        bytes: u64,
    },
    /// The machine's: this kernel lacks something.
    #[error("this kernel has no {what}; Baton needs Linux 6.4 or newer")]
    OldKernel {
        /// The missing feature, and since when it exists.
        what: &'static str,
    },
    /// Ours: the descriptors do not belong together, or another version opened them.
    #[error("the inherited frames' memory is refused: {what}")]
    Foreign {
        /// What is wrong with the memory.
        what: &'static str,
    },
    /// Another call failed.
    #[error("AF_XDP: {what}: {error}")]
    Call {
        /// The step that failed.
        what: &'static str,
        /// The kernel's error.
        error: io::Error,
    },
}
