//! Options of a socket beyond its rings. Kernels that do not know an option work without it, more
//! slowly.

use std::os::fd::{AsFd, AsRawFd};

use super::Settings;
use crate::limits::{BURST, BUSY_POLL_US, SEND_BUDGET};
use rustix::net::sockopt::set_socket_send_buffer_size_force;

/// linux/if_xdp.h, since 6.17.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// Sets how a socket sends in copy mode.
pub(super) fn set_sending(socket: impl AsFd, settings: &Settings) {
    // Every outgoing frame counts against the send buffer, with some 2 KiB of the kernel's own
    // memory. A process that may not raise the limit sends in smaller bursts.
    let _ = set_socket_send_buffer_size_force(&socket, settings.transmit as usize * settings.chunk_bytes());
    // A call sends 32 frames (net/xdp/xsk.c, TX_BATCH_SIZE), or as many as this option says and the
    // transmit ring holds; the ring exists already.
    set(socket, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, SEND_BUDGET.min(settings.transmit));
}

/// Makes the worker's own looks into its ring run the driver, instead of interrupts
/// (Documentation/networking/napi.rst). Needs CAP_NET_ADMIN. Returns whether the kernel does that.
pub(super) fn set_busy_polling(socket: impl AsFd) -> bool {
    let set = |option, value| set(&socket, libc::SOL_SOCKET, option, value);
    set(libc::SO_PREFER_BUSY_POLL, 1)
        && set(libc::SO_BUSY_POLL, BUSY_POLL_US)
        && set(libc::SO_BUSY_POLL_BUDGET, BURST as u32)
}

fn set(socket: impl AsFd, level: libc::c_int, option: libc::c_int, value: u32) -> bool {
    let (fd, bytes) = (socket.as_fd().as_raw_fd(), size_of::<u32>() as libc::socklen_t);
    // SAFETY: the value lives through the call, and its length is passed.
    unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), bytes) == 0 }
}
