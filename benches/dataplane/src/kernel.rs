//! What the kernel runs for the bench: the generator, counters, and programs on interfaces.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use libbpf_rs::{Link, MapCore, MapFlags, MapHandle, Object, ObjectBuilder, libbpf_sys as sys};

use crate::Failure;

static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bench.bpf.o"));

/// Frames that the generator's memory holds, and bytes of each, as in `bench.bpf.c`.
pub const FRAMES: usize = 1 << 21;
pub const FRAME: usize = 96;

/// The programs and maps, loaded once for each side of the pair.
pub struct Kernel {
    object: Object,
}

impl Kernel {
    pub fn load() -> Result<Self, Failure> {
        Ok(Self { object: ObjectBuilder::default().open_memory(OBJECT)?.load()? })
    }

    /// Puts a program on an interface of this thread's namespace, until the link is dropped.
    pub fn attach(&mut self, program: &str, interface: u32) -> Result<Link, Failure> {
        let found = self.object.progs_mut().find(|found| found.name() == program);
        let found = found.ok_or_else(|| format!("no program is called {program}"))?;
        Ok(found.attach_xdp(interface.try_into()?)?)
    }

    fn map(&self, name: &str) -> Result<MapHandle, Failure> {
        let found =
            self.object.maps().find(|map| map.name() == name).ok_or_else(|| format!("no map is called {name}"))?;
        Ok(MapHandle::try_from(&found)?)
    }

    /// Has `redirect` give queue 0's frames to this socket.
    pub fn set_socket(&self, socket: BorrowedFd<'_>) -> Result<(), Failure> {
        let fd = socket.as_raw_fd().to_ne_bytes();
        Ok(self.map("sockets")?.update(&0_u32.to_ne_bytes(), &fd, MapFlags::ANY)?)
    }

    /// Frames that came to a program which counts.
    pub fn seen(&self) -> Result<u64, Failure> {
        let by_core = self.map("counts")?.lookup_percpu(&1_u32.to_ne_bytes(), MapFlags::ANY)?.unwrap_or_default();
        Ok(by_core.iter().filter_map(|bytes| Some(u64::from_ne_bytes(bytes.as_slice().try_into().ok()?))).sum())
    }

    /// The memory of the frames that `send_next` sends.
    pub fn frames(&self) -> Result<Frames, Failure> {
        let map = self.map("frames")?;
        let bytes = FRAMES * FRAME;
        // SAFETY: a fresh shared mapping of a descriptor that is open; nothing is at an address of
        // ours, for none is given.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_fd().as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(format!("mapping the generator's frames: {}", io::Error::last_os_error()).into());
        }
        Ok(Frames { at: at.cast() })
    }

    /// Sends so many frames from the interface as fast as this core can, by a program that sends
    /// each on its way. Gives how long that took.
    pub fn generate(&self, program: &str, interface: u32, frame: &[u8], count: u32) -> Result<Duration, Failure> {
        let found = self.object.progs().find(|found| found.name() == program);
        let found = found.ok_or_else(|| format!("no program is called {program}"))?;
        let context = sys::xdp_md { data_end: frame.len() as u32, ingress_ifindex: interface, ..Default::default() };
        let mut options = sys::bpf_test_run_opts {
            data_in: frame.as_ptr().cast(),
            data_size_in: frame.len() as u32,
            ctx_in: (&raw const context).cast(),
            ctx_size_in: size_of_val(&context) as u32,
            repeat: count as i32,
            flags: sys::BPF_F_TEST_XDP_LIVE_FRAMES,
            batch_size: 64,
            ..Default::default()
        };
        options.sz = size_of_val(&options) as _;
        let begun = Instant::now();
        // SAFETY: every pointer is to a buffer of the length beside it, all of which outlive the
        // call.
        let answer = unsafe { sys::bpf_prog_test_run_opts(found.as_fd().as_raw_fd(), &mut options) };
        if answer != 0 {
            return Err(format!("the kernel generates no frames: {}", io::Error::last_os_error()).into());
        }
        Ok(begun.elapsed())
    }
}

/// The generator's frames, mapped.
pub struct Frames {
    at: *mut u8,
}

impl Frames {
    /// Has `write` write each.
    pub fn fill(&mut self, mut write: impl FnMut(usize, &mut [u8])) {
        for number in 0..FRAMES {
            // SAFETY: the mapping has FRAMES times FRAME bytes and lives as long as `self`, which
            // is borrowed alone; the generator, which reads them, does not run while they are
            // written, for it is this thread that runs it.
            let bytes = unsafe { std::slice::from_raw_parts_mut(self.at.add(number * FRAME), FRAME) };
            write(number, bytes);
        }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        // SAFETY: what `Kernel::frames` mapped, and nobody has a reference into it any more.
        unsafe { libc::munmap(self.at.cast(), FRAMES * FRAME) };
    }
}
