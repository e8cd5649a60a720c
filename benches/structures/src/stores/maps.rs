//! Concurrent maps in memory, each with the fast hasher that all of them take.

use baton::table::Terminal;
use baton::wire::Address;
use foldhash::fast::FixedState;
use parking_lot::Mutex;

use super::Store;
use crate::records::{self, Report};

/// The version of a copy of a record, all of which was copied.
fn version(terminal: Terminal) -> u64 {
    u64::from(std::hint::black_box(terminal).version)
}

pub struct Dash(dashmap::DashMap<u64, Terminal, FixedState>);

impl Dash {
    pub fn new(records: u32) -> Self {
        let map = dashmap::DashMap::with_capacity_and_hasher(records as usize, FixedState::default());
        for n in 0..records {
            map.insert(records::address(n).number(), records::terminal(n));
        }
        Self(map)
    }
}

impl Store for Dash {
    fn update(&self, _: usize, terminals: &[Address], version: u32) -> u64 {
        let mut applied = 0;
        for &terminal in terminals {
            let report = Report::new(terminal, version);
            if let Some(mut record) = self.0.get_mut(&terminal.number()) {
                applied += u64::from(report.apply(&mut record));
            }
        }
        applied
    }

    fn look_up(&self, terminals: &[Address]) -> u64 {
        terminals.iter().map(|terminal| self.0.get(&terminal.number()).map_or(0, |record| version(*record))).sum()
    }
}

pub struct PapayaLocks(papaya::HashMap<u64, Mutex<Terminal>, FixedState>);

impl PapayaLocks {
    pub fn new(records: u32) -> Self {
        let map = papaya::HashMap::with_capacity_and_hasher(records as usize, FixedState::default());
        let pinned = map.pin();
        for n in 0..records {
            pinned.insert(records::address(n).number(), Mutex::new(records::terminal(n)));
        }
        drop(pinned);
        Self(map)
    }
}

impl Store for PapayaLocks {
    fn update(&self, _: usize, terminals: &[Address], version: u32) -> u64 {
        let pinned = self.0.pin();
        let mut applied = 0;
        for &terminal in terminals {
            let report = Report::new(terminal, version);
            if let Some(record) = pinned.get(&terminal.number()) {
                applied += u64::from(report.apply(&mut record.lock()));
            }
        }
        applied
    }

    fn look_up(&self, terminals: &[Address]) -> u64 {
        let pinned = self.0.pin();
        terminals
            .iter()
            .map(|terminal| pinned.get(&terminal.number()).map_or(0, |record| version(*record.lock())))
            .sum()
    }
}

pub struct Papaya(papaya::HashMap<u64, Terminal, FixedState>);

impl Papaya {
    pub fn new(records: u32) -> Self {
        let map = papaya::HashMap::with_capacity_and_hasher(records as usize, FixedState::default());
        let pinned = map.pin();
        for n in 0..records {
            pinned.insert(records::address(n).number(), records::terminal(n));
        }
        drop(pinned);
        Self(map)
    }
}

impl Store for Papaya {
    fn update(&self, _: usize, terminals: &[Address], version: u32) -> u64 {
        let mut applied = 0;
        // Pinned anew now and then, so that what was replaced can be freed.
        for some in terminals.chunks(1024) {
            let pinned = self.0.pin();
            for &terminal in some {
                let report = Report::new(terminal, version);
                let changed = pinned.update(terminal.number(), |record| {
                    let mut record = *record;
                    report.apply(&mut record);
                    record
                });
                applied += u64::from(changed.is_some_and(|record| record.version == version));
            }
        }
        applied
    }

    fn look_up(&self, terminals: &[Address]) -> u64 {
        let pinned = self.0.pin();
        terminals.iter().map(|terminal| pinned.get(&terminal.number()).map_or(0, |record| version(*record))).sum()
    }
}

pub struct Scc(scc::HashMap<u64, Terminal, FixedState>);

impl Scc {
    pub fn new(records: u32) -> Self {
        let map = scc::HashMap::with_capacity_and_hasher(records as usize, FixedState::default());
        for n in 0..records {
            let _ = map.insert_sync(records::address(n).number(), records::terminal(n));
        }
        Self(map)
    }
}

impl Store for Scc {
    fn update(&self, _: usize, terminals: &[Address], version: u32) -> u64 {
        let mut applied = 0;
        for &terminal in terminals {
            let report = Report::new(terminal, version);
            let changed = self.0.update_sync(&terminal.number(), |_, record| report.apply(record));
            applied += u64::from(changed == Some(true));
        }
        applied
    }

    fn look_up(&self, terminals: &[Address]) -> u64 {
        terminals
            .iter()
            .map(|terminal| self.0.read_sync(&terminal.number(), |_, record| version(*record)).unwrap_or(0))
            .sum()
    }
}
