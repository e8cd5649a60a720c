//! Removing a part whose record is damaged, so that nothing of it can be read.
//!
//! The record says neither which part it is nor where it is entered. Which part it is follows from
//! the index entry that led to it, checked against the slot's earlier record, which is the same
//! part's or that of a free slot; if that says nothing, against the domain of its place. Where it
//! is entered is searched for: every entry and every link that names the slot is removed, whichever
//! key it is filed under. That reads both indexes and all places, and is rare.
//!
//! Entries of two parts are confused if 32 bits of their hashes, their buckets and their domains
//! are the same and the slot's earlier record says nothing. Then the other damaged part is removed.
//! Nothing is lost by that either: it could not be read, is unknown from now on, and comes back
//! from the database as this one does.

use std::sync::atomic::Ordering;

use super::claims::{Named, wait};
use super::intent::Operation;
use super::layout::{TableClaim, Words};
use super::meetings::{FREE, Part, meeting_hash, part_hash};
use super::membership::{Structure, chain, is_damaged, live, members};
use super::slot::Unreadable;
use super::{TableError, Writer};
use crate::limits::{CLAIM_TRIES_CONTROL, MEMBERS_MAX};
use crate::wire::{Domain, MeetingId};

impl Writer {
    /// Removes a part whose record is damaged, and its members; false if there is no such part.
    /// Like [`Self::remove_part`], call it again if another writer has claimed a member.
    pub fn discard_damaged(&mut self, meeting: MeetingId, domain: Domain) -> Result<bool, TableError> {
        self.changes.count(domain);
        let words = self.table.words();
        let structure = Structure::claim(words, self.owner)?;
        let Some(slot) = damaged_part(words, meeting, domain) else { return Ok(false) };
        let held = self.sums.held(words, slot);
        structure.begin(Operation::DiscardPart, slot, None);
        let done = structure.discard_part(slot);
        structure.end();
        if done == Ok(true) {
            self.sums.remove(domain, held);
        }
        done
    }
}

/// The slot of a meeting's part in a domain, if its record is damaged.
pub(super) fn damaged_part(words: Words<'_>, meeting: MeetingId, domain: Domain) -> Option<u32> {
    words.part_index().find(part_hash(meeting, domain), |slot| {
        let damaged = matches!(words.read_part(slot), Err(Unreadable::Damaged));
        (damaged && is_taken_for(words, slot, meeting, domain)).then_some(slot)
    })
}

fn is_taken_for(words: Words<'_>, slot: u32, meeting: MeetingId, domain: Domain) -> bool {
    match words.part(slot).and_then(|slot| Part::decode(&slot.other_bank())).flatten() {
        Some(earlier) => (earlier.meeting, earlier.domain) == (meeting, domain),
        None => words.place_domain(slot).is_some_and(|place| place.load(Ordering::Acquire) == domain.number()),
    }
}

impl<'a> Structure<'a> {
    /// Removes a part whose record is damaged. False, and nothing is changed, if it is not damaged.
    pub fn discard_part(&self, slot: u32) -> Result<bool, TableError> {
        let Some(claim) = self.claim_damaged(slot)? else { return Ok(false) };
        self.discard_members(slot)?;
        self.bypass(slot);
        let index = self.words.part_index();
        for place in (0..index.room()).filter(|&place| index.slot_at(place) == Some(slot)) {
            index.rename_at(place, None);
        }
        claim.publish(&FREE);
        self.vacate_part(slot);
        Ok(true)
    }

    fn claim_damaged(&self, slot: u32) -> Result<Option<TableClaim<'a>>, TableError> {
        let table_slot = self.words.part(slot).ok_or(TableError::Damaged)?;
        for tried in 0..CLAIM_TRIES_CONTROL {
            if let Some(claim) = table_slot.claim(table_slot.seen(), self.owner) {
                // Checked again under the claim: the last holder may have published.
                let damaged = matches!(self.words.read_part(slot), Err(Unreadable::Damaged));
                return Ok(damaged.then_some(claim));
            }
            wait(self.words, Named::Part(slot), self.owner, tried);
        }
        Err(TableError::Contended)
    }

    /// Removes the members whose records name the part. Its chain starts at a damaged slot: if it
    /// leads to a terminal that is no member, or to fewer than it says, all terminals are searched.
    fn discard_members(&self, part: u32) -> Result<(), TableError> {
        let words = self.words;
        let is_member = |slot: u32| matches!(words.read_member(slot), Ok(Some((_, member))) if member.part == part);
        for _ in 0..MEMBERS_MAX {
            let Some(member) = members(words, part).next() else { break };
            if !is_damaged(words, member) && !is_member(member) {
                break;
            }
            self.take_out_member(member, part)?;
        }
        // Relaxed: the last writer had the structure's claim, which we have now.
        if words.part_link(part).is_some_and(|link| link.load(Ordering::Relaxed) != 0) {
            live(words.terminal_bits(), 0)
                .filter(|&slot| is_member(slot))
                .try_for_each(|member| self.take_out_terminal(member, part))?;
            // Last: until then it tells a later attempt that there may be more members.
            self.clear_members(part);
        }
        Ok(())
    }

    /// Makes each link or entry that leads to a part in its meeting's chain lead to the part after
    /// it.
    fn bypass(&self, slot: u32) {
        let words = self.words;
        let meeting_of = |part: u32| words.read_part(part).ok().flatten().map(|(_, part)| part.meeting);
        let is_free = |part: u32| matches!(words.read_part(part), Ok(None));
        let successor = chain(words, slot).skip(1).find(|&part| part != slot && !is_free(part));
        for before in live(words.part_bits(), 0).filter(|&part| part != slot && words.sibling_of(part) == Some(slot)) {
            let fits = |successor: &u32| match (meeting_of(before), meeting_of(*successor)) {
                (Some(one), Some(other)) => one == other,
                // One that cannot be read will be discarded itself.
                _ => true,
            };
            self.set_sibling(before, successor.filter(fits));
        }
        let index = words.meeting_index();
        for place in (0..index.room()).filter(|&place| index.slot_at(place) == Some(slot)) {
            let Some((successor, meeting)) = successor.map(|successor| (successor, meeting_of(successor))) else {
                index.rename_at(place, None);
                continue;
            };
            let successor = match meeting {
                Some(meeting) if !index.is_filed_under(place, meeting_hash(meeting)) => None,
                // A part that was entered since has started its own chain, because this one could
                // not be read.
                Some(meeting) => match words.first_part_of(meeting) {
                    Some(first) => {
                        self.append(first, successor);
                        None
                    }
                    None => Some(successor),
                },
                None => Some(successor),
            };
            index.rename_at(place, successor);
        }
    }

    fn append(&self, first: u32, successor: u32) {
        if chain(self.words, first).all(|part| part != successor)
            && let Some(last) = chain(self.words, first).last()
        {
            self.set_sibling(last, Some(successor));
        }
    }

    fn set_sibling(&self, part: u32, behind: Option<u32>) {
        if let Some(sibling) = self.words.place_sibling(part) {
            // Release pairs with the Acquire loads of walks.
            sibling.store(behind.map_or(0, |behind| u64::from(behind) + 1), Ordering::Release);
        }
    }
}
