//! The recovery of all autonomous servers, one machine each, in turn.

use super::event::Event;
use super::path::Path;
use super::phase::Phase;
use super::pulse::Heard;
use super::report::{Moments, Report};
use super::request::Request;
use super::server::ServerRecovery;
use super::settings::{Orphans, Settings};
use super::store::Store;
use crate::cascade::{Exchange, Exchanges};
use crate::time::Nanos;
use crate::wire::{Domain, Epoch, Header, MeetingId, Message, Opcode, Page};

/// Drives a [`ServerRecovery`] for each domain: requests of all in turn, so that no domain waits
/// for another's listing; answers to the one they are for; a newer controller of one domain stops
/// that one's machine alone.
pub struct Recovery {
    path: Path,
    epoch: Epoch,
    began: Nanos,
    /// Ascending by domain.
    servers: Vec<ServerRecovery>,
    /// Whose turn it is.
    turn: usize,
}

impl Recovery {
    /// Machines for these domains, begun now.
    pub fn new(
        domains: impl IntoIterator<Item = Domain>,
        epoch: Epoch,
        path: Path,
        settings: &Settings,
        now: Nanos,
    ) -> Self {
        let mut servers: Vec<_> =
            domains.into_iter().map(|domain| ServerRecovery::new(domain, epoch, path, settings.clone(), now)).collect();
        servers.sort_by_key(ServerRecovery::domain);
        servers.dedup_by_key(|server| server.domain());
        Self { path, epoch, began: now, servers, turn: 0 }
    }

    /// As [`Self::new`] under this epoch, with machines that were made ahead, when neither epoch
    /// nor time was known yet. Nothing was asked of them.
    pub fn begin(mut self, epoch: Epoch, now: Nanos) -> Self {
        self.servers.iter_mut().for_each(|server| server.begin(epoch, now));
        Self { epoch, began: now, ..self }
    }

    /// Takes an authentic message of this domain's autonomous server; gives whether it was an
    /// answer to recovery.
    pub fn handle_message(
        &mut self,
        now: Nanos,
        domain: Domain,
        header: &Header,
        message: &Message,
        holdings: &mut dyn Store,
    ) -> bool {
        self.server_mut(domain).is_some_and(|server| server.handle_message(now, header, message, holdings))
    }

    /// Takes an authentic page of this domain's autonomous server; gives whether it was an answer
    /// to recovery.
    pub fn handle_page(
        &mut self,
        now: Nanos,
        domain: Domain,
        opcode: Opcode,
        header: &Header,
        page: &Page<'_>,
        holdings: &mut dyn Store,
    ) -> bool {
        self.server_mut(domain).is_some_and(|server| server.handle_page(now, opcode, header, page, holdings))
    }

    /// The next frame to send, of each domain in turn.
    pub fn poll_transmit(&mut self, now: Nanos, holdings: &mut dyn Store) -> Option<Request> {
        for _ in 0..self.servers.len() {
            let turn = self.turn % self.servers.len();
            self.turn = turn + 1;
            if let Some(request) = self.servers[turn].poll_transmit(now, holdings) {
                return Some(request);
            }
        }
        None
    }

    /// When to poll again if nothing comes.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        self.servers.iter().filter_map(ServerRecovery::poll_timeout).min()
    }

    /// The next thing that the engine should know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.servers.iter_mut().find_map(ServerRecovery::poll_event)
    }

    /// Begins one domain again: its autonomous server restarted, or its link came back.
    pub fn restart(&mut self, now: Nanos, domain: Domain) {
        if let Some(server) = self.server_mut(domain) {
            server.restart(now);
        }
    }

    /// Holds a domain's autonomous server against the cache once more; see
    /// [`ServerRecovery::doubt`].
    pub fn doubt(&mut self, domain: Domain) {
        if let Some(server) = self.server_mut(domain) {
            server.doubt();
        }
    }

    /// Whether there is a domain whose meetings are being asked for, or will be as soon as its
    /// autonomous server answers.
    pub fn is_taking_over(&self) -> bool {
        self.servers.iter().any(|server| matches!(server.phase(), Phase::Connecting | Phase::TakingOver))
    }

    /// Has the parts of a domain that cannot be read restored; see [`ServerRecovery::mend`].
    pub fn mend(&mut self, domain: Domain) -> bool {
        self.server_mut(domain).is_some_and(ServerRecovery::mend)
    }

    /// No part of a domain is damaged any more.
    pub fn is_mended(&mut self, domain: Domain) {
        if let Some(server) = self.server_mut(domain) {
            server.is_mended();
        }
    }

    /// All of them.
    pub fn domains(&self) -> impl Iterator<Item = Domain> + '_ {
        self.servers.iter().map(ServerRecovery::domain)
    }

    /// Adopts or ends one orphan, by an operator's word; see [`ServerRecovery::decide_orphan`].
    pub fn decide_orphan(
        &mut self,
        domain: Domain,
        meeting: MeetingId,
        become_of: Orphans,
        holdings: &mut dyn Store,
    ) -> bool {
        self.server_mut(domain).is_some_and(|server| server.decide_orphan(meeting, become_of, holdings))
    }

    /// Has agreement with a domain's autonomous server proven again; see [`ServerRecovery::prove`].
    pub fn prove(&mut self, domain: Domain) {
        if let Some(server) = self.server_mut(domain) {
            server.prove();
        }
    }

    /// Gives a domain up, for somebody else controls it; see [`ServerRecovery::fence`].
    pub fn fence(&mut self, domain: Domain, by: Epoch) {
        if let Some(server) = self.server_mut(domain) {
            server.fence(by);
        }
    }

    /// Hears what a domain's autonomous server answers to a heartbeat; see
    /// [`ServerRecovery::handle_heartbeat`].
    pub fn handle_heartbeat(&mut self, now: Nanos, domain: Domain, heard: Heard, ours: impl FnOnce() -> u32) {
        if let Some(server) = self.server_mut(domain) {
            server.handle_heartbeat(now, heard, ours);
        }
    }

    /// Asks for the members of a meeting; see [`ServerRecovery::ask_about`].
    pub fn ask_about(&mut self, now: Nanos, domain: Domain, meeting: MeetingId) {
        if let Some(server) = self.server_mut(domain) {
            server.ask_about(now, meeting);
        }
    }

    /// Hears of a terminal that reports what the table does not have; see
    /// [`ServerRecovery::handle_stray`].
    pub fn handle_stray(&mut self, now: Nanos, domain: Domain, meetings: [MeetingId; 2], holdings: &mut dyn Store) {
        if let Some(server) = self.server_mut(domain) {
            server.handle_stray(now, meetings, holdings);
        }
    }

    /// The machine of a domain.
    pub fn server(&self, domain: Domain) -> Option<&ServerRecovery> {
        self.index(domain).map(|index| &self.servers[index])
    }

    /// Every machine, ascending by domain.
    pub fn servers(&self) -> impl Iterator<Item = &ServerRecovery> {
        self.servers.iter()
    }

    /// Whether every autonomous server agrees with us.
    pub fn is_reconciled(&self) -> bool {
        self.servers.iter().all(ServerRecovery::is_reconciled)
    }

    /// Whether nothing that came from a snapshot is to be asked about any more.
    pub fn is_refreshed(&self) -> bool {
        self.servers.iter().all(ServerRecovery::is_refreshed)
    }

    /// The domains that somebody else controls, and under which epoch.
    pub fn fenced(&self) -> impl Iterator<Item = (Domain, Epoch)> + '_ {
        self.servers.iter().filter_map(|server| Some((server.domain(), server.fenced_by()?)))
    }

    /// The moments of all together: nanoseconds since it began.
    pub fn moments(&self) -> Moments {
        let since = |time: Option<Nanos>| time.map(|time| time.0.saturating_sub(self.began.0));
        let timelines = || self.servers.iter().map(ServerRecovery::timeline);
        // A moment that each has reached, or none yet: the latest of them.
        let all = |moments: Option<Vec<Nanos>>| since(moments.and_then(|moments| moments.into_iter().max()));
        Moments {
            first_takeover_ns: since(timelines().filter_map(|timeline| timeline.first_takeover).min()),
            all_acknowledged_ns: all(timelines().map(|timeline| timeline.all_acknowledged).collect()),
            reconciled_ns: all(timelines().map(|timeline| timeline.reconciled).collect()),
        }
    }

    /// All of it for people. Walks over all meetings.
    pub fn report(&self) -> Report {
        let Moments { first_takeover_ns, all_acknowledged_ns, reconciled_ns } = self.moments();
        Report {
            path: self.path,
            epoch: self.epoch,
            began_ns: self.began.0,
            first_takeover_ns,
            all_acknowledged_ns,
            reconciled_ns,
            servers: self.servers.iter().map(ServerRecovery::report).collect(),
        }
    }

    fn server_mut(&mut self, domain: Domain) -> Option<&mut ServerRecovery> {
        self.index(domain).map(|index| &mut self.servers[index])
    }

    fn index(&self, domain: Domain) -> Option<usize> {
        self.servers.binary_search_by_key(&domain, ServerRecovery::domain).ok()
    }
}

/// Recovery has the exchange with each domain, because it is the first to ask there anything.
impl Exchanges for Recovery {
    fn exchange(&mut self, domain: Domain) -> Option<&mut Exchange> {
        self.server_mut(domain).map(ServerRecovery::exchange)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_else_is_asked_of_a_domain_draws_from_its_ascending_sequence() {
        let domains = (1..=3).map(|number| Domain::new(number).unwrap());
        let mut recovery = Recovery::new(domains, Epoch::new(1, 1), Path::Cache, &Settings::default(), Nanos(0));
        let domain = Domain::new(2).unwrap();
        let mut last = recovery.exchange(domain).unwrap().draw();
        for turn in 0..9 {
            let now = Nanos(turn * 1_000_000_000);
            // A domain that begins again does not begin its numbers again.
            recovery.restart(now, domain);
            let server = &mut recovery.servers[1];
            let connect = server.connect.poll(&mut server.shared, now).unwrap();
            let heartbeat = recovery.exchange(domain).unwrap().draw();
            assert!(connect.header.transaction.is_after(last) && heartbeat.is_after(connect.header.transaction));
            last = heartbeat;
        }
    }
}
