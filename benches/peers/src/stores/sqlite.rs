//! SQLite: a row for each meeting and each member, write-ahead log, `synchronous` at `FULL`.

use std::path::Path;

use rusqlite::{Connection, Row};

use super::{BATCH, Failure, Reading, Store};
use crate::records::{Key, Meeting, Member};

const SCHEMA: &str = "
    CREATE TABLE meetings (
        id INTEGER PRIMARY KEY, domain INTEGER NOT NULL, chairman INTEGER NOT NULL, version INTEGER NOT NULL,
        state INTEGER NOT NULL, level INTEGER NOT NULL, layout INTEGER NOT NULL
    );
    CREATE TABLE members (
        meeting INTEGER NOT NULL, terminal INTEGER NOT NULL, role INTEGER NOT NULL, flags INTEGER NOT NULL,
        window INTEGER NOT NULL, PRIMARY KEY (meeting, terminal)
    ) WITHOUT ROWID;
";
const PUT: &str = "INSERT OR REPLACE INTO meetings VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

pub struct Sqlite {
    connection: Connection,
}

impl Sqlite {
    pub fn open(folder: &Path, create: bool) -> Result<Self, Failure> {
        let connection = Connection::open(folder.join("meetings.sqlite"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        if create {
            connection.execute_batch(SCHEMA)?;
        }
        Ok(Self { connection })
    }
}

impl Store for Sqlite {
    fn fill(&mut self, meetings: u64) -> Result<(), Failure> {
        for begin in (0..meetings).step_by(BATCH as usize) {
            let transaction = self.connection.transaction()?;
            {
                let mut put = transaction.prepare_cached(PUT)?;
                let mut put_member = transaction.prepare_cached("INSERT INTO members VALUES (?1, ?2, ?3, ?4, ?5)")?;
                for n in begin..meetings.min(begin + BATCH) {
                    put.execute(columns(&Meeting::number(n)))?;
                    for Member { meeting, terminal, role, flags, window } in Member::of(n) {
                        put_member
                            .execute([meeting, terminal, role.into(), flags.into(), window.into()].map(signed))?;
                    }
                }
            }
            transaction.commit()?;
        }
        Ok(())
    }

    fn read(&mut self, _: u64, reading: &mut Reading) -> Result<(), Failure> {
        const ALL: &str = "SELECT id, version, level FROM meetings";
        let mut statement = self.connection.prepare(ALL)?;
        let mut rows = statement.query([])?;
        let mut row = rows.next()?;
        reading.first(key(row.ok_or("no meeting in SQLite")?)?);
        while let Some(found) = row {
            reading.meeting(key(found)?);
            row = rows.next()?;
        }
        reading.meetings_done();
        let mut statement = self.connection.prepare("SELECT meeting, terminal, role, flags, window FROM members")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            reading.member(&Member {
                meeting: unsigned(row, 0)?,
                terminal: unsigned(row, 1)?,
                role: row.get(2)?,
                flags: row.get(3)?,
                window: row.get(4)?,
            });
        }
        reading.members_done();
        Ok(())
    }

    fn touch(&mut self) -> Result<(), Failure> {
        self.connection.execute(PUT, columns(&Meeting::number(0)))?;
        Ok(())
    }
}

fn columns(meeting: &Meeting) -> [i64; 7] {
    let Meeting { id, domain, chairman, version, state, level, layout } = *meeting;
    [id, domain, chairman, version, state.into(), level.into(), layout.into()].map(signed)
}

fn key(row: &Row<'_>) -> rusqlite::Result<Key> {
    Ok(Key { id: unsigned(row, 0)?, version: unsigned(row, 1)?, level: row.get(2)? })
}

/// SQLite's integers are signed; every number here is far below 2^63.
fn signed(number: u64) -> i64 {
    number as i64
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|number| number as u64)
}
