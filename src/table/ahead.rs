//! Fetching ahead: the memory of a burst's terminals, asked for at once instead of one after the other.
//!
//! In a table that is larger than the caches a report waits twice for memory, for the index and then, because only that tells
//! where, for the record. A processor has a dozen such waits under way at a time, if it is told what comes. So whoever has a
//! burst of reports in hand names their terminals first: all index lines are asked for, then all records, and by the time that the
//! first report is entered most are there.
//!
//! It changes nothing and promises nothing: a terminal that is not in the table, or comes, goes or moves meanwhile, costs a fetch
//! that nobody needed. It neither allocates nor waits, and takes as long as there are terminals.

use super::Table;
use super::terminals::terminal_hash;
use crate::wire::Address;

impl Table {
    /// Has the records of these terminals fetched, which are read or reported on next. Best for a burst: much more than
    /// [`BURST`](crate::limits::BURST) terminals push each other out of the nearest cache again.
    ///
    /// ```
    /// # use baton::table::{Capacity, Table};
    /// # use baton::wire::Domain;
    /// # let table = Table::on_heap(Capacity { meetings: 16, terminals: 64 });
    /// # let domain = Domain::new(366).unwrap();
    /// let burst = [domain.device(1001), domain.device(1002)];
    /// table.prefetch(burst.iter().copied());
    /// // … and then `Writer::report` for each.
    /// ```
    #[inline]
    pub fn prefetch(&self, terminals: impl Iterator<Item = Address> + Clone) {
        let words = self.words();
        let index = words.terminal_index();
        for terminal in terminals.clone() {
            index.prefetch(terminal_hash(terminal));
        }
        for terminal in terminals {
            // The first entry with the hash's tag: another terminal's would be one in thousands of millions.
            index.find(terminal_hash(terminal), |slot| {
                words.prefetch_terminal(slot);
                Some(())
            });
        }
    }
}
