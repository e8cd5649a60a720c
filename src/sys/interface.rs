//! Network interfaces: lookup by name, MAC address, queues.
//!
//! Everything is asked by ioctl(2), and nothing is read from /sys, because the /sys that is mounted
//! may belong to another network namespace.

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
    /// The number by which the kernel knows it.
    pub index: u32,
}

/// Why an interface cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// The operator named an interface that does not exist.
    #[error("there is no interface `{name}` here; `ip link` lists the existing ones")]
    Missing {
        /// As the operator named it.
        name: String,
    },
    /// V2V runs only over Ethernet.
    #[error(
        "interface `{name}` is not Ethernet (its hardware type is {kind}): name one whose link/ether address `ip \
         link` shows"
    )]
    NotEthernet {
        /// As the operator named it.
        name: String,
        /// `ARPHRD_*`, <linux/if_arp.h>.
        kind: u16,
    },
    /// The kernel did not answer.
    #[error("interface `{name}`: cannot read its {what}: {error}")]
    Unreadable {
        /// As the operator named it.
        name: String,
        /// The property that was asked for.
        what: &'static str,
        /// The kernel's error.
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
        Ok(self.hardware()?.1)
    }

    /// Checks that the interface carries Ethernet frames.
    ///
    /// # Errors
    /// It does not, or the kernel does not tell.
    pub fn check_ethernet(&self) -> Result<(), InterfaceError> {
        match self.hardware()?.0 {
            ARPHRD_ETHER => Ok(()),
            kind => Err(InterfaceError::NotEthernet { name: self.name.clone(), kind }),
        }
    }

    /// The type of its hardware and its address.
    fn hardware(&self) -> Result<(u16, Mac), InterfaceError> {
        let mut request = Request::new(&self.name, [0; UNION_BYTES]);
        self.ask::<SIOCGIFHWADDR>("address", &mut request)?;
        // struct sockaddr: two bytes of family, then the address.
        let mut mac = Mac::default();
        mac.0.copy_from_slice(&request.rest[2..8]);
        Ok((u16::from_ne_bytes([request.rest[0], request.rest[1]]), mac))
    }

    /// Whether frames can arrive: it is up, and has a carrier. The driver is asked if it can tell,
    /// because the kernel's own flag (IFF_RUNNING) is up to a second late (net/core/link_watch.c).
    pub fn is_running(&self) -> Result<bool, InterfaceError> {
        let mut request = Request::new(&self.name, [0; UNION_BYTES]);
        self.ask::<SIOCGIFFLAGS>("state", &mut request)?;
        let flags = u16::from_ne_bytes([request.rest[0], request.rest[1]]);
        let mut carrier = Flags { command: ETHTOOL_GLINK, flags: 0 };
        let carrier = match self.ask_ethtool("carrier", &mut carrier) {
            Ok(()) => carrier.flags != 0,
            Err(_) => flags & IFF_RUNNING != 0,
        };
        Ok(flags & IFF_UP != 0 && carrier)
    }

    /// Length of the longest packet in bytes, without the Ethernet header.
    pub fn mtu(&self) -> Result<u32, InterfaceError> {
        let mut request = Request::new(&self.name, [0; UNION_BYTES]);
        self.ask::<SIOCGIFMTU>("MTU", &mut request)?;
        let [a, b, c, d, ..] = request.rest;
        Ok(u32::from_ne_bytes([a, b, c, d]))
    }

    /// Its kind, if it combines other interfaces and receives their frames: a bond, a team.
    pub fn unites(&self) -> Option<&'static str> {
        match self.driver()?.as_str() {
            "bonding" => Some("bond"),
            "team" => Some("team"),
            _ => None,
        }
    }

    /// Whether it strips 802.1Q tags from received frames, so that neither steering nor a socket
    /// sees them; none if it does not tell.
    pub fn strips_tags(&self) -> Option<bool> {
        let mut flags = Flags { command: ETHTOOL_GFLAGS, flags: 0 };
        self.ask_ethtool("offloads", &mut flags).ok()?;
        Some(flags.flags & ETH_FLAG_RXVLAN != 0)
    }

    /// Makes it strip 802.1Q tags, or leave them.
    ///
    /// # Errors
    /// The driver cannot, or it is not permitted.
    pub fn strip_tags(&self, strip: bool) -> Result<(), InterfaceError> {
        let mut flags = Flags { command: ETHTOOL_GFLAGS, flags: 0 };
        self.ask_ethtool("offloads", &mut flags)?;
        let flags = if strip { flags.flags | ETH_FLAG_RXVLAN } else { flags.flags & !ETH_FLAG_RXVLAN };
        self.ask_ethtool("offloads, to change them", &mut Flags { command: ETHTOOL_SFLAGS, flags })
    }

    /// The number of receive queues in use: combined ones and receive-only ones. One if the driver
    /// does not tell.
    pub fn queues(&self) -> Result<u32, InterfaceError> {
        let mut channels = Channels { command: ETHTOOL_GCHANNELS, ..Channels::default() };
        match self.ask_ethtool("queues", &mut channels) {
            Ok(()) => Ok(channels.receiving().max(1)),
            Err(InterfaceError::Unreadable { error, .. }) if error.raw_os_error() == Some(EOPNOTSUPP) => Ok(1),
            Err(error) => Err(error),
        }
    }

    /// Its address on a PCI bus, `0000:01:00.0`; none if it is on no bus, or its driver does not
    /// tell.
    pub fn bus_address(&self) -> Option<String> {
        let text = text_of(&self.ask_driver()?.bus_address)?;
        Some(text).filter(|address| !address.contains('/'))
    }

    /// The name of its driver; none if the driver does not tell.
    pub fn driver(&self) -> Option<String> {
        text_of(&self.ask_driver()?.name)
    }

    fn ask_driver(&self) -> Option<Driver> {
        let mut driver = Driver { command: ETHTOOL_GDRVINFO, ..Driver::default() };
        self.ask_ethtool("driver", &mut driver).ok()?;
        Some(driver)
    }

    /// Makes the kernel read and write one of ethtool's structures.
    fn ask_ethtool<T: Copy>(&self, what: &'static str, structure: &mut T) -> Result<(), InterfaceError> {
        let at = std::ptr::from_mut(structure).expose_provenance();
        let mut request = Request::new(&self.name, [0; UNION_BYTES]);
        request.rest[..size_of::<usize>()].copy_from_slice(&at.to_ne_bytes());
        self.ask::<SIOCETHTOOL>(what, &mut request)?;
        // SAFETY: it is the structure that was lent to this function. The kernel wrote it through
        // the pointer in the request, which the compiler does not see; every bit pattern is a valid
        // value of its integers.
        *structure = unsafe { std::ptr::with_exposed_provenance::<T>(at).read_volatile() };
        Ok(())
    }

    fn ask<const REQUEST: Opcode>(&self, what: &'static str, request: &mut Request) -> Result<(), InterfaceError> {
        let unreadable = |error: rustix::io::Errno| InterfaceError::Unreadable {
            name: self.name.clone(),
            what,
            error: error.into(),
        };
        let asker = asker().map_err(unreadable)?;
        // SAFETY: the requests made here take a `struct ifreq`, whose layout `Request` has, and
        // write only into it, or into the memory that it points to, which outlives the call.
        unsafe { ioctl(asker, Updater::<REQUEST, Request>::new(request)) }.map_err(unreadable)
    }
}

/// The text before the first zero byte; none if it is empty.
fn text_of(bytes: &[u8]) -> Option<String> {
    let text: Vec<u8> = bytes.iter().copied().take_while(|&byte| byte != 0).collect();
    String::from_utf8(text).ok().filter(|text| !text.is_empty())
}

/// A socket for the requests; its kind does not matter (netdevice(7)).
fn asker() -> rustix::io::Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
}

const NAME_BYTES: usize = 16;
const UNION_BYTES: usize = 24;
const SIOCGIFFLAGS: Opcode = 0x8913;
const SIOCGIFMTU: Opcode = 0x8921;
const SIOCGIFHWADDR: Opcode = 0x8927;
const SIOCETHTOOL: Opcode = 0x8946;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GLINK: u32 = 0x0a;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_SFLAGS: u32 = 0x26;
const ETH_FLAG_RXVLAN: u32 = 1 << 8;
const ARPHRD_ETHER: u16 = 1;
const IFF_UP: u16 = 1;
const IFF_RUNNING: u16 = 0x40;
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

/// `struct ethtool_value`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Flags {
    command: u32,
    flags: u32,
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
        assert_eq!(lo.unites(), None);
        let error = lo.check_ethernet().unwrap_err();
        assert!(matches!(error, InterfaceError::NotEthernet { kind: 772, .. }), "{error}");
    }

    #[test]
    fn an_interface_that_is_not_there_is_named() {
        for name in ["", "nosuch0", "a-name-that-is-longer-than-a-name-can-be"] {
            let error = Interface::find(name).unwrap_err();
            assert!(matches!(&error, InterfaceError::Missing { name: named } if named == name), "{error}");
        }
    }
}
