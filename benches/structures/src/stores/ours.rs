//! Baton's table.

use std::path::Path;
use std::sync::{Arc, Mutex};

use baton::limits::BURST;
use baton::sys::mapping::boot_id;
use baton::table::{Capacity, OwnerId, Reported, SlotHint, Table, Writer};
use baton::wire::{self, Address, MeetingId};

use super::Store;
use crate::Failure;
use crate::records::{self, Report};

pub struct Ours {
    table: Arc<Table>,
    writers: [Mutex<Writer>; 2],
    /// Whether the records of a burst are fetched before they are used, as a worker does.
    ahead: bool,
}

impl Ours {
    /// In mapped memory: in a file in this folder.
    pub fn mapped(records: u32, folder: &Path, ahead: bool) -> Result<Self, Failure> {
        let path = folder.join("table");
        Table::create_at(&path, capacity(records), boot_id()?)?;
        Self::filled(records, Table::open_at(&path)?, ahead)
    }

    pub fn on_heap(records: u32) -> Result<Self, Failure> {
        Self::filled(records, Table::on_heap(capacity(records)), true)
    }

    fn filled(records: u32, table: Table, ahead: bool) -> Result<Self, Failure> {
        let table = Arc::new(table);
        let mut control = table.writer(OwnerId::CONTROL);
        for n in 0..records {
            let part = records::part(n);
            if n % records::MEMBERS == 0 {
                control.insert_part(&part)?;
            }
            control.join(part.meeting, part.domain, &records::terminal(n))?;
        }
        drop(control);
        let writers = [0, 1].map(|worker| Mutex::new(table.writer(OwnerId::worker(worker))));
        Ok(Self { table, writers, ahead })
    }
}

fn capacity(records: u32) -> Capacity {
    Capacity { meetings: records / records::MEMBERS + 64, terminals: records + 64 }
}

impl Store for Ours {
    fn update(&self, thread: usize, terminals: &[Address], version: u32) -> u64 {
        let mut writer = self.writers[thread].lock().expect("no thread panics with it");
        let mut applied = 0;
        for burst in terminals.chunks(BURST) {
            let mut near = [SlotHint::default(); BURST];
            if self.ahead {
                burst.iter().for_each(|&terminal| self.table.prefetch_index(terminal));
                near.iter_mut().zip(burst).for_each(|(near, &terminal)| *near = self.table.prefetch_record(terminal));
            }
            for (&terminal, near) in burst.iter().zip(near) {
                let report = Report::new(terminal, version);
                let Report { business, decode, role, flags, channel, stream, info, .. } = report;
                let meeting = MeetingId::NONE;
                let report =
                    wire::Report { meeting, terminal, version, business, decode, role, flags, channel, stream, info };
                applied += u64::from(writer.report_at(near, &report) == Reported::Applied);
            }
        }
        applied
    }

    fn look_up(&self, terminals: &[Address]) -> u64 {
        let mut sum = 0;
        for burst in terminals.chunks(BURST) {
            if self.ahead {
                self.table.prefetch(burst.iter().copied());
            }
            for &terminal in burst {
                sum += self
                    .table
                    .terminal(terminal)
                    .map_or(0, |terminal| u64::from(std::hint::black_box(terminal).version));
            }
        }
        sum
    }
}
