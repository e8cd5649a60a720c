//! A new table that is warmed from a snapshot, as the database confirms it.
//!
//! | the part in the snapshot, and in the database | in the table |
//! |---|---|
//! | the same run and version, and it was not in doubt | as the snapshot has it: members, layout, chairman, the terminals' states |
//! | the same run, and another version, or it was in doubt, or an operation has it | as the database has it, its terminals' states as the snapshot has them |
//! | another run | nothing of the snapshot: the database's conference comes by its own walk |
//! | not in the database, or ended there | nothing |
//!
//! What the database alone has comes by the walk over that. Epochs, fences and reservations are the
//! database's and never the snapshot's.
//!
//! A version stands for the members, the layout and the chairman that a conference has, because it
//! counts every command. It does not stand for what terminals report. So even a part that the
//! database confirms is in doubt in the table, until its autonomous server was asked for its
//! terminals (`refresh`); but unlike one that came from the database it counts in the audit, so
//! both sides can agree before that. Where a state is in both, the newer one counts.

use super::database::{Held, KeyStore, Unreadable};
use super::entering::freshen;
use super::store::{Cursor, Meet};
use super::table_store::TableStore;
use super::warming::Counts;
use crate::database::LastCommit;
use crate::limits::WARM_LOOKS;
use crate::table::archive::{Archive, ArchivedPart, SnapshotFault};
use crate::table::{Part, TableError};
use crate::wire::{Domain, Epoch, MeetingId, MeetingState, TakeoverEntry};

/// What became of a part.
enum Entered {
    /// It is in the table at this version.
    Here(u64),
    LeftOut,
}

/// Whether a conference in this state goes on, and no operation has it.
fn goes_on(state: MeetingState) -> bool {
    matches!(state, MeetingState::InMeeting | MeetingState::Recovering)
}

impl<S: KeyStore> TableStore<'_, S> {
    /// See [`super::Store::walk_snapshot`].
    pub(super) fn warm(&mut self, domain: Domain, cursor: &mut Cursor, meet: Meet<'_>) -> Result<bool, Unreadable> {
        let Some(warming) = self.warming.take() else { return Ok(false) };
        let walked = match warming.parts() {
            Some((archive, counts)) => self.walk_archive(archive, counts, domain, cursor, meet),
            None => Ok(Ok(false)),
        };
        let walked = walked.map(|walked| {
            walked.unwrap_or_else(|fault| {
                warming.refuse(fault);
                false
            })
        });
        self.warming = Some(warming);
        walked
    }

    /// The cursor is segment << 32 │ part in it.
    fn walk_archive(
        &mut self,
        archive: &Archive,
        mut counts: Counts<'_>,
        domain: Domain,
        cursor: &mut Cursor,
        meet: Meet<'_>,
    ) -> Result<Result<bool, SnapshotFault>, Unreadable> {
        let stored = self.store.last_commit()?;
        let mut looks = 0;
        while let Some(number) = archive.next_in(domain, (cursor.0 >> 32) as usize) {
            if number as u64 != cursor.0 >> 32 {
                cursor.0 = (number as u64) << 32;
            }
            let segment = match archive.segment(number) {
                Ok(segment) => segment,
                Err(fault) => return Ok(Err(fault)),
            };
            while let Some(archived) = segment.get(cursor.0 as u32 as usize) {
                if looks == WARM_LOOKS || *counts.left == 0 {
                    return Ok(Ok(true));
                }
                looks += 1;
                let entered = match archived.part() {
                    Some(part) => self.enter(domain, &part, &archived, &stored, &mut counts)?.at(part.meeting),
                    None => None,
                };
                // Behind what was done: what cannot be read now is come back to.
                cursor.0 += 1;
                if let Some(entry) = entered
                    && !meet(entry, *cursor)
                {
                    return Ok(Ok(true));
                }
            }
            cursor.0 = (number as u64 + 1) << 32;
        }
        Ok(Ok(false))
    }

    /// Puts a part of the snapshot into the table, as far as the database confirms it.
    fn enter(
        &mut self,
        domain: Domain,
        part: &Part,
        archived: &ArchivedPart<'_>,
        stored: &LastCommit,
        counts: &mut Counts<'_>,
    ) -> Result<Entered, Unreadable> {
        let meeting = part.meeting;
        // What the table has is newer: an engine before this one has begun to fill it, or the
        // other of the two walks was here.
        if let Some(part) = self.part(meeting, domain) {
            return Ok(Entered::Here(part.version));
        }
        let kept = match stored.run_and_part(meeting, domain).map_err(|_| Unreadable)? {
            Some((run, kept)) if run == part.run => kept,
            _ => return Ok(Entered::LeftOut),
        };
        let Counts { warmed, left } = counts;
        **left = left.saturating_sub(1 + u32::from(part.participants));
        let is_settled = kept.version == part.version && !part.in_doubt && !part.is_unlisted;
        // Without room it is asked for nonetheless, as one from the database.
        if is_settled && goes_on(kept.state) && goes_on(part.state) {
            if let Ok(is_confirmed) = self.enter_confirmed(domain, part, archived, stored) {
                warmed.confirmed += u64::from(is_confirmed);
                warmed.in_doubt += u64::from(!is_confirmed);
            }
        } else if let Held::Alive(parameters) = self.store.meeting(meeting)? {
            let restored = self.restore(domain, &parameters, &kept, |terminal| archived.member(terminal));
            warmed.in_doubt += u64::from(restored.is_ok());
        }
        Ok(Entered::Here(kept.version))
    }

    /// Enters a part as the snapshot has it. Until its last member is in it is `prepared`, as one
    /// from the database. False where a member is another's by now: what the part's version stands
    /// for is not what the table has, and its autonomous server is to say.
    fn enter_confirmed(
        &mut self,
        domain: Domain,
        part: &Part,
        archived: &ArchivedPart<'_>,
        stored: &LastCommit,
    ) -> Result<bool, TableError> {
        let entered = Part {
            epoch: Epoch::NONE,
            state: MeetingState::Prepared,
            participants: 0,
            in_doubt: true,
            is_unlisted: true,
            ..*part
        };
        match self.insert_part(&entered) {
            Ok(()) | Err(TableError::Exists) => {}
            Err(error) => return Err(error),
        }
        let mut is_whole = true;
        for mut member in archived.members() {
            if self.speakers.owner(member.terminal) != Some(domain) {
                is_whole = false;
                continue;
            }
            freshen(&mut member, Some(stored));
            match self.writer.join(part.meeting, domain, &member) {
                Ok(()) | Err(TableError::Exists) => {}
                Err(TableError::Conflict(_) | TableError::Damaged) => is_whole = false,
                Err(error) => return Err(error),
            }
        }
        // All of it: an engine that died may have begun to enter it as something else.
        let change = |record: &mut Part| {
            *record = Part { state: MeetingState::Recovering, is_unlisted: !is_whole, ..entered };
        };
        self.writer.update_part(part.meeting, domain, change)?;
        Ok(is_whole)
    }
}

impl Entered {
    fn at(&self, meeting: MeetingId) -> Option<TakeoverEntry> {
        match *self {
            Self::Here(version) => Some(TakeoverEntry { meeting, version }),
            Self::LeftOut => None,
        }
    }
}
