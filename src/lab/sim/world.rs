//! Several autonomous servers on one interface, and what is told of them.

use serde::Serialize;

use super::counters::latencies;
use super::{AutonomousServer, Counters, EpochSeen, Latency};
use crate::time::Nanos;
use crate::wire::{Domain, Epoch, Frame};

/// Frames of one server that go out before the others have their turn and what has arrived is
/// looked at.
const TURN: usize = 128;

/// The autonomous servers of several domains. Frames are given to the one that they are addressed
/// to.
pub struct World {
    ethertype: u16,
    /// By ascending domain.
    servers: Vec<AutonomousServer>,
    foreign: u64,
    turn: usize,
}

/// One autonomous server, counted.
#[derive(Clone, Debug, Serialize)]
pub struct DomainStatus {
    /// The domain that it speaks for.
    pub domain: Domain,
    /// The highest epoch that it has seen.
    pub epoch: Epoch,
    /// Meetings that it holds.
    pub meetings: usize,
    /// Terminals that are in one.
    pub members: usize,
    /// Reports not acknowledged yet.
    pub reports_outstanding: usize,
    /// Whether nothing is outstanding.
    pub quiet: bool,
    /// What it counted.
    pub counters: Counters,
    /// Probes whose echo did not come, or not yet.
    pub probes_unanswered: u64,
    /// What it saw of each epoch, oldest first.
    pub epochs: Vec<EpochSeen>,
}

/// One epoch over all domains: a recovery, as this end of the wire saw it. Times are in nanoseconds
/// of `CLOCK_MONOTONIC`, when frames arrived.
#[derive(Clone, Debug, Serialize)]
pub struct Recovery {
    /// As the frames of the controller bore it.
    pub epoch: Epoch,
    /// Domains that saw it.
    pub domains: usize,
    /// The first frame under it, of all domains.
    pub first_frame_ns: Option<u64>,
    /// The first TAKEOVER or TAKEOVER_BATCH, of all domains.
    pub takeover_first_ns: Option<u64>,
    /// The last one that took something over, of all domains.
    pub takeover_last_ns: Option<u64>,
    /// When the last domain found count and digest the same; none while a domain that saw the epoch
    /// has not.
    pub replay_done_ns: Option<u64>,
    /// Meetings taken over.
    pub taken_over: u64,
    /// How often count or digest differed.
    pub audits_differing: u64,
}

/// All of it, counted.
#[derive(Clone, Debug, Serialize)]
pub struct WorldStatus {
    /// When this was true, in nanoseconds of `CLOCK_MONOTONIC`.
    pub now_ns: u64,
    /// Whether nothing is outstanding anywhere.
    pub quiet: bool,
    /// Frames for no domain of these.
    pub frames_foreign: u64,
    /// Meetings held; one with members in several domains counts in each.
    pub meetings: usize,
    /// Terminals that are in one.
    pub members: usize,
    /// Reports not acknowledged yet.
    pub reports_outstanding: usize,
    /// Probes whose echo did not come, or not yet.
    pub probes_unanswered: u64,
    /// What was counted, over all domains.
    pub counters: Counters,
    /// From a report's first sending to its acknowledgement.
    pub report_round_trip: Latency,
    /// From a probe to its echo.
    pub probe_round_trip: Latency,
    /// The epochs seen, lowest first.
    pub recoveries: Vec<Recovery>,
    /// One for each, by ascending number.
    pub domains: Vec<DomainStatus>,
}

impl World {
    /// These servers, all of which speak with one EtherType.
    pub fn new(ethertype: u16, mut servers: Vec<AutonomousServer>) -> Self {
        servers.sort_by_key(AutonomousServer::domain);
        Self { ethertype, servers, foreign: 0, turn: 0 }
    }

    /// A frame arrived at `now`.
    pub fn handle_frame(&mut self, now: Nanos, bytes: &[u8]) {
        let frame = Frame::parse(bytes, self.ethertype).ok();
        let addressed = frame.and_then(|frame| Some((frame, frame.envelope().to.domain()?)));
        match addressed.and_then(|(frame, domain)| Some((frame, self.find(domain)?))) {
            Some((frame, server)) => self.servers[server].handle(now, &frame),
            None => self.foreign += 1,
        }
    }

    /// What happens at its time happens.
    pub fn handle_timeout(&mut self, now: Nanos) {
        self.servers.iter_mut().for_each(|server| server.handle_timeout(now));
    }

    /// When something happens again. A time gone by means now.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        self.servers.iter().filter_map(AutonomousServer::poll_timeout).min()
    }

    /// Has every server's frames sent, a bounded number of each in turn; false where `send` had no
    /// room for one, which is then still to be sent. `send` is given what writes one frame into a
    /// buffer and tells its length.
    pub fn transmit(&mut self, now: Nanos, mut send: impl FnMut(&mut dyn FnMut(&mut [u8]) -> usize) -> bool) -> bool {
        // Who had no room last time is the first this time.
        for step in 0..self.servers.len() {
            let turn = (self.turn + step) % self.servers.len();
            let server = &mut self.servers[turn];
            for _ in 0..TURN {
                if !server.wants_transmit(now) {
                    break;
                }
                if !send(&mut |buffer| server.poll_transmit(now, buffer).expect("it has just said that it wants to")) {
                    self.turn = turn;
                    return false;
                }
            }
        }
        true
    }

    /// The servers, by ascending domain.
    pub fn servers(&mut self) -> &mut [AutonomousServer] {
        &mut self.servers
    }

    /// From now on, so many reports and probes a second from all domains together, as evenly as
    /// whole numbers are.
    pub fn set_rates(&mut self, reports: u32, probes: u32) {
        let count = self.servers.len() as u32;
        for (server, number) in self.servers.iter_mut().zip(0..) {
            let share = |all: u32| all / count + u32::from(number < all % count);
            server.set_rates(share(reports), share(probes));
        }
    }

    /// Nothing happens of its own accord any more, until told otherwise; what is outstanding is
    /// still repeated.
    pub fn set_quiesced(&mut self, quiesced: bool) {
        self.servers.iter_mut().for_each(|server| server.set_quiesced(quiesced));
    }

    /// Counting begins anew.
    pub fn reset_counters(&mut self) {
        self.servers.iter_mut().for_each(AutonomousServer::reset_counters);
        self.foreign = 0;
    }

    /// All of it, counted.
    pub fn status(&self, now: Nanos) -> WorldStatus {
        let domains: Vec<_> = self.servers.iter().map(domain_status).collect();
        let mut counters = Counters::default();
        let (mut reports, mut probes) = (latencies(), latencies());
        for server in &self.servers {
            counters += server.counters();
            let (of_reports, of_probes) = server.round_trips();
            // All have the same bounds, so that nothing can be out of them.
            let _ = (reports.add(of_reports), probes.add(of_probes));
        }
        WorldStatus {
            now_ns: now.0,
            quiet: domains.iter().all(|domain| domain.quiet),
            frames_foreign: self.foreign,
            meetings: domains.iter().map(|domain| domain.meetings).sum(),
            members: domains.iter().map(|domain| domain.members).sum(),
            reports_outstanding: domains.iter().map(|domain| domain.reports_outstanding).sum(),
            probes_unanswered: counters.probes_unanswered(),
            counters,
            report_round_trip: Latency::from(&reports),
            probe_round_trip: Latency::from(&probes),
            recoveries: recoveries(&domains),
            domains,
        }
    }

    /// The servers, by ascending domain.
    pub(super) fn all(&self) -> &[AutonomousServer] {
        &self.servers
    }

    fn find(&self, domain: Domain) -> Option<usize> {
        self.servers.binary_search_by_key(&domain, AutonomousServer::domain).ok()
    }
}

fn domain_status(server: &AutonomousServer) -> DomainStatus {
    DomainStatus {
        domain: server.domain(),
        epoch: server.highest_epoch(),
        meetings: server.count_meetings(),
        members: server.count_members(),
        reports_outstanding: server.reports_outstanding(),
        quiet: server.is_quiet(),
        counters: *server.counters(),
        probes_unanswered: server.counters().probes_unanswered(),
        epochs: server.timeline().cloned().collect(),
    }
}

fn recoveries(domains: &[DomainStatus]) -> Vec<Recovery> {
    let mut epochs: Vec<_> = domains.iter().flat_map(|domain| &domain.epochs).map(|seen| seen.epoch).collect();
    epochs.sort_unstable();
    epochs.dedup();
    let recovery = |epoch| {
        let seen = || domains.iter().flat_map(|domain| &domain.epochs).filter(|seen| seen.epoch == epoch);
        let done = seen().map(|seen| seen.replay_done_ns).collect::<Option<Vec<_>>>();
        Recovery {
            epoch,
            domains: seen().count(),
            first_frame_ns: seen().filter_map(|seen| seen.first_frame_ns).min(),
            takeover_first_ns: seen().filter_map(|seen| seen.takeover_first_ns).min(),
            takeover_last_ns: seen().filter_map(|seen| seen.takeover_last_ns).max(),
            replay_done_ns: done.and_then(|times| times.into_iter().max()),
            taken_over: seen().map(|seen| seen.taken_over).sum(),
            audits_differing: seen().map(|seen| seen.audits_differing).sum(),
        }
    };
    epochs.into_iter().map(recovery).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;
    use crate::wire::{Address, Direction, Envelope, Header, Key, Mac, Message, encode_message};

    #[test]
    fn frames_go_to_the_domain_that_they_are_addressed_to_and_rates_are_shared_out() {
        let domains = [3, 1, 2].map(|number| Domain::new(number).unwrap());
        let servers = domains.map(|domain| AutonomousServer::new(Settings::new(domain), domain.number()));
        let mut world = World::new(0x88B5, servers.into());
        let (mac, mut buffer) = (Mac([2; 6]), [0; crate::limits::FRAME_BYTES_MAX]);
        let mut give = |world: &mut World, number| {
            let to = Domain::new(number).unwrap().server();
            let from = Address::from_number(0x1_FFFF);
            let envelope =
                Envelope { dst_mac: mac, src_mac: mac, vlan: None, ethertype: 0x88B5, to, from, label: None };
            let key = Key::derive(None, Direction::Dispatch);
            let header = Header { epoch: Epoch::new(1, 1), ..Header::default() };
            let length = encode_message(&mut buffer, &envelope, &header, &Message::Connect { window: 1 }, &key);
            world.handle_frame(Nanos(5), &buffer[..length]);
        };
        [1, 2, 2, 3, 4].into_iter().for_each(|number| give(&mut world, number));
        world.handle_frame(Nanos(5), &[0; 40]);
        world.set_rates(0, 7);
        let status = world.status(Nanos(9));
        let requests =
            |status: &WorldStatus| status.domains.iter().map(|one| one.counters.requests).collect::<Vec<_>>();
        assert_eq!((requests(&status), status.frames_foreign), (vec![1, 2, 1], 2));
        assert_eq!((status.recoveries.len(), status.recoveries[0].domains), (1, 3));
        let mut sent = 0;
        for at in 0..1000 {
            let mut buffer = [0; crate::limits::FRAME_BYTES_MAX];
            assert!(world.transmit(Nanos(1_000_000 * at + 10), |write| {
                sent += usize::from(write(&mut buffer) > 0);
                true
            }));
        }
        assert_eq!((sent, world.status(Nanos(9)).probes_unanswered), (4 + 7, 7));
    }
}
