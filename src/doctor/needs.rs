//! What Baton will ask of a machine.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::config::Config;
use crate::limits::{CHUNK_BYTES, CHUNK_ZERO_COPY_BYTES};

/// What a configuration needs from the machine.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// The table's file, and its size.
    pub table: Option<(PathBuf, u64)>,
    /// The database's file.
    pub database: Option<PathBuf>,
    /// Bytes of the memory that frames lie in.
    pub umem: u64,
    /// Queues to serve; none for all.
    pub queues: Option<u32>,
    /// Whether zero copy is required.
    pub zero_copy: bool,
    /// Whether huge pages are asked for.
    pub huge_pages: bool,
    /// CPUs that are pinned to.
    pub cores: BTreeSet<u16>,
    /// Whether Baton chooses those CPUs.
    pub chosen: bool,
}

impl Needs {
    /// What a configuration needs, on interfaces with so many queues each.
    pub fn of(config: &Config, queues: &[u32]) -> Self {
        use crate::config::{Auto, Cores};
        let capacity = crate::table::Capacity { meetings: config.table.meetings, terminals: config.table.terminals };
        let queues = queues.iter().map(|&queues| config.interface.queues.unwrap_or(queues)).sum();
        let chunk_bytes = if config.interface.zero_copy { CHUNK_ZERO_COPY_BYTES } else { CHUNK_BYTES };
        let rings = config.rings_per_queue(queues).unwrap_or(1);
        let chunks = u64::from(queues)
            * (u64::from(config.interface.receive_ring) + u64::from(rings) * u64::from(config.interface.transmit_ring));
        Self {
            table: Some((config.table.path.clone(), crate::table::Table::bytes(capacity))),
            database: Some(config.database.path.clone()),
            umem: chunks * chunk_bytes as u64,
            queues: config.interface.queues,
            zero_copy: config.interface.zero_copy,
            huge_pages: config.interface.huge_pages,
            cores: config.worker.pinned().collect(),
            chosen: matches!(config.worker.cores, Cores::Chosen(Auto::Auto)),
        }
    }
}
