//! Domains that another dispatch server controls: given up at once, written down for the next
//! engine, and taken back only when an operator asks for control.
//!
//! A server that was replaced counts its generation up with each start, so its epoch can be above
//! the other's, and a frame under it would take the domain back. So nothing is sent there under our
//! epoch any more: heartbeats bear none, reports are left unanswered, and recovery and operations
//! are silent.

use super::event::{Event, WorkerChange};
use super::output::Output;
use super::records::Records;
use crate::api::{Answer, GivenControl};
use crate::cms::{Refusal, RefusalKind, ReplyId};
use crate::database::{Change, CommitError, Job, JobId, Reservation};
use crate::limits::GENERATION_BLOCK;
use crate::recovery::Recovery;
use crate::wire::{Domain, Epoch};

/// Under which epoch this server controls, and who asked for a higher one.
pub(super) struct Terms {
    pub epoch: Epoch,
    /// The client that waits for the database to give control.
    taking: Option<ReplyId>,
}

impl Terms {
    pub fn new(epoch: Epoch) -> Self {
        Self { epoch, taking: None }
    }

    /// Writes down that a domain is controlled by another server. Workers see it before anything
    /// more is sent.
    pub fn write_fence(&self, domain: Domain, by: Epoch, records: &mut Records, output: &mut Output) {
        output.event(Event::GivenUp(domain, by));
        // In the table first, which is there at once and outlives this process. A database that is
        // not open yet is told when it is.
        if !records.writer.table().set_fence(domain, by) {
            output.event(Event::FenceNotKept(domain));
        }
        records.journal.update(vec![Change::Fence(domain, by)]);
        output.changes.push_back(WorkerChange::Fence(domain));
    }

    /// Holds the fences of a database that has just been opened against those of the table: each
    /// gets what it lacks.
    pub fn compare_fences(&self, stored: &[(Domain, Epoch)], records: &mut Records, recovery: &mut Recovery) {
        let term = self.epoch.term();
        for &(domain, by) in stored.iter().filter(|(_, by)| by.term() >= term) {
            recovery.fence(domain, by);
        }
        let known: Vec<_> = records.writer.table().fences().filter(|fence| !stored.contains(fence)).collect();
        if !known.is_empty() {
            records.journal.update(known.into_iter().map(|(domain, by)| Change::Fence(domain, by)).collect());
        }
    }

    /// This process ends. It may have heard of fences that it has not come to write into the table;
    /// and a database that is not open yet writes all of them down when it is, for the next process
    /// may have no table.
    pub fn leave_fences(&self, records: &mut Records, recovery: &Recovery) {
        let table = records.writer.table();
        for (domain, by) in recovery.fenced() {
            // That there is no room is said of each as it is given up.
            let _ = table.set_fence(domain, by);
        }
        let changes = table.fences().map(|(domain, by)| Change::Fence(domain, by)).collect();
        if records.database.is_open() {
            records.journal.update(changes);
            return;
        }
        records.journal.hurry(Job::Commit { id: JobId(0), changes, epoch: self.epoch });
    }

    /// An operator gives this server control: a term above every epoch that is known of is asked of
    /// the database. `is_leaving`: another engine is about to follow.
    pub fn take_control(&mut self, client: ReplyId, is_leaving: bool, records: &mut Records, output: &mut Output) {
        if self.taking.is_some() || is_leaving {
            let busy = refusal("another engine is about to follow", "ask again in a second");
            return output.reply(client, Err(busy));
        }
        if !records.database.is_open() {
            let remedy = "see `baton status`, and ask again when the database is open";
            return output.reply(client, Err(refusal("the database cannot be written now", remedy)));
        }
        let fences = records.writer.table().fences().map(|(_, by)| by);
        let seen = fences.filter(|by| by.is_passable(self.epoch.term())).fold(self.epoch, Epoch::max);
        records.journal.ask(Job::TakeControl { seen, count: GENERATION_BLOCK });
        self.taking = Some(client);
    }

    /// The database has reserved generations ahead. A block that does not follow on the old one
    /// belongs behind somebody else's: the old one is used up first, and then the database is
    /// asked.
    pub fn extend(&self, block: Reservation, records: &Records) {
        let table = records.writer.table();
        if block.term == self.epoch.term() && u32::from(block.first) == table.generation_end() {
            table.set_reservation(self.epoch, block.end);
        }
    }

    /// A client is gone, and waits for nothing.
    pub fn handle_gone(&mut self, client: ReplyId) {
        self.taking.take_if(|waiting| *waiting == client);
    }

    /// The database has given none: the client that waits is told at once.
    pub fn refuse_control(&mut self, error: CommitError, output: &mut Output) {
        if let Some(client) = self.taking.take() {
            let what = format!("control is not given: {error}");
            let remedy = "see `baton status` and `baton control show`, and ask again when the database is written";
            output.reply(client, Err(Refusal::new(RefusalKind::Database, what, remedy)));
        }
        output.event(Event::ControlRefused(error));
    }

    /// The database has reserved generations of a higher term, which the next engine finds in the
    /// table.
    pub fn begin_term(&mut self, epoch: Epoch, end: u32, records: &Records, output: &mut Output) {
        output.event(Event::ControlGiven(epoch));
        records.writer.table().set_reservation(epoch, end);
        if let Some(client) = self.taking.take() {
            output.reply(client, Ok(Answer::Control(GivenControl { epoch })));
        }
    }
}

fn refusal(why: &str, remedy: &str) -> Refusal {
    Refusal::new(RefusalKind::Busy, format!("control is not given: {why}"), remedy)
}
