//! What a snapshot cannot know: the reports that came after it. They were acknowledged, so their
//! terminals do not repeat them, and the table that had them is gone. When both sides agree, or
//! wait for their next round because they do not, the members of every part that came from the
//! snapshot are asked for, level 1 first.
//!
//! Until then such a part is in doubt in the table, so an engine that follows in the midst of this
//! asks for what is left. Control does not wait for it: who is in which conference is proven
//! before, and only what its terminals did since may be older.

use super::shared::Shared;
use super::store::{Cursor, Store};
use super::sweep::AT_ONCE;
use crate::time::Nanos;

/// The walk over what is to be asked about.
#[derive(Debug, Default)]
pub(super) struct Refresh {
    cursor: Cursor,
    /// There are no more: it is over when the last one is answered.
    is_walked: bool,
    resume: Nanos,
}

impl Refresh {
    /// When to go on with the walk.
    pub fn resume(&self) -> Nanos {
        self.resume
    }

    /// Wants the next ones asked about, as many as may be asked at once.
    pub fn fill(&mut self, shared: &mut Shared, holdings: &mut dyn Store) {
        let (mut left, mut any) = (shared.settings.queries, false);
        let (domain, epoch) = (shared.domain, shared.epoch);
        let meetings = &mut shared.meetings;
        self.is_walked |= !holdings.walk_doubts(domain, epoch, &mut self.cursor, &mut |entry, _| {
            any |= meetings.refresh(entry.meeting);
            left -= 1;
            left > 0
        });
        if !any && !self.is_walked {
            self.resume = shared.now + AT_ONCE;
        }
    }

    /// All were asked about and answered, where no question is on its way: none is left to be asked
    /// about later.
    pub fn end(&mut self, shared: &mut Shared) {
        if self.is_walked {
            shared.refreshes = false;
            shared.timeline.refreshed = Some(shared.now);
        }
    }
}
