//! One frame at a time, there and back.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use baton::sys::af_xdp::Socket;
use baton::sys::clock;
use baton::sys::interface::Interface;
use libbpf_rs::Link;

use crate::Failure;
use crate::contestants::ours;
use crate::generator::{FRAME, Generator};
use crate::kernel::Kernel;

/// Nobody takes as long to send a frame back.
const PATIENCE: Duration = Duration::from_secs(1);
/// Round trips before the first that counts.
pub const WARM_UP: u32 = 2_000;

/// Who sends and waits, on the left, busily.
pub struct Prober {
    socket: Socket,
    _kernel: Kernel,
    _link: Link,
}

impl Prober {
    pub fn open(interface: Interface) -> Result<Self, Failure> {
        let mut kernel = Kernel::load()?;
        let index = interface.index;
        let socket = ours::open(interface)?;
        kernel.set_socket(socket.as_fd())?;
        let link = kernel.attach("redirect", index)?;
        Ok(Self { socket, _kernel: kernel, _link: link })
    }

    /// So many round trips, each of another of the prepared frames; gives the nanoseconds of each.
    pub fn probe(&mut self, frames: &Generator, count: u32) -> Result<Vec<u64>, Failure> {
        let mut times = Vec::with_capacity(count as usize);
        for number in 0..WARM_UP + count {
            let frame = frames.frame(number);
            let begun = clock::now();
            self.socket.transmit(|buffer| {
                buffer[..FRAME].copy_from_slice(frame);
                FRAME
            });
            self.socket.flush()?;
            let waiting = Instant::now();
            while self.socket.receive(1) == 0 {
                if waiting.elapsed() > PATIENCE {
                    return Err(format!("frame {number} did not come back").into());
                }
                std::hint::spin_loop();
            }
            let took = clock::now().0 - begun.0;
            self.socket.release(1);
            if number >= WARM_UP {
                times.push(took);
            }
        }
        times.sort_unstable();
        Ok(times)
    }
}
