//! Parts of meetings: the record of one, and how it is found.
//!
//! ```text
//! 0 meeting │ 1 domain (40) state level layout │ 2 version │ 3 epoch │ 4 chairman (56) marks │ 5 run │ 6 checksum
//!                                                                                  └ bit 0 in doubt, the others 0
//! ```
//!
//! A slot is free if its word 1 is 0, because 0 is no domain.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::columns::held_under;
use super::layout::{BANK, Words};
use super::slot::{Seen, Unreadable, checksum};
use crate::wire::{
    Address, Domain, Epoch, Layout, Level, MeetingId, MeetingState, MeetingSummary, Run, epoch_with_text, mix,
};

/// A meeting's part in one autonomous domain, which is controlled and taken over as one. In JSON it
/// is what `docs/api.md` documents, for the API, `baton table inspect` and `baton sim` alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the other fields are those of docs/wire.md's MeetingSummary")]
pub struct Part {
    pub meeting: MeetingId,
    /// The autonomous domain whose server holds this part.
    pub domain: Domain,
    /// Counts the changes at that server.
    pub version: u64,
    /// The epoch under which it was taken over; [`Epoch::NONE`] while it is not.
    #[serde(flatten, with = "epoch_with_text")]
    pub epoch: Epoch,
    pub state: MeetingState,
    pub level: Level,
    pub layout: Layout,
    /// How many members the table holds. Joining and leaving keep it; a value that a caller writes
    /// here is ignored.
    pub participants: u16,
    /// The chairman's address; 0 where there is none, which in JSON is `null`.
    #[serde(with = "chairman_or_null")]
    pub chairman: Address,
    /// Whether its members may differ from those that the version stands for. A version is trusted
    /// after a death, so it is never written before its members without this mark, which the same
    /// store publishes. It is between the table and recovery, and not in JSON.
    #[serde(skip)]
    pub in_doubt: bool,
    /// Whether level, layout and chairman may differ from those that the version stands for: they
    /// are the whole conference's, as the database has them, and not yet those of this part. Its
    /// members do not settle that, only its autonomous server's summary does, and no audit counts
    /// the part before. Not in JSON either.
    #[serde(skip)]
    pub is_unlisted: bool,
    /// Which of the conferences that have had the meeting's number. Not in JSON: 64 random bits are
    /// more than many readers' numbers hold.
    #[serde(skip)]
    pub run: Run,
}

/// The form of a chairman's address in JSON.
mod chairman_or_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::wire::Address;

    pub fn serialize<S: Serializer>(chairman: &Address, serializer: S) -> Result<S::Ok, S::Error> {
        Some(chairman).filter(|&&chairman| chairman != Address::default()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
        Option::deserialize(deserializer).map(Option::unwrap_or_default)
    }
}

/// Word 4, above the address: [`Part::in_doubt`].
const IN_DOUBT: u64 = 1 << 56;
/// Beside it: [`Part::is_unlisted`].
const UNLISTED: u64 = 1 << 57;

/// The record of a free slot.
pub(super) const FREE: [u64; BANK] = [0; BANK];

impl Part {
    /// The part as the autonomous server of this domain lists it.
    pub fn listed(domain: Domain, summary: &MeetingSummary) -> Self {
        let MeetingSummary { meeting, version, controller: epoch, state, level, participants, layout, chairman, run } =
            *summary;
        let (in_doubt, is_unlisted) = (false, false);
        Self {
            meeting,
            domain,
            version,
            epoch,
            state,
            level,
            layout,
            participants,
            chairman,
            in_doubt,
            is_unlisted,
            run,
        }
    }

    pub(super) fn encode(&self) -> [u64; BANK] {
        let kind = u64::from(self.state.wire()) << 40
            | u64::from(self.level.number()) << 48
            | u64::from(self.layout.windows()) << 56;
        let marks = if self.in_doubt { IN_DOUBT } else { 0 } | if self.is_unlisted { UNLISTED } else { 0 };
        let domain = self.domain.number();
        let chairman = self.chairman.number();
        let mut bank = [self.meeting.0, domain | kind, self.version, self.epoch.0, chairman | marks, self.run.0, 0];
        bank[BANK - 1] = checksum(&bank[..BANK - 1], &[]);
        bank
    }

    /// The part in a bank, or none if the slot is free; an outer none if the bank is damaged.
    #[inline]
    pub(super) fn decode(bank: &[u64; BANK]) -> Option<Option<Self>> {
        if checksum(&bank[..BANK - 1], &[]) != bank[BANK - 1] {
            return None;
        }
        if bank[1] == 0 {
            return Some(None);
        }
        Some(Some(Self {
            meeting: MeetingId(bank[0]),
            domain: Domain::new(bank[1] & Domain::MAX)?,
            version: bank[2],
            epoch: Epoch(bank[3]),
            state: MeetingState::from_wire((bank[1] >> 40) as u8)?,
            level: Level::new((bank[1] >> 48) as u8)?,
            layout: Layout::new((bank[1] >> 56) as u8)?,
            participants: 0,
            chairman: Address::from_number(bank[4]),
            in_doubt: bank[4] & IN_DOUBT != 0,
            is_unlisted: bank[4] & UNLISTED != 0,
            run: Run(bank[5]),
        }))
    }
}

/// The hash that a part is found by.
pub(super) fn part_hash(meeting: MeetingId, domain: Domain) -> u64 {
    mix(meeting.0 ^ mix(domain.number()))
}

/// The hash that the first part of a meeting is found by, in an index of its own.
pub(super) fn meeting_hash(meeting: MeetingId) -> u64 {
    mix(meeting.0)
}

impl Words<'_> {
    /// The part in a slot; none if it is free or there is no such slot.
    #[inline]
    pub fn read_part(self, slot: u32) -> Result<Option<(Seen, Part)>, Unreadable> {
        let Some(words) = self.part(slot) else { return Ok(None) };
        // Read while the record is unchanged, so that neither is ever that of a later part in
        // the slot.
        let (seen, (part, members, held)) = words
            .read(|bank, _| Part::decode(bank).map(|part| (part, self.count_members(slot), held_under(self, slot))))?;
        let epoch = |part: &Part| held.unwrap_or(part.epoch);
        Ok(part.map(|part| (seen, Part { participants: members as u16, epoch: epoch(&part), ..part })))
    }

    /// The part in a slot, if it is this one.
    #[inline]
    pub fn part_of(
        self,
        slot: u32,
        meeting: MeetingId,
        domain: Domain,
    ) -> Result<Option<(u32, Seen, Part)>, Unreadable> {
        let there = self.read_part(slot)?.filter(|(_, part)| part.meeting == meeting && part.domain == domain);
        Ok(there.map(|(seen, part)| (slot, seen, part)))
    }

    pub fn find_part(self, meeting: MeetingId, domain: Domain) -> Result<Option<(u32, Seen, Part)>, Unreadable> {
        let mut wrong = None;
        let found =
            self.part_index().find(part_hash(meeting, domain), |slot| match self.part_of(slot, meeting, domain) {
                Ok(found) => found,
                Err(unreadable) => {
                    wrong = Some(unreadable);
                    None
                }
            });
        if found.is_some() { Ok(found) } else { wrong.map_or(Ok(None), Err) }
    }

    /// The first of a meeting's chain of parts. The caller has the structure's claim: only then
    /// does an entry surely name a live part.
    pub fn first_part_of(self, meeting: MeetingId) -> Option<u32> {
        self.meeting_index().find(meeting_hash(meeting), |slot| {
            matches!(self.read_part(slot), Ok(Some((_, part))) if part.meeting == meeting).then_some(slot)
        })
    }

    /// The part after this one in its meeting's chain.
    pub fn sibling_of(self, slot: u32) -> Option<u32> {
        // Acquire pairs with the Release stores of `enter_part` and `take_out_part`.
        let sibling = self.place_sibling(slot)?.load(Ordering::Acquire);
        sibling.checked_sub(1).and_then(|slot| slot.try_into().ok())
    }
}
