//! xdpilone, frames echoed in the chunk that they came in.

use std::num::NonZeroU32;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::time::Duration;

use baton::sys::interface::Interface;
use xdpilone::xdp::XdpDesc;
use xdpilone::{IfInfo, Socket, SocketConfig, Umem, UmemConfig};

use super::Run;
use crate::Failure;
use crate::kernel::Kernel;
use crate::net::swap_macs;

const CHUNK: usize = 2048;
const CHUNKS: u32 = 4096;
const BURST: u32 = 64;
const BIND_ATTEMPTS: u32 = 100;

#[repr(align(4096))]
#[expect(dead_code, reason = "it says size and alignment alone")]
struct Memory([u8; CHUNK * CHUNKS as usize]);

pub fn run(run: &Run, interface: &Interface) -> Result<u64, Failure> {
    let failed = |error: xdpilone::Errno| Failure::from(format!("xdpilone: {error}"));
    let layout = std::alloc::Layout::new::<Memory>();
    // SAFETY: the layout is not empty. Kept to the process's end: the kernel has it as long as the
    // socket lives.
    let memory = unsafe { std::alloc::alloc_zeroed(layout) };
    let memory = NonNull::new(memory).ok_or("no memory for the frames")?;
    let area = NonNull::slice_from_raw_parts(memory, layout.size());
    let config =
        UmemConfig { fill_size: CHUNKS, complete_size: CHUNKS, frame_size: CHUNK as u32, headroom: 0, flags: 0 };
    // SAFETY: page-aligned memory of this length that is never freed, and that nothing else is kept
    // in.
    let umem = unsafe { Umem::new(config, area) }.map_err(failed)?;
    let mut info = IfInfo::invalid();
    info.from_name(c"right").map_err(failed)?;
    info.set_queue(0);
    let socket = Socket::with_shared(&info, &umem).map_err(failed)?;
    let mut device = umem.fq_cq(&socket).map_err(failed)?;
    let config = SocketConfig {
        rx_size: NonZeroU32::new(CHUNKS),
        tx_size: NonZeroU32::new(2048),
        bind_flags: SocketConfig::XDP_BIND_NEED_WAKEUP,
    };
    let rings = umem.rx_tx(&socket, &config).map_err(failed)?;
    let mut receive = rings.map_rx().map_err(failed)?;
    let mut transmit = rings.map_tx().map_err(failed)?;
    // A queue whose last socket was just closed is busy until the kernel has torn that down.
    let mut bound = umem.bind(&rings);
    for _ in 0..BIND_ATTEMPTS {
        if bound.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
        bound = umem.bind(&rings);
    }
    bound.map_err(failed)?;
    {
        let mut fill = device.fill(CHUNKS);
        fill.insert((0..CHUNKS).map(|number| u64::from(number) * CHUNK as u64));
        fill.commit();
    }
    let mut kernel = Kernel::load()?;
    // SAFETY: the socket lives to the end of this function.
    kernel.set_socket(unsafe { BorrowedFd::borrow_raw(receive.as_raw_fd()) })?;
    let _link = kernel.attach("redirect", interface.index)?;
    run.begin();
    let (mut taken, mut back, mut out) = (0, Vec::with_capacity(CHUNKS as usize), Vec::with_capacity(BURST as usize));
    while run.goes_on(|| taken) {
        {
            let mut reader = receive.receive(BURST);
            while let Some(entry) = reader.read() {
                if run.mode.echoes() {
                    // SAFETY: the kernel gave this chunk with this length by the receive ring, and
                    // has it no more.
                    let frame = unsafe {
                        std::slice::from_raw_parts_mut(memory.as_ptr().add(entry.addr as usize), entry.len as usize)
                    };
                    swap_macs(frame);
                    out.push(entry);
                } else {
                    back.push(entry.addr & !(CHUNK as u64 - 1));
                }
                taken += 1;
            }
            reader.release();
        }
        if run.mode.echoes() {
            {
                let mut writer = transmit.transmit(out.len() as u32);
                let sent =
                    writer.insert(out.iter().map(|entry| XdpDesc { addr: entry.addr, len: entry.len, options: 0 }));
                writer.commit();
                // What finds no room is dropped.
                back.extend(out.drain(..).skip(sent as usize).map(|entry| entry.addr & !(CHUNK as u64 - 1)));
            }
            // In copy mode a call sends 32 frames.
            for _ in 0..BURST / 32 {
                if transmit.needs_wakeup() {
                    transmit.wake();
                }
            }
            let mut complete = device.complete(CHUNKS);
            while let Some(address) = complete.read() {
                back.push(address & !(CHUNK as u64 - 1));
            }
            complete.release();
        }
        if !back.is_empty() {
            let mut fill = device.fill(back.len() as u32);
            let given = fill.insert(back.iter().copied());
            fill.commit();
            back.drain(..given as usize);
        }
    }
    Ok(taken)
}
