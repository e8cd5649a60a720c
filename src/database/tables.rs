//! The tables of the file: named and typed once, for those who write and those who read.

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::wire::{Domain, Epoch};

pub(super) type MeetingRow = (u8, u8, u64, u64, &'static str);
pub(super) type Pair = (u64, u64);

macro_rules! tables {
    ($($(#[$doc:meta])* $table:ident $definition:ident: $key:ty => $value:ty = $name:literal;)*) => {
        $($(#[$doc])* pub(super) const $definition: TableDefinition<$key, $value> = TableDefinition::new($name);)*

        /// Every table, open for one write transaction.
        pub(super) struct Writer<'t> {
            $(pub $table: Table<'t, $key, $value>,)*
        }

        impl<'t> Writer<'t> {
            /// Creates the tables that are not there.
            pub fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
                Ok(Self { $($table: transaction.open_table($definition)?,)* })
            }
        }

        /// Every table, as the last commit left them.
        #[expect(dead_code, reason = "nothing reads which conferences ended first")]
        pub(super) struct Reader {
            $(pub $table: ReadOnlyTable<$key, $value>,)*
        }

        impl Reader {
            pub fn open(transaction: &ReadTransaction) -> Result<Self, redb::Error> {
                Ok(Self { $($table: transaction.open_table($definition)?,)* })
            }
        }
    };
}

tables! {
    meetings MEETINGS: u64 => MeetingRow = "meetings";
    parts PARTS: Pair => (u64, u8) = "parts";
    by_domain BY_DOMAIN: Pair => () = "parts by domain";
    members MEMBERS: Pair => (u8, u8, u8) = "members";
    terminals TERMINALS: u64 => &'static [u8] = "terminals";
    ended ENDED: u64 => (u64, u64) = "ended";
    /// Of conferences that have not ended, and of those that are remembered as ended.
    runs RUNS: u64 => u64 = "runs";
    fences FENCES: u64 => u64 = "fences";
    by_time BY_TIME: Pair => () = "ended by time";
    wanted WANTED: (u64, u8, u64) => u8 = "wanted";
    facts FACTS: &'static str => u64 = "facts";
}

/// What is wanted: the layout; the role of a member; a member; somebody who is to be none.
pub(super) const WANTED_LAYOUT: u8 = 1;
pub(super) const WANTED_ROLE: u8 = 2;
pub(super) const WANTED_IN: u8 = 3;
pub(super) const WANTED_OUT: u8 = 4;

pub(super) fn corrupted(what: &str, row: impl std::fmt::Debug) -> redb::Error {
    redb::Error::Corrupted(format!("{what} {row:?} holds a value that no version writes"))
}

/// The fences, as a transaction of either kind has them.
pub(super) fn read_fences(table: &impl ReadableTable<u64, u64>) -> Result<Vec<(Domain, Epoch)>, redb::Error> {
    let mut fences = Vec::new();
    for entry in table.iter()? {
        let (domain, by) = entry?;
        let domain = Domain::new(domain.value()).ok_or_else(|| corrupted("fence of", domain.value()))?;
        fences.push((domain, Epoch(by.value())));
    }
    Ok(fences)
}
