//! A table in the layout of the version before: what it holds, for a resize to bring over.
//!
//! ```text
//! header (64 words) │ cells (8 each) │ fences (2 each) │ bitmaps │ parts: two indexes, places (2), slots
//!                   │ terminals: index, slots │ extents: owners, banks
//! slot (16)  control │ bank 0 (7) │ bank 1 (7) │ link       bank of a terminal
//! 0 address (56) info_len │ 1 meeting │ 2 version (32) business decode role flags
//! 3 part's slot (32) channel stream window │ 4, 5 information up to 16 bytes, else 4 its extent │ 6 checksum
//! ```
//!
//! It goes by the records alone, not by indexes, chains and bitmaps. So what a dead writer had
//! begun needs no recovery of the earlier program's: a member whose record is published has joined,
//! and what a cell says that its owner was removing is gone.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use super::open::{EARLIER_LAYOUT_HASH, Refusal};
use crate::limits::{FLAWS_MAX, INFO_BYTES_MAX, SLOTS_MAX};
use crate::sys::mapping::{BootId, Mapping, SharedWord};
use crate::table::layout::MAGIC;
use crate::table::slot::{Slot, checksum};
use crate::table::{Capacity, Part, Terminal};
use crate::wire::{Address, Business, Decode, Domain, Epoch, Flags, Info, MeetingId, Role, StreamKind};

const BANK: usize = 7;
const SLOT: usize = 16;
const LINK: usize = 15;
const HEADER: usize = 64;
const OWNERS: usize = 65;
const CELL: usize = 8;
const DOMAINS: usize = 1024;
const LEVELS: usize = 5;
const LINE: usize = 8;
const INFO_INLINE: usize = 16;
const EXTENT_BANK: usize = 8;

/// What it holds.
#[derive(Debug)]
pub(super) struct Earlier {
    pub capacity: Capacity,
    pub boot: BootId,
    pub epoch: Epoch,
    pub generation_end: u32,
    pub fences: Vec<(Domain, Epoch)>,
    /// Its parts with their members. One that lacks a member is in doubt.
    pub parts: Vec<(Part, Vec<Terminal>)>,
    /// Terminals whose records are damaged, which it leaves out.
    pub damaged: u32,
    /// What is wrong with it otherwise, up to a bound.
    pub flaws: Vec<String>,
}

/// Whether a mapped file begins as a table of the version before.
pub(super) fn is_earlier(mapping: &Mapping) -> bool {
    let word = |at: usize| mapping.words().get(at).map(|word| word.load(Ordering::Relaxed));
    word(0) == Some(MAGIC) && word(1) == Some(EARLIER_LAYOUT_HASH)
}

/// Where everything is in its words.
struct Regions {
    /// A bit for each slot that is in use.
    part_bits: usize,
    terminal_bits: usize,
    parts: usize,
    terminals: usize,
    extent_banks: usize,
    extents: u32,
    words: usize,
}

impl Regions {
    fn of(Capacity { meetings, terminals }: Capacity) -> Self {
        let (parts, members) = (meetings as usize, terminals as usize);
        let extents = (terminals / 10).max(64);
        let mut end = HEADER;
        let mut region = |words: usize| {
            let begin = end;
            end += words.next_multiple_of(LINE);
            begin
        };
        let index = |entries: usize| (entries * 2).next_multiple_of(8) + 32;
        region(OWNERS * CELL);
        region(DOMAINS * 2);
        let part_bits = region(parts.div_ceil(64));
        let terminal_bits = region(members.div_ceil(64));
        for _ in 0..LEVELS {
            region(parts.div_ceil(64));
        }
        region(parts.div_ceil(64) * 16);
        region(index(parts));
        region(index(parts));
        region(parts * 2);
        let parts = region(parts * SLOT);
        region(index(members));
        let terminals = region(members * SLOT);
        region(extents as usize);
        let extent_banks = region(extents as usize * 2 * EXTENT_BANK);
        Self { part_bits, terminal_bits, parts, terminals, extent_banks, extents, words: end }
    }
}

/// What a dead writer was removing.
#[derive(Default)]
struct Leaving {
    parts: Vec<u32>,
    terminals: Vec<u32>,
}

/// Reads a table that nobody changes. It allocates all that it gives.
///
/// # Errors
/// It is not what its header says.
pub(super) fn read(mapping: &Mapping) -> Result<Earlier, Refusal> {
    let words = mapping.words();
    let load = |at: usize| words[at].load(Ordering::Relaxed);
    if mapping.bytes() < HEADER as u64 * 8 {
        return Err(Refusal::Length { expected: HEADER as u64 * 8, found: mapping.bytes() });
    }
    let head: [u64; 7] = std::array::from_fn(load);
    let capacity = Capacity { meetings: (head[3] >> 32) as u32, terminals: head[3] as u32 };
    let range = 1..=SLOTS_MAX;
    if checksum(&head[..6], &[]) != head[6]
        || !range.contains(&capacity.meetings)
        || !range.contains(&capacity.terminals)
    {
        return Err(Refusal::Header);
    }
    let regions = Regions::of(capacity);
    let expected = (regions.words as u64 * 8).next_multiple_of(mapping.unit());
    if expected != mapping.bytes() || head[2] != regions.words as u64 * 8 {
        return Err(Refusal::Length { expected, found: mapping.bytes() });
    }
    let (epoch, generation_end) = bank(&words[16..32]).ok_or(Refusal::Epoch).map(|bank| (Epoch(bank[0]), bank[1]))?;
    let fences = (0..DOMAINS).map(|fence| HEADER + OWNERS * CELL + fence * 2);
    let fences = fences.filter_map(|at| Some((Domain::new(load(at))?, Epoch(load(at + 1))))).collect();
    let mut earlier = Earlier {
        capacity,
        boot: BootId(u128::from(head[4]) | u128::from(head[5]) << 64),
        epoch,
        generation_end: generation_end as u32,
        fences,
        parts: Vec::new(),
        damaged: 0,
        flaws: Vec::new(),
    };
    let leaving = leaving(words);
    earlier.read_parts(words, &regions, &leaving);
    Ok(earlier)
}

fn leaving(words: &[SharedWord]) -> Leaving {
    let mut leaving = Leaving::default();
    for owner in 0..OWNERS {
        let cell: [u64; 3] = std::array::from_fn(|at| words[HEADER + owner * CELL + at].load(Ordering::Relaxed));
        let noted = |at: usize| cell[at].checked_sub(1).and_then(|slot| u32::try_from(slot).ok());
        match cell[0] {
            2 | 5 => leaving.parts.extend(noted(1)),
            4 | 6 => leaving.terminals.extend(noted(2)),
            _ => {}
        }
    }
    leaving
}

/// The current bank of a slot, if it fits its checksum without an extent.
fn bank(words: &[SharedWord]) -> Option<[u64; BANK]> {
    let read = Slot::<'_, SharedWord, BANK>::new(words).read(|bank, _| whole(bank, &[]).then_some(*bank));
    read.ok().map(|(_, bank)| bank)
}

fn whole(bank: &[u64; BANK], info: &[u64]) -> bool {
    checksum(&bank[..BANK - 1], info) == bank[BANK - 1]
}

impl Earlier {
    fn read_parts(&mut self, words: &[SharedWord], regions: &Regions, leaving: &Leaving) {
        let slots = |begin: usize, count: u32| {
            (0..count).map(move |slot| (slot, &words[begin + slot as usize * SLOT..][..SLOT]))
        };
        // What is damaged in a slot that is not in use costs nothing.
        let in_use =
            |bits: usize, slot: u32| words[bits + slot as usize / 64].load(Ordering::Relaxed) >> (slot % 64) & 1 == 1;
        // By slot: where the part is in `parts`, and how many members its link counts.
        let mut places: HashMap<u32, (usize, u64)> = HashMap::new();
        for (slot, own) in slots(regions.parts, self.capacity.meetings) {
            match bank(own).and_then(|bank| Part::decode(&bank)) {
                Some(Some(_)) if leaving.parts.contains(&slot) => {}
                Some(Some(part)) => {
                    places.insert(slot, (self.parts.len(), own[LINK].load(Ordering::Relaxed) >> 32));
                    self.parts.push((part, Vec::new()));
                }
                Some(None) => {}
                None if !in_use(regions.part_bits, slot) => {}
                None => self.flaw(format!("part slot {slot} is unreadable")),
            }
        }
        for (slot, own) in slots(regions.terminals, self.capacity.terminals) {
            match terminal(own, &words[regions.extent_banks..], regions.extents) {
                Some(None) => {}
                Some(Some((part, _))) if leaving.parts.contains(&part) || leaving.terminals.contains(&slot) => {}
                Some(Some((part, terminal))) => match places.get(&part) {
                    Some(&(at, _)) if self.parts[at].0.meeting == terminal.meeting => self.parts[at].1.push(terminal),
                    _ => self.flaw(format!("terminal slot {slot} is in no chain")),
                },
                None => self.damaged += u32::from(in_use(regions.terminal_bits, slot)),
            }
        }
        for (at, counted) in places.into_values() {
            let (part, members) = &mut self.parts[at];
            part.participants = members.len() as u16;
            // Its autonomous server is asked about what it has lost, or what was half done.
            part.in_doubt |= counted != members.len() as u64;
        }
    }

    fn flaw(&mut self, flaw: String) {
        if self.flaws.len() < FLAWS_MAX {
            self.flaws.push(flaw);
        }
    }
}

/// The terminal in a slot with the slot of its part; an inner none if it is free, an outer none if
/// it is damaged.
fn terminal(slot: &[SharedWord], extent_banks: &[SharedWord], extents: u32) -> Option<Option<(u32, Terminal)>> {
    let read = Slot::<'_, SharedWord, BANK>::new(slot).read(|bank, number| {
        let mut info = [0; EXTENT_BANK];
        let has_extent = (bank[0] >> 56) as usize > INFO_INLINE;
        if has_extent {
            let extent = (bank[4] < u64::from(extents)).then_some(bank[4] as usize)?;
            let words = &extent_banks[(2 * extent + number) * EXTENT_BANK..][..EXTENT_BANK];
            info.iter_mut().zip(words).for_each(|(to, word)| *to = word.load(Ordering::Relaxed));
        } else {
            info[..2].copy_from_slice(&bank[4..6]);
        }
        whole(bank, if has_extent { &info } else { &[] }).then_some((*bank, info))
    });
    let (_, (bank, info)) = read.ok()?;
    let address = Address::from_number(bank[0]);
    if address.number() == 0 {
        return Some(None);
    }
    let mut bytes = [0; INFO_BYTES_MAX];
    bytes.as_chunks_mut().0.iter_mut().zip(info).for_each(|(to, word)| *to = word.to_le_bytes());
    let mut terminal = Terminal::new(address, MeetingId(bank[1]), Role::from_wire((bank[2] >> 48) as u8)?);
    terminal.version = bank[2] as u32;
    terminal.business = Business::from_wire((bank[2] >> 32) as u8)?;
    terminal.decode = Decode::from_wire((bank[2] >> 40) as u8)?;
    terminal.flags = Flags((bank[2] >> 56) as u8);
    terminal.channel = (bank[3] >> 32) as u8;
    terminal.stream = StreamKind::from_wire((bank[3] >> 40) as u8)?;
    terminal.window = (bank[3] >> 48) as u8;
    terminal.info = Info::new(&bytes[..((bank[0] >> 56) as usize).min(INFO_BYTES_MAX)]);
    Some(Some((bank[3] as u32, terminal)))
}
