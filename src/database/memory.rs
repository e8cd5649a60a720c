//! A database in memory, for simulations: the same rows and rules, and nothing on a disk.

use std::path::Path;

use redb::backends::InMemoryBackend;

use super::{Database, DatabaseError, open_with};

impl Database {
    /// A new database that is gone with its last clone. What it has was never flushed anywhere:
    /// whether a death loses a commit is for its caller to say.
    ///
    /// # Errors
    /// Those of redb.
    pub fn in_memory() -> Result<Self, DatabaseError> {
        let path = Path::new("memory");
        let create = |builder: &redb::Builder| builder.create_with_backend(InMemoryBackend::new());
        let redb = open_with(path, create, || Ok(()))?;
        Ok(Self { redb: std::sync::Arc::new(parking_lot::RwLock::new(Some(redb))), path: path.into() })
    }
}
