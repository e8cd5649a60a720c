//! Where everything is in the table's words.
//!
//! ```text
//! header │ owner cells │ fences │ bitmaps │ parts: columns, two indexes, places, links, slots
//!        │ terminals: index, lines, berths │ extents: owners, banks
//!
//! header    0 magic │ 1 layout hash │ 2 bytes │ 3 meetings << 32 │ terminals │ 4, 5 boot id │ 6 checksum of 0 to 5
//!           8 structure claim │ 9 structure sequence │ 16.. slot: epoch │ end of its block
//! fences    domain │ epoch; for each domain that has reported a newer controller
//! bitmaps   live parts │ live terminals │ parts of level 1 │ 2 │ 3 │ 4 │ 5; a bit for each slot │ domain tags of parts
//! columns   of each part: meeting │ version; settled parts, a bit each; held parts, 64 each: epoch │ bits
//! slot      of a part: control │ bank 0 (7) │ bank 1 (7)
//! place     domain │ sibling                          link of a part      members << 32 │ first member + 1
//! line      of a terminal, see `line`
//! berth     link │ part's slot << 32 │ its checksum   link of a terminal  previous + 1 << 32 │ next + 1
//! extent    bank 0 (8) │ bank 1 (8)
//! ```
//!
//! Regions begin on cache lines; a part's slot fills two, a terminal's line one. All words are
//! little-endian u64; a table is read by the kind of machine that wrote it, and the layout hash
//! says so.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::domains::TAG_WORDS;
use super::index::{BUCKET, Index, STASH};
use super::line::{LINE_WORDS, Line};
use super::slot::{Claim, Slot};
use super::{Capacity, OwnerId};
use crate::limits::{
    DOMAINS_MAX, EXTENTS_MIN, INFO_BYTES_INLINE, INFO_BYTES_MAX, OWNERS_MAX, SLOTS_MAX, TERMINALS_PER_EXTENT,
};
use crate::sys::mapping::SharedWord;
use crate::wire::{Level, mix};

const _: () = assert!(cfg!(target_endian = "little"), "the table's words are little-endian, and used as they are");

/// Words of a part's record: six of content, the last its checksum.
pub(super) const BANK: usize = 7;
/// As it lies in the mapped file.
pub(super) type TableSlot<'a> = Slot<'a, SharedWord, BANK>;
/// A claim of one.
pub(super) type TableClaim<'a> = Claim<'a, SharedWord, BANK>;

pub(super) const SLOT: usize = 16;
pub(super) const PLACE: usize = 2;
/// Words that a part has in the columns.
pub(super) const ENTRY: usize = 2;
/// Words of the held parts of a group of 64.
pub(super) const HELD: usize = 2;
/// Words beside a terminal's line.
pub(super) const BERTH: usize = 2;
pub(super) const CELL: usize = 8;
pub(super) const FENCE: usize = 2;
pub(super) const EXTENT_BANK: usize = INFO_BYTES_MAX / 8;
const EXTENT: usize = 2 * EXTENT_BANK;
const LINE: usize = 8;

pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"BATONTBL");
pub(super) const STRUCTURE: usize = 8;
pub(super) const SEQUENCE: usize = 9;
pub(super) const EPOCH: Range<usize> = 16..32;
pub(super) const HEADER: usize = 64;

const _: () = assert!(TableSlot::WORDS <= SLOT && SLOT == 2 * LINE && LINE_WORDS == LINE);

/// Differs between programs that lay a table out differently. Increase the first number with each
/// change that the others do not show.
pub const LAYOUT_HASH: u64 = {
    let facts = [
        5,
        BANK as u64,
        SLOT as u64,
        PLACE as u64,
        ENTRY as u64,
        HELD as u64,
        BERTH as u64,
        CELL as u64,
        EXTENT_BANK as u64,
        HEADER as u64,
        BUCKET as u64,
        STASH as u64,
        OWNERS_MAX as u64,
        DOMAINS_MAX as u64,
        EXTENTS_MIN as u64,
        TERMINALS_PER_EXTENT as u64,
        INFO_BYTES_INLINE as u64,
    ];
    let mut hash = MAGIC;
    let mut at = 0;
    while at < facts.len() {
        hash = mix(hash ^ facts[at]);
        at += 1;
    }
    hash
};

/// The regions of a table of some capacity, in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Layout {
    pub capacity: Capacity,
    pub extents: u32,
    cells: usize,
    fences: Range<usize>,
    part_bits: Range<usize>,
    terminal_bits: Range<usize>,
    level_bits: [Range<usize>; Level::ALL.len()],
    domain_tags: Range<usize>,
    entries: usize,
    settled_bits: Range<usize>,
    held: Range<usize>,
    part_index: Range<usize>,
    meeting_index: Range<usize>,
    places: usize,
    part_links: usize,
    parts: usize,
    terminal_index: Range<usize>,
    lines: usize,
    berths: usize,
    extent_owners: Range<usize>,
    extent_banks: usize,
    pub words: usize,
}

impl Layout {
    /// The layout for a capacity; none where a table cannot have it.
    pub fn of(capacity: Capacity) -> Option<Self> {
        let range = 1..=SLOTS_MAX;
        if !range.contains(&capacity.meetings) || !range.contains(&capacity.terminals) {
            return None;
        }
        let (meetings, terminals) = (capacity.meetings as usize, capacity.terminals as usize);
        let extents = (capacity.terminals / TERMINALS_PER_EXTENT).max(EXTENTS_MIN);
        let mut end = HEADER;
        let mut region = |words: usize| {
            let begin = end;
            end += words.next_multiple_of(LINE);
            begin..begin + words
        };
        let cells = region(OWNERS_MAX * CELL).start;
        let fences = region(DOMAINS_MAX * FENCE);
        let part_bits = region(meetings.div_ceil(64));
        let terminal_bits = region(terminals.div_ceil(64));
        let level_bits = Level::ALL.map(|_| region(meetings.div_ceil(64)));
        let domain_tags = region(meetings.div_ceil(64) * TAG_WORDS);
        let entries = region(meetings * ENTRY).start;
        let settled_bits = region(meetings.div_ceil(64));
        let held = region(meetings.div_ceil(64) * HELD);
        // A part is found by meeting and domain, and the first of a meeting's parts by the meeting.
        let part_index = region(Index::<SharedWord>::words(meetings));
        let meeting_index = region(Index::<SharedWord>::words(meetings));
        let places = region(meetings * PLACE).start;
        let part_links = region(meetings).start;
        let parts = region(meetings * SLOT).start;
        let terminal_index = region(Index::<SharedWord>::words(terminals));
        let lines = region(terminals * LINE).start;
        let berths = region(terminals * BERTH).start;
        let extent_owners = region(extents as usize);
        let extent_banks = region(extents as usize * EXTENT).start;
        Some(Self {
            capacity,
            extents,
            cells,
            fences,
            part_bits,
            terminal_bits,
            level_bits,
            domain_tags,
            entries,
            settled_bits,
            held,
            part_index,
            meeting_index,
            places,
            part_links,
            parts,
            terminal_index,
            lines,
            berths,
            extent_owners,
            extent_banks,
            words: end,
        })
    }

    pub fn bytes(&self) -> u64 {
        self.words as u64 * 8
    }

    pub fn over<'a>(&'a self, words: &'a [SharedWord]) -> Words<'a> {
        Words { layout: self, words }
    }
}

/// A table's words, by what they are. A number from the table itself is used through the checked
/// forms (`Option`): so nothing in a damaged file leads outside a region.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words<'a> {
    layout: &'a Layout,
    words: &'a [SharedWord],
}

impl<'a> Words<'a> {
    pub fn capacity(self) -> Capacity {
        self.layout.capacity
    }

    pub fn extents(self) -> u32 {
        self.layout.extents
    }

    pub fn structure(self) -> &'a SharedWord {
        &self.words[STRUCTURE]
    }

    pub fn sequence(self) -> &'a SharedWord {
        &self.words[SEQUENCE]
    }

    pub fn epoch(self) -> TableSlot<'a> {
        Slot::new(&self.words[EPOCH])
    }

    #[inline(always)]
    pub fn cell(self, owner: OwnerId) -> &'a [SharedWord] {
        &self.words[self.layout.cells + usize::from(owner.0) * CELL..][..CELL]
    }

    pub fn fences(self) -> &'a [SharedWord] {
        &self.words[self.layout.fences.clone()]
    }

    pub fn part_bits(self) -> &'a [SharedWord] {
        &self.words[self.layout.part_bits.clone()]
    }

    pub fn terminal_bits(self) -> &'a [SharedWord] {
        &self.words[self.layout.terminal_bits.clone()]
    }

    /// The parts of a level: bits that [`super::levels`] sets.
    pub fn level_bits(self, level: Level) -> &'a [SharedWord] {
        &self.words[self.layout.level_bits[usize::from(level.number()) - 1].clone()]
    }

    /// The domains of the parts, side by side: tags that [`super::domains`] sets.
    pub fn domain_tags(self) -> &'a [SharedWord] {
        &self.words[self.layout.domain_tags.clone()]
    }

    /// What a takeover says of a part: its meeting and its version ([`super::columns`]).
    #[inline]
    pub fn entry(self, part: u32) -> Option<&'a [SharedWord; ENTRY]> {
        self.within_parts(part, self.layout.entries, ENTRY)?.first_chunk()
    }

    /// The parts of which a takeover has nothing more to learn: bits that [`super::columns`] sets.
    pub fn settled_bits(self) -> &'a [SharedWord] {
        &self.words[self.layout.settled_bits.clone()]
    }

    /// The parts of a group of 64 that are held: under which epoch, and a bit for each.
    #[inline]
    pub fn held(self, group: usize) -> Option<&'a [SharedWord; HELD]> {
        self.words[self.layout.held.clone()].as_chunks().0.get(group)
    }

    pub fn part_index(self) -> Index<'a, SharedWord> {
        Index::new(&self.words[self.layout.part_index.clone()])
    }

    pub fn meeting_index(self) -> Index<'a, SharedWord> {
        Index::new(&self.words[self.layout.meeting_index.clone()])
    }

    pub fn terminal_index(self) -> Index<'a, SharedWord> {
        Index::new(&self.words[self.layout.terminal_index.clone()])
    }

    /// The domain of a part.
    pub fn place_domain(self, part: u32) -> Option<&'a SharedWord> {
        self.place(part).map(|place| &place[0])
    }

    pub fn place_sibling(self, part: u32) -> Option<&'a SharedWord> {
        self.place(part).map(|place| &place[1])
    }

    fn place(self, part: u32) -> Option<&'a [SharedWord]> {
        self.within_parts(part, self.layout.places, PLACE)
    }

    pub fn part(self, part: u32) -> Option<TableSlot<'a>> {
        self.part_words(part).map(Slot::new)
    }

    /// Prefetches both cache lines of a part's record.
    pub fn prefetch_part(self, part: u32) {
        if let Some([first, .., last]) = self.part_words(part) {
            first.prefetch();
            last.prefetch();
        }
    }

    pub fn part_link(self, part: u32) -> Option<&'a SharedWord> {
        self.within_parts(part, self.layout.part_links, 1)?.first()
    }

    /// How many members a part's link says that it has.
    #[inline]
    pub fn count_members(self, part: u32) -> u32 {
        // Acquire pairs with the Release stores of joining and leaving.
        self.part_link(part).map_or(0, |link| (link.load(Ordering::Acquire) >> 32) as u32)
    }

    fn part_words(self, part: u32) -> Option<&'a [SharedWord]> {
        self.within_parts(part, self.layout.parts, SLOT)
    }

    #[inline]
    fn within_parts(self, part: u32, region: usize, words: usize) -> Option<&'a [SharedWord]> {
        let within = part < self.layout.capacity.meetings;
        within.then(|| &self.words[region + part as usize * words..][..words])
    }

    #[inline]
    pub fn terminal(self, terminal: u32) -> Option<Line<'a, SharedWord>> {
        self.within_terminals(terminal, self.layout.lines).map(Line::new)
    }

    /// The lines of all terminals.
    #[inline]
    pub fn lines(self) -> &'a [[SharedWord; LINE_WORDS]] {
        let lines = &self.words[self.layout.lines..].as_chunks().0;
        &lines[..self.layout.capacity.terminals as usize]
    }

    pub fn terminal_link(self, terminal: u32) -> Option<&'a SharedWord> {
        self.berth(terminal).map(|[link, _]| link)
    }

    /// Which part a terminal is a member of ([`super::terminals`]).
    pub fn terminal_part(self, terminal: u32) -> Option<&'a SharedWord> {
        self.berth(terminal).map(|[_, part]| part)
    }

    #[inline]
    fn berth(self, terminal: u32) -> Option<&'a [SharedWord; BERTH]> {
        self.within_terminals(terminal, self.layout.berths)
    }

    #[inline]
    fn within_terminals<const N: usize>(self, terminal: u32, region: usize) -> Option<&'a [SharedWord; N]> {
        let within = terminal < self.layout.capacity.terminals;
        let words = within.then(|| &self.words[region + terminal as usize * N..]);
        words.and_then(|words| words.first_chunk())
    }

    pub fn extent_owner(self, extent: u32) -> Option<&'a SharedWord> {
        self.words[self.layout.extent_owners.clone()].get(extent as usize)
    }

    pub fn extent_bank(self, extent: u32, bank: usize) -> Option<&'a [SharedWord]> {
        let within = extent < self.layout.extents;
        within.then(|| {
            let begin = self.layout.extent_banks + extent as usize * EXTENT + bank * EXTENT_BANK;
            &self.words[begin..][..EXTENT_BANK]
        })
    }
}
