//! A machine, as its files and the kernel's calls show it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::Needs;

/// What only system calls tell.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The kernel's release, `6.18.0-1-amd64`.
    pub release: String,
    /// The interfaces; for one that is missing, why.
    pub interfaces: Vec<Result<AskedInterface, String>>,
    /// Bytes that may be locked in memory; none for no limit.
    pub memlock: Option<u64>,
    /// Names of the capabilities that a keeper needs and the caller lacks.
    pub lacking: Vec<&'static str>,
    /// Whether it may go beyond its limits (CAP_SYS_RESOURCE, or CAP_IPC_LOCK for locking memory).
    pub beyond_limits: bool,
    /// File systems of paths, or of their nearest existing folders.
    pub places: Vec<(PathBuf, Place)>,
    /// Why the engine's user cannot be used.
    pub user: Option<String>,
    /// The errors that a start would end with: what each is about, and its message.
    pub obstacles: Vec<(&'static str, String)>,
}

/// An interface's properties.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AskedInterface {
    /// As the configuration has it.
    pub name: String,
    /// Its driver's name; empty if it does not tell.
    pub driver: String,
    /// Where it is on a PCI bus.
    pub bus_address: Option<String>,
    /// Receive queues.
    pub queues: u32,
    /// Whether it has `ntuple` filters, by `ethtool -k`; none without ethtool.
    pub ntuple: Option<String>,
    /// Whether frames can come: it is up, and has a carrier.
    pub running: bool,
    /// Its kind if it unites others: a bond, a team.
    pub unites: Option<&'static str>,
    /// Whether it strips VLAN tags; none if it does not tell.
    pub strips_tags: Option<bool>,
    /// Whether it drops frames of VLANs that are not set up; none without ethtool.
    pub filters_vlans: Option<bool>,
    /// Whether a domain with a `vlan` may be there.
    pub bears_tags: bool,
    /// Bytes of its longest packet.
    pub mtu: u32,
}

/// The file system of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// Its magic number (statfs(2)).
    pub magic: u64,
    /// Bytes that it has in all.
    pub bytes: u64,
    /// Of these, free.
    pub free: u64,
    /// Whether it is read-only.
    pub read_only: bool,
    /// Bytes that the file has there already.
    pub used: u64,
}

pub(super) struct Machine<'a> {
    pub root: &'a Path,
    pub asked: &'a Asked,
    pub needs: &'a Needs,
}

impl Machine<'_> {
    pub fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// The content of a file, without the line's end; none if it is missing.
    pub fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.at(path)).ok().map(|text| text.trim_end().to_owned())
    }

    /// Names in a folder, sorted; none if it is missing.
    pub fn list(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.at(path)) else { return Vec::new() };
        let mut names: Vec<_> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }
}

/// The CPUs of a list such as `0-3,8`.
pub(super) fn cpus(list: &str) -> BTreeSet<u16> {
    let ranges = list.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
    });
    ranges.flatten().collect()
}

pub(super) fn listed<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
