//! Network interfaces: which is meant, its address, its queues.
//!
//! All is asked by ioctl(2) and nothing read from /sys: what is mounted there may belong to another network namespace.

use std::io;
use std::os::fd::OwnedFd;

use rustix::ioctl::{Opcode, Updater, ioctl};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};
use serde::{Deserialize, Serialize};

use crate::wire::Mac;

/// A network interface of the namespace that the calling thread is in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Interface {
    /// Its name, `eth0`.
    pub name: String,
    /// Its index, which the kernel knows it by.
    pub index: u32,
}

/// Why an interface cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// The operator named an interface that is not there.
    #[error("there is no interface `{name}` here; `ip link` lists those that there are")]
    Missing {
        /// As it was named.
        name: String,
    },
    /// The kernel refused to tell.
    #[error("interface `{name}`: cannot read its {what}: {error}")]
    Unreadable {
        /// As it was named.
        name: String,
        /// What was asked for.
        what: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

impl Interface {
    /// The interface of this name.
    pub fn find(name: &str) -> Result<Self, InterfaceError> {
        let missing = || InterfaceError::Missing { name: name.to_owned() };
        if name.is_empty() || name.len() >= NAME_BYTES {
            return Err(missing());
        }
        let unreadable = |error: rustix::io::Errno| InterfaceError::Unreadable {
            name: name.into(),
            what: "index",
            error: error.into(),
        };
        match netdevice::name_to_index(asker().map_err(unreadable)?, name) {
            Ok(index) => Ok(Self { name: name.to_owned(), index }),
            Err(rustix::io::Errno::NODEV) => Err(missing()),
            Err(error) => Err(unreadable(error)),
        }
    }

    /// Its Ethernet address.
    pub fn mac(&self) -> Result<Mac, InterfaceError> {
        let mut request = Request::new(&self.name, [0; UNION_BYTES]);
        self.ask::<SIOCGIFHWADDR>("address", &mut request)?;
        // struct sockaddr: two bytes of family, then the address.
        let mut mac = Mac::default();
        mac.0.copy_from_slice(&request.rest[2..8]);
        Ok(mac)
    }

    /// How many receive queues are in use: combined ones and those that only receive. One where the driver does not tell.
    pub fn queues(&self) -> Result<u32, InterfaceError> {
        let mut channels = Channels { command: ETHTOOL_GCHANNELS, ..Channels::default() };
        let mut request = Request::new(&self.name, [0; UNION_BYTES]);
        request.rest[..size_of::<usize>()].copy_from_slice(&(&raw mut channels).expose_provenance().to_ne_bytes());
        match self.ask::<SIOCETHTOOL>("queues", &mut request) {
            // SAFETY: `channels` lives on this stack and is read after the kernel, through the pointer in the request, wrote it.
            Ok(()) => Ok(unsafe { (&raw const channels).read_volatile() }.receiving().max(1)),
            Err(InterfaceError::Unreadable { error, .. }) if error.raw_os_error() == Some(EOPNOTSUPP) => Ok(1),
            Err(error) => Err(error),
        }
    }

    /// Where it is on a PCI bus, `0000:01:00.0`; none where it is on no bus, or its driver does not tell.
    pub fn bus_address(&self) -> Option<String> {
        let text = text_of(&self.ask_driver()?.bus_address)?;
        Some(text).filter(|address| !address.contains('/'))
    }

    /// What its driver is called; none where that does not tell.
    pub fn driver(&self) -> Option<String> {
        text_of(&self.ask_driver()?.name)
    }

    fn ask_driver(&self) -> Option<Driver> {
        let mut driver = Driver { command: ETHTOOL_GDRVINFO, ..Driver::default() };
        let mut request = Request::new(&self.name, [0; UNION_BYTES]);
        request.rest[..size_of::<usize>()].copy_from_slice(&(&raw mut driver).expose_provenance().to_ne_bytes());
        self.ask::<SIOCETHTOOL>("driver", &mut request).ok()?;
        // SAFETY: as of `Channels` above.
        Some(unsafe { (&raw const driver).read_volatile() })
    }

    fn ask<const REQUEST: Opcode>(&self, what: &'static str, request: &mut Request) -> Result<(), InterfaceError> {
        let unreadable = |error: rustix::io::Errno| InterfaceError::Unreadable {
            name: self.name.clone(),
            what,
            error: error.into(),
        };
        let asker = asker().map_err(unreadable)?;
        // SAFETY: the requests made here take a `struct ifreq`, which `Request` is laid out as, and write only into it, or into
        // what it points to, which outlives the call.
        unsafe { ioctl(asker, Updater::<REQUEST, Request>::new(request)) }.map_err(unreadable)
    }
}

/// What stands before the first zero; none where nothing does.
fn text_of(bytes: &[u8]) -> Option<String> {
    let text: Vec<u8> = bytes.iter().copied().take_while(|&byte| byte != 0).collect();
    String::from_utf8(text).ok().filter(|text| !text.is_empty())
}

/// A socket to ask by; which kind does not matter (netdevice(7)).
fn asker() -> rustix::io::Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
}

const NAME_BYTES: usize = 16;
const UNION_BYTES: usize = 24;
const SIOCGIFHWADDR: Opcode = 0x8927;
const SIOCETHTOOL: Opcode = 0x8946;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETHTOOL_GDRVINFO: u32 = 0x03;
const EOPNOTSUPP: i32 = rustix::io::Errno::OPNOTSUPP.raw_os_error();

/// `struct ifreq`: a name, and a union of which the longest member has 24 bytes.
#[repr(C, align(8))]
struct Request {
    name: [u8; NAME_BYTES],
    rest: [u8; UNION_BYTES],
}

impl Request {
    fn new(name: &str, rest: [u8; UNION_BYTES]) -> Self {
        let mut bytes = [0; NAME_BYTES];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Self { name: bytes, rest }
    }
}

/// `struct ethtool_channels`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Channels {
    command: u32,
    _receive_max: u32,
    _transmit_max: u32,
    _other_max: u32,
    _combined_max: u32,
    receive: u32,
    _transmit: u32,
    _other: u32,
    combined: u32,
}

/// `struct ethtool_drvinfo`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Driver {
    command: u32,
    name: [u8; 32],
    _versions: [[u8; 32]; 2],
    bus_address: [u8; 32],
    _expansion_rom: [u8; 32],
    _reserved: [u8; 12],
    _counts: [u32; 5],
}

const _: () = assert!(size_of::<Driver>() == 196);

impl Channels {
    const fn receiving(&self) -> u32 {
        self.receive + self.combined
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_an_index_an_empty_address_and_a_queue() {
        let lo = Interface::find("lo").unwrap();
        assert_eq!(lo.index, 1);
        assert_eq!(lo.mac().unwrap(), Mac::default());
        assert_eq!(lo.queues().unwrap(), 1);
        assert_eq!(lo.bus_address(), None);
    }

    #[test]
    fn an_interface_that_is_not_there_is_named() {
        for name in ["", "nosuch0", "a-name-that-is-longer-than-a-name-can-be"] {
            let error = Interface::find(name).unwrap_err();
            assert!(matches!(&error, InterfaceError::Missing { name: named } if named == name), "{error}");
        }
    }
}
