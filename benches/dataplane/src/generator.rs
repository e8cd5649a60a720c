//! The kernel's generator: sends frames that differ, as fast as this core can or at a rate.
//!
//! The program of `generate.bpf.c` copies the next of the prepared frames over what the kernel made
//! (`BPF_F_TEST_XDP_LIVE_FRAMES`), 64 frames at a time, and the kernel does what the receiving
//! interface has to do for these 64 before it asks for the next ones, on the same core. So frames
//! come in batches of 64, and a rate is kept by waiting before each batch.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use libbpf_rs::{MapCore, MapFlags, MapHandle, Object, ObjectBuilder, libbpf_sys as sys};

use crate::Failure;
use crate::kernel::map;

static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/generate.bpf.o"));

/// Frames that the generator's memory holds, bytes of each, and frames of a batch, as in
/// `generate.bpf.c`.
pub const FRAMES: usize = 1 << 22;
pub const FRAME: usize = 96;
const BATCH: u32 = 64;

pub struct Generator {
    object: Object,
    paces: MapHandle,
    memory: *mut u8,
    /// That frames are sent out of, in the namespace of the thread that sends.
    interface: u32,
}

impl Generator {
    /// Sends from this interface of this thread's namespace.
    pub fn load(interface: u32) -> Result<Self, Failure> {
        let object = ObjectBuilder::default().open_memory(OBJECT)?.load()?;
        let paces = map(&object, "paces")?;
        let frames = map(&object, "frames")?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let fd = frames.as_fd().as_raw_fd();
        // SAFETY: a fresh shared mapping of a descriptor that is open; nothing is at an address of
        // ours, for none is given.
        let memory = unsafe { libc::mmap(std::ptr::null_mut(), FRAMES * FRAME, protection, libc::MAP_SHARED, fd, 0) };
        if memory == libc::MAP_FAILED {
            return Err(format!("mapping the generator's frames: {}", io::Error::last_os_error()).into());
        }
        Ok(Self { object, paces, memory: memory.cast(), interface })
    }

    /// Has `write` write so many frames: each gets the frame's number and its bytes.
    pub fn fill(&mut self, count: u32, mut write: impl FnMut(u32, &mut [u8])) {
        for number in 0..count.min(FRAMES as u32) {
            // SAFETY: the mapping has FRAMES times FRAME bytes and lives as long as `self`, which
            // is borrowed alone; the program, which reads them, does not run while they are
            // written, for it runs in `send` alone.
            let bytes = unsafe { std::slice::from_raw_parts_mut(self.memory.add(number as usize * FRAME), FRAME) };
            write(number, bytes);
        }
    }

    /// A frame that was written.
    pub fn frame(&self, number: u32) -> &[u8] {
        let at = number as usize % FRAMES * FRAME;
        // SAFETY: as in `fill`; `self` is borrowed, so nobody writes.
        unsafe { std::slice::from_raw_parts(self.memory.add(at), FRAME) }
    }

    /// Sends these frames, at so many a second or as fast as this core can, each padded to so many
    /// bytes. They begin with a batch. Gives how long it took to send them.
    pub fn send(&mut self, frames: Range<u32>, bytes: usize, per_second: Option<f64>) -> Result<Duration, Failure> {
        let like = vec![0; bytes.max(FRAME)];
        let interval = per_second.map_or(0, |rate| (f64::from(BATCH) * 1e9 / rate) as u64);
        let pace: Vec<u8> =
            [u64::from(frames.start), interval, 0, 0, 0].into_iter().flat_map(u64::to_ne_bytes).collect();
        self.paces.update(&0_u32.to_ne_bytes(), &pace, MapFlags::ANY)?;
        let program = self.object.progs().find(|found| found.name() == "send_next");
        let program = program.ok_or("no program is called send_next")?;
        let context =
            sys::xdp_md { data_end: like.len() as u32, ingress_ifindex: self.interface, ..Default::default() };
        let mut options = sys::bpf_test_run_opts {
            data_in: like.as_ptr().cast(),
            data_size_in: like.len() as u32,
            ctx_in: (&raw const context).cast(),
            ctx_size_in: size_of_val(&context) as u32,
            repeat: frames.len().try_into()?,
            flags: sys::BPF_F_TEST_XDP_LIVE_FRAMES,
            batch_size: BATCH,
            ..Default::default()
        };
        options.sz = size_of_val(&options) as _;
        // SAFETY: every pointer is to a buffer of the length beside it, all of which outlive the
        // call.
        let answer = unsafe { sys::bpf_prog_test_run_opts(program.as_fd().as_raw_fd(), &mut options) };
        if answer != 0 {
            return Err(format!("the kernel generates no frames: {}", io::Error::last_os_error()).into());
        }
        let pace = self.paces.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY)?.ok_or("the pace is in its map")?;
        let [_, _, _, first, latest] = std::array::from_fn(|word| {
            let bytes = pace.get(word * 8..).and_then(|bytes| bytes.first_chunk());
            bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
        });
        // All batches but the last lie between.
        let counted = frames.len().saturating_sub(BATCH as usize).max(1);
        Ok(Duration::from_nanos(latest - first).mul_f64(frames.len() as f64 / counted as f64))
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        // SAFETY: what `load` mapped, and nobody has a reference into it any more.
        unsafe { libc::munmap(self.memory.cast(), FRAMES * FRAME) };
    }
}
