//! Where steering is pinned: a folder for each interface, by its name, on a BPF file system.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::error::KeeperError;
use crate::config::Config;
use crate::sys::bpf::Steering;
use crate::sys::holds::{self, Asked, InterfaceHold};
use crate::sys::interface::Interface;
use crate::sys::mounts;

/// The folder of an interface.
pub(super) fn folder_of(config: &Config, interface: &str) -> PathBuf {
    config.runtime.pin().join(interface)
}

/// What only one keeper of an interface has.
pub(super) fn hold(interface: &str) -> Result<Asked<InterfaceHold>, KeeperError> {
    InterfaceHold::ask(Path::new(holds::FOLDER), Interface::find(interface)?.index)
        .map_err(|error| KeeperError::System { doing: "take hold of the interface", error })
}

/// Makes the folder of all, on a BPF file system; gives it back if that had to be mounted.
pub(super) fn open(folder: &Path) -> Result<Option<PathBuf>, KeeperError> {
    let failed = |error| KeeperError::Folder { path: folder.into(), error };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    if mounts::is_bpf(folder).map_err(failed)? {
        return Ok(None);
    }
    mounts::mount_bpf(folder)
        .map_err(|error| KeeperError::System { doing: "mount a BPF file system for the pins", error })?;
    Ok(Some(folder.into()))
}

/// Takes steering off interfaces that a keeper of before served and this one does not, unless somebody else does.
pub(super) fn clear_others(config: &Config) {
    let Ok(folders) = fs::read_dir(config.runtime.pin()) else { return };
    for folder in folders.flatten() {
        let Ok(name) = folder.file_name().into_string() else { continue };
        if config.interface.names.contains(&name) || Interface::find(&name).is_err() {
            continue;
        }
        let (Ok(Asked::Ours(_hold)), Ok(steering)) = (hold(&name), Steering::open(&folder.path())) else { continue };
        tracing::info!("{name} is not served any more: its steering of before goes");
        clear(&folder.path(), steering);
    }
}

/// Takes steering off its interface, and its pins away.
pub(super) fn clear(folder: &Path, steering: Steering) {
    if let Err(error) = steering.detach() {
        tracing::warn!("{} stays steered: {error}", folder.display());
    }
    // What is in it all the same is none of ours.
    let _ = fs::remove_dir(folder);
}

/// Takes the file system off the folder where it was mounted for this.
pub(super) fn unmount(mounted: Option<&Path>) {
    if let Some(folder) = mounted
        && let Err(error) = mounts::unmount_from(folder)
    {
        tracing::warn!("{} stays mounted: {error}", folder.display());
    }
}
