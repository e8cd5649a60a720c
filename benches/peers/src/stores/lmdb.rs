//! LMDB: two databases in one environment, meetings and members by the meeting's id. Synchronous,
//! as it comes.

use std::path::Path;

use heed::types::{Bytes, U64};
use heed::{Database, Env, EnvOpenOptions, byteorder::BigEndian};

use super::{BATCH, Failure, Reading, Store};
use crate::records::{Meeting, Member};

/// Address space, not memory.
const MAP_BYTES: usize = 8 << 30;

type Records = Database<U64<BigEndian>, Bytes>;

pub struct Lmdb {
    env: Env,
    meetings: Records,
    members: Records,
}

impl Lmdb {
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP_BYTES).max_dbs(2);
        // SAFETY: the folder was made by this run for itself, with mode 0700, and the process that
        // had the environment before is dead: nobody changes the file behind LMDB's back.
        let env = unsafe { options.open(folder)? };
        // A successor finds its databases without a write.
        let reader = env.read_txn()?;
        let found = (env.open_database(&reader, Some("meetings"))?, env.open_database(&reader, Some("members"))?);
        // Committed, for an abort would close what it opened.
        reader.commit()?;
        let (meetings, members) = match found {
            (Some(meetings), Some(members)) => (meetings, members),
            _ => {
                let mut transaction = env.write_txn()?;
                let made = (
                    env.create_database(&mut transaction, Some("meetings"))?,
                    env.create_database(&mut transaction, Some("members"))?,
                );
                transaction.commit()?;
                made
            }
        };
        Ok(Self { env, meetings, members })
    }
}

impl Store for Lmdb {
    fn fill(&mut self, meetings: u64) -> Result<(), Failure> {
        for begin in (0..meetings).step_by(BATCH as usize) {
            let mut transaction = self.env.write_txn()?;
            for n in begin..meetings.min(begin + BATCH) {
                let meeting = Meeting::number(n);
                self.meetings.put(&mut transaction, &meeting.id, &meeting.encode())?;
                self.members.put(&mut transaction, &meeting.id, &Member::encode_all(n))?;
            }
            transaction.commit()?;
        }
        Ok(())
    }

    fn read(&mut self, _: u64, reading: &mut Reading) -> Result<(), Failure> {
        let transaction = self.env.read_txn()?;
        let (id, bytes) = self.meetings.first(&transaction)?.ok_or("no meeting in LMDB")?;
        reading.first(Meeting::decode(id, bytes).ok_or("a meeting's record")?.key());
        for entry in self.meetings.iter(&transaction)? {
            let (id, bytes) = entry?;
            reading.meeting(Meeting::decode(id, bytes).ok_or("a meeting's record")?.key());
        }
        reading.meetings_done();
        for entry in self.members.iter(&transaction)? {
            let (id, bytes) = entry?;
            Member::decode_all(id, bytes).for_each(|member| reading.member(&member));
        }
        reading.members_done();
        Ok(())
    }

    fn touch(&mut self) -> Result<(), Failure> {
        let meeting = Meeting::number(0);
        let mut transaction = self.env.write_txn()?;
        self.meetings.put(&mut transaction, &meeting.id, &meeting.encode())?;
        Ok(transaction.commit()?)
    }
}
