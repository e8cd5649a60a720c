//! The table's file: kept, made, or refused.
//!
//! A new table bears the name `<path>.filling` until an engine has said that it holds every meeting
//! that the database holds; then it gets its own. So a keeper that dies in between leaves no
//! half-filled table that would pass for a whole one, and loses nothing of what it held already.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use super::KeeperError;
use crate::config::{Config, OnBadTable};
use crate::handover::protocol::TableOrigin;
use crate::limits::PREDECESSOR_WAIT_MS;
use crate::sys::exclusive::lock_taker;
use crate::sys::mapping::{BootId, Mapping, MappingError, boot_id};
use crate::sys::process;
use crate::table::file::OpenError;
use crate::table::{Capacity, Table};

/// How often the lock of a dead keeper's engine is asked for while the kernel takes it apart.
const LOCK_PAUSE: Duration = Duration::from_micros(200);
/// Refused tables that are kept beside each other.
const ASIDE_MAX: u32 = 1000;

/// The table that a keeper holds, locked.
#[derive(Debug)]
pub(super) struct KeptTable {
    pub table: Table,
    pub origin: TableOrigin,
    path: PathBuf,
    filling: bool,
}

impl KeptTable {
    /// Opens the table of an earlier run, or makes one. Locked either way: every process that had
    /// it before is dead.
    pub(super) fn open(config: &Config) -> Result<Self, KeeperError> {
        let boot = boot_id().map_err(|error| KeeperError::System { doing: "read the boot id", error })?;
        let path = &config.table.path;
        let mut none = String::from("there was none");
        for (name, filling) in [(path.clone(), false), (filling_name(path), true)] {
            if !name.try_exists().map_err(|error| KeeperError::Folder { path: name.clone(), error })? {
                continue;
            }
            if let Some(table) = take_up(&name, boot, config)? {
                say_capacity(&table, config);
                let why = "the engine that filled it did not finish".into();
                let origin = if filling { TableOrigin::Fresh { why } } else { TableOrigin::Kept };
                return Ok(Self { table, origin, path: path.clone(), filling });
            }
            none = format!("{} was moved aside", name.display());
        }
        Self::create(path, boot, config, none)
    }

    fn create(path: &Path, boot: BootId, config: &Config, why: String) -> Result<Self, KeeperError> {
        let capacity = Capacity { meetings: config.table.meetings, terminals: config.table.terminals };
        let name = filling_name(path);
        let refused = |error| KeeperError::Table { path: path.into(), error };
        let mapping = Mapping::create(&name, Table::bytes(capacity)).map_err(|error| refused(error.into()))?;
        // No other process can have a file without a name.
        mapping.try_lock().map_err(|error| KeeperError::System { doing: "lock the new table", error })?;
        let table = Table::create(mapping, capacity, boot).map_err(refused)?;
        table.mapping().publish(&name).map_err(|error| refused(error.into()))?;
        Ok(Self { table, origin: TableOrigin::Fresh { why }, path: path.into(), filling: true })
    }

    /// Whether its file could still be taken up as it is: it may have been cut or written over
    /// since.
    pub(super) fn look_again(&self) -> Result<(), OpenError> {
        let Some(file) = self.table.mapping().fd() else { return Ok(()) };
        let file = file.try_clone_to_owned().map_err(|error| {
            OpenError::from(MappingError::Io { path: self.path.clone(), step: "look at it again", error })
        })?;
        Table::open(Mapping::adopt(file)?).map(drop)
    }

    /// The table cannot be used any more: a new one takes its place, if the configuration says so.
    pub(super) fn replace(&mut self, config: &Config, error: OpenError) -> Result<(), KeeperError> {
        let name = if self.filling { filling_name(&self.path) } else { self.path.clone() };
        if config.recovery.on_bad_table != OnBadTable::Database {
            return Err(KeeperError::BadTable { path: name, error });
        }
        let boot = boot_id().map_err(|error| KeeperError::System { doing: "read the boot id", error })?;
        let mut why = String::from("the last one went bad while it was in use");
        let is_there = |file: &Path| self.table.mapping().is_at(file).unwrap_or(false);
        if is_there(&name) {
            let aside = move_aside(&name)?;
            why = format!("{why}; it is {} now", aside.display());
        }
        tracing::error!(
            "the table {} cannot be used any more: {error}; {why}, and the database serves",
            name.display()
        );
        *self = Self::create(&self.path, boot, config, why)?;
        Ok(())
    }

    /// From now on the table serves the next engine, and the next keeper.
    pub(super) fn complete(&mut self) {
        if self.filling {
            match fs::rename(filling_name(&self.path), &self.path) {
                Ok(()) => self.filling = false,
                Err(error) => tracing::warn!(
                    "the table cannot get its name {}: {error}; another keeper would go by the database",
                    self.path.display()
                ),
            }
        }
        self.origin = TableOrigin::Kept;
    }
}

fn filling_name(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".filling");
    name.into()
}

/// The table in this file, locked; none where it had to be moved aside.
fn take_up(name: &Path, boot: BootId, config: &Config) -> Result<Option<Table>, KeeperError> {
    let opened = Mapping::open(name).map_err(Into::into).and_then(|mapping| lock(&mapping, name).map(|()| mapping));
    let table = match opened {
        Ok(mapping) => Table::open(mapping).map_err(|error| KeeperError::Table { path: name.into(), error }),
        Err(Refusal::Mapping(error)) => Err(KeeperError::Table { path: name.into(), error: error.into() }),
        Err(Refusal::Keeper(error)) => return Err(error),
    };
    match table {
        Ok(table) if table.boot_id() == boot => Ok(Some(table)),
        Ok(_) => {
            let aside = move_aside(name)?;
            tracing::warn!(
                "{} is of before the machine was started; it is {} now, and the database serves",
                name.display(),
                aside.display()
            );
            Ok(None)
        }
        Err(refused) if config.recovery.on_bad_table == OnBadTable::Database => {
            let aside = move_aside(name)?;
            tracing::warn!("{refused}; it is {} now, and the database serves", aside.display());
            Ok(None)
        }
        Err(KeeperError::Table { path, error }) => Err(KeeperError::BadTable { path, error }),
        Err(error) => Err(error),
    }
}

/// Why a file was not taken up.
enum Refusal {
    Mapping(crate::sys::mapping::MappingError),
    Keeper(KeeperError),
}

impl From<crate::sys::mapping::MappingError> for Refusal {
    fn from(error: crate::sys::mapping::MappingError) -> Self {
        Self::Mapping(error)
    }
}

/// Waits for the lock. A dead keeper's engine dies with it, but not in the same instant; a living
/// one keeps it.
fn lock(mapping: &Mapping, name: &Path) -> Result<(), Refusal> {
    let system = |error| Refusal::Keeper(KeeperError::System { doing: "lock the table", error });
    let end = Instant::now() + Duration::from_millis(PREDECESSOR_WAIT_MS);
    while !mapping.try_lock().map_err(system)? {
        let taker = mapping.fd().map(lock_taker).transpose().map_err(system)?.flatten();
        let lives = taker.is_some_and(process::lives);
        if lives || Instant::now() >= end {
            return Err(Refusal::Keeper(KeeperError::TableHeld { path: name.into(), pid: taker }));
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    // A resize that had the lock until now has put another table in this one's place.
    if !mapping.is_at(name).map_err(system)? {
        return Err(system(io::Error::other("another table has its name by now; start again, and that one serves")));
    }
    Ok(())
}

/// Renames a table that cannot be used; gives its new name.
fn move_aside(name: &Path) -> Result<PathBuf, KeeperError> {
    let failed = |error| KeeperError::Folder { path: name.into(), error };
    for n in 0..ASIDE_MAX {
        let mut aside = OsString::from(name);
        aside.push(format!(".refused-{n}"));
        let aside = PathBuf::from(aside);
        if !aside.try_exists().map_err(failed)? {
            fs::rename(name, &aside).map_err(failed)?;
            return Ok(aside);
        }
    }
    Err(failed(io::Error::other(format!("{ASIDE_MAX} refused tables lie beside it: look at them and take them away"))))
}

fn say_capacity(table: &Table, config: &Config) {
    let Capacity { meetings, terminals } = table.capacity();
    if (meetings, terminals) != (config.table.meetings, config.table.terminals) {
        tracing::warn!(
            "the table has room for {meetings} meetings and {terminals} terminals; that it should have room for {} and {} \
             will hold for a new one",
            config.table.meetings,
            config.table.terminals
        );
    }
}
