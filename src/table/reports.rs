//! Reports: the hot path, which all writers enter at the same time.

use super::claims::{Named, evict_nobody};
use super::extents::{self, extent_for, publish};
use super::intent::Cell;
use super::prefetch::SlotHint;
use super::slot::{Unreadable, pause};
use super::version_order::is_newer;
use super::writer::Writer;
use crate::limits::{CLAIM_JUDGED_EVERY, CLAIM_TRIES_WORKER, EXTENT_PROBES_MAX};
use crate::wire::{Address, Business, Decode, Flags, Info, MeetingId, Report, Role, StreamKind, TerminalState};

/// What became of a report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reported {
    /// It is in the table.
    Applied,
    /// The table has this version or a later one.
    Known,
    /// No part has this terminal.
    UnknownTerminal,
    /// The terminal is a member of this other meeting; nothing was changed.
    OtherMeeting(MeetingId),
    /// Another writer has claimed the record, or no extent was free among those looked at; the
    /// report will be repeated.
    Contended,
    /// There is no room for its additional information: this writer has looked at every extent
    /// since it last found a free one.
    Full,
    /// Its record is damaged.
    Damaged,
}

impl Writer {
    /// Enters a terminal's report, if it is newer. [`MeetingId::NONE`] stands for the meeting that
    /// the terminal is in. Versions count from 1: 0 is of a terminal that has not reported yet, and
    /// any report is newer.
    #[expect(clippy::too_many_arguments, reason = "they are the fields of REPORT")]
    pub fn report(
        &mut self,
        terminal: Address,
        meeting: MeetingId,
        version: u32,
        business: Business,
        decode: Decode,
        role: Role,
        flags: Flags,
        channel: u8,
        stream: StreamKind,
        info: &[u8],
    ) -> Reported {
        let info = Info::new(info);
        let state = TerminalState { meeting, terminal, version, business, decode, role, flags, channel, stream, info };
        self.report_state(&state)
    }

    /// As [`Self::report`], of a terminal that [`Table::prefetch_record`] has just found: the hot
    /// path, without an index look-up if it is still there. Never allocates, locks or waits.
    ///
    /// [`Table::prefetch_record`]: super::Table::prefetch_record
    #[inline]
    pub fn report_at(&mut self, near: SlotHint, report: &Report) -> Reported {
        match self.report_short(near, report) {
            Some(reported) => reported,
            None => self.report_state(&report.into()),
        }
    }

    /// Enters it in the simple case: the record is where the hint says, whole and unclaimed, and
    /// has no extent. None, and nothing is changed, in other cases.
    #[inline(always)]
    fn report_short(&mut self, near: SlotHint, report: &Report) -> Option<Reported> {
        let words = self.table.words();
        let number = near.0?;
        let line = words.terminal(number)?;
        let (seen, mut head) = line.read(|head, check, _| head.is_short(check).then_some(head)).ok()?;
        if head.address() != report.terminal {
            return None;
        }
        if report.meeting != MeetingId::NONE && report.meeting != head.meeting() {
            return Some(Reported::OtherMeeting(head.meeting()));
        }
        if !is_newer(report.version, head.version()) {
            return Some(Reported::Known);
        }
        Cell(words.cell(self.owner)).note_terminal(number);
        let claim = line.slot().claim(seen, self.owner)?;
        let [a, b, c, d, e, f] = report.info;
        head.set_stated(report.into());
        head.set_short_info(report.info_len(), u64::from_le_bytes([a, b, c, d, e, f, 0, 0]));
        line.publish(claim, &head, head.check(&[]));
        Some(Reported::Applied)
    }

    /// As [`Self::report`], for a whole state.
    #[inline(never)]
    pub fn report_state(&mut self, state: &TerminalState) -> Reported {
        for tried in 0..CLAIM_TRIES_WORKER {
            match self.try_report(state) {
                Some(reported) => return reported,
                None => {
                    // Without yielding: a worker does not give up its processor.
                    pause(tried % 2);
                    if tried % CLAIM_JUDGED_EVERY == CLAIM_JUDGED_EVERY - 1 {
                        self.evict_nobody(state.terminal);
                    }
                }
            }
        }
        Reported::Contended
    }

    /// Checks that the claim on a terminal's record has a holder.
    #[cold]
    fn evict_nobody(&self, terminal: Address) {
        let words = self.table.words();
        if let Ok(Some((slot, ..))) = words.find_terminal(terminal) {
            evict_nobody(words, Named::Terminal(slot), self.owner);
        }
    }

    /// One try; none if another writer had the record.
    fn try_report(&mut self, state: &TerminalState) -> Option<Reported> {
        let words = self.table.words();
        let (slot, seen, old) = match words.find_terminal(state.terminal) {
            Ok(Some(found)) => found,
            Ok(None) => return Some(Reported::UnknownTerminal),
            Err(Unreadable::Damaged) => return Some(Reported::Damaged),
            Err(Unreadable::Contended) => return None,
        };
        if state.meeting != MeetingId::NONE && state.meeting != old.meeting() {
            return Some(Reported::OtherMeeting(old.meeting()));
        }
        if !is_newer(state.version, old.version()) {
            return Some(Reported::Known);
        }
        if seen.is_claimed() {
            return None;
        }
        let cell = Cell(words.cell(self.owner));
        let hint = (&mut self.extent_hint, EXTENT_PROBES_MAX);
        let Ok(extent) = extent_for(words, cell, slot, old.extent(), &state.info, hint) else {
            self.extents_taken = self.extents_taken.saturating_add(EXTENT_PROBES_MAX);
            let all = self.extents_taken >= words.extents();
            return Some(if all { Reported::Full } else { Reported::Contended });
        };
        if extent.is_some() && old.extent().is_none() {
            self.extents_taken = 0;
        }
        cell.note_terminal(slot);
        let Some(claim) = words.terminal(slot).and_then(|line| line.slot().claim(seen, self.owner)) else {
            if extent != old.extent() {
                extents::give_back(words, extent, slot);
            }
            return None;
        };
        let mut new = old;
        new.set_stated(state.into());
        new.set_info(&state.info, extent);
        publish(words, cell, slot, &old, &new, claim);
        Some(Reported::Applied)
    }
}
