//! What the bench puts on interfaces: limits, counters, and the way into a socket.

use std::os::fd::{AsRawFd, BorrowedFd};

use libbpf_rs::{Link, MapCore, MapFlags, MapHandle, Object, ObjectBuilder};

use crate::Failure;

static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/receive.bpf.o"));

/// Numbers of frames that `drop_and_tell_apart` tells apart, as in `receive.bpf.c`.
pub const NUMBERS: u32 = 1 << 16;

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

    /// Has `redirect` give queue 0's frames to this socket.
    pub fn set_socket(&self, socket: BorrowedFd<'_>) -> Result<(), Failure> {
        let fd = socket.as_raw_fd().to_ne_bytes();
        Ok(map(&self.object, "sockets")?.update(&0_u32.to_ne_bytes(), &fd, MapFlags::ANY)?)
    }

    /// Frames that came to a program which counts.
    pub fn seen(&self) -> Result<u64, Failure> {
        self.count(0)
    }

    /// Of those, how many have a number that none before them had.
    pub fn different(&self) -> Result<u64, Failure> {
        self.count(1)
    }

    /// Has all numbers be new again.
    pub fn forget_numbers(&self) -> Result<(), Failure> {
        let numbers = map(&self.object, "numbers")?;
        for word in 0..NUMBERS / 64 {
            numbers.update(&word.to_ne_bytes(), &0_u64.to_ne_bytes(), MapFlags::ANY)?;
        }
        Ok(())
    }

    fn count(&self, which: u32) -> Result<u64, Failure> {
        let by_core =
            map(&self.object, "counts")?.lookup_percpu(&which.to_ne_bytes(), MapFlags::ANY)?.unwrap_or_default();
        Ok(by_core.iter().filter_map(|bytes| Some(u64::from_ne_bytes(bytes.as_slice().try_into().ok()?))).sum())
    }
}

/// A map of a loaded object.
pub fn map(object: &Object, name: &str) -> Result<MapHandle, Failure> {
    let found = object.maps().find(|map| map.name() == name).ok_or_else(|| format!("no map is called {name}"))?;
    Ok(MapHandle::try_from(&found)?)
}
