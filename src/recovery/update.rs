//! Step 4, update backwards: what the autonomous server says now overwrites what cache and database said then.
//!
//! Meeting information comes with the listing; business state, decode state and additional information of the terminals
//! with STATE. STATE is asked for of every meeting that came from the database, and from a living cache only of one whose
//! version or number of members differs, or that is marked as in doubt: a version counts every command, and what terminals
//! did meanwhile they report until it is acknowledged. The mark is in the cache itself, because whatever asks may die
//! between writing the version and writing the members. Only a whole answer counts, because a terminal that it lacks left; and only one to a question asked when
//! the part had the version that it has now, because a member may have been added since, and the answer would not know.

use std::collections::{BTreeMap, VecDeque};

use super::ask::Ask;
use super::server::Step;
use super::{Holdings, Request, ServerRecovery, Written};
use crate::limits;
use crate::time::Nanos;
use crate::wire::{MeetingId, Message, Page, TerminalState, Transaction};

/// Meetings to be asked about, and questions on their way.
#[derive(Clone, Debug, Default)]
pub(super) struct Updates {
    queue: VecDeque<MeetingId>,
    flights: Vec<Query>,
}

/// One STATE_QUERY on its way.
#[derive(Clone, Debug)]
struct Query {
    ask: Ask,
    meeting: MeetingId,
    /// Of the part when it was asked.
    version: u64,
    /// The pages that came.
    pages: Vec<Option<Vec<TerminalState>>>,
}

impl Query {
    /// Asks anew, and not before: pages of the old answer do not count for the new one.
    fn renew(&mut self, not_before: Nanos) {
        self.ask.refused(not_before);
        self.pages.clear();
    }

    /// Every terminal once, ascending, if every page came.
    fn whole(&self) -> Option<Vec<TerminalState>> {
        let mut terminals = BTreeMap::new();
        for page in &self.pages {
            for terminal in page.as_ref()? {
                terminals.insert(terminal.terminal, *terminal);
            }
        }
        Some(terminals.into_values().collect())
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

    /// The meeting that a transaction asks about; it is asked about no more.
    pub fn give_up(&mut self, transaction: Transaction) -> Option<MeetingId> {
        let index = self.flights.iter().position(|query| query.ask.transaction == transaction)?;
        Some(self.flights.swap_remove(index).meeting)
    }
}

impl ServerRecovery {
    /// Wants a meeting's terminals. One that is wanted or asked for already needs nothing: the answer counts only if the
    /// part's version has not changed since the question.
    pub(super) fn enqueue_update(&mut self, meeting: MeetingId) {
        if self.meetings.get(&meeting).is_none_or(|known| known.step != Step::Taken) {
            self.set_step(meeting, Step::Taken);
            self.updates.queue.push_back(meeting);
        }
    }

    pub(super) fn poll_update(&mut self, now: Nanos, holdings: &mut dyn Holdings) -> Option<Request> {
        if let Some(query) = self.updates.flights.iter_mut().find(|query| query.ask.due <= now) {
            // The version belongs to the transaction: the autonomous server repeats what it answered first. A part that
            // was ended meanwhile keeps its question; the answer says what to make of it.
            if query.ask.is_refused() {
                query.pages.clear();
                query.version = holdings.version(self.domain, query.meeting).unwrap_or(query.version);
            }
            query.ask.again(now, &self.round_trip, &self.transactions);
            self.progress.repeated += 1;
            let (transaction, meeting) = (query.ask.transaction, query.meeting);
            return Some(self.request(transaction, meeting, Message::StateQuery));
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
            self.updates.flights.push(Query { ask, meeting, version, pages: Vec::new() });
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
        holdings: &mut dyn Holdings,
    ) {
        let flights = &mut self.updates.flights;
        let Some(index) = flights.iter().position(|query| query.ask.transaction == transaction) else { return };
        let query = &mut flights[index];
        let Ok(records) = page.records::<TerminalState>() else { return };
        if usize::from(page.pages) > limits::STATE_PAGES_MAX {
            return;
        }
        query.ask.answered(now, &mut self.round_trip);
        if query.pages.len() != usize::from(page.pages) {
            if query.pages.iter().any(Option::is_some) {
                // Two answers of different length to one transaction: neither is believed.
                query.renew(now);
                return;
            }
            query.pages = vec![None; page.pages.into()];
        }
        let meeting = query.meeting;
        query.pages[usize::from(page.page)] =
            Some(records.flatten().filter(|record| record.meeting == meeting).collect());
        let Some(terminals) = query.whole() else { return };
        match holdings.version(self.domain, meeting) {
            Some(version) if version != query.version => return query.renew(now),
            Some(_) => match holdings.update_terminals(self.domain, meeting, &terminals) {
                // At once it would go round as fast as the link does, for as long as an operation is under way.
                Written::Later => return query.renew(now + self.settings.rto_min),
                Written::Full => self.tell_full(meeting),
                Written::Whole => {}
            },
            None => {
                flights.swap_remove(index);
                return self.forget(meeting);
            }
        }
        self.updates.flights.swap_remove(index);
        self.set_step(meeting, Step::Updated);
    }
}
