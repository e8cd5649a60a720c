//! Finds out which processes use a queue: the kernel's information on AF_XDP sockets
//! (sock_diag(7)), and the processes that have those open.
//!
//! It only serves an error message. If a step fails, the message gets shorter.

use std::fs;
use std::path::Path;

use rustix::fs::getxattr;
use rustix::net::netlink::SOCK_DIAG;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// The processes that have a socket on this queue of this interface open, as `pid 4711 (baton)`; if
/// the kernel does not tell queues, those that have any AF_XDP socket.
pub(super) fn of(interface: u32, queue: u32) -> String {
    let sockets = sockets_on(interface, queue).unwrap_or_default();
    let inodes: Vec<_> = sockets.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let holders = processes_with(|_, link| inodes.iter().any(|inode| inode == link));
    if !holders.is_empty() {
        return holders.join(", ");
    }
    let candidates = processes_with(|fd, link| link.starts_with("socket:") && is_af_xdp(fd));
    match candidates.is_empty() {
        false => format!("one of: {}", candidates.join(", ")),
        true => "a process that cannot be seen from here".to_owned(),
    }
}

const NETLINK_HEADER: usize = 16;
const XDP_DIAG_MESSAGE: usize = 16;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST_DUMP: u16 = 0x1 | 0x300;
const DONE: u16 = 3;
const AF_XDP: u8 = 44;
const SHOW_INFO: u32 = 1;
const ATTRIBUTE_INFO: u16 = 1;
/// Datagrams of one answer: some hundred sockets each.
const ANSWERS_MAX: usize = 64;

/// The inode numbers of the AF_XDP sockets on a queue.
fn sockets_on(interface: u32, queue: u32) -> rustix::io::Result<Vec<u32>> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(SOCK_DIAG))?;
    send(&socket, &request(), SendFlags::empty())?;
    let mut found = Vec::new();
    let mut answer = vec![0; 32 << 10];
    for _ in 0..ANSWERS_MAX {
        let (bytes, _) = recv(&socket, answer.as_mut_slice(), RecvFlags::empty())?;
        let mut rest = &answer[..bytes];
        while let Some((kind, body, behind)) = message(rest) {
            if kind != SOCK_DIAG_BY_FAMILY {
                return Ok(found);
            }
            if info(body) == Some((interface, queue)) {
                found.extend(u32_at(body, 4));
            }
            rest = behind;
        }
    }
    Ok(found)
}

/// `struct nlmsghdr`, then `struct xdp_diag_req`: all AF_XDP sockets of this network namespace,
/// with interface and queue.
fn request() -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(((NETLINK_HEADER + 20) as u32).to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(REQUEST_DUMP.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([AF_XDP, 0, 0, 0]);
    bytes.extend([0; 4]);
    bytes.extend(SHOW_INFO.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes
}

/// The type and body of a netlink message, and the bytes after it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32_at(bytes, 0)? as usize;
    let kind = u16_at(bytes, 4)?;
    let body = bytes.get(NETLINK_HEADER..length)?;
    debug_assert!(kind != DONE || !body.is_empty(), "the end of a dump says how it ended");
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// Interface and queue from the attributes after `struct xdp_diag_msg`. A socket that is not bound
/// has none.
fn info(body: &[u8]) -> Option<(u32, u32)> {
    let mut attributes = body.get(XDP_DIAG_MESSAGE..)?;
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        if u16_at(attributes, 2)? == ATTRIBUTE_INFO {
            return Some((u32_at(attributes, 4)?, u32_at(attributes, 8)?));
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// The processes with an open descriptor for which `is` holds, given its path below /proc and its
/// link target.
fn processes_with(is: impl Fn(&Path, &str) -> bool) -> Vec<String> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let holders = processes.filter_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let mut open = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        let has =
            open.any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.to_str().is_some_and(|to| is(&fd.path(), to))));
        let name = || fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        has.then(|| format!("pid {pid} ({})", name().trim_end()))
    });
    holders.collect()
}

/// Sockets have the name of their protocol as an extended attribute (net/socket.c).
fn is_af_xdp(fd: &Path) -> bool {
    let mut name = [0; 16];
    getxattr(fd, "system.sockprotoname", name.as_mut_slice()).is_ok_and(|bytes| name[..bytes].starts_with(b"XDP"))
}
