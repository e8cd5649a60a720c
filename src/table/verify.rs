//! Whether everything in a table agrees with everything else: for inspection, and for tests that kill.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use super::layout::Words;
use super::owner::Cell;
use super::structure::{chain, count_of, live, members, previous_of};
use super::{OwnerId, Table};
use crate::limits::{FLAWS_MAX, OWNERS_MAX};

impl Table {
    /// Looks at every slot, chain, index and extent, and says what does not agree, up to a bound. Nobody may write
    /// meanwhile; what a dead writer left is a flaw until [`Table::recover`] was there. It reads the whole table.
    pub fn verify(&self) -> Vec<String> {
        let mut check = Check { words: self.words(), flaws: Vec::new(), members: HashSet::new() };
        check.claims();
        check.parts();
        check.terminals();
        check.extents();
        check.flaws
    }
}

struct Check<'a> {
    words: Words<'a>,
    flaws: Vec<String>,
    /// Terminals' slots that some part's chain names.
    members: HashSet<u32>,
}

impl Check<'_> {
    fn expect(&mut self, holds: bool, flaw: impl FnOnce() -> String) {
        if !holds && self.flaws.len() < FLAWS_MAX {
            self.flaws.push(flaw());
        }
    }

    fn claims(&mut self) {
        let words = self.words;
        let holder = words.structure().load(Ordering::Acquire);
        self.expect(holder == 0, || format!("owner {} has the structure", holder - 1));
        self.expect(!words.epoch().is_claimed(), || "the epoch is claimed".into());
        for owner in (0..OWNERS_MAX as u8).map(OwnerId) {
            let operation = Cell(words.cell(owner)).operation();
            self.expect(operation.is_none(), || format!("owner {} is at {operation:?}", owner.0));
        }
    }

    fn parts(&mut self) {
        let words = self.words;
        let bits: HashSet<u32> = live(words.part_bits(), 0).collect();
        let mut meetings = HashSet::new();
        for slot in 0..words.capacity().meetings {
            let claimed = words.part(slot).is_none_or(|slot| slot.is_claimed());
            self.expect(!claimed, || format!("part slot {slot} is claimed"));
            let record = match words.read_part(slot) {
                Ok(record) => record.map(|(_, part)| part),
                Err(why) => {
                    self.expect(false, || format!("part slot {slot} is unreadable: {why:?}"));
                    continue;
                }
            };
            self.expect(bits.contains(&slot) == record.is_some(), || {
                format!("part slot {slot} has its bit {}, its record is {record:?}", bits.contains(&slot))
            });
            let domain = words.place_domain(slot).map_or(0, |place| place.load(Ordering::Acquire));
            let expected = record.map_or(0, |part| part.domain.number());
            self.expect(domain == expected, || format!("part slot {slot} has place {domain}, its record {record:?}"));
            let Some(part) = record else { continue };
            meetings.insert(part.meeting);
            let found = words.find_part(part.meeting, part.domain).ok().flatten().map(|(slot, ..)| slot);
            self.expect(found == Some(slot), || format!("{part:?} of slot {slot} is found at {found:?}"));
            let in_chain = words
                .first_part_of(part.meeting)
                .map_or(0, |first| chain(words, first).filter(|&other| other == slot).count());
            self.expect(in_chain == 1, || format!("{part:?} of slot {slot} is {in_chain} times in its chain"));
            self.members_of(slot);
        }
        let entries = (words.part_index().count(), words.meeting_index().count());
        self.expect(entries == (bits.len(), meetings.len()), || {
            format!("the indexes have {entries:?} entries for {} parts of {} meetings", bits.len(), meetings.len())
        });
    }

    fn members_of(&mut self, part: u32) {
        let words = self.words;
        let mut before = None;
        let mut count = 0;
        for member in members(words, part) {
            count += 1;
            let record = words.read_terminal(member).ok().flatten().map(|(_, raw)| raw);
            self.expect(record.is_some_and(|raw| raw.part() == part), || {
                format!("terminal slot {member} is in the chain of part slot {part}, its record is {record:?}")
            });
            let previous = previous_of(words, member);
            self.expect(previous == before, || {
                format!("terminal slot {member} is behind {before:?}, says {previous:?}")
            });
            let first_time = self.members.insert(member);
            self.expect(first_time, || format!("terminal slot {member} is in two chains"));
            before = Some(member);
        }
        let said = words.part_link(part).map_or(0, |link| count_of(link.load(Ordering::Acquire)));
        self.expect(said == count, || format!("part slot {part} has {count} members, says {said}"));
    }

    fn terminals(&mut self) {
        let words = self.words;
        let bits: HashSet<u32> = live(words.terminal_bits(), 0).collect();
        for slot in 0..words.capacity().terminals {
            let claimed = words.terminal(slot).is_none_or(|slot| slot.is_claimed());
            self.expect(!claimed, || format!("terminal slot {slot} is claimed"));
            let record = match words.read_terminal(slot) {
                Ok(record) => record.map(|(_, raw)| raw),
                Err(why) => {
                    self.expect(false, || format!("terminal slot {slot} is unreadable: {why:?}"));
                    continue;
                }
            };
            self.expect(bits.contains(&slot) == record.is_some(), || {
                format!("terminal slot {slot} has its bit {}, its record is {record:?}", bits.contains(&slot))
            });
            let Some(raw) = record else { continue };
            let found = words.find_terminal(raw.address()).ok().flatten().map(|(slot, ..)| slot);
            self.expect(found == Some(slot), || format!("{} of slot {slot} is found at {found:?}", raw.address()));
            let member = self.members.contains(&slot);
            self.expect(member, || format!("{} of slot {slot} is in no chain", raw.address()));
            let owner =
                raw.extent().and_then(|extent| words.extent_owner(extent)).map(|word| word.load(Ordering::Acquire));
            self.expect(owner.is_none_or(|owner| owner == u64::from(slot) + 1), || {
                format!("{} of slot {slot} names an extent of owner word {owner:?}", raw.address())
            });
        }
        let entries = words.terminal_index().count();
        self.expect(entries == bits.len(), || format!("the index has {entries} entries for {} terminals", bits.len()));
    }

    fn extents(&mut self) {
        let words = self.words;
        for extent in 0..words.extents() {
            let owner = words.extent_owner(extent).map_or(0, |word| word.load(Ordering::Acquire));
            let slot = owner.checked_sub(1).and_then(|slot| u32::try_from(slot).ok());
            let named =
                slot.and_then(|slot| words.read_terminal(slot).ok().flatten()).and_then(|(_, raw)| raw.extent());
            self.expect(owner == 0 || named == Some(extent), || {
                format!("extent {extent} is owned by terminal slot {slot:?}, which names {named:?}")
            });
        }
    }
}
