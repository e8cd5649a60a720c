//! A sink for frames: a program that counts V2V frames and drops them before any other part of the
//! kernel sees them.

use std::os::fd::AsFd;

use libbpf_rs::{MapCore, MapFlags, MapHandle, ObjectBuilder, ProgramHandle};

use super::live_frames::OBJECT;
use crate::sys::bpf::{Mode, SteerError};
use crate::sys::bpf::{
    libbpf::{os_error, talk_through_tracing},
    steering::{Link, link},
};
use crate::sys::interface::Interface;

/// The counts of received frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sunk {
    /// V2V frames, all of which were dropped.
    pub frames: u64,
    /// Their length, without what Ethernet adds on the wire.
    pub bytes: u64,
}

/// The program on its interface, which it leaves when this is dropped.
#[derive(Debug)]
pub struct Sink {
    /// Declared first, so that the program leaves the interface before it is closed.
    link: Link,
    _program: ProgramHandle,
    sunk: MapHandle,
}

impl Sink {
    /// Attaches it to the interface. Frames with another EtherType pass to the kernel.
    pub fn attach(interface: &Interface, ethertype: u16) -> Result<Self, SteerError> {
        talk_through_tracing();
        let refused = |error: libbpf_rs::Error| match os_error(&error) {
            denied if denied.kind() == std::io::ErrorKind::PermissionDenied => {
                SteerError::Privilege { what: "loading a program" }
            }
            error => SteerError::Load { error },
        };
        let mut open = ObjectBuilder::default().open_memory(OBJECT).map_err(refused)?;
        for mut program in open.progs_mut() {
            let wanted = program.name() == "sink";
            program.set_autoload(wanted);
        }
        let object = open.load().map_err(refused)?;
        let map = |name: &str| {
            let map =
                object.maps().find(|map| map.name() == name).expect("the object has the map: one build made both");
            MapHandle::try_from(&map).map_err(refused)
        };
        let (wanted, sunk) = (map("sink_ethertype")?, map("sunk")?);
        let on_the_wire = u32::from(ethertype.to_be()).to_ne_bytes();
        wanted.update(&0_u32.to_ne_bytes(), &on_the_wire, MapFlags::ANY).map_err(refused)?;
        let program = object.progs_mut().find(|program| program.name() == "sink").expect("and the program");
        let program = ProgramHandle::try_from(&program).map_err(refused)?;
        let (fd, mode) = link(program.as_fd(), interface)?;
        Ok(Self { link: Link { fd, mode, pins: None }, _program: program, sunk })
    }

    /// The mode in which it is attached.
    pub fn mode(&self) -> Mode {
        self.link.mode
    }

    /// The counts so far.
    pub fn sunk(&self) -> Result<Sunk, SteerError> {
        let read = |which: u32| {
            let by_cpu = self.sunk.lookup_percpu(&which.to_ne_bytes(), MapFlags::ANY);
            let by_cpu =
                by_cpu.map_err(|error| SteerError::Call { what: "reading the sink", error: os_error(&error) })?;
            let by_cpu = by_cpu.unwrap_or_default();
            let numbers = by_cpu.iter().filter_map(|bytes| Some(u64::from_ne_bytes(bytes.as_slice().try_into().ok()?)));
            Ok(numbers.sum())
        };
        Ok(Sunk {
            frames: read(crate::sys::bpf::abi::BATON_SUNK_FRAMES)?,
            bytes: read(crate::sys::bpf::abi::BATON_SUNK_BYTES)?,
        })
    }
}
