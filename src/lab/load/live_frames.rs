//! Frames that the kernel makes and sends by itself: a program runs on each
//! (`BPF_F_TEST_XDP_LIVE_FRAMES`, Linux 5.18).
//!
//! One call takes some 24 ms before its first frame, and then sends millions a second. So a load is
//! one call, whose program keeps the rate by dropping frames that are not due. At the other end,
//! the frames appear on the receive queue with the number of the calling CPU.

use std::io;
use std::num::NonZeroU64;
use std::os::fd::AsFd;

use libbpf_rs::{MapCore, MapFlags, MapHandle, ObjectBuilder, ProgramHandle};

use crate::limits::{LOAD_FRAME_BYTES_MAX, LOAD_FRAMES_MAX};
use crate::sys::bpf::libbpf::{os_error, talk_through_tracing};
use crate::sys::bpf::{abi, calls};
use crate::sys::interface::Interface;

/// The compiled programs of the load generator.
pub(super) const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/load.bpf.o"));

const HEAD_BYTES: usize = abi::BATON_LOAD_HEAD_BYTES as usize;
const TAG_BYTES: usize = abi::BATON_LOAD_TAG_BYTES as usize;
const ENTRY_BYTES: usize = size_of::<abi::baton_load_frame>();
const _: () = assert!(LOAD_FRAME_BYTES_MAX < abi::BATON_LOAD_FRAME_BYTES as usize);
/// Number of entries that one call writes into the map.
const ENTRIES_A_CALL: usize = 1024;
const PICOSECONDS: u64 = 1_000_000_000_000;

/// Why live frames cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The operator's: the process lacks privileges.
    #[error(
        "sending live frames needs CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and CAP_SYS_ADMIN, and {what} was refused: start it as root, or send `--by rings`"
    )]
    Privilege {
        /// The refused step.
        what: &'static str,
    },
    /// The operator's: the other end is not ready.
    #[error(
        "{interface} sends no live frames: its driver, or for a veth pair the other end, takes none that are redirected; attach XDP at the other end (`baton load sink` or a dispatch server does), or send `--by rings`"
    )]
    NoTransmit {
        /// The interface that frames should leave by.
        interface: String,
    },
    /// Another call failed.
    #[error("sending live frames (Linux 5.18 or newer is needed): {what}: {error}")]
    Call {
        /// The step that failed.
        what: &'static str,
        /// The kernel's error.
        error: io::Error,
    },
}

fn call(what: &'static str) -> impl FnOnce(io::Error) -> LiveError {
    move |error| match error.kind() {
        io::ErrorKind::PermissionDenied => LiveError::Privilege { what },
        _ => LiveError::Call { what, error },
    }
}

fn refused(what: &'static str) -> impl FnOnce(libbpf_rs::Error) -> LiveError {
    move |error| call(what)(os_error(&error))
}

/// How many frames are sent, how fast, and which bytes of them change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LiveHow {
    /// The index of the interface that frames leave by.
    pub interface: u32,
    /// The total number of frames.
    pub count: u64,
    /// Frames a second; none: as many as possible.
    pub rate: Option<NonZeroU64>,
    /// The sequence number of the first frame, for probes.
    pub sequence: u64,
    /// The offset of a version that grows by one each time that all frames were sent, and the first
    /// version.
    pub version: Option<(u32, u32)>,
    /// The offset of the time of sending and the sequence number, 16 bytes.
    pub probe_at: Option<u32>,
    /// The offset of the frame's last 16 bytes, if they are not within the first 112.
    pub tag_at: Option<u32>,
}

/// The progress of a load.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LiveProgress {
    /// Frames handed to the interface.
    pub sent: u64,
    /// When the first frame was handed over, in `CLOCK_MONOTONIC`; 0 before.
    pub first_ns: u64,
    /// This many frames had been sent ...
    pub marked: u64,
    /// ... at this time.
    pub marked_ns: u64,
}

/// The program and its frames.
#[derive(Debug)]
pub struct LiveFrames {
    program: ProgramHandle,
    how: MapHandle,
    progress: MapHandle,
    frames: MapHandle,
    count: u32,
}

impl LiveFrames {
    /// Loads the program with these frames, which are sent in turn.
    ///
    /// # Panics
    /// If `count` is 0 or more than [`LOAD_FRAMES_MAX`], or a frame is longer than
    /// [`LOAD_FRAME_BYTES_MAX`].
    pub fn load(
        count: u32,
        tag_at: Option<u32>,
        mut frame: impl FnMut(u32, &mut [u8]) -> usize,
    ) -> Result<Self, LiveError> {
        assert!((1..=LOAD_FRAMES_MAX).contains(&count), "{count} frames");
        talk_through_tracing();
        let mut open = ObjectBuilder::default().open_memory(OBJECT).map_err(refused("loading a program"))?;
        for mut map in open.maps_mut().filter(|map| map.name() == "load_frames") {
            map.set_max_entries(count).map_err(refused("making room for frames"))?;
        }
        for mut program in open.progs_mut() {
            let wanted = program.name() == "load";
            program.set_autoload(wanted);
        }
        let object = open.load().map_err(refused("loading a program"))?;
        let map = |name: &str| {
            let map =
                object.maps().find(|map| map.name() == name).expect("the object has the map: one build made both");
            MapHandle::try_from(&map).map_err(refused("loading a program"))
        };
        let (how, progress, frames) = (map("load_how")?, map("load_progress")?, map("load_frames")?);
        let program = object.progs_mut().find(|program| program.name() == "load").expect("and the program");
        let program = ProgramHandle::try_from(&program).map_err(refused("loading a program"))?;
        let live = Self { program, how, progress, frames, count };
        let mut buffer = [0; LOAD_FRAME_BYTES_MAX];
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for index in 0..count {
            buffer.fill(0);
            let length = frame(index, &mut buffer);
            assert!(length <= buffer.len(), "a frame of {length} bytes");
            keys.extend(index.to_ne_bytes());
            values.extend(&buffer[..HEAD_BYTES]);
            let tag = tag_at.map_or(0, |at| at as usize);
            values.extend(&buffer[tag..tag + TAG_BYTES]);
            if keys.len() == ENTRIES_A_CALL * size_of::<u32>() || index + 1 == count {
                debug_assert_eq!(values.len() / ENTRY_BYTES, keys.len() / size_of::<u32>());
                live.put(&keys, &values)?;
                keys.clear();
                values.clear();
            }
        }
        Ok(live)
    }

    fn put(&self, keys: &[u8], values: &[u8]) -> Result<(), LiveError> {
        let count = (keys.len() / size_of::<u32>()) as u32;
        let update = self.frames.update_batch(keys, values, count, MapFlags::ANY, MapFlags::ANY);
        update.map_err(refused("storing its frames"))
    }

    /// Configures the next [`Self::run`], and resets its progress.
    pub fn prepare(&self, how: &LiveHow) -> Result<(), LiveError> {
        let (version_at, version) = how.version.unwrap_or_default();
        let mut bytes = [0; size_of::<abi::baton_load_how>()];
        let interval_ps = how.rate.map_or(0, |rate| (PICOSECONDS / rate).max(1));
        for (at, value) in [how.count, interval_ps, how.sequence].into_iter().enumerate() {
            bytes[at * 8..][..8].copy_from_slice(&value.to_ne_bytes());
        }
        let words =
            [self.count, how.interface, how.tag_at.unwrap_or(0), version_at, version, how.probe_at.unwrap_or(0)];
        for (at, value) in words.into_iter().enumerate() {
            bytes[24 + at * 4..][..4].copy_from_slice(&value.to_ne_bytes());
        }
        let nothing = [0; size_of::<abi::baton_load_progress>()];
        let first = 0_u32.to_ne_bytes();
        self.progress.update(&first, &nothing, MapFlags::ANY).map_err(refused("beginning anew"))?;
        self.how.update(&first, &bytes, MapFlags::ANY).map_err(refused("configuring the load"))
    }

    /// Runs the program on up to `repeat` frames of this length. False if a signal ended it before.
    pub fn run(&self, length: usize, repeat: u32) -> Result<bool, LiveError> {
        match calls::run_live(self.program.as_fd(), &vec![0; length], repeat) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(call("running the program")(error)),
        }
    }

    /// The present progress. For any thread, while another one runs it.
    pub fn progress(&self) -> Result<LiveProgress, LiveError> {
        let bytes =
            self.progress.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY).map_err(refused("reading its progress"))?;
        let bytes = bytes.unwrap_or_default();
        let number =
            |at: usize| bytes.get(at * 8..).and_then(<[u8]>::first_chunk).map_or(0, |n| u64::from_ne_bytes(*n));
        Ok(LiveProgress { sent: number(0), first_ns: number(1), marked: number(2), marked_ns: number(3) })
    }
}

/// Whether frames that a program redirects to this interface leave it. On a veth pair they do only
/// while the other end has XDP or GRO on. True if the kernel does not tell (before 6.3).
pub fn takes_redirected(interface: &Interface) -> bool {
    /// `NETDEV_XDP_ACT_NDO_XMIT`.
    const TRANSMIT: u64 = 4;
    calls::xdp_features(interface.index).map_or(true, |features| features == 0 || features & TRANSMIT != 0)
}
