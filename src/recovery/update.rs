//! Step 4, update backwards: what the autonomous server says now overwrites what cache and database
//! said then.
//!
//! Meeting information comes with the listing; business state, decode state and additional
//! information of the terminals with STATE. STATE is asked for of every meeting that came from the
//! database, and from a living cache only of one whose version or number of members differs, or
//! that is marked as in doubt: a version counts every command, and what terminals did meanwhile
//! they report until it is acknowledged. The mark is in the cache itself, because the engine that
//! asks may die between writing the version and writing the members. Only a whole answer counts,
//! because a terminal that it lacks left; and only one to a question asked when the part had the
//! version that it has now, because a member may have been added since, and the answer would not
//! know.
//!
//! An answer to our own question is the truth, though its versions be older: a terminal whose
//! version in the table is still the one that it was when we asked is what the answer says, though
//! that be older. Its memory, or its autonomous server's, went back.
//!
//! Records that cannot be, and those about terminals that are not this domain's, are dropped and
//! told. A terminal whose record cannot be read is a member all the same and stays as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::request::Request;
use super::retry::Retries;
use super::settings::Settings;
use super::shared::Shared;
use super::step::Step;
use super::store::{Listed, Store, Written};
use crate::cascade::{Exchange, Purpose};
use crate::limits;
use crate::time::Nanos;
use crate::wire::{Address, Malformed, MeetingId, Message, Opcode, Page, Status, TerminalState, Transaction};

/// Questions on their way, and meetings that are asked about again.
#[derive(Debug, Default)]
pub(super) struct Updates {
    queries: Vec<Query>,
    /// Meetings to be asked about later: STATE was refused, or there is a sign against what was
    /// answered. They hold nothing up.
    pub again: Retries,
}

/// One STATE_QUERY on its way.
#[derive(Debug)]
struct Query {
    transaction: Transaction,
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
    fn renew(&mut self, now: Nanos, exchange: &mut Exchange, settings: &Settings) {
        exchange.postpone(self.transaction, now + self.pause);
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
    /// Whether nothing is to be asked or on its way.
    pub fn is_idle(&self, shared: &Shared) -> bool {
        shared.meetings.updates.is_empty() && self.queries.is_empty()
    }

    /// The next question: a repeat that is due, else about the next meeting, if it is time for new
    /// ones.
    pub fn poll(
        &mut self,
        shared: &mut Shared,
        now: Nanos,
        is_time: bool,
        holdings: &mut dyn Store,
    ) -> Option<Request> {
        if let Some(due) = shared.exchange.poll_due(now, Purpose::State) {
            let query = self.queries.iter_mut().find(|query| query.transaction == due.before)?;
            query.transaction = due.transaction;
            // The versions belong to the transaction: the autonomous server repeats what it
            // answered first. A part that was ended meanwhile keeps its question; the answer says
            // what to make of it.
            if due.is_anew() {
                query.forget_answer();
                query.version = holdings.version(shared.domain, query.meeting).unwrap_or(query.version);
                query.members = holdings.member_versions(shared.domain, query.meeting);
            }
            shared.note_repeat(&due);
            return Some(shared.request(due.transaction, due.meeting, Message::StateQuery));
        }
        while let Some(meeting) = self.again.pop_due(now) {
            if holdings.version(shared.domain, meeting).is_some() {
                shared.meetings.update(meeting);
            } else {
                self.again.settle(meeting);
            }
        }
        while is_time
            && shared.exchange.has_room(Purpose::State)
            && let Some(meeting) = shared.meetings.updates.pop_front()
        {
            let Some(version) = holdings.version(shared.domain, meeting) else {
                shared.meetings.forget(meeting);
                continue;
            };
            let transaction = shared.exchange.ask(now, Purpose::State, Opcode::StateQuery, meeting)?;
            self.queries.push(Query {
                transaction,
                meeting,
                version,
                members: holdings.member_versions(shared.domain, meeting),
                pages: Vec::new(),
                came: 0,
                unread: BTreeSet::new(),
                is_cut: false,
                pause: Duration::ZERO,
            });
            return Some(shared.request(transaction, meeting, Message::StateQuery));
        }
        None
    }

    pub fn handle_state(
        &mut self,
        shared: &mut Shared,
        now: Nanos,
        transaction: Transaction,
        page: &Page<'_>,
        holdings: &mut dyn Store,
    ) {
        let Some(index) = self.position(transaction) else { return };
        if usize::from(page.pages) > limits::STATE_PAGES_MAX {
            return self.put_off(shared, now, transaction, Status::Malformed);
        }
        let query = &mut self.queries[index];
        if query.pages.len() != usize::from(page.pages) {
            if query.pages.iter().any(Option::is_some) {
                // Two answers of different length to one transaction: neither is believed.
                return query.renew(now, &mut shared.exchange, &shared.settings);
            }
            query.pages = vec![None; page.pages.into()];
        }
        // A page that says nothing new does not put off asking for those that are lost.
        if query.pages[usize::from(page.page)].is_some() {
            return;
        }
        shared.exchange.heard(now, transaction);
        let meeting = query.meeting;
        let dropped = query.take(page, |terminal| holdings.owns(shared.domain, terminal));
        let whole = query.whole();
        shared.alarms.answered(Opcode::StateQuery);
        for dropped in dropped {
            match dropped {
                Dropped::Bad => shared.note_bad(Opcode::State, meeting),
                Dropped::Foreign(terminal) => shared.note_foreign(terminal),
            }
        }
        let Some((terminals, twice)) = whole else { return };
        (0..twice).for_each(|_| shared.note_bad(Opcode::State, meeting));
        self.apply(shared, now, index, &terminals, holdings);
    }

    /// Writes a whole answer back.
    fn apply(
        &mut self,
        shared: &mut Shared,
        now: Nanos,
        index: usize,
        terminals: &[TerminalState],
        holdings: &mut dyn Store,
    ) {
        let query = &mut self.queries[index];
        let meeting = query.meeting;
        let unread: Vec<_> = query.unread.iter().copied().collect();
        let listed = Listed { terminals, unread: &unread, is_cut: query.is_cut, asked: &query.members };
        let mut others = Vec::new();
        let is_refresh = shared.meetings.step(meeting) == Some(Step::Refreshing);
        let mut update = |holdings: &mut dyn Store| match is_refresh {
            true => holdings.refresh_terminals(shared.domain, meeting, &listed, &mut others),
            false => holdings.update_terminals(shared.domain, meeting, &listed, &mut others),
        };
        match holdings.version(shared.domain, meeting) {
            Some(version) if version != query.version => {
                return query.renew(now, &mut shared.exchange, &shared.settings);
            }
            Some(_) => match update(holdings) {
                // At once it would go round as fast as the link does, for as long as an operation
                // is under way.
                Written::Later => {
                    query.pause = query.pause.max(shared.settings.rto_min);
                    return query.renew(now, &mut shared.exchange, &shared.settings);
                }
                Written::Full => shared.alarms.full(meeting),
                Written::Whole => {}
            },
            None => {
                self.close(shared, index);
                return shared.meetings.forget(meeting);
            }
        }
        self.close(shared, index);
        if is_refresh {
            shared.progress.refreshed += 1;
            shared.meetings.forget(meeting);
        } else {
            shared.meetings.set_step(meeting, Step::Updated);
        }
        if others.is_empty() {
            return self.again.settle(meeting);
        }
        // Two lists have the same terminal: one of them was older, and which of them is asked once
        // more, and with growing pauses where they go on to.
        for other in others {
            self.ask_again(shared, now, other);
        }
    }

    /// Asks about a meeting a little later, for there is a sign against what was answered.
    pub fn ask_again(&mut self, shared: &Shared, now: Nanos, meeting: MeetingId) {
        self.again.postpone(meeting, now, (shared.settings.rto_min, limits::REFUSED_PAUSE_MAX));
    }

    /// STATE of a meeting cannot be had: an alarm, and it is asked for again later.
    pub fn put_off(&mut self, shared: &mut Shared, now: Nanos, transaction: Transaction, status: Status) {
        let Some(meeting) = self.give_up(shared, transaction) else { return };
        shared.meetings.set_step(meeting, Step::Untold);
        shared.alarms.refused(meeting, Opcode::State.wire(), status);
        self.again.postpone(meeting, now, (shared.settings.rto_max, limits::REFUSED_PAUSE_MAX));
    }

    /// The autonomous server does not have the meeting.
    pub fn handle_unknown(&mut self, shared: &mut Shared, transaction: Transaction, holdings: &mut dyn Store) {
        let Some(meeting) = self.give_up(shared, transaction) else { return };
        self.again.settle(meeting);
        shared.handle_absence(meeting, holdings);
    }

    fn position(&self, transaction: Transaction) -> Option<usize> {
        self.queries.iter().position(|query| query.transaction == transaction)
    }

    /// Gives the meeting that a transaction asks about; it is asked about no more.
    fn give_up(&mut self, shared: &mut Shared, transaction: Transaction) -> Option<MeetingId> {
        let index = self.position(transaction)?;
        Some(self.close(shared, index))
    }

    fn close(&mut self, shared: &mut Shared, index: usize) -> MeetingId {
        let query = self.queries.swap_remove(index);
        shared.exchange.close(query.transaction);
        query.meeting
    }
}
