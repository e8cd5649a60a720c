//! What a socket is told beyond its rings. Kernels that do not know an option go on without it,
//! slower.

use std::os::fd::{AsFd, AsRawFd};

use super::Settings;
use crate::limits::{BURST, BUSY_POLL_US, SEND_BUDGET};
use rustix::net::sockopt::set_socket_send_buffer_size_force;

/// linux/if_xdp.h, since 6.17.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// How a socket sends in copy mode.
pub(super) fn set_sending(socket: impl AsFd, settings: &Settings) {
    // Every frame on its way out counts against the send buffer, at some 2 KiB of the kernel's own
    // memory. One who may not raise it sends in smaller bursts.
    let _ = set_socket_send_buffer_size_force(&socket, settings.transmit as usize * settings.chunk_bytes());
    // A call sends 32 frames (net/xdp/xsk.c, TX_BATCH_SIZE), or as many as this says and the
    // transmit ring holds, which is there already.
    set(socket, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, SEND_BUDGET.min(settings.transmit));
}

/// Has the worker's own looks into its ring run the driver, and not interrupts
/// (Documentation/networking/napi.rst). Needs CAP_NET_ADMIN. Gives whether the kernel does that.
pub(super) fn set_busy_polling(socket: impl AsFd) -> bool {
    let set = |option, value| set(&socket, libc::SOL_SOCKET, option, value);
    set(libc::SO_PREFER_BUSY_POLL, 1)
        && set(libc::SO_BUSY_POLL, BUSY_POLL_US)
        && set(libc::SO_BUSY_POLL_BUDGET, BURST as u32)
}

fn set(socket: impl AsFd, level: libc::c_int, option: libc::c_int, value: u32) -> bool {
    let (fd, bytes) = (socket.as_fd().as_raw_fd(), size_of::<u32>() as libc::socklen_t);
    // SAFETY: the value lives through the call, and its length is given.
    unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), bytes) == 0 }
}
