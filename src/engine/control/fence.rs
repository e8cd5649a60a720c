//! Domains that another dispatch server controls: given up at once, written down for whoever comes
//! next, and taken back by an operator's word alone.
//!
//! A server that was replaced counts its generation up with each start, so its epoch can be above
//! the other's, and a frame under it would take the domain back. So nothing is sent there under our
//! epoch any more: heartbeats bear none, reports are left unanswered, and recovery and operations
//! are silent.

use super::Control;
use crate::api::{Answer, GivenControl, Reply};
use crate::cms::{Refusal, RefusalKind};
use crate::database::{Change, CommitError, Job, JobId};
use crate::limits::{GENERATION_BLOCK, UPGRADE_DRAIN};
use crate::time::Nanos;
use crate::wire::{Domain, Epoch};

/// A client that waits for control, and for the database to have given it.
pub(super) type Client = tokio::sync::oneshot::Sender<Reply>;

impl Control {
    /// Gives a domain up that recovery has heard of, for good. Whoever else of the engine hears
    /// tells recovery ([`Recovery::fence`]), so that each is given up, written down and said in one
    /// place, once. Where it was the last one, the server ends.
    ///
    /// [`Recovery::fence`]: crate::recovery::Recovery::fence
    pub(super) fn give_up_domain(&mut self, now: Nanos, domain: Domain, by: Epoch) {
        tracing::error!(
            %domain, epoch = %by,
            "not in control: another dispatch server controls this domain; `baton control take` takes it back"
        );
        // In the table first, which is there at once and outlives this process. A database that is
        // not open yet is told when it is.
        if !self.writer.table().set_fence(domain, by) {
            tracing::error!(%domain, "there is no room to write that down: a start may control it again");
        }
        self.journal.update(vec![Change::Fence(domain, by)]);
        if let Some((_, peer)) = self.shared.peers.find(domain) {
            peer.fence();
        }
        self.operations.handle_fence(now, domain, by, &mut self.writer);
        if self.recovery.fenced().count() == self.recovery.servers().count() {
            self.fence(by);
        }
    }

    pub(in crate::engine) fn is_given_up(&self, domain: Domain) -> bool {
        self.recovery.server(domain).is_some_and(|server| server.fenced_by().is_some())
    }

    /// Holds the fences of a database that has just been opened against those of the table: each
    /// gets what it lacks.
    pub(super) fn compare_fences(&mut self, stored: &[(Domain, Epoch)]) {
        let term = self.epoch.term();
        for &(domain, by) in stored.iter().filter(|(_, by)| by.term() >= term) {
            self.recovery.fence(domain, by);
        }
        let known: Vec<_> = self.writer.table().fences().filter(|fence| !stored.contains(fence)).collect();
        if !known.is_empty() {
            self.journal.update(known.into_iter().map(|(domain, by)| Change::Fence(domain, by)).collect());
        }
    }

    /// Has a database that is not open yet write the fences down, for this process ends before it
    /// is, and the next one may have no table. It is waited for when the store is dropped.
    pub(super) fn leave_fences(&self) {
        let Some(store) = self.store.as_ref().filter(|store| store.opened.is_none()) else { return };
        let changes = self.writer.table().fences().map(|(domain, by)| Change::Fence(domain, by)).collect();
        let job = Job::Commit { id: JobId(0), changes, epoch: self.epoch };
        if store.thread.submit(job).is_err() {
            tracing::error!("the database could not be told of it: without the table, a start may control again");
        }
    }

    /// An operator gives this server control: a term above every epoch that is known of is asked of
    /// the database.
    pub(super) fn take_control(&mut self, client: Client) {
        if self.taking.as_ref().is_some_and(|client| !client.is_closed()) || self.upgrade.is_ordered() {
            let _ = client.send(Err(refusal("another engine is about to follow", "ask again in a second")));
            return;
        }
        let fences = self.writer.table().fences().map(|(_, by)| by).filter(|by| by.is_passable(self.epoch.term()));
        let seen = fences.fold(self.epoch, Epoch::max);
        let job = Job::TakeControl { seen, count: GENERATION_BLOCK };
        match self.store.as_ref().filter(|store| store.opened.is_some()).map(|store| store.thread.submit(job)) {
            Some(Ok(())) => self.taking = Some(client),
            _ => {
                let remedy = "see `baton status`, and ask again when the database is open";
                let _ = client.send(Err(refusal("the database cannot be written now", remedy)));
            }
        }
    }

    /// The database has given none: who waits is told at once.
    pub(super) fn refuse_control(&mut self, error: &CommitError) {
        tracing::warn!(%error, "an operator asked for control, and it is not given");
        if let Some(client) = self.taking.take() {
            let what = format!("control is not given: {error}");
            let remedy = "see `baton status` and `baton control show`, and ask again when the database is written";
            let _ = client.send(Err(Refusal::new(RefusalKind::Database, what, remedy)));
        }
    }

    /// The database has reserved generations of a higher term. This engine makes room for one that
    /// controls under it.
    pub(super) fn begin_term(&mut self, now: Nanos, epoch: Epoch, end: u32) {
        tracing::info!(%epoch, "an operator has given this server control: this is the epoch of whoever follows");
        self.writer.table().set_reservation(epoch, end);
        if let Some(client) = self.taking.take() {
            let _ = client.send(Ok(Answer::Control(GivenControl { epoch })));
        }
        self.upgrade.leave(now + UPGRADE_DRAIN);
    }
}

fn refusal(why: &str, remedy: &str) -> Refusal {
    Refusal::new(RefusalKind::Busy, format!("control is not given: {why}"), remedy)
}
