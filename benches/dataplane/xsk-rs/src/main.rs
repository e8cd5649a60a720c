//! xsk-rs, frames echoed in the chunk that they came in: `xsk-rs-peer drop|echo INTERFACE [GROUP]`.
//!
//! Says `socket N`, the descriptor that frames are to be redirected to, when it is bound, and
//! `frames N`, those that it received, for each line of standard input, at whose end it ends. With
//! GROUP, who started it counts its instructions: it stops itself when it is bound, and whenever it
//! has received so many more frames.

use std::error::Error;
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use xsk_rs::config::{BindFlags, LibxdpFlags, SocketConfig, UmemConfig};
use xsk_rs::{FrameDesc, Socket, Umem};

const CHUNK: u32 = 2048;
const CHUNKS: u32 = 4096;
const TRANSMIT: u32 = 2048;
const BURST: usize = 64;
const BIND_ATTEMPTS: u32 = 100;

static STOP: AtomicBool = AtomicBool::new(false);
static TAKEN: AtomicU64 = AtomicU64::new(0);

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let (mode, interface, group) = match &arguments[..] {
        [mode, interface] => (mode, interface, None),
        [mode, interface, group] if group.parse::<u64>().is_ok() => (mode, interface, group.parse().ok()),
        _ => {
            eprintln!("usage: xsk-rs-peer drop|echo INTERFACE [GROUP]");
            return ExitCode::from(2);
        }
    };
    thread::spawn(|| {
        // Relaxed: neither orders anything but itself.
        for _ in std::io::stdin().lines() {
            println!("frames {}", TAKEN.load(Ordering::Relaxed));
        }
        STOP.store(true, Ordering::Relaxed);
    });
    match run(mode == "echo", interface, group) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(echoes: bool, interface: &str, group: Option<u64>) -> Result<(), Box<dyn Error>> {
    let memory = UmemConfig::builder()
        .frame_size(CHUNK.try_into()?)
        .fill_queue_size(CHUNKS.try_into()?)
        .comp_queue_size(CHUNKS.try_into()?)
        .build()?;
    let (umem, chunks) = Umem::new(memory, CHUNKS.try_into()?, false)?;
    let config = SocketConfig::builder()
        .rx_queue_size(CHUNKS.try_into()?)
        .tx_queue_size(TRANSMIT.try_into()?)
        .bind_flags(BindFlags::XDP_USE_NEED_WAKEUP)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .build();
    let interface = interface.parse()?;
    let mut attempt = 0;
    let (mut transmit, mut receive, rings) = loop {
        attempt += 1;
        // SAFETY: the queue's rings are used by nobody but this program, which opens one socket on
        // it.
        match unsafe { Socket::new(config, &umem, &interface, 0) } {
            Ok(opened) => break opened,
            // A queue whose last socket was just closed is busy until the kernel has torn that
            // down.
            Err(_) if attempt < BIND_ATTEMPTS => thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(error.into()),
        }
    };
    let (mut fill, mut complete) = rings.ok_or("it gave no fill ring")?;
    // SAFETY: chunks of this memory, of which the kernel has none yet.
    unsafe { fill.produce(&chunks) };
    println!("socket {}", receive.fd().as_raw_fd());
    let mut burst = vec![FrameDesc::default(); BURST];
    // Chunks that wait for a place in the fill ring.
    let mut back: Vec<FrameDesc> = Vec::with_capacity(CHUNKS as usize);
    let mut sent = vec![FrameDesc::default(); CHUNKS as usize];
    let mut taken = 0;
    let mut stops_at = group;
    if group.is_some() {
        stop_here();
    }
    while !STOP.load(Ordering::Relaxed) {
        // SAFETY: of chunks of this memory.
        let received = unsafe { receive.consume(&mut burst) };
        taken += received as u64;
        TAKEN.store(taken, Ordering::Relaxed);
        if echoes {
            for frame in &mut burst[..received] {
                // SAFETY: the kernel gave this chunk by the receive ring, and has it no more.
                let mut data = unsafe { umem.data_mut(frame) };
                if let Some((destination, source)) = data.contents_mut()[..12].split_at_mut_checked(6) {
                    destination.swap_with_slice(source);
                }
            }
            // It takes all or none: what finds no room is dropped.
            // SAFETY: the chunks are ours, and only the kernel's until they come back by the
            // completion ring.
            let queued = unsafe { transmit.produce(&burst[..received]) };
            back.extend_from_slice(&burst[queued..received]);
            // In copy mode a call sends 32 frames.
            for _ in 0..BURST / 32 {
                if transmit.needs_wakeup() {
                    transmit.wakeup()?;
                }
            }
            // SAFETY: of chunks of this memory.
            let completed = unsafe { complete.consume(&mut sent) };
            back.extend_from_slice(&sent[..completed]);
        } else {
            back.extend_from_slice(&burst[..received]);
        }
        if !back.is_empty() {
            let room = (fill.nb_free(back.len() as u32) as usize).min(back.len());
            // SAFETY: these chunks came back by the receive or the completion ring, and are
            // nobody's now.
            let given = unsafe { fill.produce(&back[..room]) };
            back.drain(..given);
        }
        if let (Some(group), Some(at)) = (group, &mut stops_at)
            && taken >= *at
        {
            *at += group;
            stop_here();
        }
    }
    Ok(())
}

/// Stops this process until who counts has it go on.
#[cold]
#[inline(never)]
fn stop_here() {
    // SAFETY: no pointer is passed.
    unsafe { libc::raise(libc::SIGSTOP) };
}
