//! The steering program: loaded, attached, pinned, asked.

use std::os::fd::BorrowedFd;
use std::path::Path;

use super::interface::Interface;

/// What steering goes by. May be changed while frames come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct SteerSettings {
    /// The EtherType that V2V frames bear on this site.
    pub ethertype: u16,
    /// The UDP port that the kernel's packet generator sends probes to; none: no frame is a generator probe.
    pub probe_port: Option<u16>,
    /// Rings of each queue that frames are shared among: at least one.
    pub rings: u32,
}

/// How the program is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// In the driver, before the kernel makes a packet of the frame.
    Native,
    /// In the network stack: works with every driver, slower.
    Generic,
}

/// Why steering cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SteerError {
    /// To be replaced.
    #[error("steering")]
    Failed,
}

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// A V2V frame, given to a ring.
    Steered,
}

impl Verdict {
    /// Its name.
    pub fn name(self) -> &'static str {
        todo!()
    }
}

/// How many frames got which verdict since the program was attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    _private: (),
}

impl Counters {
    /// Frames with this verdict.
    pub fn of(&self, verdict: Verdict) -> u64 {
        let _ = verdict;
        todo!()
    }

    /// Every verdict with its frames.
    pub fn iter(&self) -> impl Iterator<Item = (Verdict, u64)> {
        std::iter::empty()
    }
}

/// The steering program on an interface.
///
/// Pinned, it outlives the process; unpinned, it leaves the interface when this is dropped.
#[derive(Debug)]
pub struct Steering {
    _private: (),
}

impl Steering {
    /// Puts steering on the interface: natively, else generically. With a folder (on a bpffs) it is pinned there; what an
    /// earlier process pinned there goes on, its program replaced without a gap where it is another version's.
    pub fn attach(interface: &Interface, settings: &SteerSettings, pins: Option<&Path>) -> Result<Self, SteerError> {
        let _ = (interface, settings, pins);
        todo!()
    }

    /// The steering that an earlier process pinned.
    pub fn open(pins: &Path) -> Result<Self, SteerError> {
        let _ = pins;
        todo!()
    }

    /// How it is attached.
    pub fn mode(&self) -> Mode {
        todo!()
    }

    /// Puts a socket in its place: frames for this ring of this queue go to it from now on.
    pub fn set_ring(&self, queue: u32, ring: u32, socket: BorrowedFd<'_>) -> Result<(), SteerError> {
        let _ = (queue, ring, socket);
        todo!()
    }

    /// What became of the frames so far, over all CPUs.
    pub fn counters(&self) -> Result<Counters, SteerError> {
        todo!()
    }

    /// Takes steering off the interface and its pins away.
    pub fn detach(self) -> Result<(), SteerError> {
        todo!()
    }
}
