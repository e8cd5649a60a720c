//! Parts that operations have, and that others had to leave alone.
//!
//! Recovery takes no list of the members of a part whose start or end a death cut short, because an
//! autonomous server that has only some of them yet would undo what is written ahead. What their
//! terminals did meanwhile nobody has asked for when operations have finished it: one that was
//! taken from the database is in doubt then, and its autonomous server is asked. And a part that an
//! operation has is not held against the database: it is, when the operation is done.

use std::collections::BTreeSet;

use super::records::Records;
use crate::cms::Operations;
use crate::limits::STRAYS_PAUSE;
use crate::recovery::Recovery;
use crate::time::Nanos;
use crate::wire::{Domain, MeetingId, MeetingState};

/// Those that were met, until nothing about them is in doubt and the database has them. There are
/// as many as operations can be under way or cut short.
#[derive(Default)]
pub(super) struct Unfinished {
    parts: BTreeSet<(Domain, MeetingId)>,
    /// When they are looked at again.
    next: Nanos,
}

impl Unfinished {
    /// One was met.
    pub fn note(&mut self, domain: Domain, meeting: MeetingId) {
        self.parts.insert((domain, meeting));
    }

    /// When to look at them.
    pub fn due(&self) -> Option<Nanos> {
        (!self.parts.is_empty()).then_some(self.next)
    }

    /// Has recovery ask about those that are finished and in doubt, and the others written.
    pub fn look(&mut self, now: Nanos, records: &mut Records, operations: &Operations, recovery: &mut Recovery) {
        if self.parts.is_empty() || now < self.next {
            return;
        }
        self.next = now + STRAYS_PAUSE;
        self.parts.retain(|&(domain, meeting)| {
            let Some(part) = records.writer.table().part(meeting, domain) else { return false };
            let is_in_doubt = part.in_doubt && part.state == MeetingState::InMeeting;
            if is_in_doubt && !operations.is_under_way(meeting) {
                recovery.ask_about(now, domain, meeting);
            }
            is_in_doubt || records.with(operations, |store| !store.write_what_is_not_kept(&part))
        });
    }
}
