//! Who is measured. Each runs on the right, on a thread of its own, until it is told to stop.

pub mod ours;
mod packet;
mod testpmd;
mod xdpilone;
pub mod xsk_rs;

use std::time::Duration;

use baton::sys::interface::Interface;
use clap::ValueEnum;
use serde::Serialize;

use crate::Failure;
use crate::kernel::Kernel;
use crate::run::{Mode, Run};

/// A contestant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An XDP program of the kernel's, before any socket: the limit.
    Kernel,
    /// Baton's socket.
    Baton,
    /// Baton's steering and worker, with a table of a million terminals.
    BatonWorker,
    /// xdpilone: AF_XDP in Rust.
    Xdpilone,
    /// xsk-rs: AF_XDP in Rust, over libxdp.
    XskRs,
    /// DPDK's testpmd over its AF_XDP driver.
    Testpmd,
    /// AF_PACKET with a ring of frames.
    TpacketV2,
    /// AF_PACKET with a ring of blocks.
    TpacketV3,
}

impl Kind {
    pub fn name(self) -> String {
        self.to_possible_value().expect("no contestant is hidden").get_name().to_owned()
    }

    /// Whether it is another AF_XDP receiver.
    pub fn is_af_xdp_peer(self) -> bool {
        matches!(self, Self::Xdpilone | Self::XskRs | Self::Testpmd)
    }

    pub fn can(self, mode: Mode) -> bool {
        match mode {
            Mode::Check => true,
            Mode::Drop => self != Self::BatonWorker,
            Mode::Report => self == Self::BatonWorker,
            Mode::Echo | Mode::RoundTrip => self.can_echo(),
        }
    }

    /// Whether frames come back from it.
    pub fn can_echo(self) -> bool {
        !matches!(self, Self::BatonWorker | Self::TpacketV3)
    }

    /// Whether its instructions can be counted: it is a program of ours, and runs in user space.
    pub fn can_be_counted(self) -> bool {
        !matches!(self, Self::Kernel | Self::Testpmd)
    }
}

/// Receives until it is told to stop, in this thread's namespace and on its core; gives how many
/// frames it took (of the worker: reports that it applied).
pub fn consume(kind: Kind, run: &Run) -> Result<u64, Failure> {
    let interface = Interface::find("right")?;
    match kind {
        Kind::Kernel => kernel(run, &interface),
        Kind::Baton => ours::socket(run, interface),
        Kind::BatonWorker => ours::worker(run, interface),
        Kind::Xdpilone => xdpilone::run(run, &interface),
        Kind::XskRs => xsk_rs::run(run, &interface),
        Kind::Testpmd => testpmd::run(run),
        Kind::TpacketV2 => packet::version_2(run, &interface),
        Kind::TpacketV3 => packet::version_3(run, &interface),
    }
}

fn kernel(run: &Run, interface: &Interface) -> Result<u64, Failure> {
    let mut kernel = Kernel::load()?;
    let program = if run.mode.echoes() { "echo" } else { "drop" };
    let _link = kernel.attach(program, interface.index)?;
    run.begin();
    while run.goes_on(|| kernel.seen().unwrap_or_default()) {
        std::thread::sleep(Duration::from_millis(1));
    }
    kernel.seen()
}
