//! Step 1, lookup: learn which meetings the autonomous server holds, and look each up in the cache
//! or the database.
//!
//! On the database path everything begins with the listing. A living cache knows what it holds, and
//! asks for a listing only once its takeovers are answered and only if the autonomous server said
//! in CONNECT_ACK that it holds another number of meetings than it was found to hold, or if one of
//! them is in doubt here. That is how
//! what nobody here knows is found; a differing audit is the other reason. What cannot be looked up
//! for want of a database is kept until it can, and holds nothing up.

use std::collections::BTreeMap;
use std::time::Duration;

use super::event::Event;
use super::listing::Listing;
use super::orphans;
use super::request::Request;
use super::settings::Orphans;
use super::shared::Shared;
use super::step::Step;
use super::store::{Lookup, Store};
use crate::cascade::Purpose;
use crate::limits;
use crate::time::Nanos;
use crate::wire::{MeetingId, MeetingState, MeetingSummary, Message, Opcode, Page, Transaction};

/// The listing, and what of it could not be looked up.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    listing: Listing,
    /// Orphans that are not noted, because there are too many.
    beyond: u32,
    /// Listed meetings that cannot be looked up yet.
    undecided: BTreeMap<MeetingId, MeetingSummary>,
    /// There were more.
    has_more_undecided: bool,
    /// When they are looked up once more, and how long that was put off.
    undecided_due: Nanos,
    undecided_pause: Duration,
}

/// What of the other steps a listing waits for.
pub(super) struct Before {
    pub is_connected: bool,
    /// Whether all that is held here was asked for, and answered.
    pub is_taken_over: bool,
    /// How many of them the autonomous server was found to hold.
    pub found: u32,
    /// Whether one of them is in doubt: what its summary says is asked for.
    pub has_doubts: bool,
}

impl Lookups {
    pub fn is_complete(&self) -> bool {
        self.listing.is_complete()
    }

    /// Orphans beyond those that are noted.
    pub fn beyond(&self) -> u32 {
        self.beyond
    }

    pub fn due(&self) -> Option<Nanos> {
        (!self.undecided.is_empty()).then_some(self.undecided_due)
    }

    /// Lists from 0 again. What cannot be looked up yet stays so.
    pub fn begin_round(&mut self, shared: &mut Shared) {
        shared.exchange.close_all(|purpose| purpose == Purpose::Listing);
        self.listing = Listing::default();
        self.beyond = 0;
    }

    pub fn poll(
        &mut self,
        shared: &mut Shared,
        now: Nanos,
        before: &Before,
        holdings: &mut dyn Store,
    ) -> Option<Request> {
        let transaction = match shared.exchange.poll_due(now, Purpose::Listing) {
            // What came without a gap is not asked for again.
            Some(due) => {
                self.listing.advance();
                if self.listing.is_complete() {
                    shared.exchange.close(due.transaction);
                    self.end(shared, holdings);
                    return None;
                }
                shared.note_repeat(&due);
                due.transaction
            }
            None => {
                if self.listing.is_complete()
                    || !before.is_connected
                    || !shared.exchange.has_room(Purpose::Listing)
                    || self.is_needless(shared, before, holdings)
                {
                    return None;
                }
                shared.exchange.ask(now, Purpose::Listing, Opcode::InfoQuery, MeetingId::NONE)?
            }
        };
        let message = Message::InfoQuery { first: self.listing.first() };
        Some(shared.request(transaction, MeetingId::NONE, message))
    }

    /// A living cache held all that there is, if the autonomous server holds no more than was asked
    /// for and nothing of that is in doubt.
    fn is_needless(&mut self, shared: &mut Shared, before: &Before, holdings: &mut dyn Store) -> bool {
        if !shared.overlaps || self.listing.first() != MeetingId::NONE {
            return false;
        }
        if !before.is_taken_over {
            return true;
        }
        let is_needless = shared.progress.held == Some(before.found) && !before.has_doubts;
        if is_needless {
            self.listing.complete();
            self.end(shared, holdings);
        }
        is_needless
    }

    pub fn handle_info(
        &mut self,
        shared: &mut Shared,
        now: Nanos,
        transaction: Transaction,
        page: &Page<'_>,
        holdings: &mut dyn Store,
    ) {
        // A page that says nothing new does not put off asking for those that are lost.
        let Some(taken) = self.listing.take(page) else { return };
        shared.exchange.heard(now, transaction);
        shared.alarms.answered(Opcode::InfoQuery);
        for summary in &taken.summaries {
            self.handle_summary(shared, summary, holdings);
        }
        for meeting in taken.dropped {
            shared.note_bad(Opcode::Info, meeting);
        }
        if self.listing.is_whole() {
            shared.exchange.close(transaction);
            self.listing.next_transaction();
            if self.listing.is_complete() {
                shared.timeline.listed.get_or_insert(now);
                self.end(shared, holdings);
            }
        }
    }

    /// Gives up what is not listed yet: it is asked for by name, where we hold it.
    pub fn give_up(&mut self, shared: &mut Shared, transaction: Transaction, holdings: &mut dyn Store) {
        shared.exchange.close(transaction);
        self.listing.complete();
        self.end(shared, holdings);
    }

    /// Nothing more is listed: what was noted of orphans and is not listed any more is forgotten.
    fn end(&mut self, shared: &mut Shared, holdings: &mut dyn Store) {
        if self.listing.is_endless() {
            shared.alarms.endless();
        }
        let Shared { meetings, alarms, .. } = shared;
        meetings.end_round();
        alarms.keep_orphans(|meeting| meetings.step(meeting).is_some());
        holdings.keep_orphans(shared.domain, &|meeting| meetings.step(meeting) == Some(Step::Orphan));
    }

    /// Looks up once more what could not be looked up. True where a listing from 0 is needed for
    /// the others.
    pub fn poll_undecided(&mut self, shared: &mut Shared, now: Nanos, holdings: &mut dyn Store) -> bool {
        if !self.listing.is_complete() || self.due().is_none_or(|due| due > now) {
            return false;
        }
        for summary in std::mem::take(&mut self.undecided).into_values() {
            self.handle_summary(shared, &summary, holdings);
        }
        if !self.undecided.is_empty() {
            self.put_off_undecided(shared);
            return false;
        }
        self.undecided_pause = Duration::ZERO;
        std::mem::take(&mut self.has_more_undecided)
    }

    fn put_off_undecided(&mut self, shared: &Shared) {
        self.undecided_pause = (self.undecided_pause * 2).clamp(shared.settings.rto_min, shared.settings.rto_max);
        self.undecided_due = shared.now + self.undecided_pause;
    }

    fn handle_summary(&mut self, shared: &mut Shared, summary: &MeetingSummary, holdings: &mut dyn Store) {
        let meeting = summary.meeting;
        if shared.meetings.step(meeting).is_some_and(Step::is_taken_over) && !holdings.holds(shared.domain, summary) {
            // It ended meanwhile, or its record cannot be read: what is listed is looked up as if
            // it had not been known.
            shared.meetings.forget(meeting);
        }
        let is_of_this_round = shared.meetings.is_of_this_round(meeting);
        match shared.meetings.list(meeting, summary) {
            Some(Step::Asked) => {}
            Some(step) if step.is_taken_over() => {
                // The first round's takeovers may have been answered after a page was written. A
                // later one that still names another controller means that ours was lost with the
                // autonomous server's memory.
                if !shared.overlaps && summary.controller != shared.epoch {
                    let version = holdings.version(shared.domain, meeting).unwrap_or(summary.version);
                    shared.meetings.take_over(meeting, version, Some(summary));
                } else if shared.update_meeting(summary, holdings) {
                    shared.meetings.update(meeting);
                }
            }
            // The engine may have finished it meanwhile, and taken it for settled: it is told once
            // more, for its members are to be asked for as soon as no operation has it.
            Some(Step::Unfinished) if is_of_this_round => {
                if shared.update_meeting(summary, holdings) {
                    shared.alarms.tell(Event::Unfinished { domain: shared.domain, meeting });
                }
            }
            Some(Step::Refused) if is_of_this_round => {}
            _ => self.look_up(shared, summary, holdings),
        }
    }

    fn look_up(&mut self, shared: &mut Shared, summary: &MeetingSummary, holdings: &mut dyn Store) {
        let meeting = summary.meeting;
        match holdings.look_up(shared.domain, summary) {
            // It was started under this epoch, or the takeover was answered before the machine
            // began again.
            Lookup::Found { epoch, .. } if epoch == shared.epoch && summary.controller == shared.epoch => {
                shared.meetings.name(meeting);
                if shared.update_meeting(summary, holdings) {
                    shared.meetings.set_step(meeting, Step::Asked);
                    shared.meetings.update(meeting);
                }
            }
            Lookup::Found { version, .. } => shared.meetings.take_over(meeting, version, Some(summary)),
            _ if matches!(summary.state, MeetingState::None | MeetingState::Ended) => {}
            Lookup::Unknown => self.handle_orphan(shared, summary, shared.settings.orphans, holdings),
            // Nobody can say any more whether it is ours: it is left alone under any setting.
            Lookup::Unknowable => self.handle_orphan(shared, summary, Orphans::Leave, holdings),
            // Ours is not there any more: another conference has its number, and that one is an
            // orphan.
            Lookup::Another => {
                shared.handle_absence(meeting, holdings);
                if shared.meetings.step(meeting) == Some(Step::Missing) {
                    shared.meetings.set_step(meeting, Step::Replaced);
                }
                shared.alarms.orphan(summary);
            }
            // Somebody was told that it has ended: that is made true under any setting for orphans.
            Lookup::Ended => orphans::end_remnant(shared, meeting),
            Lookup::Full => {
                shared.meetings.set_step(meeting, Step::Refused);
                shared.alarms.full(meeting);
            }
            Lookup::NotYet => {
                if self.undecided.is_empty() && self.undecided_pause == Duration::ZERO {
                    self.put_off_undecided(shared);
                }
                if self.undecided.len() < limits::UNDECIDED_MAX {
                    self.undecided.insert(meeting, *summary);
                } else {
                    self.has_more_undecided = true;
                }
            }
        }
    }

    fn handle_orphan(
        &mut self,
        shared: &mut Shared,
        summary: &MeetingSummary,
        become_of: Orphans,
        holdings: &mut dyn Store,
    ) {
        if !orphans::handle_orphan(shared, summary, become_of, holdings) {
            self.beyond += 1;
        }
    }
}
