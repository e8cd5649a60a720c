//! Look-ups and walks, while writers may write.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::Table;
use super::columns::{entry_at, is_settled_at};
use super::domains::{Tag, tagged};
use super::meetings::{Part, meeting_hash};
use super::membership::{chain, live, members, slots_of, undisturbed};
use super::prefetch::Ahead;
use super::slot::Unreadable;
use super::sums::is_held_under;
use super::terminals::Terminal;
use crate::sys::mapping::SharedWord;
use crate::wire::{Address, Domain, Epoch, Level, MeetingId, MeetingState, TakeoverEntry, digest_of};

/// Where a walk over the parts of a domain by level stands: levels that it has behind it << 32 │
/// slot. The default is the beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cursor(pub u64);

/// One of some equal shares of a table's slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    number: usize,
    of: usize,
}

impl Share {
    /// All of them.
    pub const WHOLE: Self = Self { number: 0, of: 1 };

    /// That many shares, which together are the whole table.
    pub fn split(of: usize) -> impl Iterator<Item = Self> {
        (0..of).map(move |number| Self { number, of })
    }

    /// The words of a bitmap that are in it.
    #[inline]
    fn words(self, bits: &[SharedWord]) -> Range<usize> {
        let begin = |number: usize| bits.len() * number / self.of;
        begin(self.number)..begin(self.number + 1)
    }

    #[inline]
    fn live(self, bits: &[SharedWord]) -> impl Iterator<Item = u32> + '_ {
        let Range { start, end } = self.words(bits);
        live(&bits[..end], start as u32 * 64)
    }
}

impl Table {
    /// A part of a meeting.
    pub fn part(&self, meeting: MeetingId, domain: Domain) -> Option<Part> {
        self.readable(self.words().find_part(meeting, domain)).map(|(_, _, part)| part)
    }

    /// All parts of a meeting. Allocates, so it is for the control plane.
    pub fn parts_of(&self, meeting: MeetingId) -> impl Iterator<Item = Part> + use<> {
        let words = self.words();
        let of_meeting = |slot| self.part_in(slot).filter(|part| part.meeting == meeting);
        let parts = undisturbed(words.sequence(), || {
            let mut parts: Vec<Part> = Vec::new();
            // Another meeting may share the entry's tag; and the first of a chain may be free, in
            // the middle of its removal. Neither hides what follows it.
            words.meeting_index().find(meeting_hash(meeting), |first| {
                parts.extend(chain(words, first).filter_map(of_meeting));
                None::<()>
            });
            parts
        });
        parts.unwrap_or_else(|| live(words.part_bits(), 0).filter_map(of_meeting).collect()).into_iter()
    }

    /// All parts of all meetings.
    #[inline]
    pub fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        self.parts_in_share(Share::WHOLE)
    }

    /// The parts in a share of the table, so that several threads can read one share each.
    #[inline]
    pub fn parts_in_share(&self, share: Share) -> impl Iterator<Item = Part> + '_ {
        let words = self.words();
        Ahead::of(share.live(words.part_bits()), move |slot| words.prefetch_part(slot))
            .filter_map(|slot| self.part_in(slot))
    }

    /// Level, meeting and version of the parts in a share of the table. The records of settled
    /// parts are not read: such a part costs a quarter of a cache line, and 64 parts some more. For
    /// the thread that changes parts, and who reads where nobody does: to others what is met may be
    /// of two parts.
    #[inline]
    pub fn keys_in_share(&self, share: Share) -> impl Iterator<Item = (Level, TakeoverEntry)> + '_ {
        let words = self.words();
        share.words(words.part_bits()).flat_map(move |group| {
            Level::ALL.into_iter().flat_map(move |level| {
                let set = words.level_bits(level).get(group).map_or(0, |bits| bits.load(Ordering::Acquire));
                slots_of(group, set).filter_map(move |slot| {
                    if is_settled_at(words, slot) {
                        return Some((level, entry_at(words, slot)?));
                    }
                    let part = self.part_in(slot).filter(|part| part.level == level)?;
                    Some((level, TakeoverEntry { meeting: part.meeting, version: part.version }))
                })
            })
        })
    }

    /// The parts in a domain. A part that is there throughout the walk is met exactly once, while
    /// others may be entered, changed and removed. A part costs two cache lines, and 64 parts of
    /// other domains cost two.
    pub fn parts_in(&self, domain: Domain) -> impl Iterator<Item = Part> + '_ {
        self.slots_in(self.words().part_bits(), domain, 0).filter_map(move |slot| self.part_in_domain(slot, domain))
    }

    /// As [`Self::parts_in`], with their slots.
    pub(super) fn slots_of(&self, domain: Domain) -> impl Iterator<Item = (u32, Part)> + '_ {
        let slots = self.slots_in(self.words().part_bits(), domain, 0);
        slots.filter_map(move |slot| Some((slot, self.part_in_domain(slot, domain)?)))
    }

    /// Walks over the parts in a domain from where `cursor` stands, level 1 first, while `meet`
    /// returns true; it gets each part with the cursor after it. False if there are no more. Costs
    /// what [`Self::parts_in`] does.
    ///
    /// A part that stays at one level throughout the walk is met exactly once. One that sinks to a
    /// lower level meanwhile is met, and may be met again there. One that rises to a level which
    /// the walk has finished may be missed: a caller that needs all compares counts.
    #[inline]
    pub fn walk_by_level(
        &self,
        domain: Domain,
        cursor: &mut Cursor,
        mut meet: impl FnMut(Cursor, Part) -> bool,
    ) -> bool {
        let of_level = |level, from| {
            let slots = self.slots_in(self.words().level_bits(level), domain, from);
            let part = move |slot| self.part_in_domain(slot, domain).filter(|part| part.level == level);
            slots.filter_map(move |slot| Some((slot, part(slot)?)))
        };
        self.walk(cursor, of_level, &mut meet)
    }

    /// As [`Self::walk_by_level`], over the parts that are to be taken over, with what
    /// TAKEOVER_BATCH says of each. The records of settled parts are not read: such a part costs a
    /// quarter of a cache line. For the thread that changes parts: to others what is met may be of
    /// two parts.
    #[inline]
    pub fn walk_to_take_over(
        &self,
        domain: Domain,
        cursor: &mut Cursor,
        mut meet: impl FnMut(Cursor, TakeoverEntry) -> bool,
    ) -> bool {
        let words = self.words();
        let is_here =
            |slot| words.place_domain(slot).is_some_and(|place| place.load(Ordering::Acquire) == domain.number());
        self.walk(
            cursor,
            |level, from| {
                self.tagged_slots(words.level_bits(level), domain, from).filter_map(move |slot| {
                    if is_settled_at(words, slot) {
                        return entry_at(words, slot).filter(|_| is_here(slot)).map(|entry| (slot, entry));
                    }
                    let part = self.part_in_domain(slot, domain).filter(|part| part.level == level)?;
                    let is_begun =
                        !matches!(part.state, MeetingState::None | MeetingState::Prepared | MeetingState::Ended);
                    is_begun.then_some((slot, TakeoverEntry { meeting: part.meeting, version: part.version }))
                })
            },
            &mut meet,
        )
    }

    /// Walks over the slots that `slots` gives of one level after the other.
    #[inline]
    fn walk<T, I: Iterator<Item = (u32, T)>>(
        &self,
        cursor: &mut Cursor,
        slots: impl Fn(Level, u32) -> I,
        meet: &mut impl FnMut(Cursor, T) -> bool,
    ) -> bool {
        let (mut passed, mut from) = (cursor.0 >> 32, cursor.0 as u32);
        for level in Level::ALL.into_iter().skip(passed as usize) {
            for (slot, met) in slots(level, from) {
                cursor.0 = passed << 32 | (u64::from(slot) + 1);
                if !meet(*cursor, met) {
                    return true;
                }
            }
            (passed, from) = (passed + 1, 0);
        }
        cursor.0 = (Level::ALL.len() as u64) << 32;
        false
    }

    /// A whole copy; none where it is unknown or its record is damaged.
    pub fn terminal(&self, terminal: Address) -> Option<Terminal> {
        self.readable(self.words().find_terminal(terminal)).and_then(|(_, _, raw)| raw.terminal())
    }

    /// A terminal, and the domain of the part that it is a member of.
    pub fn membership(&self, terminal: Address) -> Option<(Terminal, Domain)> {
        let words = self.words();
        let (.., member) = self.readable(words.find_member(terminal))?;
        let domain = Domain::new(words.place_domain(member.part)?.load(Ordering::Acquire))?;
        Some((member.terminal()?, domain))
    }

    /// The members of a part. Allocates, so it is for the control plane.
    pub fn members(&self, meeting: MeetingId, domain: Domain) -> impl Iterator<Item = Terminal> + use<> {
        let words = self.words();
        let part = || self.readable(words.find_part(meeting, domain)).map(|(part, ..)| part);
        let of_part = |part| move |slot| self.member_in(slot, part).filter(|member| member.meeting == meeting);
        let found = undisturbed(words.sequence(), || {
            part().map_or(Vec::new(), |part| members(words, part).filter_map(of_part(part)).collect())
        });
        let found = found.unwrap_or_else(|| {
            part().map_or(Vec::new(), |part| live(words.terminal_bits(), 0).filter_map(of_part(part)).collect())
        });
        found.into_iter()
    }

    /// Every terminal.
    #[inline]
    pub fn terminals(&self) -> impl Iterator<Item = Terminal> + '_ {
        self.terminals_in_share(Share::WHOLE)
    }

    /// Those whose slots fall into a share of the table, in the order of slots.
    #[inline]
    pub fn terminals_in_share(&self, share: Share) -> impl Iterator<Item = Terminal> + '_ {
        let words = self.words();
        let prefetch = move |slot| words.terminal(slot).map_or((), |line| line.prefetch());
        Ahead::of(share.live(words.terminal_bits()), prefetch).filter_map(|slot| self.terminal_in(slot))
    }

    /// How many parts it holds.
    pub fn count_parts(&self) -> u32 {
        self.words().part_bits().iter().map(|bits| bits.load(Ordering::Relaxed).count_ones()).sum()
    }

    /// How many parts it holds in a domain, counted without reading their records.
    pub fn count_parts_in(&self, domain: Domain) -> u32 {
        let words = self.words();
        // Relaxed: only a number follows from it.
        let is_here = |slot: &u32| {
            words.place_domain(*slot).is_some_and(|place| place.load(Ordering::Relaxed) == domain.number())
        };
        self.tagged_slots(words.part_bits(), domain, 0).filter(is_here).count() as u32
    }

    /// How many terminals it holds.
    pub fn count_terminals(&self) -> u32 {
        self.words().terminal_bits().iter().map(|bits| bits.load(Ordering::Relaxed).count_ones()).sum()
    }

    /// Count and digest (wire.md, rule 6) of the parts in a domain that are controlled under
    /// `epoch`: those that ended or are missing are not. It reads all of them; the writer that
    /// changes them has both at hand ([`Writer::digest_of_parts`](super::Writer::digest_of_parts)).
    pub fn digest_of_parts(&self, domain: Domain, epoch: Epoch) -> (u32, u64) {
        self.parts_in(domain).filter(|part| is_held_under(part, epoch)).fold((0, 0), |(count, digest), part| {
            (count + 1, digest.wrapping_add(digest_of(part.meeting, part.version)))
        })
    }

    /// Records that could not be read, counted at each attempt: damage that something other than
    /// Baton did.
    pub fn unreadable(&self) -> u64 {
        self.unreadable.load(Ordering::Relaxed)
    }

    #[inline]
    fn part_in(&self, slot: u32) -> Option<Part> {
        self.readable(self.words().read_part(slot)).map(|(_, part)| part)
    }

    /// The slots of a domain from one on whose bits are set, their records prefetched; some may be
    /// of a domain with the same tag.
    #[inline]
    fn slots_in<'a>(&'a self, bits: &'a [SharedWord], domain: Domain, from: u32) -> impl Iterator<Item = u32> + 'a {
        let words = self.words();
        Ahead::of(self.tagged_slots(bits, domain, from), move |slot| words.prefetch_part(slot))
    }

    #[inline]
    fn tagged_slots<'a>(&'a self, bits: &'a [SharedWord], domain: Domain, from: u32) -> impl Iterator<Item = u32> + 'a {
        let tags = self.words().domain_tags();
        let tag = Tag::of(domain);
        let first = (from / 64) as usize;
        bits.iter().enumerate().skip(first).flat_map(move |(group, word)| {
            // Acquire pairs with the Release stores of `set_bit` and `set_level_bit`.
            let mut set = word.load(Ordering::Acquire);
            if group == first {
                set &= !0 << (from % 64);
            }
            slots_of(group, if set == 0 { 0 } else { set & tagged(tags, group, tag) })
        })
    }

    /// The part in a slot, if it is of this domain.
    #[inline]
    fn part_in_domain(&self, slot: u32, domain: Domain) -> Option<Part> {
        self.part_in(slot).filter(|part| part.domain == domain)
    }

    #[inline]
    fn terminal_in(&self, slot: u32) -> Option<Terminal> {
        self.readable(self.words().read_terminal(slot)).and_then(|(_, raw)| raw.terminal())
    }

    /// The terminal in a slot, if it is a member of the part in this one.
    fn member_in(&self, slot: u32, part: u32) -> Option<Terminal> {
        let (_, member) = self.readable(self.words().read_member(slot))?;
        if member.part == part { member.terminal() } else { None }
    }

    #[inline]
    fn readable<T>(&self, read: Result<Option<T>, Unreadable>) -> Option<T> {
        read.unwrap_or_else(|_| {
            self.unreadable.fetch_add(1, Ordering::Relaxed);
            None
        })
    }
}
