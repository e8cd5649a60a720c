//! AF_PACKET with memory that the kernel and the process share (TPACKET), versions 2 and 3.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use baton::sys::interface::Interface;

use super::{Mode, Run};
use crate::Failure;
use crate::kernel::Kernel;
use crate::net::swap_macs;
use crate::reports;

const FRAME: usize = 2048;
const FRAMES: usize = 4096;
const BLOCK: usize = 1 << 20;
const BLOCKS: usize = FRAMES * FRAME / BLOCK;
/// Where a frame to send begins in its place of the ring
/// (`TPACKET2_HDRLEN - sizeof(struct sockaddr_ll)`).
const SEND_AT: usize = 32;

struct Packet {
    fd: OwnedFd,
    memory: *mut u8,
    bytes: usize,
}

impl Packet {
    fn open(interface: &Interface, version: i32, echo: bool) -> Result<Self, Failure> {
        // SAFETY: no pointer is passed; what comes back is checked.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(failed("opening it"));
        }
        // SAFETY: just opened, and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        option(&fd, libc::PACKET_VERSION, &version)?;
        option(&fd, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
        let (block_size, block_number) = (BLOCK as u32, BLOCKS as u32);
        let (frame_size, frame_number) = (FRAME as u32, FRAMES as u32);
        if version == libc::tpacket_versions::TPACKET_V3 as i32 {
            let request = libc::tpacket_req3 {
                tp_block_size: block_size,
                tp_block_nr: block_number,
                tp_frame_size: frame_size,
                tp_frame_nr: frame_number,
                tp_retire_blk_tov: 1,
                tp_sizeof_priv: 0,
                tp_feature_req_word: 0,
            };
            option(&fd, libc::PACKET_RX_RING, &request)?;
        } else {
            let request = libc::tpacket_req {
                tp_block_size: block_size,
                tp_block_nr: block_number,
                tp_frame_size: frame_size,
                tp_frame_nr: frame_number,
            };
            option(&fd, libc::PACKET_RX_RING, &request)?;
            if echo {
                option(&fd, libc::PACKET_QDISC_BYPASS, &1_i32)?;
                option(&fd, libc::PACKET_TX_RING, &request)?;
            }
        }
        let bytes = FRAMES * FRAME * if echo { 2 } else { 1 };
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping of the socket's rings; nothing is at an address of ours, for none
        // is given.
        let memory =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
        if memory == libc::MAP_FAILED {
            return Err(failed("mapping its rings"));
        }
        let packet = Self { fd, memory: memory.cast(), bytes };
        // SAFETY: all zero is an address of this family that says nothing.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = interface.index as i32;
        let length = size_of_val(&address) as u32;
        // SAFETY: the address is of the length beside it.
        if unsafe { libc::bind(packet.fd.as_raw_fd(), (&raw const address).cast(), length) } != 0 {
            return Err(failed("binding it"));
        }
        Ok(packet)
    }

    /// A word that the kernel and we pass ownership by.
    fn word(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(4) && at + 4 <= self.bytes);
        // SAFETY: within the mapping, aligned, and mapped as long as `self`; the kernel writes it
        // whole.
        unsafe { AtomicU32::from_ptr(self.memory.add(at).cast()) }
    }

    /// Bytes that are ours for now.
    #[expect(clippy::mut_from_ref, reason = "who has a place of the ring is said by its status word")]
    fn bytes(&self, at: usize, length: usize) -> &mut [u8] {
        assert!(at + length <= self.bytes);
        // SAFETY: within the mapping. The kernel gave this place by its status word, and has it
        // back only when we say so; this thread alone takes places, one after the other.
        unsafe { std::slice::from_raw_parts_mut(self.memory.add(at), length) }
    }

    fn half(&self, at: usize) -> usize {
        self.word(at & !3).load(Ordering::Relaxed) as usize >> ((at & 2) * 8) & 0xffff
    }

    fn kick(&self) {
        // SAFETY: no pointer but a null one of length 0 is passed.
        unsafe { libc::send(self.fd.as_raw_fd(), std::ptr::null(), 0, libc::MSG_DONTWAIT) };
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        // SAFETY: what `open` mapped; nobody has a reference into it any more.
        unsafe { libc::munmap(self.memory.cast(), self.bytes) };
    }
}

fn failed(what: &str) -> Failure {
    format!("AF_PACKET, {what}: {}", io::Error::last_os_error()).into()
}

fn option<T>(fd: &OwnedFd, name: i32, value: &T) -> Result<(), Failure> {
    // SAFETY: the value is of the length beside it.
    let answer = unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_PACKET, name, (&raw const *value).cast(), size_of::<T>() as u32)
    };
    if answer == 0 { Ok(()) } else { Err(failed("setting it up")) }
}

/// `struct tpacket2_hdr`: status, length, captured length, then 16 bits each of where MAC and
/// network header begin.
pub fn version_2(run: &Run, interface: &Interface) -> Result<u64, Failure> {
    let echo = run.mode.echoes();
    let packet = Packet::open(interface, libc::tpacket_versions::TPACKET_V2 as i32, echo)?;
    // veth gives generated frames only to an interface with a program.
    let mut kernel = Kernel::load()?;
    let _link = kernel.attach("pass", interface.index)?;
    run.begin();
    let (mut taken, mut next, mut out, mut unsent) = (0, 0, 0, 0);
    while run.goes_on(|| taken) {
        let at = next % FRAMES * FRAME;
        // Acquire pairs with what the kernel does before it hands a place over; so Release below.
        if packet.word(at).load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            if unsent > 0 {
                packet.kick();
                unsent = 0;
            }
            std::hint::spin_loop();
            continue;
        }
        if echo {
            let length = packet.word(at + 8).load(Ordering::Relaxed) as usize;
            let frame = packet.bytes(at + packet.half(at + 12), length);
            let to = FRAMES * FRAME + out % FRAMES * FRAME;
            if packet.word(to).load(Ordering::Acquire) == libc::TP_STATUS_AVAILABLE {
                let copy = packet.bytes(to + SEND_AT, length);
                copy.copy_from_slice(frame);
                swap_macs(copy);
                packet.word(to + 4).store(length as u32, Ordering::Relaxed);
                packet.word(to).store(libc::TP_STATUS_SEND_REQUEST, Ordering::Release);
                (out, unsent) = (out + 1, unsent + 1);
            }
            if unsent >= 64 {
                packet.kick();
                unsent = 0;
            }
        }
        packet.word(at).store(libc::TP_STATUS_KERNEL, Ordering::Release);
        (next, taken) = (next + 1, taken + 1);
    }
    Ok(taken)
}

/// `struct tpacket_block_desc`: version, offset, then status, number of packets, offset of the
/// first. `struct tpacket3_hdr`: offset of the next, seconds, nanoseconds, captured length, length,
/// status, then 16 bits of where the MAC header begins.
pub fn version_3(run: &Run, interface: &Interface) -> Result<u64, Failure> {
    let packet = Packet::open(interface, libc::tpacket_versions::TPACKET_V3 as i32, false)?;
    let mut kernel = Kernel::load()?;
    let _link = kernel.attach("pass", interface.index)?;
    run.begin();
    let (mut taken, mut next, mut numbers) = (0, 0, BTreeSet::new());
    while run.goes_on(|| taken) {
        let block = next % BLOCKS * BLOCK;
        if packet.word(block + 8).load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            std::hint::spin_loop();
            continue;
        }
        let packets = packet.word(block + 12).load(Ordering::Relaxed);
        let mut at = block + packet.word(block + 16).load(Ordering::Relaxed) as usize;
        for _ in 0..packets {
            // Each is looked at, as a receiver does.
            std::hint::black_box(packet.word(at + 12).load(Ordering::Relaxed));
            if run.mode == Mode::Check {
                numbers.insert(reports::number(packet.bytes(at + packet.half(at + 24), reports::NUMBERED)));
            }
            at += packet.word(at).load(Ordering::Relaxed) as usize;
        }
        taken += u64::from(packets);
        packet.word(block + 8).store(libc::TP_STATUS_KERNEL, Ordering::Release);
        next += 1;
    }
    // It sends nothing back by which the sender could tell its frames apart.
    Ok(if run.mode == Mode::Check { numbers.len() as u64 } else { taken })
}
