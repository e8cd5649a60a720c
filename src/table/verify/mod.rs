//! Whether everything in a table agrees with everything else: for inspection, and for tests that
//! kill writers.
//!
//! Each flaw is one of a *subject*: a slot, an entry, an extent, a claim. Each subject is looked at
//! by itself, so that what a table in use shows for a moment can be looked at again
//! ([`super::verify::live`]). Sets as large as the table are bitmaps: a table of ten million
//! terminals takes a megabyte or two to verify.

pub mod live;

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use super::domains::{Tag, has_tag};
use super::index::Index;
use super::intent::Cell;
use super::layout::Words;
use super::levels::is_of_level;
use super::meetings::{meeting_hash, part_hash};
use super::membership::{chain, members, previous_of};
use super::slot_set::SlotSet;
use super::sums::fits_columns;
use super::terminals::terminal_hash;
use super::{OwnerId, Table};
use crate::limits::{FLAWS_MAX, OWNERS_MAX, PROGRESS_EVERY};
use crate::sys::mapping::SharedWord;
use crate::wire::{Level, MeetingId};

/// Called now and then during a long piece of work, with how much is done, of how much.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

impl Table {
    /// Checks every slot, chain, index and extent, and returns the flaws, up to a bound. No writer
    /// may write meanwhile; what a dead writer left is a flaw until [`Table::recover`] has run. It
    /// reads the whole table.
    pub fn verify(&self) -> Vec<String> {
        self.verify_with(&mut |_, _| {})
    }

    /// As [`Table::verify`], with progress.
    pub fn verify_with(&self, progress: Progress<'_>) -> Vec<String> {
        let mut flaws = Vec::new();
        let mut check = Check::of_all(self.words());
        for subject in subjects(self.words(), progress) {
            let room = FLAWS_MAX - flaws.len();
            flaws.extend(check.look(subject).into_iter().take(room));
        }
        flaws
    }
}

/// What something can be wrong with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Subject {
    Structure,
    Epoch,
    Cell(OwnerId),
    Part(u32),
    Terminal(u32),
    /// A place of an index.
    Entry(Which, usize),
    Extent(u32),
}

/// An index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Which {
    Parts,
    Meetings,
    Terminals,
}

impl Which {
    pub fn of(self, words: Words<'_>) -> Index<'_, SharedWord> {
        match self {
            Self::Parts => words.part_index(),
            Self::Meetings => words.meeting_index(),
            Self::Terminals => words.terminal_index(),
        }
    }
}

/// All subjects of a table, parts before terminals: when a terminal is checked, the chains that
/// name it are known.
pub(super) fn subjects<'a>(words: Words<'a>, progress: Progress<'a>) -> impl Iterator<Item = Subject> + 'a {
    let capacity = words.capacity();
    let entries = move |which: Which| (0..which.of(words).room()).map(move |place| Subject::Entry(which, place));
    let indexes = [Which::Parts, Which::Meetings, Which::Terminals];
    let room: usize = indexes.iter().map(|which| which.of(words).room()).sum();
    let total = u64::from(capacity.meetings) + u64::from(capacity.terminals) + u64::from(words.extents()) + room as u64;
    let mut done = 0;
    [Subject::Structure, Subject::Epoch]
        .into_iter()
        .chain((0..OWNERS_MAX as u8).map(|owner| Subject::Cell(OwnerId(owner))))
        .chain((0..capacity.meetings).map(Subject::Part))
        .chain((0..capacity.terminals).map(Subject::Terminal))
        .chain(indexes.into_iter().flat_map(entries))
        .chain((0..words.extents()).map(Subject::Extent))
        .inspect(move |_| {
            done += 1;
            if done % PROGRESS_EVERY == 0 {
                progress(done.min(total), total);
            }
        })
}

/// One look at one subject after the other.
pub(super) struct Check<'a> {
    words: Words<'a>,
    flaws: Vec<String>,
    /// Terminals' slots that some part's chain names; none if not all parts are checked.
    members: Option<SlotSet>,
}

impl<'a> Check<'a> {
    /// For checking all subjects in order.
    pub fn of_all(words: Words<'a>) -> Self {
        Self { words, flaws: Vec::new(), members: Some(SlotSet::new(words.capacity().terminals)) }
    }

    /// For checking some.
    pub fn of_some(words: Words<'a>) -> Self {
        Self { words, flaws: Vec::new(), members: None }
    }

    /// What is wrong with it.
    pub fn look(&mut self, subject: Subject) -> Vec<String> {
        match subject {
            Subject::Structure => {
                let holder = self.words.structure().load(Ordering::Acquire);
                self.expect(holder == 0, || format!("owner {} has the structure", holder - 1));
            }
            Subject::Epoch => self.expect(!self.words.epoch().is_claimed(), || "the epoch is claimed".into()),
            Subject::Cell(owner) => {
                let operation = Cell(self.words.cell(owner)).operation();
                self.expect(operation.is_none(), || format!("owner {} is at {operation:?}", owner.0));
            }
            Subject::Part(slot) => self.part(slot),
            Subject::Terminal(slot) => self.terminal(slot),
            Subject::Entry(which, place) => self.entry(which, place),
            Subject::Extent(extent) => self.extent(extent),
        }
        std::mem::take(&mut self.flaws)
    }

    fn expect(&mut self, holds: bool, flaw: impl FnOnce() -> String) {
        if !holds && self.flaws.len() < FLAWS_MAX {
            self.flaws.push(flaw());
        }
    }

    fn part(&mut self, slot: u32) {
        let words = self.words;
        let claimed = words.part(slot).is_none_or(|slot| slot.is_claimed());
        self.expect(!claimed, || format!("part slot {slot} is claimed"));
        let record = match words.read_part(slot) {
            Ok(record) => record.map(|(_, part)| part),
            Err(why) => return self.expect(false, || format!("part slot {slot} is unreadable: {why:?}")),
        };
        let live = is_live(words.part_bits(), slot);
        self.expect(live == record.is_some(), || {
            format!("part slot {slot} has its bit {live}, its record is {record:?}")
        });
        for level in Level::ALL {
            let set = is_of_level(words.level_bits(level), slot);
            let is = record.is_some_and(|part| part.level == level);
            self.expect(set == is, || {
                format!("part slot {slot} has its bit of level {} {set}, its record is {record:?}", level.number())
            });
        }
        let domain = words.place_domain(slot).map_or(0, |place| place.load(Ordering::Acquire));
        let expected = record.map_or(0, |part| part.domain.number());
        self.expect(domain == expected, || format!("part slot {slot} has place {domain}, its record {record:?}"));
        let tagged = has_tag(words.domain_tags(), slot, record.map(|part| Tag::of(part.domain)));
        self.expect(tagged, || format!("part slot {slot} has not the tag of its domain, its record {record:?}"));
        self.expect(fits_columns(words, slot, record.as_ref()), || {
            format!("part slot {slot} is not in the columns as in its record, {record:?}")
        });
        let Some(part) = record else { return };
        let found = words.find_part(part.meeting, part.domain).ok().flatten().map(|(slot, ..)| slot);
        self.expect(found == Some(slot), || format!("{part:?} of slot {slot} is found at {found:?}"));
        let in_chain = words
            .first_part_of(part.meeting)
            .map_or(0, |first| chain(words, first).filter(|&other| other == slot).count());
        self.expect(in_chain == 1, || format!("{part:?} of slot {slot} is {in_chain} times in its chain"));
        self.members_of(slot, part.meeting);
    }

    fn members_of(&mut self, part: u32, meeting: MeetingId) {
        let words = self.words;
        let mut before = None;
        let mut count = 0;
        let mut met = HashSet::new();
        for member in members(words, part) {
            count += 1;
            let record = words.read_member(member).ok().flatten().map(|(_, record)| record);
            self.expect(record.is_some_and(|record| record.part == part && record.meeting() == meeting), || {
                format!("terminal slot {member} is in the chain of part slot {part}, its record is {record:?}")
            });
            let previous = previous_of(words, member);
            self.expect(previous == before, || {
                format!("terminal slot {member} is behind {before:?}, says {previous:?}")
            });
            let first_time = match &mut self.members {
                Some(members) => members.insert(member),
                None => met.insert(member),
            };
            self.expect(first_time, || format!("terminal slot {member} is in two chains"));
            before = Some(member);
        }
        let said = words.count_members(part);
        self.expect(said == count, || format!("part slot {part} has {count} members, says {said}"));
    }

    fn terminal(&mut self, slot: u32) {
        let words = self.words;
        let claimed = words.terminal(slot).is_none_or(|line| line.slot().is_claimed());
        self.expect(!claimed, || format!("terminal slot {slot} is claimed"));
        let record = match words.read_member(slot) {
            Ok(record) => record.map(|(_, member)| member),
            Err(why) => return self.expect(false, || format!("terminal slot {slot} is unreadable: {why:?}")),
        };
        let live = is_live(words.terminal_bits(), slot);
        self.expect(live == record.is_some(), || {
            format!("terminal slot {slot} has its bit {live}, its record is {record:?}")
        });
        let Some(raw) = record else { return };
        let found = words.find_terminal(raw.address()).ok().flatten().map(|(slot, ..)| slot);
        self.expect(found == Some(slot), || format!("{} of slot {slot} is found at {found:?}", raw.address()));
        let member = match &self.members {
            Some(members) => members.contains(slot),
            None => members(words, raw.part).any(|member| member == slot),
        };
        self.expect(member, || format!("{} of slot {slot} is in no chain", raw.address()));
        let owner = raw.extent().and_then(|extent| words.extent_owner(extent)).map(|word| word.load(Ordering::Acquire));
        self.expect(owner.is_none_or(|owner| owner == u64::from(slot) + 1), || {
            format!("{} of slot {slot} names an extent of owner word {owner:?}", raw.address())
        });
    }

    /// That each record is found is checked with the record. What remains to be wrong with an
    /// entry: it names no record, or one that is not looked up here, or it is there twice.
    fn entry(&mut self, which: Which, place: usize) {
        let words = self.words;
        let Some(slot) = which.of(words).slot_at(place) else { return };
        let hash = match which {
            Which::Parts | Which::Meetings => words.read_part(slot).ok().flatten().map(|(_, part)| match which {
                Which::Meetings => meeting_hash(part.meeting),
                _ => part_hash(part.meeting, part.domain),
            }),
            Which::Terminals => words.read_terminal(slot).ok().flatten().map(|(_, raw)| terminal_hash(raw.address())),
        };
        let right = hash.is_some_and(|hash| which.of(words).is_place_of(place, hash, slot));
        self.expect(right, || format!("place {place} of the index of {which:?} names slot {slot}, and should not"));
        if which == Which::Meetings
            && let Ok(Some((_, part))) = words.read_part(slot)
        {
            let first = words.first_part_of(part.meeting);
            self.expect(first == Some(slot), || {
                format!(
                    "place {place} of the index of Meetings names slot {slot}, {:?} begins at {first:?}",
                    part.meeting
                )
            });
        }
    }

    fn extent(&mut self, extent: u32) {
        let words = self.words;
        let owner = words.extent_owner(extent).map_or(0, |word| word.load(Ordering::Acquire));
        let slot = owner.checked_sub(1).and_then(|slot| u32::try_from(slot).ok());
        let named = slot.and_then(|slot| words.read_terminal(slot).ok().flatten()).and_then(|(_, raw)| raw.extent());
        self.expect(owner == 0 || named == Some(extent), || {
            format!("extent {extent} is owned by terminal slot {slot:?}, which names {named:?}")
        });
    }
}

fn is_live(bits: &[SharedWord], slot: u32) -> bool {
    // Acquire pairs with the Release of `set_bit`.
    bits.get(slot as usize / 64).is_some_and(|word| word.load(Ordering::Acquire) >> (slot % 64) & 1 == 1)
}
