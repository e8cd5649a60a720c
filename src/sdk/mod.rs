//! What a maker of an autonomous server or terminal uses: a V2V endpoint over AF_XDP.

use std::time::Duration;

use crate::sys::af_xdp::{Statistics, XdpError};
use crate::sys::bpf::{Mode, SteerError};
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
    /// The interface.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// The program that brings V2V frames to this process.
    #[error(transparent)]
    Steer(#[from] SteerError),
    /// The sockets.
    #[error(transparent)]
    Xdp(#[from] XdpError),
}

/// All V2V frames of an interface, in one thread. Dropped, it leaves the interface as it was.
#[derive(Debug)]
pub struct Endpoint {
    interface: Interface,
    mac: Mac,
}

impl Endpoint {
    /// Opens the interface: steering, and a socket on each of its queues.
    pub fn open(interface: &str, settings: &EndpointSettings) -> Result<Self, EndpointError> {
        let _ = (interface, settings);
        todo!()
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
        todo!()
    }

    /// Gives every frame that is there, a burst of each queue at most, to `handle`, with the time that the interface had
    /// it; waits for the first up to `timeout`. Gives how many there were.
    pub fn receive(
        &mut self,
        timeout: Duration,
        handle: impl FnMut(&[u8], Option<Nanos>),
    ) -> Result<usize, EndpointError> {
        let _ = (timeout, handle);
        todo!()
    }

    /// Has a frame written and queues it. False where there is no room: [`Self::flush`] and try again.
    pub fn send(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        let _ = write;
        todo!()
    }

    /// Hands what is queued to the kernel; false where it took not all of it yet.
    pub fn flush(&mut self) -> Result<bool, EndpointError> {
        todo!()
    }

    /// What the kernel counted, over all queues.
    pub fn statistics(&self) -> Result<Statistics, EndpointError> {
        todo!()
    }
}
