//! Steering: the XDP program of `bpf/` that brings V2V frames to the workers' sockets.
//!
//! What always holds: frames that are not V2V pass to the kernel, whether or not a process is there
//! to work. Pinned steering outlives every process, so a successor finds it as it was, and the
//! interface is never without it.

pub mod abi;
pub(crate) mod calls;
pub(crate) mod libbpf;
pub(crate) mod steering;

use std::io;
use std::num::NonZeroU32;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use abi::BATON_ABI as ABI;
pub use abi::{BATON_QUEUES_MAX as QUEUES_MAX, BATON_RINGS_PER_QUEUE_MAX as RINGS_PER_QUEUE_MAX};
pub use steering::{Action, DryRun, OBJECT, Steering, check_free};

use crate::limits::{DOMAINS_MAX, SOURCE_BURST_MIN};
use crate::time::Nanos;

const _: () = assert!(abi::BATON_KNOWN_MAX as usize >= DOMAINS_MAX, "every domain's MAC address can be known");

/// The settings of steering. They may be changed while frames arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SteerSettings {
    /// The EtherType of V2V frames on this site.
    pub ethertype: u16,
    /// The UDP port to which the kernel's packet generator sends probes; none: no frame is a
    /// generator probe.
    pub probe_port: Option<u16>,
    /// Rings of each queue among which frames are distributed, at most [`RINGS_PER_QUEUE_MAX`]; 0:
    /// every frame passes.
    pub rings: u32,
    /// Whether V2V frames are dropped if they come from MAC addresses that [`Steering::admit`] was
    /// not told of.
    pub known_only: bool,
    /// V2V frames a second that a MAC address may send; none: no limit.
    pub source_rate: Option<NonZeroU32>,
}

impl SteerSettings {
    /// Accepts V2V frames from everybody, and no generator probes.
    pub const fn new(ethertype: u16, rings: u32) -> Self {
        Self { ethertype, probe_port: None, rings, known_only: false, source_rate: None }
    }

    fn bytes(&self) -> [u8; size_of::<abi::baton_settings>()] {
        let mut bytes = [0; size_of::<abi::baton_settings>()];
        bytes[0..4].copy_from_slice(&ABI.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.rings.to_ne_bytes());
        bytes[8..10].copy_from_slice(&self.ethertype.to_ne_bytes());
        bytes[10..12].copy_from_slice(&self.probe_port.unwrap_or(0).to_ne_bytes());
        bytes[12..16].copy_from_slice(&u32::from(self.known_only).to_ne_bytes());
        if let Some(rate) = self.source_rate {
            let interval = 1_000_000_000 / u64::from(rate.get());
            let burst = u64::from((rate.get() / 10).max(SOURCE_BURST_MIN));
            bytes[16..24].copy_from_slice(&interval.max(1).to_ne_bytes());
            bytes[24..32].copy_from_slice(&(interval * burst).to_ne_bytes());
        }
        bytes
    }
}

/// How the program is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In the driver, before the kernel makes a packet of the frame.
    Native,
    /// In the network stack: works with every driver, but slower.
    Generic,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Native => "native",
            Self::Generic => "generic",
        })
    }
}

/// What the program did with a frame.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u32)]
pub enum Verdict {
    /// A V2V frame, given to a ring.
    Steered = abi::BATON_STEERED,
    /// A probe of the kernel's packet generator, given to a ring.
    Probe = abi::BATON_PROBE,
    /// A V2V frame or a probe for a ring without a socket: left to the kernel.
    NoSocket = abi::BATON_NO_SOCKET,
    /// Another EtherType: left to the kernel.
    OtherEtherType = abi::BATON_OTHER_ETHERTYPE,
    /// Shorter than its Ethernet header or its V2V packet: left to the kernel.
    Truncated = abi::BATON_TRUNCATED,
    /// The EtherType of V2V, but not a packet type of V2V: left to the kernel.
    UnknownType = abi::BATON_UNKNOWN_TYPE,
    /// A V2V frame from an unknown MAC address, if only known ones may send: dropped.
    Stranger = abi::BATON_STRANGER,
    /// A V2V frame above the rate of its MAC address: dropped.
    OverRate = abi::BATON_OVER_RATE,
}

const VERDICTS: usize = abi::BATON_VERDICTS as usize;

impl Verdict {
    /// Every verdict, in the order of their counters.
    pub const ALL: [Self; VERDICTS] = [
        Self::Steered,
        Self::Probe,
        Self::NoSocket,
        Self::OtherEtherType,
        Self::Truncated,
        Self::UnknownType,
        Self::Stranger,
        Self::OverRate,
    ];

    /// The name that metrics use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steered => "steered",
            Self::Probe => "probe",
            Self::NoSocket => "no_socket",
            Self::OtherEtherType => "other_ethertype",
            Self::Truncated => "truncated",
            Self::UnknownType => "unknown_type",
            Self::Stranger => "stranger",
            Self::OverRate => "over_rate",
        }
    }
}

/// How many frames got which verdict since steering was first attached, over all CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters([u64; VERDICTS]);

impl Counters {
    /// The number of frames with this verdict.
    pub const fn of(&self, verdict: Verdict) -> u64 {
        self.0[verdict as usize]
    }

    /// Every verdict with its number of frames.
    pub fn iter(&self) -> impl Iterator<Item = (Verdict, u64)> {
        Verdict::ALL.into_iter().zip(self.0)
    }
}

/// Bytes immediately before a steered frame: the stamp of its arrival.
pub(super) const ARRIVAL_BYTES: usize = size_of::<abi::baton_arrival>();

/// The arrival time in these bytes, if they are a stamp of steering.
pub(super) fn arrival(stamp: &[u8; ARRIVAL_BYTES]) -> Option<Nanos> {
    let (magic, ns) = stamp.split_at(size_of::<u64>());
    let stamped = magic[..4] == abi::BATON_ARRIVAL_MAGIC.to_ne_bytes();
    stamped.then(|| Nanos(u64::from_ne_bytes(ns.try_into().expect("eight bytes are left of sixteen"))))
}

/// Why steering is not available.
#[derive(Debug, thiserror::Error)]
pub enum SteerError {
    /// The operator's: the process lacks privileges.
    #[error("steering frames needs CAP_BPF and CAP_NET_ADMIN, and {what} was refused: start it as root")]
    Privilege {
        /// The refused step.
        what: &'static str,
    },
    /// The kernel rejects the program.
    #[error("the kernel does not take the steering program (Linux 5.18 or newer is needed): {error}")]
    Load {
        /// The kernel's error.
        error: io::Error,
    },
    /// The operator's: another program is attached.
    #[error(
        "another XDP program (id {program}) is on {interface}; `bpftool prog show id {program}` tells whose, \
         `ip link set dev {interface} xdp off` takes it off"
    )]
    Occupied {
        /// The name of the interface.
        interface: String,
        /// The id of that program; 0 if the kernel did not tell.
        program: u32,
    },
    /// Neither way of attaching works on this interface.
    #[error("no XDP on {interface}: native mode was tried ({native}), then generic mode ({generic})")]
    Refused {
        /// The name of the interface.
        interface: String,
        /// The kernel's error for native mode.
        native: io::Error,
        /// The kernel's error for generic mode.
        generic: io::Error,
    },
    /// The operator's: pins need a BPF file system.
    #[error("{folder} is not on a BPF file system: `mount -t bpf bpf {folder}`, or name a folder of one", folder = .folder.display())]
    NotBpffs {
        /// The folder that was to hold the pins.
        folder: PathBuf,
    },
    /// The operator's: the folder serves another interface.
    #[error(
        "what is pinned in {folder} steers interface number {interface}, of this network namespace or another: \
         give every interface \
         a folder of its own (`runtime.pin`)", folder = .folder.display()
    )]
    PinnedElsewhere {
        /// The folder of the pins.
        folder: PathBuf,
        /// The index of the interface that they are for.
        interface: u32,
    },
    /// A pin cannot be made, opened or removed.
    #[error("{path}: {error}", path = .path.display())]
    Pin {
        /// Where the pin is, or was to be.
        path: PathBuf,
        /// The kernel's error.
        error: io::Error,
    },
    /// Ours: a ring that the maps have no place for.
    #[error("queue {queue}, ring {ring}: there are at most {QUEUES_MAX} queues of {RINGS_PER_QUEUE_MAX} rings")]
    NoSuchRing {
        /// The queue that was asked for.
        queue: u32,
        /// The ring that was asked for.
        ring: u32,
    },
    /// Another call failed.
    #[error("steering: {what}: {error}")]
    Call {
        /// The step that failed.
        what: &'static str,
        /// The kernel's error.
        error: io::Error,
    },
}
