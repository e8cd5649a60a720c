//! The folders that a keeper works in. What each has to be is checked by functions that change
//! nothing, so that `baton doctor` calls the same ones.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::Path;

use rustix::fs::{Access, access};

use super::error::KeeperError;
use crate::config::Config;
use crate::sys::process::User;

fn failed(path: &Path) -> impl FnOnce(io::Error) -> KeeperError + '_ {
    move |error| KeeperError::Folder { path: path.into(), error }
}

/// Whether a folder can be used: it is this user's, no other user may write to it, and it takes
/// files; or it can be made.
pub(crate) fn check_own(path: &Path) -> Result<(), KeeperError> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return check_room_for(path),
        Err(error) => return Err(failed(path)(error)),
    };
    if !metadata.is_dir() {
        return Err(failed(path)(io::ErrorKind::NotADirectory.into()));
    }
    let whose = match metadata {
        _ if metadata.uid() != rustix::process::geteuid().as_raw() => format!("user {}'s", metadata.uid()),
        _ if metadata.mode() & 0o022 != 0 => "open to other users".into(),
        _ => return check_writable(path),
    };
    Err(KeeperError::Foreign { path: path.into(), whose })
}

/// Whether the nearest existing folder above it lets it be made.
fn check_room_for(path: &Path) -> Result<(), KeeperError> {
    let above = path.ancestors().skip(1).map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above });
    let there = above.into_iter().find(|above| above.exists()).unwrap_or(Path::new("/"));
    if !there.is_dir() {
        return Err(failed(there)(io::ErrorKind::NotADirectory.into()));
    }
    check_writable(there)
}

fn check_writable(folder: &Path) -> Result<(), KeeperError> {
    access(folder, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| failed(folder)(error.into()))
}

/// Makes a folder if there is none. One that exists must be this user's, and no other user may
/// write to it.
pub(super) fn own(path: &Path, mode: u32) -> Result<(), KeeperError> {
    check_own(path)?;
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed(path))?;
    check_own(path)
}

fn database_folder(config: &Config) -> &Path {
    match config.database.path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Whether the engine's user may write to the database's folder, and to its file if there is one.
pub(crate) fn check_database(config: &Config, user: Option<&User>) -> Result<(), KeeperError> {
    let folder = database_folder(config);
    if !folder.try_exists().map_err(failed(folder))? {
        return check_room_for(folder);
    }
    let Some(user) = user else { return Ok(()) };
    let barred = |what, path: &Path| KeeperError::Barred { user: user.name.clone(), what, folder: path.into() };
    if let Some(closed) = user.barred(folder).map_err(failed(folder))? {
        return Err(barred("enter", &closed));
    }
    if !user.may(&fs::metadata(folder).map_err(failed(folder))?, 0o3) {
        return Err(barred("write to", folder));
    }
    // It may have been another user's at the last start.
    let file = &config.database.path;
    match fs::metadata(file) {
        Ok(there) if !user.may(&there, 0o6) => Err(barred("read and write", file)),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(file)(error)),
        _ => Ok(()),
    }
}

/// Makes the database's folder if there is none, and checks that the engine's user may write to
/// it.
pub(super) fn open_database(config: &Config, user: Option<&User>) -> Result<(), KeeperError> {
    let folder = database_folder(config);
    if !folder.try_exists().map_err(failed(folder))? {
        if let Some(parent) = folder.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(failed(folder))?;
        }
        DirBuilder::new().mode(0o750).create(folder).map_err(failed(folder))?;
        if let Some(user) = user {
            chown(folder, Some(user.uid), Some(user.gid)).map_err(failed(folder))?;
        }
    }
    check_database(config, user)
}
