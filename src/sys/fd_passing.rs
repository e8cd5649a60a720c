//! Passes descriptors from process to process: packets over a Unix socket with descriptors
//! attached.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::sockopt::{set_socket_send_buffer_size, set_socket_send_buffer_size_force};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// The largest number of descriptors that the kernel passes in one message (`SCM_MAX_FD`,
/// include/net/scm.h).
pub const DESCRIPTORS_MAX: usize = 253;

/// A packet that was received.
#[derive(Debug)]
pub struct Received {
    /// Its length, at the front of the buffer.
    pub bytes: usize,
    /// The descriptors that came with it. They close on exec.
    pub descriptors: Vec<OwnedFd>,
}

/// Room for packets on their way, at each end. The usual 208 KiB are too small for a manifest of a
/// thousand domains.
const SEND_BUFFER: usize = 1 << 20;

/// Two connected sockets that preserve packet boundaries and notice when the other end is closed.
///
/// # Errors
/// The system's.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    for end in [&one, &other] {
        // A process that may not have this much uses what the system gives; most packets are small.
        let _ = set_socket_send_buffer_size_force(end, SEND_BUFFER)
            .or_else(|_| set_socket_send_buffer_size(end, SEND_BUFFER));
    }
    Ok((one, other))
}

/// Standard input as an owned descriptor.
///
/// # Errors
/// The system's.
pub fn stdin() -> io::Result<OwnedFd> {
    io::stdin().as_fd().try_clone_to_owned()
}

/// Sends a packet with descriptors attached. Never waits for room.
///
/// # Errors
/// The system's; `BrokenPipe` if the other end is closed.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    assert!(descriptors.len() <= DESCRIPTORS_MAX, "{} descriptors do not fit one message", descriptors.len());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(beside.push(SendAncillaryMessage::ScmRights(descriptors)), "the space is for that many");
    }
    let sent = sendmsg(socket, &[IoSlice::new(bytes)], &mut beside, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    if sent == bytes.len() { Ok(()) } else { Err(io::Error::other("a packet was cut")) }
}

/// Receives a packet with at most `most` descriptors; waits for one if `wait`.
///
/// # Errors
/// `UnexpectedEof` if the other end is closed, `InvalidData` for a packet that does not fit, and
/// the system's.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], most: usize, wait: bool) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let mut flags = RecvFlags::CMSG_CLOEXEC;
    flags.set(RecvFlags::DONTWAIT, !wait);
    let message = rustix::io::retry_on_intr(|| recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut beside, flags))?;
    let mut descriptors = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if message.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if message.flags.contains(ReturnFlags::CTRUNC) {
        // Our own processes never send more than there is room for, so the kernel ran out of free
        // descriptor numbers.
        let what = "its descriptors did not all come through: this process may open no more (raise `ulimit -n`, or LimitNOFILE)";
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    if message.flags.contains(ReturnFlags::TRUNC) || descriptors.len() > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet that does not fit"));
    }
    Ok(Received { bytes: message.bytes, descriptors })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const CHILD: &str = "BATON_TEST_FEW_DESCRIPTORS";

    /// Runs in a process of its own, which has no descriptor numbers left.
    #[test]
    fn want_of_descriptors_is_said() {
        if std::env::var_os(CHILD).is_none() {
            let name = "sys::fd_passing::tests::want_of_descriptors_is_said";
            let mut child = Command::new("prlimit");
            child.arg("--nofile=64").arg(std::env::current_exe().unwrap()).args(["--exact", name, "--nocapture"]);
            let done = child.env(CHILD, "1").output().expect("prlimit of util-linux");
            let said = String::from_utf8_lossy(&done.stdout);
            assert!(done.status.success() && said.contains("1 passed"), "{said}\n{done:?}");
            return;
        }
        let (one, other) = pair().unwrap();
        send(one.as_fd(), b"one", &[one.as_fd()]).unwrap();
        let mut all = Vec::new();
        while let Ok(more) = one.try_clone() {
            all.push(more);
        }
        let error = receive(other.as_fd(), &mut [0; 8], 1, true).unwrap_err();
        assert!(error.to_string().contains("ulimit -n"), "{error}");
    }
}
