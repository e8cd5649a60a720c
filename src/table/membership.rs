//! Changes of several slots: which parts and terminals are in the table, and in which chain.
//!
//! One writer makes them at a time: it has the structure's claim, and has noted in its cell what it
//! is doing. Readers walk chains meanwhile. Each step here is one store that leaves every chain
//! whole, and each is *idempotent*: recovery finishes a dead writer's operation by doing it again.
//!
//! A slot that is taken out keeps its link, and is not used again before the next operation. Each
//! operation is counted when it begins: a walk during which the count did not change has met at
//! most one, and so no slot that was reused.

use std::sync::atomic::Ordering;

use super::claims::{Named, wait};
use super::columns::{held_under, vacate_columns};
use super::domains::{Tag, set_tag};
use super::extents::give_back;
use super::index::is_filed_alike;
use super::intent::{Cell, Operation};
use super::layout::{TableClaim, Words};
use super::levels::fit_levels;
use super::line::LineClaim;
use super::meetings::{FREE, Part, meeting_hash, part_hash};
use super::slot::{Unreadable, Word, pause};
use super::terminals::{Raw, terminal_hash};
use super::{OwnerId, TableError};
use crate::limits::{CLAIM_TRIES_CONTROL, MEMBERS_MAX, PARTS_MAX, WALK_TRIES_MAX};
use crate::sys::mapping::SharedWord;
use crate::wire::Address;

/// The claim to change membership.
#[derive(Debug)]
pub(super) struct Structure<'a> {
    pub words: Words<'a>,
    pub cell: Cell<'a>,
    pub owner: OwnerId,
}

impl<'a> Structure<'a> {
    pub fn claim(words: Words<'a>, owner: OwnerId) -> Result<Self, TableError> {
        for tried in 0..CLAIM_TRIES_CONTROL {
            if claim_structure(words.structure(), owner) {
                return Ok(Self { words, cell: Cell(words.cell(owner)), owner });
            }
            pause(tried);
        }
        Err(TableError::Contended)
    }

    /// The claim as recovery has it: all other writers are dead, so there is no contention.
    pub fn inherit(words: Words<'a>, owner: OwnerId) -> Self {
        Self { words, cell: Cell(words.cell(owner)), owner }
    }

    /// Begins an operation: notes it, and counts it for concurrent walks.
    pub fn begin(&self, operation: Operation, part: impl Into<Option<u32>>, terminal: Option<u32>) {
        self.cell.begin(operation, part.into(), terminal);
        count_operation(self.words.sequence());
    }

    pub fn end(&self) {
        self.cell.end();
    }

    /// Empties a part's chain of members. Its slot is claimed.
    pub fn clear_members(&self, slot: u32) {
        if let Some(head) = self.words.part_link(slot) {
            head.store(0, Ordering::Release);
        }
    }

    /// Enters a part whose record is published into the indexes. False if one has no room for it.
    pub fn enter_part(&self, slot: u32, part: &Part) -> bool {
        let words = self.words;
        let Some((domain, sibling)) = words.place_domain(slot).zip(words.place_sibling(slot)) else { return false };
        // Release, here and below, pairs with the Acquire loads of walks and look-ups.
        domain.store(part.domain.number(), Ordering::Release);
        set_tag(words.domain_tags(), slot, Some(Tag::of(part.domain)));
        let hash = part_hash(part.meeting, part.domain);
        if !words.part_index().contains(hash, slot) && !words.part_index().insert(hash, slot) {
            return false;
        }
        let hash = meeting_hash(part.meeting);
        match words.first_part_of(part.meeting) {
            Some(first) if chain(words, first).any(|part| part == slot) => {}
            Some(first) => {
                sibling.store(u64::from(first) + 1, Ordering::Release);
                words.meeting_index().replace(hash, first, slot);
            }
            None => {
                sibling.store(0, Ordering::Release);
                if !words.meeting_index().insert(hash, slot) {
                    return false;
                }
            }
        }
        set_bit(words.part_bits(), slot, true);
        true
    }

    /// Removes all members of a part, damaged ones too.
    pub fn take_out_members(&self, part: u32) -> Result<(), TableError> {
        for _ in 0..MEMBERS_MAX {
            let Some(member) = members(self.words, part).next() else { break };
            self.take_out_member(member, part)?;
        }
        Ok(())
    }

    /// Removes one member of a part, whether or not its record can be read.
    pub fn take_out_member(&self, member: u32, part: u32) -> Result<(), TableError> {
        match self.take_out_terminal(member, part) {
            Err(TableError::Damaged) => self.discard_terminal(member).map(drop),
            other => other,
        }
    }

    /// Removes a part that has no members. `claim` is on its slot.
    pub fn take_out_part(&self, slot: u32, part: &Part, claim: TableClaim<'_>) {
        let words = self.words;
        let hash = meeting_hash(part.meeting);
        let behind = words.sibling_of(slot);
        if let Some(first) = words.first_part_of(part.meeting) {
            if first != slot {
                let before = chain(words, first).find(|&before| words.sibling_of(before) == Some(slot));
                if let Some(link) = before.and_then(|before| words.place_sibling(before)) {
                    link.store(behind.map_or(0, |behind| u64::from(behind) + 1), Ordering::Release);
                }
            } else if let Some(behind) = behind {
                words.meeting_index().replace(hash, slot, behind);
            } else {
                words.meeting_index().remove(hash, slot);
            }
        }
        words.part_index().remove(part_hash(part.meeting, part.domain), slot);
        claim.publish(&FREE);
        self.vacate_part(slot);
    }

    /// Removes the other traces of a part whose record is free already.
    pub fn vacate_part(&self, slot: u32) {
        if let Some(domain) = self.words.place_domain(slot) {
            domain.store(0, Ordering::Release);
        }
        set_tag(self.words.domain_tags(), slot, None);
        set_bit(self.words.part_bits(), slot, false);
        fit_levels(self.words, slot, None);
        vacate_columns(self.words, slot);
    }

    /// Puts a terminal in front of its part's chain, if it is not in it.
    pub fn link(&self, slot: u32, part: u32) {
        let words = self.words;
        let (Some(head), Some(link)) = (words.part_link(part), words.terminal_link(slot)) else { return };
        let (count, first) = halves(head.load(Ordering::Relaxed));
        link.store(pair(0, first), Ordering::Release);
        // Release, here and below, pairs with the Acquire loads of walks: a member's link is set
        // before the member can be reached.
        head.store(pair(count.saturating_add(1), slot + 1), Ordering::Release);
        if let Some(next) = first.checked_sub(1).and_then(|first| words.terminal_link(first)) {
            next.store(pair(slot + 1, halves(next.load(Ordering::Relaxed)).1), Ordering::Release);
        }
    }

    /// Enters a terminal whose record is published into the index. False if that has no room for
    /// it.
    pub fn enter_terminal(&self, slot: u32, raw: &Raw) -> bool {
        let words = self.words;
        let hash = terminal_hash(raw.address());
        if !words.terminal_index().contains(hash, slot) && !words.terminal_index().insert(hash, slot) {
            return false;
        }
        set_bit(words.terminal_bits(), slot, true);
        true
    }

    /// Removes a terminal from a part, once no other writer has claimed it. The cell names its slot
    /// and extent before.
    pub fn take_out_terminal(&self, slot: u32, part: u32) -> Result<(), TableError> {
        let words = self.words;
        self.cell.note_terminal(slot);
        let (raw, claim) = claim_raw(words, slot, self.owner)?;
        if let Some(extent) = raw.extent() {
            self.cell.note_extent(extent);
        }
        words.terminal_index().remove(terminal_hash(raw.address()), slot);
        self.unlink(slot, part);
        Raw::FREE.publish(words, slot, claim);
        give_back(words, raw.extent(), slot);
        set_bit(words.terminal_bits(), slot, false);
        Ok(())
    }

    /// Removes a member from its part's chain, if it is in it.
    pub fn unlink(&self, slot: u32, part: u32) {
        let words = self.words;
        let (Some(head), Some(link)) = (words.part_link(part), words.terminal_link(slot)) else { return };
        let (previous, next) = halves(link.load(Ordering::Relaxed));
        let (count, first) = halves(head.load(Ordering::Relaxed));
        // Release pairs with the Acquire loads of walks. The slot keeps its own link, for walks
        // that stand on it.
        if first == slot + 1 {
            head.store(pair(count.saturating_sub(1), next), Ordering::Release);
        } else if let Some(before) = previous.checked_sub(1).and_then(|before| words.terminal_link(before)) {
            let (earlier, named) = halves(before.load(Ordering::Relaxed));
            if named != slot + 1 {
                return;
            }
            before.store(pair(earlier, next), Ordering::Release);
            head.store(pair(count.saturating_sub(1), first), Ordering::Release);
        } else {
            return;
        }
        if let Some(behind) = next.checked_sub(1).and_then(|next| words.terminal_link(next)) {
            let previous = if first == slot + 1 { 0 } else { previous };
            behind.store(pair(previous, halves(behind.load(Ordering::Relaxed)).1), Ordering::Release);
        }
    }

    /// Repairs what belongs to a part's chain and is stored separately: its count, and each
    /// member's link to the one before.
    pub fn repair_members(&self, part: u32) {
        let words = self.words;
        let Some(head) = words.part_link(part) else { return };
        let (mut count, mut previous) = (0, 0);
        for member in members(words, part) {
            if let Some(link) = words.terminal_link(member) {
                link.store(pair(previous, halves(link.load(Ordering::Relaxed)).1), Ordering::Release);
            }
            (count, previous) = (count + 1, member + 1);
        }
        head.store(pair(count, halves(head.load(Ordering::Relaxed)).1), Ordering::Release);
    }
}

impl Drop for Structure<'_> {
    fn drop(&mut self) {
        // Before the claim is released: a failed operation must not stay noted, or recovery would
        // repeat it with what the slot holds by then. A dead writer does not run this.
        self.cell.end();
        release_structure(self.words.structure());
    }
}

pub(super) fn claim_structure<W: Word>(holder: &W, owner: OwnerId) -> bool {
    // Acquire pairs with the Release of `release_structure`: we see all that its last holder did.
    holder.compare_exchange(0, u64::from(owner.0) + 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
}

pub(super) fn release_structure<W: Word>(holder: &W) {
    // Release pairs with the Acquire of `claim_structure`.
    holder.store(0, Ordering::Release);
}

/// Counts an operation that begins, for concurrent walks.
pub(super) fn count_operation<W: Word>(sequence: &W) {
    // Relaxed: the writer that begins one has the structure's claim, and so sees the last count.
    // Release pairs with the Acquire load that a walk begins with: it sees all earlier operations.
    // The fence pairs with the Acquire fence that a walk ends with: a walk that saw a store of this
    // operation sees its number.
    sequence.store(sequence.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    W::fence(Ordering::Release);
}

/// Repeats a walk along chains until no operation began during it: it has then met at most one, and
/// so no slot that was reused. None if one began during every try.
pub(super) fn undisturbed<W: Word, T>(sequence: &W, mut walk: impl FnMut() -> T) -> Option<T> {
    (0..WALK_TRIES_MAX).find_map(|_| {
        // Acquire pairs with the Release store of `count_operation`: all earlier operations are
        // seen.
        let before = sequence.load(Ordering::Acquire);
        let walked = walk();
        // Pairs with the Release fence of `count_operation`: had the walk seen a store of a later
        // operation, the load below would see its number.
        W::fence(Ordering::Acquire);
        (sequence.load(Ordering::Relaxed) == before).then_some(walked)
    })
}

/// The parts in a meeting's chain. It ends even if the memory is damaged.
pub(super) fn chain(words: Words<'_>, first: u32) -> impl Iterator<Item = u32> + '_ {
    std::iter::successors(Some(first), move |&slot| words.sibling_of(slot)).take(PARTS_MAX)
}

/// The slots of a part's members, as its chain names them. It ends even if the memory is damaged.
pub(super) fn members(words: Words<'_>, part: u32) -> impl Iterator<Item = u32> + '_ {
    let behind = move |link: Option<&SharedWord>| {
        // Acquire pairs with the Release stores above.
        let next = halves(link?.load(Ordering::Acquire)).1;
        next.checked_sub(1)
    };
    std::iter::successors(behind(words.part_link(part)), move |&slot| behind(words.terminal_link(slot)))
        .take(MEMBERS_MAX)
}

/// The member before this one in its part's chain, as its link says.
pub(super) fn previous_of(words: Words<'_>, slot: u32) -> Option<u32> {
    chain_link(words, slot).0
}

/// The members before and after this one in its part's chain, as its link says.
pub(super) fn chain_link(words: Words<'_>, slot: u32) -> (Option<u32>, Option<u32>) {
    // Acquire pairs with the Release stores above.
    let (previous, next) = words.terminal_link(slot).map_or((0, 0), |link| halves(link.load(Ordering::Acquire)));
    (previous.checked_sub(1), next.checked_sub(1))
}

/// Reads a terminal's slot and claims it as it was read, and tries again while other writers have
/// it.
pub(super) fn claim_raw<'a>(
    words: Words<'a>,
    slot: u32,
    owner: OwnerId,
) -> Result<(Raw, LineClaim<'a, SharedWord>), TableError> {
    let line = words.terminal(slot).ok_or(TableError::Damaged)?;
    for tried in 0..CLAIM_TRIES_CONTROL {
        let (seen, raw) = words.read_raw(slot)?;
        if let Some(claim) = line.slot().claim(seen, owner) {
            return Ok((raw, claim));
        }
        wait(words, Named::Terminal(slot), owner, tried);
    }
    Err(TableError::Contended)
}

/// Claims a part's slot as it is, and tries again while other writers have it. Returns the part
/// too; none if it is free.
pub(super) fn claim_part<'a>(
    words: Words<'a>,
    slot: u32,
    owner: OwnerId,
) -> Result<(Option<Part>, TableClaim<'a>), TableError> {
    let table_slot = words.part(slot).ok_or(TableError::Damaged)?;
    Cell(words.cell(owner)).note_part(slot);
    for tried in 0..CLAIM_TRIES_CONTROL {
        let (seen, part) = table_slot.read(|bank, _| Part::decode(bank))?;
        if let Some(claim) = table_slot.claim(seen, owner) {
            let part = part.map(|part| Part { epoch: held_under(words, slot).unwrap_or(part.epoch), ..part });
            return Ok((part, claim));
        }
        wait(words, Named::Part(slot), owner, tried);
    }
    Err(TableError::Contended)
}

impl From<Unreadable> for TableError {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Damaged => Self::Damaged,
            Unreadable::Contended => Self::Contended,
        }
    }
}

/// The first free slot from `hint` on.
pub(super) fn first_free(bits: &[SharedWord], capacity: u32, hint: u32) -> Option<u32> {
    let start = (hint / 64) as usize % bits.len();
    (start..bits.len()).chain(0..start).find_map(|at| {
        // Relaxed: the caller has the structure's claim, and so sees all changes of the bits.
        let free = bits[at].load(Ordering::Relaxed).trailing_ones();
        let slot = at as u32 * 64 + free;
        (free < 64 && slot < capacity).then_some(slot)
    })
}

pub(super) fn set_bit(bits: &[SharedWord], slot: u32, live: bool) {
    let Some(word) = bits.get(slot as usize / 64) else { return };
    let bit = 1 << (slot % 64);
    let now = word.load(Ordering::Relaxed);
    // Release pairs with the Acquire loads of `live`: a slot's record is published before its bit
    // is set.
    word.store(if live { now | bit } else { now & !bit }, Ordering::Release);
}

/// The slots whose bits are set, from one on.
pub(super) fn live(bits: &[SharedWord], from: u32) -> impl Iterator<Item = u32> + '_ {
    let first = (from / 64) as usize;
    bits.iter().enumerate().skip(first).flat_map(move |(at, word)| {
        // Acquire pairs with the Release of `set_bit`.
        let mut set = word.load(Ordering::Acquire);
        if at == first {
            set &= !0 << (from % 64);
        }
        slots_of(at, set)
    })
}

/// The slots of a group of 64 whose bits are set.
pub(super) fn slots_of(group: usize, mut set: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = set.trailing_zeros();
        set &= set.wrapping_sub(1);
        (bit < 64).then_some(group as u32 * 64 + bit)
    })
}

/// The slot of a terminal, if its record is damaged.
pub(super) fn damaged_terminal(words: Words<'_>, terminal: Address) -> Option<u32> {
    let hash = terminal_hash(terminal);
    words.terminal_index().find(hash, |slot| {
        let (says, _) = words.terminal(slot)?.identity();
        // Another terminal that is filed alike is not this one; an address that is not filed so is
        // damaged itself.
        let may_be = says == terminal || !is_filed_alike(terminal_hash(says), hash);
        (may_be && is_damaged(words, slot)).then_some(slot)
    })
}

/// Whether a terminal's record, or what is beside it, is damaged.
pub(super) fn is_damaged(words: Words<'_>, slot: u32) -> bool {
    matches!(words.read_member(slot), Err(Unreadable::Damaged))
}

const fn pair(high: u32, low: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

const fn halves(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}
