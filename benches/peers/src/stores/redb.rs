//! redb: two tables, meetings and members by the meeting's id. Immediate durability, as it comes;
//! its repair after a kill is part of opening it.

use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::{BATCH, Failure, Reading, Store};
use crate::records::{Meeting, Member};

const MEETINGS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("meetings");
const MEMBERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("members");

pub struct Redb {
    database: Database,
}

impl Redb {
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        Ok(Self { database: Database::create(folder.join("meetings.redb"))? })
    }
}

impl Store for Redb {
    fn fill(&mut self, meetings: u64) -> Result<(), Failure> {
        for begin in (0..meetings).step_by(BATCH as usize) {
            let transaction = self.database.begin_write()?;
            {
                let mut parameters = transaction.open_table(MEETINGS)?;
                let mut members = transaction.open_table(MEMBERS)?;
                for n in begin..meetings.min(begin + BATCH) {
                    let meeting = Meeting::number(n);
                    parameters.insert(meeting.id, meeting.encode().as_slice())?;
                    members.insert(meeting.id, Member::encode_all(n).as_slice())?;
                }
            }
            transaction.commit()?;
        }
        Ok(())
    }

    fn read(&mut self, _: u64, reading: &mut Reading) -> Result<(), Failure> {
        let transaction = self.database.begin_read()?;
        let meetings = transaction.open_table(MEETINGS)?;
        let (id, bytes) = meetings.first()?.ok_or("no meeting in redb")?;
        reading.first(Meeting::decode(id.value(), bytes.value()).ok_or("a meeting's record")?.key());
        for entry in meetings.iter()? {
            let (id, bytes) = entry?;
            reading.meeting(Meeting::decode(id.value(), bytes.value()).ok_or("a meeting's record")?.key());
        }
        reading.meetings_done();
        for entry in transaction.open_table(MEMBERS)?.iter()? {
            let (id, bytes) = entry?;
            Member::decode_all(id.value(), bytes.value()).for_each(|member| reading.member(&member));
        }
        reading.members_done();
        Ok(())
    }

    fn touch(&mut self) -> Result<(), Failure> {
        let meeting = Meeting::number(0);
        let transaction = self.database.begin_write()?;
        transaction.open_table(MEETINGS)?.insert(meeting.id, meeting.encode().as_slice())?;
        Ok(transaction.commit()?)
    }
}
