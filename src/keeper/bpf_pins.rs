//! Where steering is pinned: a folder for each interface, by its name, on a BPF file system.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::thread::{CapabilitySet, capabilities};

use super::error::KeeperError;
use super::folders;
use crate::config::Config;
use crate::sys::bpf::Steering;
use crate::sys::exclusive::{self, Asked, InterfaceHold};
use crate::sys::interface::Interface;
use crate::sys::mounts;

/// The folder of an interface. A BPF file system takes no name with a dot in it (`bpf_lookup`,
/// kernel/bpf/inode.c), and `eth0.100` is a usual one.
pub(crate) fn folder_of(config: &Config, interface: &str) -> PathBuf {
    config.runtime.pin().join(interface.replace('%', "%25").replace('.', "%2e"))
}

/// The interface of a folder.
fn interface_of(folder: &str) -> String {
    folder.replace("%2e", ".").replace("%25", "%")
}

/// Asks for what only one keeper of an interface can hold.
pub(super) fn hold(interface: &str) -> Result<Asked<InterfaceHold>, KeeperError> {
    InterfaceHold::ask(Path::new(exclusive::FOLDER), Interface::find(interface)?.index)
        .map_err(|error| KeeperError::System { doing: "take hold of the interface", error })
}

/// Whether the folder that has those of all interfaces can be used: it is ours, or can be made, and
/// a BPF file system is there, or can be mounted. Changes nothing.
pub(crate) fn check(folder: &Path) -> Result<(), KeeperError> {
    folders::check_own(folder)?;
    let none = |error: io::ErrorKind| KeeperError::NoBpffs { folder: folder.into(), error: error.into() };
    // Root may write there, and yet no folder can be made: /sys/fs/bpf is part of sysfs until a BPF
    // file system is mounted there.
    if !folder.exists() && folder.ancestors().find(|above| above.exists()).is_some_and(mounts::is_sysfs) {
        return Err(none(io::ErrorKind::NotFound));
    }
    let may_mount = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
    if may_mount || mounts::is_bpf(folder).unwrap_or(false) {
        return Ok(());
    }
    Err(none(io::ErrorKind::PermissionDenied))
}

/// The folder that has those of all interfaces. No other process uses it as long as this lives.
#[derive(Debug)]
pub(super) struct Pins {
    folder: PathBuf,
    /// The file system had to be mounted for it.
    mounted: bool,
    _lock: File,
}

impl Pins {
    /// Makes the folder, on a BPF file system.
    pub fn open(config: &Config) -> Result<Self, KeeperError> {
        let folder = config.runtime.pin();
        let failed = |error| KeeperError::Folder { path: folder.clone(), error };
        check(&folder)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
        let mounted = !mounts::is_bpf(&folder).map_err(failed)?;
        if mounted {
            mounts::mount_bpf(&folder).map_err(|error| KeeperError::NoBpffs { folder: folder.clone(), error })?;
        }
        // Of one that was there already, and of one that was made.
        folders::check_own(&folder)?;
        let lock = File::open(&folder).map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { folder, mounted, _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(KeeperError::PinsHeld { folder }),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Takes steering off interfaces that an earlier keeper served and this one does not, unless
    /// another keeper does.
    pub fn clear_others(&self, config: &Config) {
        let Ok(folders) = fs::read_dir(&self.folder) else { return };
        for folder in folders.flatten() {
            let Ok(name) = folder.file_name().into_string() else { continue };
            let name = interface_of(&name);
            if config.interface.names.contains(&name) {
                continue;
            }
            let Ok(interface) = Interface::find(&name) else { continue };
            let (Ok(Asked::Ours(_hold)), Ok(steering)) = (hold(&name), Steering::open(&folder.path())) else {
                continue;
            };
            // One of this name may be in another network namespace too.
            if steering.is_on(&interface) {
                tracing::info!("{name} is not served any more: its steering is removed");
                clear(&folder.path(), steering);
            }
        }
    }

    /// Takes the file system off the folder where it was mounted for this.
    pub fn unmount(self) {
        if self.mounted
            && let Err(error) = mounts::unmount_from(&self.folder)
        {
            tracing::warn!("{} stays mounted: {error}", self.folder.display());
        }
    }
}

/// Takes steering off its interface, and removes its pins.
pub(super) fn clear(folder: &Path, steering: Steering) {
    if let Err(error) = steering.detach() {
        tracing::warn!("{} stays steered: {error}", folder.display());
    }
    // It stays where it has something else in it, which is not ours.
    let _ = fs::remove_dir(folder);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_bears_no_dot_and_tells_its_interface() {
        let config = Config::parse(
            Path::new("test"),
            "[interface]\nname = \"eth0\"\n[[domain]]\nnumber = 1\ninsecure_no_authentication = true",
            &crate::config::Overrides::default(),
        )
        .unwrap();
        for name in ["eth0", "eth0.100", "a%2eb", "..%", "%25"] {
            let folder = folder_of(&config, name);
            let folder = folder.file_name().unwrap().to_str().unwrap();
            assert!(!folder.contains('.'), "{folder}");
            assert_eq!(interface_of(folder), name);
        }
    }
}
