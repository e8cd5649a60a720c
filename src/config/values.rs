//! Values, parsed into what they mean. The error of each says what was expected; the reader of the
//! file adds its place.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, Error, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::limits::{HANG_MS_MIN, INTERFACES_MAX, SLOTS_MAX, WORKERS_MAX};
use crate::wire::{Address, Mac, Secret};

/// A whole number within bounds.
fn within<'de, D: Deserializer<'de>>(deserializer: D, bounds: RangeInclusive<u64>) -> Result<u64, D::Error> {
    let number = i64::deserialize(deserializer)?;
    u64::try_from(number).ok().filter(|number| bounds.contains(number)).ok_or_else(|| {
        let expected = format!("a whole number from {} to {}", bounds.start(), bounds.end());
        Error::invalid_value(Unexpected::Signed(number), &expected.as_str())
    })
}

/// A function for each kind of number: its name, its bounds and its type.
macro_rules! numbers {
    ($($name:ident: $type:ty, $low:expr, $high:expr;)*) => { $(
        pub(super) fn $name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
            Ok(within(deserializer, $low..=$high)? as $type)
        }
    )* };
}

numbers! {
    slots: u32, 1, u64::from(SLOTS_MAX);
    beats: u32, 1, 1000;
    window: u16, 1, 1024;
    log_mib: u32, 1, 4096;
    log_seconds: u32, 10, 604_800;
    log_files: u32, 2, 100_000;
    // Below 0x0600 the field is a length (IEEE 802.3 §3.2.6), and steering could not tell the two
    // apart.
    ethertype: u16, 0x0600, 0xFFFF;
}

/// A number that may be absent, which is null in the manifest's JSON.
macro_rules! optional_numbers {
    ($($name:ident: $type:ty, $low:expr, $high:expr;)*) => { $(
        pub(super) fn $name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<$type>, D::Error> {
            #[derive(Deserialize)]
            #[serde(transparent)]
            struct Number(#[serde(deserialize_with = "inner")] $type);
            fn inner<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                Ok(within(deserializer, $low..=$high)? as $type)
            }
            Ok(Option::<Number>::deserialize(deserializer)?.map(|number| number.0))
        }
    )* };
}

optional_numbers! {
    queues: u32, 1, WORKERS_MAX as u64;
    workers: u32, 1, WORKERS_MAX as u64;
    vlan: u16, 1, 4094;
    label: u16, 0, 0xFFFF;
    port: u16, 1, 0xFFFF;
}

pub(super) fn ring_entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let number = within(deserializer, 64..=65_536)?;
    if !number.is_power_of_two() {
        return Err(Error::invalid_value(Unexpected::Unsigned(number), &"a power of two from 64 to 65536"));
    }
    Ok(number as u32)
}

pub(super) fn cores<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cores, D::Error> {
    struct Either;
    impl<'de> Visitor<'de> for Either {
        type Value = Cores;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of CPUs such as [2, 3], or \"auto\"")
        }

        fn visit_str<E: Error>(self, word: &str) -> Result<Cores, E> {
            match word {
                "auto" => Ok(Cores::Chosen(Auto::Auto)),
                word => Err(E::invalid_value(Unexpected::Str(word), &self)),
            }
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Cores, A::Error> {
            let cores = Vec::<u16>::deserialize(SeqAccessDeserializer::new(list))?;
            if cores.len() > WORKERS_MAX {
                return Err(A::Error::invalid_length(cores.len(), &"a CPU for each worker"));
            }
            Ok(Cores::These(cores))
        }
    }
    deserializer.deserialize_any(Either)
}

/// What the kernel accepts as an interface's name (`dev_valid_name`, net/core/dev.c).
pub(super) fn is_interface_name(name: &str) -> bool {
    (1..16).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_ascii_whitespace())
}

/// One name, or a list of them.
pub(super) fn interface_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Either;
    impl Either {
        fn check<E: Error>(names: Vec<String>) -> Result<Vec<String>, E> {
            let expected = "an interface's name such as eth0, 1 to 15 characters";
            if let Some(name) = names.iter().find(|name| !is_interface_name(name)) {
                return Err(E::invalid_value(Unexpected::Str(name), &expected));
            }
            check_interfaces(&names).map_err(E::custom)?;
            Ok(names)
        }
    }
    impl<'de> Visitor<'de> for Either {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an interface's name such as \"eth0\", or a list of them such as [\"eth0\", \"eth1\"]")
        }

        fn visit_str<E: Error>(self, name: &str) -> Result<Vec<String>, E> {
            Self::check(vec![name.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vec<String>, A::Error> {
            Self::check(Vec::deserialize(SeqAccessDeserializer::new(list))?)
        }
    }
    deserializer.deserialize_any(Either)
}

/// Checks a list of interfaces beyond each name on its own.
pub(super) fn check_interfaces(names: &[String]) -> Result<(), String> {
    if names.is_empty() || names.len() > INTERFACES_MAX {
        return Err(format!("{} interfaces: 1 to {INTERFACES_MAX} are expected", names.len()));
    }
    match names.iter().enumerate().find(|(n, name)| names[..*n].contains(name)) {
        Some((_, twice)) => Err(format!("`{twice}` is named twice")),
        None => Ok(()),
    }
}

pub(super) fn device<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
    let address = Address::deserialize(deserializer)?;
    if address.device() == 0 {
        let expected = "a device from 1 (0 is the domain's autonomous server), such as 1/65535";
        return Err(Error::invalid_value(Unexpected::Str(&address.to_string()), &expected));
    }
    Ok(address)
}

pub(super) mod millis {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(time.as_millis() as u64)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        within(deserializer, 1..=3_600_000).map(Duration::from_millis)
    }
}

pub(super) mod hang {
    use super::*;

    pub(crate) use super::millis::serialize;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        within(deserializer, HANG_MS_MIN..=3_600_000).map(Duration::from_millis)
    }
}

pub(super) mod mac {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(mac: &Option<Mac>, serializer: S) -> Result<S::Ok, S::Error> {
        mac.map(|mac| mac.to_string()).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Mac>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        let mac = text.map(|text| text.parse::<Mac>()).transpose().map_err(Error::custom)?;
        match mac {
            Some(mac) if mac.0[0] & 1 == 1 || mac == Mac::default() => {
                Err(Error::custom(format!("`{mac}` is no station's address: neither a group's nor all zero")))
            }
            mac => Ok(mac),
        }
    }
}

/// 64 hexadecimal digits.
pub(super) fn parse_secret(text: &str) -> Option<Secret> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?, 16).ok()?;
    }
    Some(Secret(bytes))
}

pub(super) mod secret {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
        let digits = |secret: &Secret| secret.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        secret.as_ref().map(digits).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        // The text is not repeated: it may be most of a secret.
        let wrong =
            || Error::custom("a secret is 64 hexadecimal digits (32 bytes); make one with `openssl rand -hex 32`");
        parse_secret(&text).map(Some).ok_or_else(wrong)
    }
}

/// CPUs that workers are pinned to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
pub enum Cores {
    /// These, in the order of the workers; a worker without one is not pinned.
    These(Vec<u16>),
    /// Cores near the interface that the machine can spare.
    Chosen(Auto),
}

/// The word for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Auto {
    /// Left to Baton, which decides by the machine.
    Auto,
}

impl Default for Cores {
    fn default() -> Self {
        Self::These(Vec::new())
    }
}
