//! Removing a terminal whose record is damaged, as `discard` removes a part.
//!
//! Which terminal it is follows from the index entry that led to it, checked against the address in
//! its line. Where it is linked is searched for: in the chain of the part that the word beside its
//! line or a neighbour's names, and if it is in none of these, in all chains. The slot's own link
//! is not part of its record, and is used as far as it leads to a member.
//!
//! The member's autonomous server still knows it. The part whose chain had it is first marked as in
//! doubt, so that every reader from then on, also after a death, knows that the part may lack a
//! member.

use std::sync::atomic::Ordering;

use super::claims::{Named, wait};
use super::columns::set_settled;
use super::domains::{Tag, has_tag};
use super::extents::give_back;
use super::intent::Operation;
use super::layout::Words;
use super::line::LineClaim;
use super::meetings::Part;
use super::membership::{Structure, chain_link, claim_part, damaged_terminal, is_damaged, live, members, set_bit};
use super::slot::Unreadable;
use super::terminals::Raw;
use super::{Table, TableError, Writer};
use crate::limits::{CLAIM_TRIES_CONTROL, MEMBERS_MAX};
use crate::sys::mapping::SharedWord;
use crate::wire::{Address, Domain, MeetingId};

/// A damaged terminal that was removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Discarded {
    /// The part that had it as a member, in doubt from now on; none if no chain had it or that part
    /// cannot be read either.
    pub member_of: Option<(MeetingId, Domain)>,
}

impl Writer {
    /// Removes a terminal whose record is damaged, and marks the part that had it as in doubt; none
    /// if there is no such terminal. [`Writer::join`], [`Writer::leave`] and
    /// [`Writer::update_terminal`] do so themselves.
    pub fn discard_damaged_terminal(&mut self, terminal: Address) -> Result<Option<Discarded>, TableError> {
        let words = self.table.words();
        let structure = Structure::claim(words, self.owner)?;
        let Some(slot) = damaged_terminal(words, terminal) else { return Ok(None) };
        structure.throw_terminal_away(slot)
    }

    /// Removes the members of a part whose records are damaged, as
    /// [`Writer::discard_damaged_terminal`] does; returns how many.
    pub fn discard_damaged_members(&mut self, meeting: MeetingId, domain: Domain) -> Result<u32, TableError> {
        let words = self.table.words();
        let structure = Structure::claim(words, self.owner)?;
        let Some((part, ..)) = words.find_part(meeting, domain)? else { return Ok(0) };
        let mut discarded = 0;
        for _ in 0..MEMBERS_MAX {
            let Some(slot) = members(words, part).find(|&slot| is_damaged(words, slot)) else { break };
            discarded += u32::from(structure.throw_terminal_away(slot)?.is_some());
        }
        Ok(discarded)
    }

    /// Removes every terminal whose record is damaged, in all domains; returns how many. It reads
    /// the whole table.
    pub fn discard_damaged_terminals(&mut self) -> Result<u32, TableError> {
        let words = self.table.words();
        let structure = Structure::claim(words, self.owner)?;
        let mut discarded = 0;
        for slot in live(words.terminal_bits(), 0).filter(|&slot| is_damaged(words, slot)) {
            discarded += u32::from(structure.throw_terminal_away(slot)?.is_some());
        }
        Ok(discarded)
    }

    /// Removes the parts of a domain whose records are damaged, as [`Writer::discard_damaged`]
    /// removes one; returns their meetings as far as [`Table::damaged_parts_in`] knows them. For
    /// use after the domain's autonomous server has listed all that it holds: a part that is still
    /// unreadable then is not among that, and must not keep its members from other meetings.
    pub fn discard_damaged_parts_in(&mut self, domain: Domain) -> Result<Vec<Option<MeetingId>>, TableError> {
        self.changes.count(domain);
        let words = self.table.words();
        let structure = Structure::claim(words, self.owner)?;
        let mut discarded = Vec::new();
        for (slot, meeting) in damaged_parts(words, domain) {
            let held = self.sums.held(words, slot);
            structure.begin(Operation::DiscardPart, slot, None);
            let done = structure.discard_part(slot);
            structure.end();
            if done? {
                self.sums.remove(domain, held);
                discarded.push(meeting);
            }
        }
        Ok(discarded)
    }
}

impl Table {
    /// The parts of a domain whose records are damaged: for each its meeting, if the slot's earlier
    /// record says it.
    pub fn damaged_parts_in(&self, domain: Domain) -> impl Iterator<Item = Option<MeetingId>> + '_ {
        damaged_parts(self.words(), domain).map(|(_, meeting)| meeting)
    }
}

fn damaged_parts(words: Words<'_>, domain: Domain) -> impl Iterator<Item = (u32, Option<MeetingId>)> + '_ {
    let is_here = move |slot: &u32| {
        // The tag first: tags lie side by side in memory.
        has_tag(words.domain_tags(), *slot, Some(Tag::of(domain)))
            && words.place_domain(*slot).is_some_and(|place| place.load(Ordering::Acquire) == domain.number())
    };
    let is_damaged = move |slot: &u32| matches!(words.read_part(*slot), Err(Unreadable::Damaged));
    let earlier = move |slot: u32| words.part(slot).and_then(|slot| Part::decode(&slot.other_bank())).flatten();
    live(words.part_bits(), 0)
        .filter(is_here)
        .filter(is_damaged)
        .map(move |slot| (slot, earlier(slot).filter(|part| part.domain == domain).map(|part| part.meeting)))
}

/// The part whose chain has a slot, found without its record.
pub(super) fn part_with_member(words: Words<'_>, slot: u32) -> Option<u32> {
    let has = |part: &u32| members(words, *part).any(|member| member == slot);
    // What the word beside the line says is probably right, also if its checksum does not match;
    // the chain that has it decides.
    let says = words.terminal_part(slot).map(|word| (word.load(Ordering::Relaxed) >> 32) as u32);
    let (previous, next) = chain_link(words, slot);
    let neighbours = [previous, next].into_iter().flatten();
    let of_neighbours =
        neighbours.filter_map(|slot| words.read_member(slot).ok().flatten()).map(|(_, member)| member.part);
    says.into_iter().chain(of_neighbours).find(has).or_else(|| live(words.part_bits(), 0).find(has))
}

impl<'a> Structure<'a> {
    /// As [`Writer::discard_damaged_terminal`], as an operation of its own.
    pub fn throw_terminal_away(&self, slot: u32) -> Result<Option<Discarded>, TableError> {
        let words = self.words;
        let part = part_with_member(words, slot);
        let mut member_of = None;
        if let Some(part) = part {
            match claim_part(words, part, self.owner) {
                Ok((Some(record), claim)) => {
                    set_settled(words, part, false);
                    claim.publish(&Part { in_doubt: true, ..record }.encode());
                    member_of = Some((record.meeting, record.domain));
                }
                // It will be discarded itself.
                Ok((None, _)) | Err(TableError::Damaged) => {}
                Err(error) => return Err(error),
            }
        }
        self.begin(Operation::DiscardTerminal, part, Some(slot));
        let done = self.discard_terminal(slot);
        self.end();
        Ok(done?.then_some(Discarded { member_of }))
    }

    /// Removes a terminal whose record is damaged. False, and nothing is changed, if it is not
    /// damaged.
    pub fn discard_terminal(&self, slot: u32) -> Result<bool, TableError> {
        let words = self.words;
        let Some(claim) = self.claim_damaged_terminal(slot)? else { return Ok(false) };
        // Where only what is beside the line is damaged, the record says which extent it has, and
        // is read with that until the terminal is gone.
        let named = words.read_terminal(slot).ok().flatten().and_then(|(_, raw)| raw.extent());
        if let Some(extent) = named {
            self.cell.note_extent(extent);
        } else {
            // Else it does not. No extent is read through a damaged record, so they are freed
            // first, and what follows the record's last store is the same as for any terminal that
            // is removed.
            for extent in 0..words.extents() {
                give_back(words, Some(extent), slot);
            }
        }
        if let Some(part) = part_with_member(words, slot) {
            self.bypass_member(slot, part);
        }
        let index = words.terminal_index();
        for place in (0..index.room()).filter(|&place| index.slot_at(place) == Some(slot)) {
            index.rename_at(place, None);
        }
        Raw::FREE.publish(words, slot, claim);
        give_back(words, named, slot);
        set_bit(words.terminal_bits(), slot, false);
        Ok(true)
    }

    fn claim_damaged_terminal(&self, slot: u32) -> Result<Option<LineClaim<'a, SharedWord>>, TableError> {
        let table_slot = self.words.terminal(slot).ok_or(TableError::Damaged)?.slot();
        for tried in 0..CLAIM_TRIES_CONTROL {
            if let Some(claim) = table_slot.claim(table_slot.seen(), self.owner) {
                // Looked at once more, under the claim: who had it until now may have published.
                return Ok(is_damaged(self.words, slot).then_some(claim));
            }
            wait(self.words, Named::Terminal(slot), self.owner, tried);
        }
        Err(TableError::Contended)
    }

    /// Makes the link that leads to a member lead to the one after it, if that is a member.
    fn bypass_member(&self, slot: u32, part: u32) {
        let words = self.words;
        let is_member = |next: &u32| {
            is_damaged(words, *next) || matches!(words.read_member(*next), Ok(Some((_, member))) if member.part == part)
        };
        let next = chain_link(words, slot).1.filter(is_member);
        let before = members(words, part).take_while(|&member| member != slot).last();
        self.lead_to(before, part, next);
        // The count, and the links to the member before.
        self.repair_members(part);
    }

    /// Makes a member's link, or the part's if there is no member before, lead to `next`.
    fn lead_to(&self, before: Option<u32>, part: u32, next: Option<u32>) {
        let words = self.words;
        let link = before.map_or_else(|| words.part_link(part), |before| words.terminal_link(before));
        let Some(link) = link else { return };
        let next = next.map_or(0, |next| u64::from(next) + 1);
        // Release pairs with the Acquire loads of walks.
        link.store(link.load(Ordering::Relaxed) >> 32 << 32 | next, Ordering::Release);
    }
}
