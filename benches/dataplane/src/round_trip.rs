//! One frame at a time, there and back.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use baton::sys::af_xdp::Socket;
use baton::sys::clock;
use baton::sys::interface::Interface;
use libbpf_rs::Link;

use crate::Failure;
use crate::contestants::ours;
use crate::kernel::Kernel;

/// Nobody takes as long to send a frame back.
const PATIENCE: Duration = Duration::from_secs(1);
/// Round trips before the first that counts.
const WARM_UP: usize = 2_000;

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

    /// So many round trips; gives the nanoseconds of each.
    pub fn probe(&mut self, frame: &[u8], count: usize) -> Result<Vec<u64>, Failure> {
        let mut times = Vec::with_capacity(count);
        for number in 0..WARM_UP + count {
            let begun = clock::now();
            self.socket.transmit(|buffer| {
                buffer[..frame.len()].copy_from_slice(frame);
                frame.len()
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
