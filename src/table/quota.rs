//! Whether one domain may have a further terminal where room runs short.
//!
//! What autonomous servers list is believed, and one that lists more than it has would fill the table at the others' expense. So
//! the last part of the slots is for domains that have less than their share: all slots divided by the domains that have a part of a
//! meeting. Nobody who is alone is kept from anything, and before room runs short a domain may have as much as it likes: sites
//! are uneven. What an operator asks for, or the database has, is not held to it.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;

use super::structure::live;
use super::{Table, Writer};
use crate::limits::{QUOTA_LAST_PART, QUOTA_RECOUNT_EVERY};
use crate::wire::Domain;

/// What was counted, and what was entered since.
#[derive(Debug, Default)]
pub(super) struct Quota {
    /// How often it may be asked before it is counted anew.
    left: u32,
    /// Where room is short: how many terminals each domain has, and its share.
    short: Option<(HashMap<Domain, u32>, u32)>,
}

impl Writer {
    /// Whether a domain may have one terminal more by the list of its autonomous server; if so, it is taken for entered. Allocates
    /// where room is short, and reads the whole table then, once in [`QUOTA_RECOUNT_EVERY`] times (a smaller table: more often).
    pub fn may_list(&mut self, domain: Domain) -> bool {
        if self.quota.left == 0 {
            let left = between_counts(self.table().capacity().terminals);
            self.quota = Quota { left, short: count(self.table()) };
        }
        self.quota.left -= 1;
        let Some((held, share)) = &mut self.quota.short else { return true };
        let held = held.entry(domain).or_default();
        let may = *held < *share;
        *held += u32::from(may);
        may
    }
}

fn between_counts(terminals: u32) -> u32 {
    QUOTA_RECOUNT_EVERY.min(terminals / QUOTA_LAST_PART).max(1)
}

/// What each domain has and may have; none where there is room enough for all that is entered before the next count.
fn count(table: &Table) -> Option<(HashMap<Domain, u32>, u32)> {
    let terminals = table.capacity().terminals;
    let free = terminals.saturating_sub(table.count_terminals());
    if free >= (terminals / QUOTA_LAST_PART).saturating_add(between_counts(terminals)) {
        return None;
    }
    let words = table.words();
    let domain_of = |slot| words.place_domain(slot).map_or(0, |place| place.load(Ordering::Acquire));
    let domains: BTreeSet<u64> = live(words.part_bits(), 0).map(domain_of).filter(|&domain| domain != 0).collect();
    let mut held = HashMap::new();
    for domain in table.terminals().filter_map(|terminal| terminal.terminal.domain()) {
        *held.entry(domain).or_default() += 1;
    }
    Some((held, terminals / (domains.len() as u32).max(1)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tests::{domain, part};
    use super::super::{Capacity, OwnerId, Table, Terminal, Writer};
    use crate::wire::{MeetingId, Role};

    fn table(domains: u64, terminals: u32) -> (Arc<Table>, Writer) {
        let table = Arc::new(Table::on_heap(Capacity { meetings: 64, terminals }));
        let mut writer = table.writer(OwnerId::CONTROL);
        (1..=domains).for_each(|number| writer.insert_part(&part(number, number)).unwrap());
        (table, writer)
    }

    /// Lists one terminal after the other of a domain; gives how many were entered.
    fn list(writer: &mut Writer, number: u64, most: u16) -> usize {
        let entered = (0..most).take_while(|device| {
            let terminal = Terminal::new(domain(number).device(1 + device), MeetingId(number), Role::Participant);
            writer.may_list(domain(number)) && writer.join(MeetingId(number), domain(number), &terminal).is_ok()
        });
        entered.count()
    }

    #[test]
    fn one_domains_lists_leave_room_for_the_others() {
        let (table, mut writer) = table(10, 4000);
        let endless = list(&mut writer, 1, 4000);
        assert!(
            (3000..=3600).contains(&endless),
            "{endless}: uneven sites are not held to their share, nor all of the table given"
        );
        for number in 2..=10 {
            assert_eq!(list(&mut writer, number, 40), 40, "domain {number}");
        }
        assert_eq!(list(&mut writer, 1, 4000), 0);
        assert_eq!(table.verify(), Vec::<String>::new());
    }

    #[test]
    fn a_domain_that_is_alone_may_fill_the_table() {
        let (_table, mut writer) = table(1, 4000);
        assert_eq!(list(&mut writer, 1, 5000), 4000);
    }
}
