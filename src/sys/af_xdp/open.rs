//! The privileged half: registers memory, makes rings, binds sockets.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::sleep;

use rustix::io::Errno;
use rustix::net::sockopt::{
    set_xdp_rx_ring_size, set_xdp_tx_ring_size, set_xdp_umem_completion_ring_size, set_xdp_umem_fill_ring_size,
    set_xdp_umem_reg,
};
use rustix::net::xdp::{SocketAddrXdp, SocketAddrXdpFlags, SocketAddrXdpWithSharedUmem, XdpUmemReg, XdpUmemRegFlags};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socket_with};

use super::umem::Umem;
use super::{Bound, Settings, XdpError, holders, options};
use crate::limits::{BIND_ATTEMPTS, BIND_PAUSE, RING_ENTRIES_MIN};

/// Opens and binds all sockets of an interface. Needs CAP_NET_RAW, and CAP_IPC_LOCK or enough
/// RLIMIT_MEMLOCK: if the limit is too low for the requested sizes, smaller ones are tried, and the
/// granted sizes are returned.
///
/// The sockets receive nothing before they are adopted: frames that steering gives them until then
/// are dropped.
pub fn bind(settings: &Settings) -> Result<Bound, XdpError> {
    settings.check()?;
    let mut settings = settings.clone();
    loop {
        match bind_as(&settings) {
            Err(XdpError::LockedMemory { .. }) if settings.receive.min(settings.transmit) > RING_ENTRIES_MIN => {
                settings.receive /= 2;
                settings.transmit /= 2;
            }
            Err(error) => return Err(error),
            Ok((umem, sockets)) => {
                settings.busy_poll &= sockets.iter().all(options::set_busy_polling);
                return Ok(Bound { settings, umem, sockets });
            }
        }
    }
}

fn bind_as(settings: &Settings) -> Result<(OwnedFd, Vec<OwnedFd>), XdpError> {
    let (umem, fd) = Umem::create(settings)?;
    let mut sockets = Vec::new();
    for queue in 0..settings.queues {
        let mut first = None;
        for _ in 0..settings.rings {
            let socket = open(settings)?;
            match first {
                None => {
                    register(settings, &umem, queue, &socket)?;
                    attach(settings, queue, &socket, None)?;
                    first = Some(sockets.len());
                }
                Some(first) => attach(settings, queue, &socket, Some(&sockets[first]))?,
            }
            sockets.push(socket);
        }
    }
    Ok((fd, sockets))
}

/// A socket with a receive and a transmit ring of its own.
fn open(settings: &Settings) -> Result<OwnedFd, XdpError> {
    let socket =
        socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None).map_err(|error| match error {
            Errno::PERM | Errno::ACCESS => XdpError::Privilege,
            Errno::AFNOSUPPORT => XdpError::OldKernel { what: "AF_XDP (Linux 5.4, CONFIG_XDP_SOCKETS)" },
            error => XdpError::Call { what: "opening a socket", error: error.into() },
        })?;
    let ring = |error: Errno| XdpError::Call { what: "making a socket's rings", error: error.into() };
    set_xdp_rx_ring_size(&socket, settings.receive).map_err(ring)?;
    set_xdp_tx_ring_size(&socket, settings.transmit).map_err(ring)?;
    options::set_sending(&socket, settings);
    Ok(socket)
}

/// Tells the kernel about a queue's part of the memory, through the queue's first socket, which has
/// the shared rings.
///
/// The kernel pins the memory; the mapping here no longer matters. No queue depends on the socket
/// of another queue.
fn register(settings: &Settings, umem: &Umem, queue: u32, socket: &OwnedFd) -> Result<(), XdpError> {
    let chunks = settings.chunks_of_queue();
    let bytes = (chunks * settings.chunk_bytes()) as u64;
    let memory = XdpUmemReg {
        addr: umem.address(queue as usize * chunks),
        len: bytes,
        chunk_size: settings.chunk_bytes() as u32,
        headroom: 0,
        flags: XdpUmemRegFlags::empty(),
        tx_metadata_len: 0,
    };
    set_xdp_umem_reg(socket, memory).map_err(|error| match error {
        Errno::NOBUFS | Errno::PERM => XdpError::LockedMemory { bytes: bytes * u64::from(settings.queues) },
        error => XdpError::Call { what: "registering the frames' memory", error: error.into() },
    })?;
    let ring = |error: Errno| XdpError::Call { what: "making a queue's rings", error: error.into() };
    set_xdp_umem_fill_ring_size(socket, settings.receive).map_err(ring)?;
    set_xdp_umem_completion_ring_size(socket, settings.completion()).map_err(ring)
}

/// Binds the socket to the queue, as its first socket or as a further one.
fn attach(settings: &Settings, queue: u32, socket: &OwnedFd, first: Option<&OwnedFd>) -> Result<(), XdpError> {
    let alone = |flags| SocketAddrXdp::new(flags, settings.interface.index, queue);
    let mode = if settings.zero_copy { SocketAddrXdpFlags::XDP_ZEROCOPY } else { SocketAddrXdpFlags::XDP_COPY };
    let bind = || match first {
        None => rustix::net::bind(socket, &alone(mode | SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP)),
        Some(first) => {
            let addr = alone(SocketAddrXdpFlags::XDP_SHARED_UMEM);
            rustix::net::bind(socket, &SocketAddrXdpWithSharedUmem { addr, shared_umem_fd: first.as_fd() })
        }
    };
    let interface = settings.interface.name.clone();
    match retry_while_busy(bind) {
        Ok(()) => Ok(()),
        Err(Errno::BUSY) => {
            Err(XdpError::Occupied { holders: holders::of(settings.interface.index, queue), interface, queue })
        }
        Err(Errno::INVAL) => Err(XdpError::NoQueue { interface, queue }),
        Err(Errno::NODEV) => Err(XdpError::InterfaceGone { interface }),
        Err(Errno::OPNOTSUPP) if settings.zero_copy => Err(XdpError::NoZeroCopy { interface }),
        Err(Errno::PERM | Errno::ACCESS) => Err(XdpError::Privilege),
        Err(error) => Err(XdpError::Call { what: "binding a socket to its queue", error: error.into() }),
    }
}

/// Whether the interface of a bound socket is gone: then the kernel has unbound the socket for
/// good, even if a new interface has the same name.
pub fn is_gone(socket: BorrowedFd<'_>) -> bool {
    // A receive call takes nothing from an AF_XDP socket. It first checks whether that is bound
    // (net/xdp/xsk.c, xsk_check_common).
    matches!(recv(socket, &mut [0; 0], RecvFlags::DONTWAIT), Err(Errno::NXIO | Errno::NODEV))
}

/// A queue whose last socket was just closed is busy until the kernel has removed that socket.
fn retry_while_busy(bind: impl Fn() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    for _ in 1..BIND_ATTEMPTS {
        match bind() {
            Err(Errno::BUSY) => sleep(BIND_PAUSE),
            other => return other,
        }
    }
    bind()
}

impl XdpError {
    /// Maps a failed mapping of a bound socket's ring to its error: kernels before 6.4 no longer
    /// find the fill and completion rings.
    pub(super) fn unmapped(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidInput => Self::OldKernel { what: "rings that are mapped again (Linux 6.4)" },
            _ => Self::Call { what: "mapping a ring", error },
        }
    }
}
