//! Step 4, update backwards: what the autonomous server says now overwrites what cache and database
//! said then.
//!
//! Meeting information comes with the listing; business state, decode state and additional
//! information of the terminals with STATE. STATE is asked for of every meeting that came from the
//! database, and from a living cache only of one whose version or number of members differs, or
//! that is marked as in doubt: a version counts every command, and what terminals did meanwhile
//! they report until it is acknowledged. The mark is in the cache itself, because whatever asks may
//! die between writing the version and writing the members. Only a whole answer counts, because a
//! terminal that it lacks left; and only one to a question asked when the part had the version that
//! it has now, because a member may have been added since, and the answer would not know.
//!
//! An answer to our own question is the truth, whatever versions it bears: a terminal whose version
//! in the table is still the one that it was when we asked is what the answer says, though that be
//! older. Its memory, or its autonomous server's, went back.
//!
//! Records that cannot be, and those about terminals that are not this domain's, are dropped and
//! told. A terminal whose record cannot be read is a member all the same and stays as it is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::ask::Ask;
use super::retry::Retries;
use super::server::Step;
use super::{Listed, Request, ServerRecovery, Settings, Store, Written};
use crate::limits;
use crate::time::Nanos;
use crate::wire::{Address, Malformed, MeetingId, Message, Opcode, Page, Status, TerminalState, Transaction};

/// Meetings to be asked about, and questions on their way.
#[derive(Clone, Debug, Default)]
pub(super) struct Updates {
    queue: VecDeque<MeetingId>,
    flights: Vec<Query>,
    /// Meetings to be asked about later: STATE was refused, or there is a sign against what was
    /// answered. They hold nothing up.
    pub again: Retries,
}

/// One STATE_QUERY on its way.
#[derive(Clone, Debug)]
struct Query {
    ask: Ask,
    meeting: MeetingId,
    /// Of the part when it was asked.
    version: u64,
    /// Of its members in the table, ascending by terminal, when it was asked.
    members: Vec<(Address, u32)>,
    /// The pages that came, and how many they are.
    pages: Vec<Option<Vec<TerminalState>>>,
    came: usize,
    /// Terminals whose records could not be read.
    unread: BTreeSet<Address>,
    /// A part of the answer could not be read.
    is_cut: bool,
    /// What is asked anew is asked after this; it doubles each time.
    pause: Duration,
}

impl Query {
    /// Asks anew, and not before: pages of the old answer do not count for the new one. The first
    /// time at once, if `now` says so.
    fn renew(&mut self, now: Nanos, settings: &Settings) {
        self.ask.refused(now + self.pause);
        self.pause = (self.pause * 2).clamp(settings.rto_min, settings.rto_max);
        self.forget_answer();
    }

    fn forget_answer(&mut self) {
        self.pages.clear();
        self.came = 0;
        self.unread.clear();
        self.is_cut = false;
    }

    /// Every terminal once, ascending, if every page came; and those that came more than once.
    /// Nothing is looked at before: a page can be repeated for as long as another one is kept back.
    fn whole(&self) -> Option<(Vec<TerminalState>, u32)> {
        if self.came < self.pages.len() {
            return None;
        }
        let mut terminals = BTreeMap::new();
        let mut twice = 0;
        for page in &self.pages {
            for terminal in page.as_ref()? {
                twice += u32::from(terminals.insert(terminal.terminal, *terminal).is_some());
            }
        }
        Some((terminals.into_values().collect(), twice))
    }
}

/// Why a record was dropped.
enum Dropped {
    /// It cannot be.
    Bad,
    /// It is about a terminal that is not this domain's.
    Foreign(Address),
}

impl Query {
    /// Takes a page's records in; gives what of them was dropped.
    fn take(&mut self, page: &Page<'_>, owns: impl Fn(Address) -> bool) -> Vec<Dropped> {
        let (mut taken, mut dropped) = (Vec::new(), Vec::new());
        let records = page.records::<TerminalState>();
        self.is_cut |= records.is_err();
        dropped.extend(records.is_err().then_some(Dropped::Bad));
        if let Ok(mut records) = records {
            while let Some((meeting, terminal)) = records.numbers() {
                let Some(record) = records.next() else { break };
                let (meeting, terminal) = (MeetingId(meeting), Address::from_number(terminal));
                if meeting != self.meeting {
                    dropped.push(Dropped::Bad);
                } else if !owns(terminal) {
                    dropped.push(Dropped::Foreign(terminal));
                } else if let Ok(state) = record {
                    taken.push(state);
                } else {
                    self.unread.insert(terminal);
                    dropped.push(Dropped::Bad);
                }
                // Behind a record without an end there may have been more.
                self.is_cut |= matches!(record, Err(Malformed::Record));
            }
        }
        let before = self.pages[usize::from(page.page)].replace(taken);
        self.came += usize::from(before.is_none());
        dropped
    }
}

impl Updates {
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.flights.is_empty()
    }

    pub fn find_mut(&mut self, transaction: Transaction) -> Option<&mut Ask> {
        self.flights.iter_mut().map(|query| &mut query.ask).find(|ask| ask.transaction == transaction)
    }

    pub fn due(&self) -> Option<Nanos> {
        self.flights.iter().map(|query| query.ask.due).min()
    }

    /// The meeting that a transaction asks about, and how often it was asked.
    pub fn asks_about(&self, transaction: Transaction) -> Option<(MeetingId, u32)> {
        let query = self.flights.iter().find(|query| query.ask.transaction == transaction)?;
        Some((query.meeting, query.ask.attempts()))
    }

    /// The meeting that a transaction asks about; it is asked about no more.
    pub fn give_up(&mut self, transaction: Transaction) -> Option<MeetingId> {
        let index = self.flights.iter().position(|query| query.ask.transaction == transaction)?;
        Some(self.flights.swap_remove(index).meeting)
    }
}

impl ServerRecovery {
    /// Wants a meeting's terminals. One that is wanted or asked for already needs nothing: the
    /// answer counts only if the part's version has not changed since the question.
    pub(super) fn enqueue_update(&mut self, meeting: MeetingId) {
        if self.meetings.get(&meeting).is_none_or(|known| known.step != Step::Taken) {
            self.set_step(meeting, Step::Taken);
            self.updates.queue.push_back(meeting);
        }
    }

    pub(super) fn poll_update(&mut self, now: Nanos, holdings: &mut dyn Store) -> Option<Request> {
        if let Some(query) = self.updates.flights.iter_mut().find(|query| query.ask.due <= now) {
            // The versions belong to the transaction: the autonomous server repeats what it
            // answered first. A part that was ended meanwhile keeps its question; the answer says
            // what to make of it.
            if query.ask.is_refused() {
                query.forget_answer();
                query.version = holdings.version(self.domain, query.meeting).unwrap_or(query.version);
                query.members = holdings.member_versions(self.domain, query.meeting);
            }
            query.ask.again(now, &self.round_trip, &self.transactions);
            let (transaction, attempts, meeting) = (query.ask.transaction, query.ask.attempts(), query.meeting);
            self.note_attempts(attempts, Opcode::StateQuery, meeting);
            return Some(self.request(transaction, meeting, Message::StateQuery));
        }
        while let Some(meeting) = self.updates.again.pop_due(now) {
            if holdings.version(self.domain, meeting).is_some() {
                self.enqueue_update(meeting);
            } else {
                self.updates.again.settle(meeting);
            }
        }
        if self.updates.flights.len() >= self.settings.queries.into() || !self.may_update() {
            return None;
        }
        while let Some(meeting) = self.updates.queue.pop_front() {
            let Some(version) = holdings.version(self.domain, meeting) else {
                self.forget(meeting);
                continue;
            };
            let ask = Ask::first(self.transactions.next_of_recovery(), now, &self.round_trip);
            let transaction = ask.transaction;
            let members = holdings.member_versions(self.domain, meeting);
            let query = Query {
                ask,
                meeting,
                version,
                members,
                pages: Vec::new(),
                came: 0,
                unread: BTreeSet::new(),
                is_cut: false,
                pause: Duration::ZERO,
            };
            self.updates.flights.push(query);
            return Some(self.request(transaction, meeting, Message::StateQuery));
        }
        None
    }

    /// Under a living cache, as each takeover is answered; in order, when all are.
    fn may_update(&self) -> bool {
        self.overlaps || (self.swept && self.takeovers.is_idle())
    }

    pub(super) fn handle_state(
        &mut self,
        now: Nanos,
        transaction: Transaction,
        page: &Page<'_>,
        holdings: &mut dyn Store,
    ) {
        let flights = &mut self.updates.flights;
        let Some(index) = flights.iter().position(|query| query.ask.transaction == transaction) else { return };
        if usize::from(page.pages) > limits::STATE_PAGES_MAX {
            return self.put_off_update(now, transaction, Status::Malformed);
        }
        let query = &mut flights[index];
        if query.pages.len() != usize::from(page.pages) {
            if query.pages.iter().any(Option::is_some) {
                // Two answers of different length to one transaction: neither is believed.
                query.renew(now, &self.settings);
                return;
            }
            query.pages = vec![None; page.pages.into()];
        }
        // A page that says nothing new does not put off asking for those that are lost.
        if query.pages[usize::from(page.page)].is_some() {
            return;
        }
        query.ask.answered(now, &mut self.round_trip);
        let meeting = query.meeting;
        let dropped = query.take(page, |terminal| holdings.owns(self.domain, terminal));
        let whole = query.whole();
        self.note_answered(Opcode::StateQuery);
        for dropped in dropped {
            match dropped {
                Dropped::Bad => self.note_bad(Opcode::State, meeting),
                Dropped::Foreign(terminal) => self.note_foreign(terminal),
            }
        }
        let Some((terminals, twice)) = whole else { return };
        (0..twice).for_each(|_| self.note_bad(Opcode::State, meeting));
        self.apply_state(now, index, &terminals, holdings);
    }

    /// Writes a whole answer back.
    fn apply_state(&mut self, now: Nanos, index: usize, terminals: &[TerminalState], holdings: &mut dyn Store) {
        let query = &mut self.updates.flights[index];
        let meeting = query.meeting;
        let unread: Vec<_> = query.unread.iter().copied().collect();
        let listed = Listed { terminals, unread: &unread, is_cut: query.is_cut, asked: &query.members };
        let mut others = Vec::new();
        match holdings.version(self.domain, meeting) {
            Some(version) if version != query.version => return query.renew(now, &self.settings),
            Some(_) => match holdings.update_terminals(self.domain, meeting, &listed, &mut others) {
                // At once it would go round as fast as the link does, for as long as an operation
                // is under way.
                Written::Later => {
                    query.pause = query.pause.max(self.settings.rto_min);
                    return query.renew(now, &self.settings);
                }
                Written::Full => self.tell_full(meeting),
                Written::Whole => {}
            },
            None => {
                self.updates.flights.swap_remove(index);
                return self.forget(meeting);
            }
        }
        self.updates.flights.swap_remove(index);
        self.set_step(meeting, Step::Updated);
        if others.is_empty() {
            return self.updates.again.settle(meeting);
        }
        // Two lists have the same terminal: one of them was older, and which of them is asked once
        // more, and with growing pauses where they go on to.
        for other in others {
            self.updates.again.postpone(other, now, (self.settings.rto_min, limits::REFUSED_PAUSE_MAX));
        }
    }

    /// STATE of a meeting cannot be had: an alarm, and it is asked for again later.
    pub(super) fn put_off_update(&mut self, now: Nanos, transaction: Transaction, status: Status) {
        let Some(meeting) = self.updates.give_up(transaction) else { return };
        self.set_step(meeting, Step::Untold);
        self.tell_refused(meeting, Opcode::State.wire(), status);
        self.updates.again.postpone(meeting, now, (self.settings.rto_max, limits::REFUSED_PAUSE_MAX));
    }
}
