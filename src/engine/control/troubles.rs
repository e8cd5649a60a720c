//! What workers found wrong with the table: said once, and put right where that can be done.

use super::Control;
use super::journal::DatabaseHandle;
use crate::limits::{FULL_NAMED_MAX, TROUBLES_MAX};
use crate::link::troubles::Trouble;
use crate::recovery::{DatabaseStore, TableStore};
use crate::time::Nanos;
use crate::wire::{Address, Domain, MeetingId};

impl Control {
    /// Takes what the workers found. Gives whether there was anything.
    pub(super) fn take_troubles(&mut self, now: Nanos) -> bool {
        for taken in 0..TROUBLES_MAX {
            match self.shared.troubles.take() {
                None => return taken > 0,
                Some(Trouble::Full(terminal)) => self.name_full(terminal),
                Some(Trouble::Damaged(terminal)) => {
                    self.discard(now, terminal);
                    // It has looked through the whole index, which of a large table takes a while;
                    // many of them in one round would pass for a hang.
                    return true;
                }
            }
        }
        true
    }

    /// An alarm for each terminal, once. All are counted (`reports_full`), and the first of them
    /// are named.
    fn name_full(&mut self, terminal: Address) {
        if self.full.contains(&terminal) || self.full.len() >= FULL_NAMED_MAX {
            return;
        }
        let room = self.writer.table().information_max();
        tracing::error!(
            %terminal,
            room,
            "its additional information is not in the table: `room` terminals may have more than 16 bytes of it, and have; its \
             reports are answered CAPACITY. Give the table more `terminals` (`baton table resize`)"
        );
        self.full.push(terminal);
        if self.full.len() == FULL_NAMED_MAX {
            tracing::error!("further terminals that find no room are counted (reports_full), and not named");
            self.shared.troubles.have_enough();
        }
    }

    /// Throws away what of a domain's parts cannot be read though both sides agree: neither its
    /// autonomous server nor the database knows it, and its members must not be kept from other
    /// conferences by one that nobody has.
    pub(super) fn discard_parts(&mut self, domain: Domain) {
        let is_lost = self.store.as_ref().is_none_or(|store| store.is_lost() || store.opened.is_none());
        if is_lost || self.writer.table().unreadable() == 0 {
            return;
        }
        match self.writer.discard_damaged_parts_in(domain) {
            Ok(discarded) => {
                for meeting in discarded {
                    let meeting = meeting.map(|meeting| meeting.0);
                    tracing::warn!(%domain, meeting, "the table's record of a meeting that nobody knows was damaged; it was thrown away");
                }
            }
            Err(error) => tracing::warn!(%domain, %error, "damaged records of meetings cannot be thrown away yet"),
        }
    }

    /// Throws the damaged record of a terminal away. Its part is in doubt from then on, and its
    /// autonomous server is asked.
    fn discard(&mut self, now: Nanos, terminal: Address) {
        match self.writer.discard_damaged_terminal(terminal) {
            Ok(Some(discarded)) => {
                let meeting = discarded.member_of.map(|(meeting, _)| meeting.0);
                tracing::warn!(
                    %terminal,
                    meeting,
                    "the table's record of a terminal was damaged, by something other than Baton; it was thrown away, and its \
                     autonomous server is asked for it"
                );
                // Where that is too soon after another question, the terminal's next report, which
                // is that of a stranger now, asks again.
                if let Some((meeting, domain)) = discarded.member_of {
                    let meetings = [meeting, MeetingId::NONE];
                    self.recovery.handle_stray(now, domain, meetings, &mut holdings!(self));
                }
            }
            Ok(None) => {}
            // Its next report brings it here again.
            Err(error) => {
                tracing::warn!(%terminal, %error, "the damaged record of a terminal cannot be thrown away yet")
            }
        }
    }
}
