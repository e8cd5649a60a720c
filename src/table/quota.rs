//! Whether one domain may have a further terminal where room runs short.
//!
//! Baton trusts what autonomous servers list, and one that lists more than it has would fill the
//! table at the expense of others. So the last slots are for domains that have less than their
//! share: all slots divided by the domains that have a part of a meeting. A domain that is alone is
//! not limited, and until room runs short a domain may have as many as it likes: sites are uneven.
//! What an operator requests, or the database has, is not limited either.
//!
//! What each domain has is counted a few slots at a time, beginning some time before it matters: to
//! count a large table at once would keep the control thread busy for so long that it would be
//! taken for hung.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;

use super::Table;
use super::membership::live;
use super::read::Share;
use crate::limits::{QUOTA_LAST_PART, QUOTA_RECOUNT_EVERY, QUOTA_SLOTS};
use crate::wire::Domain;

/// What was counted, and what was entered since.
#[derive(Debug, Default)]
pub(super) struct Quota {
    /// Calls until the free room is looked up again.
    left: u32,
    is_short: bool,
    /// Whether room is short, or may be soon.
    counts: bool,
    /// How many terminals each domain has, and its share; none before they were counted.
    held: Option<(HashMap<Domain, u32>, u32)>,
    /// The count that is under way, and how many shares of the table it has been through.
    counting: (HashMap<Domain, u32>, usize),
}

impl Quota {
    /// See [`Writer::may_list`](super::Writer::may_list).
    pub fn may_list(&mut self, table: &Table, domain: Domain) -> bool {
        self.look(table);
        if !self.counts {
            return true;
        }
        self.count_on(table);
        let Some((held, share)) = &mut self.held else { return true };
        let held = held.entry(domain).or_default();
        let may = !self.is_short || *held < *share;
        *held += u32::from(may);
        may
    }

    /// Checks now and then how much room there is.
    fn look(&mut self, table: &Table) {
        if self.left == 0 {
            let terminals = table.capacity().terminals;
            let between = between_looks(terminals);
            let last = terminals / QUOTA_LAST_PART;
            let free = terminals.saturating_sub(table.count_terminals());
            self.left = between;
            self.is_short = free < last.saturating_add(between);
            self.counts = free < last.saturating_mul(2).saturating_add(between);
            if !self.counts {
                self.held = None;
                self.counting = Default::default();
            }
        }
        self.left -= 1;
    }

    /// Continues the count with one share of the table.
    fn count_on(&mut self, table: &Table) {
        let shares = (table.capacity().terminals.div_ceil(QUOTA_SLOTS) as usize).max(1);
        let (counted, number) = &mut self.counting;
        if let Some(share) = Share::split(shares).nth(*number) {
            for domain in table.terminals_in_share(share).filter_map(|terminal| terminal.terminal.domain()) {
                *counted.entry(domain).or_default() += 1;
            }
        }
        *number += 1;
        if *number >= shares {
            let (counted, _) = std::mem::take(&mut self.counting);
            self.held = Some((counted, share_of_each(table)));
        }
    }
}

fn between_looks(terminals: u32) -> u32 {
    QUOTA_RECOUNT_EVERY.min(terminals / QUOTA_LAST_PART).max(1)
}

/// How many terminals each domain with a part of a meeting may have.
fn share_of_each(table: &Table) -> u32 {
    let words = table.words();
    let domain_of = |slot| words.place_domain(slot).map_or(0, |place| place.load(Ordering::Acquire));
    let domains: BTreeSet<u64> = live(words.part_bits(), 0).map(domain_of).filter(|&domain| domain != 0).collect();
    table.capacity().terminals / (domains.len() as u32).max(1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tests::{domain, part};
    use super::super::{Capacity, OwnerId, Table, Terminal, Writer};
    use crate::limits::QUOTA_SLOTS;
    use crate::wire::{MeetingId, Role};

    fn table(domains: u64, terminals: u32) -> (Arc<Table>, Writer) {
        let table = Arc::new(Table::on_heap(Capacity { meetings: 64, terminals }));
        let mut writer = table.writer(OwnerId::CONTROL);
        (1..=domains).for_each(|number| writer.insert_part(&part(number, number)).unwrap());
        (table, writer)
    }

    /// Lists one terminal of a domain after the other; returns how many were entered.
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

    /// The cost of one listed terminal does not grow with the table: the control thread does
    /// nothing else meanwhile.
    #[test]
    fn a_large_table_is_counted_a_few_slots_at_a_time() {
        let (table, mut writer) = table(2, 40_000);
        for device in 0..31_000 {
            let meeting = 10 + u64::from(device) / 8000;
            if device % 8000 == 0 {
                writer.insert_part(&part(meeting, 1)).unwrap();
            }
            let terminal = Terminal::new(domain(1).device(1 + device), MeetingId(meeting), Role::Participant);
            writer.join(MeetingId(meeting), domain(1), &terminal).unwrap();
        }
        let is_counted = |writer: &Writer| writer.quota.held.is_some();
        let mut asked = 0;
        while !is_counted(&writer) {
            assert!(writer.may_list(domain(2)));
            asked += 1;
        }
        assert!(asked >= 40_000 / QUOTA_SLOTS - 1, "{asked} times");
        assert_eq!(writer.quota.held.as_ref().unwrap().0[&domain(1)], 31_000);
        assert_eq!(table.verify(), Vec::<String>::new());
    }
}
