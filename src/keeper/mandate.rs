//! Who controls, as a stopped server knows it, and how an operator gives it control.
//!
//! A server that was replaced has written down which domains another server controls, and under
//! which epochs: in the table, which survives its processes, and in the database, which survives
//! the machine. It does not control those again however often it is started. Control is given by a
//! term above every known epoch: durable in the database before it is in the table, so that a death
//! in between costs at worst a term that is never used.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::Config;
use crate::database::{CommitError, Database, DatabaseError};
use crate::limits::GENERATION_BLOCK;
use crate::sys::mapping::{Mapping, MappingError};
use crate::table::Table;
use crate::table::file::OpenError;
use crate::wire::{Domain, Epoch};

/// Why control cannot be looked at, or given.
#[derive(Debug, thiserror::Error)]
pub enum MandateError {
    /// A server is running, or the file cannot be read.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// There is no database: nothing durable could be given.
    #[error(
        "there is no database {path}: start the server once (`baton run`), so that it makes one and learns who controls, \
         then ask again"
    )]
    NoDatabase {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The term could not be written.
    #[error(transparent)]
    Write(#[from] CommitError),
    /// A server that runs has the table.
    #[error("a server that runs has the table {path}: stop it first, or ask it by its --socket")]
    TableHeld {
        /// The table.
        path: PathBuf,
    },
    /// The table cannot be read by this user.
    #[error("the table {0}; ask as root")]
    TableBarred(MappingError),
    /// The table cannot be used.
    #[error(
        "cannot use the table {}; move it away, or start the server with `--path database`, which does that", error.at(path)
    )]
    Table {
        /// The table.
        path: PathBuf,
        /// What is wrong with it.
        error: OpenError,
    },
}

/// A stopped server's database and table.
pub struct Mandate {
    database: Database,
    table: Option<Table>,
    domains: Vec<Domain>,
}

/// Which server controls which domain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The last epoch of this server; [`Epoch::NONE`] where it had none.
    pub own: Epoch,
    /// The configured domains, ascending, each with the epoch under which another server controls
    /// it, if one does.
    pub domains: Vec<(Domain, Option<Epoch>)>,
    /// The highest epoch that is known of and can be passed, its own included.
    pub highest: Epoch,
}

impl Mandate {
    /// Opens what the configuration names, and locks it: no server can start meanwhile.
    pub fn open(config: &Config) -> Result<Self, MandateError> {
        let path = &config.database.path;
        // One that this user may not look at may be there: opening it says why not.
        if matches!(path.try_exists(), Ok(false)) {
            return Err(MandateError::NoDatabase { path: path.clone() });
        }
        let table = open_table(config)?;
        let mut domains: Vec<_> = config.domains.iter().map(|domain| domain.number).collect();
        domains.sort_unstable();
        Ok(Self { database: Database::open(path)?, table, domains })
    }

    /// Which server controls which domain.
    pub fn standing(&self) -> Result<Standing, MandateError> {
        let term = self.database.term()?.unwrap_or(0);
        let written = self.database.epoch()?;
        let own = self.table.as_ref().map_or(Epoch::NONE, Table::epoch).max(written);
        let mut fences: BTreeMap<Domain, Epoch> = BTreeMap::new();
        let of_table = self.table.iter().flat_map(Table::fences);
        for (domain, by) in of_table.chain(self.database.fences()?) {
            let known = fences.entry(domain).or_insert(by);
            *known = by.max(*known);
        }
        let highest = own.max(Epoch::new(term, 0));
        let passable = fences.values().copied().filter(|by| by.is_passable(highest.term()));
        let highest = passable.fold(highest, Epoch::max);
        // A fence below our own term was passed when an operator gave that term. Where there is a
        // table the next start goes by its term: a higher one that the database alone has was given
        // by a process that died in between.
        let of_table = self.table.as_ref().map(|table| table.epoch().term()).filter(|term| *term != 0);
        let counts_from = of_table.unwrap_or_else(|| term.max(own.term()));
        fences.retain(|_, by| by.term() >= counts_from);
        let domains = self.domains.iter().map(|&domain| (domain, fences.get(&domain).copied())).collect();
        Ok(Standing { own, domains, highest })
    }

    /// Gives this server control, from its next start on. Returns the epoch that it will have,
    /// which is above every known one.
    pub fn take(self) -> Result<Epoch, MandateError> {
        let seen = self.standing()?.highest;
        let block = self.database.take_control(seen, GENERATION_BLOCK)?;
        if let Some(table) = &self.table {
            // We have the lock: every writer is dead.
            table.recover();
            table.set_reservation(block.epoch(), block.end);
        }
        Ok(block.epoch())
    }
}

/// The table, locked; none where there is none.
fn open_table(config: &Config) -> Result<Option<Table>, MandateError> {
    let path = &config.table.path;
    let unusable = |error: OpenError| MandateError::Table { path: path.clone(), error };
    if matches!(path.try_exists(), Ok(false)) {
        return Ok(None);
    }
    let mapping = Mapping::open(path).map_err(|error| match error {
        error @ MappingError::Io { .. } => MandateError::TableBarred(error),
        error => unusable(error.into()),
    })?;
    match mapping.try_lock() {
        Ok(true) => {}
        Ok(false) => return Err(MandateError::TableHeld { path: path.clone() }),
        Err(error) => {
            return Err(MandateError::TableBarred(MappingError::Io { path: path.clone(), step: "lock it", error }));
        }
    }
    Table::open(mapping).map(Some).map_err(unusable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;
    use crate::database::Change;
    use crate::sys::mapping::BootId;
    use crate::table::Capacity;

    fn domain(number: u64) -> Domain {
        Domain::new(number).unwrap()
    }

    /// A server's files in a folder, with a configuration of two domains.
    fn files(folder: &std::path::Path) -> Config {
        let text = format!(
            "[interface]\nname = \"none\"\n[table]\npath = \"{0}/table\"\n[database]\npath = \"{0}/baton.redb\"\n\
             [[domain]]\nnumber = 366\ninsecure_no_authentication = true\n[[domain]]\nnumber = 367\ninsecure_no_authentication = true\n",
            folder.display()
        );
        Config::parse(&folder.join("baton.toml"), &text, &Overrides::default()).unwrap()
    }

    #[test]
    fn control_is_given_above_every_fence_whichever_file_is_lost() {
        for (keeps_table, keeps_fences) in [(true, true), (false, true), (true, false)] {
            let folder = tempfile::tempdir().unwrap();
            let config = files(folder.path());
            assert!(matches!(Mandate::open(&config), Err(MandateError::NoDatabase { .. })));
            let by = Epoch::new(4, 9).with_nonce(1);
            {
                let database = Database::open(&config.database.path).unwrap();
                let block = database.reserve_generations(8).unwrap();
                if keeps_fences {
                    database.commit(&[Change::Fence(domain(366), by)], block.epoch()).unwrap();
                }
                if keeps_table {
                    let capacity = Capacity { meetings: 4, terminals: 4 };
                    let table = Table::create_at(&config.table.path, capacity, BootId(1)).unwrap();
                    table.set_reservation(block.epoch(), block.end);
                    assert!(table.set_fence(domain(366), by));
                    assert_eq!(table.bump_generation().map(Epoch::generation), Some(2), "starts count on");
                    assert_eq!(table.fence(domain(366)), Some(by));
                }
            }
            let standing = Mandate::open(&config).unwrap().standing().unwrap();
            assert_eq!(standing.domains, [(domain(366), Some(by)), (domain(367), None)]);
            let taken = Mandate::open(&config).unwrap().take().unwrap();
            assert_eq!(taken.term(), 5);
            let after = Mandate::open(&config).unwrap();
            assert_eq!(after.standing().unwrap().domains, [(domain(366), None), (domain(367), None)]);
            if let Some(table) = &after.table {
                assert_eq!((table.epoch(), table.fence(domain(366))), (taken, None));
                assert_eq!(table.bump_generation().map(Epoch::term), Some(5));
            }
        }
    }

    #[test]
    fn a_term_that_came_no_further_than_the_database_is_not_control() {
        let folder = tempfile::tempdir().unwrap();
        let config = files(folder.path());
        let by = Epoch::new(1, 9).with_nonce(1);
        {
            let database = Database::open(&config.database.path).unwrap();
            let block = database.reserve_generations(8).unwrap();
            let table =
                Table::create_at(&config.table.path, Capacity { meetings: 4, terminals: 4 }, BootId(1)).unwrap();
            table.set_reservation(block.epoch(), block.end);
            assert!(table.set_fence(domain(366), by));
            // The process died before the table had it: the next start goes on under the table's
            // term, in which the fence counts.
            database.take_control(by, 8).unwrap();
            assert_eq!((table.bump_generation().map(Epoch::term), table.fence(domain(366))), (Some(1), Some(by)));
        }
        let standing = Mandate::open(&config).unwrap().standing().unwrap();
        assert_eq!(standing.domains, [(domain(366), Some(by)), (domain(367), None)]);
        assert_eq!(Mandate::open(&config).unwrap().take().unwrap().term(), 3);
    }

    #[test]
    fn a_server_that_runs_is_not_bypassed() {
        let folder = tempfile::tempdir().unwrap();
        let config = files(folder.path());
        let database = Database::open(&config.database.path).unwrap();
        assert!(matches!(Mandate::open(&config), Err(MandateError::Database(DatabaseError::Held { .. }))));
        drop(database);
        let table = Table::create_at(&config.table.path, Capacity { meetings: 4, terminals: 4 }, BootId(1)).unwrap();
        assert!(table.mapping().try_lock().unwrap());
        assert!(matches!(Mandate::open(&config), Err(MandateError::TableHeld { .. })));
    }
}
