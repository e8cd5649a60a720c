//! The BPF file system that holds the pins.

use std::io;
use std::path::Path;

use rustix::fs::statfs;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// The magic number of the BPF file system (`BPF_FS_MAGIC`, include/uapi/linux/magic.h).
const BPF_FS_MAGIC: u32 = 0xcafe_4a11;

/// The magic number of sysfs (`SYSFS_MAGIC`, same place).
const SYSFS_MAGIC: u32 = 0x6265_6572;

/// Whether a folder is on a BPF file system.
///
/// # Errors
/// The system's.
pub fn is_bpf(folder: &Path) -> io::Result<bool> {
    Ok(statfs(folder)?.f_type as u32 == BPF_FS_MAGIC)
}

/// Whether a folder is on the kernel's sysfs, in which nobody can make a folder.
pub fn is_sysfs(folder: &Path) -> bool {
    statfs(folder).is_ok_and(|found| found.f_type as u32 == SYSFS_MAGIC)
}

/// Mounts a BPF file system on a folder, accessible only to root.
///
/// # Errors
/// The system's.
pub fn mount_bpf(folder: &Path) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(mount("bpf", folder, "bpf", flags, c"mode=0700")?)
}

/// Unmounts the file system on a folder.
///
/// # Errors
/// The system's.
pub fn unmount_from(folder: &Path) -> io::Result<()> {
    Ok(unmount(folder, UnmountFlags::DETACH)?)
}
