//! LMDB: what comes closest in kind, a map in shared memory that outlives its process.

use std::path::Path;

use baton::wire::Address;
use heed::byteorder::NativeEndian;
use heed::types::{Bytes, U64};
use heed::{Database, Env, EnvFlags, EnvOpenOptions, IntegerComparator};

use super::Store;
use crate::Failure;
use crate::records::{self, Report};

/// Updates in a transaction: many more change no figure, and would be lost together.
const BATCH: usize = 10_000;
/// Bytes of a record: the version, six values of a byte, and information.
const RECORD: usize = 24;

pub struct Lmdb {
    env: Env,
    database: Database<U64<NativeEndian>, Bytes, IntegerComparator>,
}

impl Lmdb {
    pub fn new(records: u32, folder: &Path) -> Result<Self, Failure> {
        let mut options = EnvOpenOptions::new();
        options.map_size(64 << 20 | (records as usize * 512).next_multiple_of(1 << 20));
        // SAFETY: with these flags a machine that fails can lose the file, which is this run's
        // alone; nobody else opens or changes it, and it lies in a folder made for it.
        let env = unsafe {
            options.flags(EnvFlags::NO_SYNC | EnvFlags::WRITE_MAP | EnvFlags::NO_META_SYNC);
            options.open(folder)?
        };
        let mut write = env.write_txn()?;
        let options = env.database_options().types::<U64<NativeEndian>, Bytes>().key_comparator::<IntegerComparator>();
        let database = { options }.create(&mut write)?;
        for n in 0..records {
            database.put(&mut write, &records::address(n).number(), &[0; RECORD])?;
        }
        write.commit()?;
        Ok(Self { env, database })
    }

    fn try_update(&self, terminals: &[Address], version: u32) -> heed::Result<u64> {
        let mut applied = 0;
        for batch in terminals.chunks(BATCH) {
            let mut write = self.env.write_txn()?;
            for &terminal in batch {
                let report = Report::new(terminal, version);
                let key = terminal.number();
                let old = self.database.get(&write, &key)?.map_or(0, version_of);
                if (version.wrapping_sub(old) as i32) > 0 {
                    self.database.put(&mut write, &key, &encode(&report))?;
                    applied += 1;
                }
            }
            write.commit()?;
        }
        Ok(applied)
    }

    fn try_look_up(&self, terminals: &[Address]) -> heed::Result<u64> {
        let read = self.env.read_txn()?;
        let mut sum = 0;
        for terminal in terminals {
            let mut record = [0; RECORD];
            if let Some(bytes) = self.database.get(&read, &terminal.number())? {
                record.copy_from_slice(bytes);
            }
            sum += u64::from(version_of(&std::hint::black_box(record)));
        }
        Ok(sum)
    }
}

fn version_of(record: &[u8]) -> u32 {
    record.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn encode(report: &Report) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    record[..4].copy_from_slice(&report.version.to_le_bytes());
    record[4] = report.business.wire();
    record[5] = report.decode.wire();
    record[6] = report.role.wire();
    record[7] = report.flags.0;
    record[8] = report.channel;
    record[9] = report.stream.wire();
    record[16..][..report.info.len()].copy_from_slice(&report.info);
    record
}

impl Store for Lmdb {
    fn update(&self, _: usize, terminals: &[Address], version: u32) -> u64 {
        self.try_update(terminals, version).expect("the map has room for twice the records")
    }

    fn look_up(&self, terminals: &[Address]) -> u64 {
        self.try_look_up(terminals).expect("the file is this process's own")
    }
}
