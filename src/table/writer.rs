//! Changes: reports, which all writers enter at the same time, and membership, which one writer
//! changes at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::changes::PartChanges;
use super::claims::{Named, wait};
use super::extents::{extent_for, publish};
use super::groups::Groups;
use super::intent::{Cell, Operation};
use super::levels::set_level_bit;
use super::meetings::Part;
use super::membership::{Structure, chain, claim_part, claim_raw, damaged_terminal, first_free};
use super::quota::Quota;
use super::slot::Unreadable;
use super::sums::{Sums, TakenOver};
use super::terminals::{Raw, Terminal};
use super::{Cursor, OwnerId, Table, TableError};
use crate::limits::{CLAIM_TRIES_CONTROL, MEMBERS_MAX, OWNERS_MAX, PARTS_MAX};
use crate::wire::{Address, Domain, Epoch, MeetingId};

/// One thread's right to write.
///
/// ```
/// use std::sync::Arc;
/// use baton::table::{Capacity, OwnerId, Part, Reported, Table, Terminal};
/// use baton::wire::*;
///
/// let table = Arc::new(Table::on_heap(Capacity { meetings: 16, terminals: 64 }));
/// let mut control = table.writer(OwnerId::CONTROL);
/// let (meeting, domain) = (MeetingId(7), Domain::new(366).unwrap());
/// let part = Part {
///     meeting, domain, version: 1, epoch: Epoch::new(1, 1), state: MeetingState::InMeeting, level: Level::HIGHEST,
///     layout: Layout::new(4).unwrap(), participants: 0, chairman: domain.device(1001), in_doubt: false,
///     is_unlisted: false,
///     run: Run(1),
/// };
/// control.insert_part(&part)?;
/// control.join(meeting, domain, &Terminal::new(domain.device(1001), meeting, Role::Chairman))?;
///
/// let mut worker = table.writer(OwnerId::worker(0));
/// let reported = worker.report(
///     domain.device(1001), meeting, 1, Business::InMeeting, Decode::Decoding, Role::Chairman, Flags::ONLINE, 0,
///     StreamKind::Main, b"",
/// );
/// assert_eq!(reported, Reported::Applied);
/// assert_eq!(table.part(meeting, domain).unwrap().participants, 1);
/// assert_eq!(table.terminal(domain.device(1001)).unwrap().decode, Decode::Decoding);
/// # Ok::<(), baton::table::TableError>(())
/// ```
#[derive(Debug)]
pub struct Writer {
    pub(super) table: Arc<Table>,
    pub(super) owner: OwnerId,
    /// Where the search for the next free part, terminal and extent begins.
    part_hint: u32,
    groups: Groups,
    terminal_hint: u32,
    pub(super) extent_hint: u32,
    pub(super) changes: PartChanges,
    /// Extents looked at for reports since the last free one.
    pub(super) extents_taken: u32,
    pub(super) quota: Quota,
    pub(super) sums: Sums,
}

impl Table {
    /// The writer with this number. Panics if a living writer of this process has the number
    /// already, or if there is no such number.
    pub fn writer(self: &Arc<Self>, owner: OwnerId) -> Writer {
        assert!(usize::from(owner.0) < OWNERS_MAX, "owner numbers end at {OWNERS_MAX}");
        let (word, bit) = self.writer_bit(owner);
        // AcqRel pairs with itself in `give_back_writer`: a number's next writer sees what its last
        // one did.
        let before = word.fetch_or(bit, Ordering::AcqRel);
        assert!(before & bit == 0, "owner {} writes already", owner.0);
        Writer::new(Arc::clone(self), owner)
    }
}

impl Writer {
    pub(super) fn new(table: Arc<Table>, owner: OwnerId) -> Self {
        // Writers begin at different places, so that they do not contend for the same extents.
        let extent_hint = table.words().extents() / 8 * u32::from(owner.0 % 8);
        Self {
            table,
            owner,
            part_hint: 0,
            groups: Groups::default(),
            terminal_hint: 0,
            extent_hint,
            changes: PartChanges::default(),
            extents_taken: 0,
            quota: Quota::default(),
            sums: Sums::default(),
        }
    }

    /// The table that it writes to.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// How often this writer has changed parts of a domain, or of one that shares its counter.
    pub fn changes_in(&self, domain: Domain) -> u64 {
        self.changes.of(domain)
    }

    /// An epoch begins, which no part bears yet. From now on this writer, which is the only one
    /// that changes parts, knows what is held under it.
    pub fn begin(&mut self, epoch: Epoch) {
        self.sums.begin(epoch);
    }

    /// As [`Table::digest_of_parts`]: at once for the epoch that has begun, by a walk for others.
    pub fn digest_of_parts(&self, domain: Domain, epoch: Epoch) -> (u32, u64) {
        self.sums.of(domain, epoch).unwrap_or_else(|| self.table.digest_of_parts(domain, epoch))
    }

    /// Counts what is held in a domain anew from its records, and makes the columns fit them, which
    /// have no checksum: something else may have changed one. It reads all of them.
    pub fn recount(&mut self, domain: Domain) {
        self.changes.count(domain);
        let words = self.table.words();
        let parts = self.table.slots_of(domain);
        self.sums.recount(words, domain, parts);
    }

    /// The part that a walk gave with this cursor is controlled under the epoch that has begun.
    /// False, and nothing is changed, if its record has to be looked at: it is not there any more
    /// or not settled, or has another number of members.
    #[inline]
    pub fn take_over(&mut self, cursor: Cursor, taken: &TakenOver) -> bool {
        let Some(slot) = (cursor.0 as u32).checked_sub(1) else { return false };
        let is_all = self.sums.take_over(self.table.words(), slot, taken);
        if is_all {
            self.changes.count(taken.domain);
        }
        is_all
    }

    /// Whether a domain may have one more terminal from its autonomous server's list; if so, that
    /// terminal is counted as entered. Allocates where room is short, and reads
    /// [`QUOTA_SLOTS`](crate::limits::QUOTA_SLOTS) of the table's slots then.
    pub fn may_list(&mut self, domain: Domain) -> bool {
        self.quota.may_list(&self.table, domain)
    }

    /// Changes a terminal if `change` returns true; false if it did not, or there is no such
    /// terminal. Address and meeting stay. A damaged record is discarded: then there is none.
    pub fn update_terminal(
        &mut self,
        terminal: Address,
        change: impl FnOnce(&mut Terminal) -> bool,
    ) -> Result<bool, TableError> {
        let words = self.table.words();
        let cell = Cell(words.cell(self.owner));
        for tried in 0..CLAIM_TRIES_CONTROL {
            let found = match words.find_member(terminal) {
                // It is gone, and its part is in doubt: as if it had never joined.
                Err(Unreadable::Damaged) => return self.discard_damaged_terminal(terminal).map(|_| false),
                found => found?,
            };
            let Some((slot, seen, old)) = found else { return Ok(false) };
            cell.note_terminal(slot);
            let Some(claim) = words.terminal(slot).and_then(|line| line.slot().claim(seen, self.owner)) else {
                wait(words, Named::Terminal(slot), self.owner, tried);
                continue;
            };
            let mut changed = old.terminal().ok_or(TableError::Damaged)?;
            if !change(&mut changed) {
                return Ok(false);
            }
            let hint = (&mut self.extent_hint, u32::MAX);
            let extent = extent_for(words, cell, slot, old.extent(), &changed.info, hint)?;
            changed.terminal = terminal;
            let mut new = Raw::new(&changed, old.meeting());
            new.set_info(&changed.info, extent);
            publish(words, cell, slot, &old, &new, claim);
            return Ok(true);
        }
        Err(TableError::Contended)
    }

    /// Changes a part; false where there is none. Meeting, domain and participants stay.
    pub fn update_part(
        &mut self,
        meeting: MeetingId,
        domain: Domain,
        change: impl FnOnce(&mut Part),
    ) -> Result<bool, TableError> {
        self.change_part(None, meeting, domain, change)
    }

    /// As [`Self::update_part`], for a part that a walk gave with this cursor: without an index
    /// look-up if it is still there.
    pub fn update_part_near(
        &mut self,
        cursor: Cursor,
        meeting: MeetingId,
        domain: Domain,
        change: impl FnOnce(&mut Part),
    ) -> Result<bool, TableError> {
        self.change_part((cursor.0 as u32).checked_sub(1), meeting, domain, change)
    }

    #[inline]
    fn change_part(
        &mut self,
        near: Option<u32>,
        meeting: MeetingId,
        domain: Domain,
        change: impl FnOnce(&mut Part),
    ) -> Result<bool, TableError> {
        self.changes.count(domain);
        let words = self.table.words();
        for tried in 0..CLAIM_TRIES_CONTROL {
            let there = near.and_then(|slot| words.part_of(slot, meeting, domain).ok().flatten());
            let found = there.map_or_else(|| words.find_part(meeting, domain), |there| Ok(Some(there)))?;
            let Some((slot, seen, mut part)) = found else { return Ok(false) };
            Cell(words.cell(self.owner)).note_part(slot);
            let Some(claim) = words.part(slot).and_then(|slot| slot.claim(seen, self.owner)) else {
                wait(words, Named::Part(slot), self.owner, tried);
                continue;
            };
            let (before, level) = (part, part.level);
            change(&mut part);
            let part = Part { meeting, domain, ..part };
            self.sums.prepare(words, slot, Some(&before), &part);
            set_level_bit(words.level_bits(part.level), slot, true);
            // Under the claim to the end: another change, back to the earlier level, must not lose
            // its bit.
            let _kept = claim.publish_and_keep(&part.encode());
            if part.level != level {
                set_level_bit(words.level_bits(level), slot, false);
            }
            self.sums.follow(words, slot, &part);
            return Ok(true);
        }
        Err(TableError::Contended)
    }

    /// Enters a new part, without members.
    pub fn insert_part(&mut self, part: &Part) -> Result<(), TableError> {
        self.changes.count(part.domain);
        let words = self.table.words();
        let structure = Structure::claim(words, self.owner)?;
        if words.find_part(part.meeting, part.domain)?.is_some() {
            return Err(TableError::Exists);
        }
        if words.first_part_of(part.meeting).is_some_and(|first| chain(words, first).count() >= PARTS_MAX) {
            return Err(TableError::Full("parts of one meeting"));
        }
        let (slot, before, claim) = loop {
            let slot = self.groups.choose(words, part.domain, part.level, self.part_hint);
            let slot = slot.ok_or(TableError::Full("parts of meetings"))?;
            structure.begin(Operation::InsertPart, slot, None);
            match claim_part(words, slot, self.owner) {
                Ok((before, claim)) => break (slot, before, claim),
                // A free slot that is damaged is made a free one again.
                Err(TableError::Damaged) => {
                    structure.begin(Operation::DiscardPart, slot, None);
                    structure.discard_part(slot)?;
                }
                Err(error) => {
                    structure.end();
                    return Err(error);
                }
            }
        };
        self.part_hint = slot;
        structure.clear_members(slot);
        set_level_bit(words.level_bits(part.level), slot, true);
        self.sums.prepare(words, slot, before.as_ref(), part);
        let claim = claim.publish_and_keep(&part.encode());
        self.sums.follow(words, slot, part);
        let entered = structure.enter_part(slot, part);
        if entered {
            drop(claim);
        } else {
            self.sums.leave(part);
            structure.take_out_part(slot, part, claim);
        }
        structure.end();
        if entered { Ok(()) } else { Err(TableError::Full("places in its index")) }
    }

    /// Removes a part and its members; false if there is no such part. If another writer has
    /// claimed a member ([`TableError::Contended`]), some may have been removed already: call it
    /// again.
    pub fn remove_part(&mut self, meeting: MeetingId, domain: Domain) -> Result<bool, TableError> {
        self.changes.count(domain);
        let words = self.table.words();
        let structure = Structure::claim(words, self.owner)?;
        let Some((slot, ..)) = words.find_part(meeting, domain)? else { return Ok(false) };
        structure.begin(Operation::RemovePart, slot, None);
        let done = structure.take_out_members(slot).and_then(|()| claim_part(words, slot, self.owner));
        let done = done.map(|(part, claim)| {
            if let Some(part) = part {
                self.sums.leave(&part);
                structure.take_out_part(slot, &part, claim);
            }
        });
        structure.end();
        self.part_hint = self.part_hint.min(slot);
        done.map(|()| true)
    }

    /// Enters a terminal as a member of a part; its own `meeting` field is ignored. A damaged
    /// record of it is discarded first.
    pub fn join(&mut self, meeting: MeetingId, domain: Domain, terminal: &Terminal) -> Result<(), TableError> {
        let words = self.table.words();
        if terminal.terminal.domain().is_none() {
            return Err(TableError::NoAddress);
        }
        let structure = Structure::claim(words, self.owner)?;
        let (part, ..) = words.find_part(meeting, domain)?.ok_or(TableError::UnknownPart(meeting, domain))?;
        let known = match words.find_member(terminal.terminal) {
            Err(Unreadable::Damaged) => match damaged_terminal(words, terminal.terminal) {
                Some(slot) => structure.throw_terminal_away(slot).map(|_| None)?,
                None => return Err(TableError::Damaged),
            },
            known => known?,
        };
        if let Some((.., member)) = known {
            let other = member.meeting();
            return Err(if other == meeting { TableError::Exists } else { TableError::Conflict(other) });
        }
        if words.count_members(part) as usize >= MEMBERS_MAX {
            return Err(TableError::Full("members of one part"));
        }
        let (slot, claim) = loop {
            let slot = first_free(words.terminal_bits(), words.capacity().terminals, self.terminal_hint);
            let slot = slot.ok_or(TableError::Full("terminals"))?;
            structure.begin(Operation::Join, part, Some(slot));
            match claim_raw(words, slot, self.owner) {
                Ok((_, claim)) => break (slot, claim),
                Err(TableError::Damaged) => drop(structure.throw_terminal_away(slot)?),
                Err(error) => {
                    structure.end();
                    return Err(error);
                }
            }
        };
        self.terminal_hint = slot;
        let hint = (&mut self.extent_hint, u32::MAX);
        let extent = extent_for(words, structure.cell, slot, None, &terminal.info, hint);
        let extent = extent.inspect_err(|_| structure.end())?;
        let mut raw = Raw::new(terminal, meeting);
        raw.set_info(&terminal.info, extent);
        raw.enter(words, slot, part, claim);
        structure.link(slot, part);
        let entered = structure.enter_terminal(slot, &raw);
        if !entered {
            structure.take_out_terminal(slot, part)?;
        }
        structure.end();
        if entered { Ok(()) } else { Err(TableError::Full("places in its index")) }
    }

    /// Removes a terminal; false if it is not a member of that meeting. One whose record is damaged
    /// is removed in any case.
    pub fn leave(&mut self, meeting: MeetingId, terminal: Address) -> Result<bool, TableError> {
        let words = self.table.words();
        let structure = Structure::claim(words, self.owner)?;
        let found = match words.find_member(terminal) {
            Err(Unreadable::Damaged) => {
                let Some(slot) = damaged_terminal(words, terminal) else { return Err(TableError::Damaged) };
                let discarded = structure.throw_terminal_away(slot)?;
                return Ok(discarded.is_some_and(|of| of.member_of.is_none_or(|(of, _)| of == meeting)));
            }
            found => found?,
        };
        let Some((slot, _, member)) = found else { return Ok(false) };
        if member.meeting() != meeting {
            return Ok(false);
        }
        structure.begin(Operation::Leave, member.part, Some(slot));
        let done = structure.take_out_terminal(slot, member.part);
        structure.end();
        self.terminal_hint = self.terminal_hint.min(slot);
        done.map(|()| true)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.table.give_back_writer(self.owner);
    }
}
