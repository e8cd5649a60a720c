//! What would keep a keeper from starting, found without starting one, by the functions that the
//! start itself calls.

use std::io;
use std::os::unix::net::SocketAddr;
use std::path::Path;

use super::error::KeeperError;
use super::{bpf_pins, folders, interfaces};
use crate::config::Config;
use crate::sys::bpf::check_free;
use crate::sys::process::User;

/// A reason why a keeper would not start.
#[derive(Debug)]
pub(crate) struct Obstacle {
    /// What was checked, in a word or two.
    pub check: &'static str,
    /// The error that the start would end with.
    pub error: KeeperError,
}

/// All of them: each check runs on its own, so that one does not hide another.
pub(crate) fn obstacles(config: &Config, user: Option<&User>) -> Vec<Obstacle> {
    let mut all = Vec::new();
    let mut look = |check, result: Result<(), KeeperError>| {
        if let Err(error) = result {
            all.push(Obstacle { check, error });
        }
    };
    match interfaces::find_all(config) {
        Err(error) => look("interface", Err(error)),
        Ok(found) => {
            look("queues", interfaces::share_out(config, &found).map(drop));
            for found in found {
                let folder = bpf_pins::folder_of(config, &found.interface.name);
                look("steering", check_free(&found.interface, Some(&folder)).map_err(Into::into));
            }
        }
    }
    look("runtime folder", folders::check_own(&config.runtime.dir));
    look("API socket", check_socket(&config.runtime.api_socket()));
    look("pins", bpf_pins::check(&config.runtime.pin()));
    look("table folder", folders::check_own(config.table.path.parent().unwrap_or(Path::new("/"))));
    look("database", folders::check_database(config, user));
    all
}

/// Whether a socket can have this path.
fn check_socket(path: &Path) -> Result<(), KeeperError> {
    let folder = |error: io::Error| KeeperError::Folder { path: path.into(), error };
    SocketAddr::from_pathname(path).map(drop).map_err(folder)
}
