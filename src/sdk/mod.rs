//! What a maker of an autonomous server or terminal uses: a V2V endpoint over AF_XDP.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use baton::sdk::{Endpoint, EndpointSettings};
//! use baton::wire::Frame;
//!
//! let settings = EndpointSettings::default();
//! let mut endpoint = Endpoint::open("eth0", &settings)?;
//! let mut answers: Vec<Vec<u8>> = Vec::new();
//! loop {
//!     endpoint.receive(Duration::from_millis(10), |bytes, _arrived| {
//!         if let Ok(frame) = Frame::parse(bytes, settings.ethertype) {
//!             println!("{} from {}", frame.opcode_raw(), frame.envelope().from);
//!             // … and what follows from it goes to `answers`.
//!         }
//!     })?;
//!     for answer in answers.drain(..) {
//!         endpoint.send(|buffer| {
//!             buffer[..answer.len()].copy_from_slice(&answer);
//!             answer.len()
//!         });
//!     }
//!     endpoint.flush()?;
//! }
//! # #[allow(unreachable_code)]
//! # Ok::<(), baton::sdk::EndpointError>(())
//! ```

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::limits::BURST;
use crate::sys::af_xdp::{self, Settings, Socket, Statistics, XdpError};
use crate::sys::bpf::{Mode, SteerError, SteerSettings, Steering};
use crate::sys::interface::{Interface, InterfaceError};
use crate::time::Nanos;
use crate::wire::{DEFAULT_ETHERTYPE, Mac};

/// How an endpoint is opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointSettings {
    /// What V2V frames bear on this site.
    pub ethertype: u16,
    /// Frames that each queue can hold. A power of two.
    pub receive: u32,
    /// Frames that can be on their way out. A power of two.
    pub transmit: u32,
    /// Whether to ask for huge pages.
    pub huge_pages: bool,
}

impl Default for EndpointSettings {
    fn default() -> Self {
        Self { ethertype: DEFAULT_ETHERTYPE, receive: 4096, transmit: 2048, huge_pages: false }
    }
}

/// Why an endpoint cannot be opened, or failed.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The interface is missing or cannot be used.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// The program that brings V2V frames to this process.
    #[error(transparent)]
    Steer(#[from] SteerError),
    /// The sockets.
    #[error(transparent)]
    Xdp(#[from] XdpError),
    /// Waiting for frames.
    #[error("waiting for frames: {0}")]
    Wait(io::Error),
}

/// All V2V frames of an interface, in one thread. Dropped, it leaves the interface as it was.
#[derive(Debug)]
pub struct Endpoint {
    interface: Interface,
    mac: Mac,
    mode: Mode,
    sockets: Vec<Socket>,
    /// Not pinned, so the program leaves the interface with it.
    steering: Steering,
}

impl Endpoint {
    /// Opens the interface: steering, and a socket on each of its queues. Needs the privileges of
    /// both.
    pub fn open(interface: &str, settings: &EndpointSettings) -> Result<Self, EndpointError> {
        let interface = Interface::find(interface)?;
        let mac = interface.mac()?;
        let wanted = Settings {
            receive: settings.receive,
            transmit: settings.transmit,
            huge_pages: settings.huge_pages,
            ..Settings::new(interface.clone(), interface.queues()?)
        };
        let steer = SteerSettings::new(settings.ethertype, 1);
        let steering = Steering::attach(&interface, &steer, None)?;
        let bound = af_xdp::bind(&wanted)?;
        let sockets = af_xdp::adopt(&bound.settings, bound.umem, bound.sockets)?;
        for socket in &sockets {
            steering.set_ring(socket.queue(), socket.ring(), socket.as_fd())?;
        }
        let mode = steering.mode().expect("it was attached above");
        Ok(Self { interface, mac, mode, sockets, steering })
    }

    /// Where it is open.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// The interface's Ethernet address, what frames from here bear as source.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// Native or generic.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The program that brings the frames, whose counters tell what became of each.
    pub fn steering(&self) -> &Steering {
        &self.steering
    }

    /// Gives every frame that is there, a burst of each queue at most, to `handle`, with the time
    /// that the interface had it; waits for the first up to `timeout`. Gives how many there were.
    pub fn receive(
        &mut self,
        timeout: Duration,
        mut handle: impl FnMut(&[u8], Option<Nanos>),
    ) -> Result<usize, EndpointError> {
        let received = self.receive_now(&mut handle);
        if received > 0 || timeout.is_zero() {
            return Ok(received);
        }
        let mut waited: Vec<_> = self.sockets.iter().map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
        let timeout = Timespec::try_from(timeout).ok();
        match poll(&mut waited, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(self.receive_now(&mut handle)),
            Err(error) => Err(EndpointError::Wait(error.into())),
        }
    }

    fn receive_now(&mut self, handle: &mut impl FnMut(&[u8], Option<Nanos>)) -> usize {
        let mut received = 0;
        for socket in &mut self.sockets {
            let held = socket.receive(BURST);
            for i in 0..held {
                let frame = socket.received(i);
                handle(frame.bytes, frame.arrived);
            }
            socket.release(held);
            received += held;
        }
        received
    }

    /// Has a frame written, its length given back, and queues it. False where there is no room:
    /// [`Self::flush`] and try again.
    pub fn send(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        self.sockets[0].transmit(write)
    }

    /// Hands what is queued to the kernel; false where it took not all of it yet: the next flush
    /// goes on.
    pub fn flush(&mut self) -> Result<bool, EndpointError> {
        Ok(self.sockets[0].flush()?)
    }

    /// What the kernel counted, over all queues.
    pub fn statistics(&self) -> Result<Statistics, EndpointError> {
        let mut all = Statistics::default();
        for socket in &self.sockets {
            all += socket.statistics()?;
        }
        Ok(all)
    }
}
