//! Addresses: MAC, domain, device, meeting.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The two addresses of a frame, and two reserved bytes.
pub(super) const ADDRESSES_BYTES: usize = 18;
pub(super) const LABEL_BYTES: usize = 4;

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not an Ethernet address such as 02:00:00:00:01:6e");
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() { Err(wrong()) } else { Ok(Self(bytes)) }
    }
}

impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The number of an autonomous domain: 40 bits, flat. 0 is reserved and never a `Domain`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Domain(u64);

impl Domain {
    /// The highest number that 40 bits hold.
    pub const MAX: u64 = (1 << 40) - 1;

    /// The domain with this number; none for 0 and beyond 40 bits.
    pub const fn new(number: u64) -> Option<Self> {
        if number == 0 || number > Self::MAX { None } else { Some(Self(number)) }
    }

    /// As on the wire, from 1 to [`Self::MAX`].
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The address of the domain's autonomous server.
    pub const fn server(self) -> Address {
        self.device(0)
    }

    /// Joins the two numbers into one address.
    pub const fn device(self, device: u16) -> Address {
        Address(self.0 << 16 | device as u64)
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "domain {}", self.0)
    }
}

impl TryFrom<u64> for Domain {
    type Error = String;

    fn try_from(number: u64) -> Result<Self, String> {
        Self::new(number).ok_or_else(|| format!("{number} is not a domain: 1 to {}", Self::MAX))
    }
}

impl From<Domain> for u64 {
    fn from(domain: Domain) -> u64 {
        domain.0
    }
}

/// A V2V address without its type byte: domain 40 bits, device 16. Text form `domain/device`,
/// `366/1001`.
///
/// ```
/// let terminal: baton::wire::Address = "366/1001".parse().unwrap();
/// assert_eq!(terminal.number(), 23_987_177);
/// assert_eq!(terminal.domain().unwrap().server().to_string(), "366/0");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Address(u64);

impl Address {
    /// The address with this whole number, its type byte dropped.
    pub const fn from_number(number: u64) -> Self {
        Self(number & (u64::MAX >> 8))
    }

    /// The whole 64-bit number, with a zero type byte.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Its domain; none where that is the reserved 0.
    pub const fn domain(self) -> Option<Domain> {
        Domain::new(self.0 >> 16)
    }

    /// The device's number in the domain; 0 is the autonomous server.
    pub const fn device(self) -> u16 {
        self.0 as u16
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0 >> 16, self.device())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not an address: domain/device in decimal, such as 366/1001");
        let (domain, device) = text.split_once('/').ok_or_else(wrong)?;
        let domain = domain.parse().ok().and_then(Domain::new).ok_or_else(wrong)?;
        Ok(domain.device(device.parse().map_err(|_| wrong())?))
    }
}

impl Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A meeting's id, the same in every domain that it spans. 0 means none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MeetingId(pub u64);

impl MeetingId {
    /// Stands in a header for "no meeting".
    pub const NONE: Self = Self(0);
}

impl fmt::Display for MeetingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for MeetingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "meeting {}", self.0)
    }
}

impl FromStr for MeetingId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .ok()
            .filter(|&id| id != 0)
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not a meeting's id: a number from 1"))
    }
}

/// Tells conferences with the same meeting number apart: drawn at random when a conference is
/// started, and never used again. 0 for a conference that an autonomous server started itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Run(pub u64);

impl Run {
    /// Of a conference that no dispatch server started.
    pub const NONE: Self = Self(0);
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {self}")
    }
}
