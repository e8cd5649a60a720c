//! Where each domain is and whether it answers, and what follows from that.

use std::time::Duration;

use super::event::{Body, Event, Transmit};
use super::output::Output;
use crate::cascade::{Hop, LinkEvent, Topology};
use crate::handover::protocol::Notice;
use crate::limits::NEXT_HOPS_PER_SECOND;
use crate::recovery::Recovery;
use crate::time::Nanos;
use crate::wire::{Domain, Envelope, Epoch, Header, Message, Status};

/// The links of all domains.
pub(super) struct Links {
    pub topology: Topology,
    told: Told,
}

/// Next hops that the keeper is told, no more than [`NEXT_HOPS_PER_SECOND`]: frames of a domain
/// that come from two places in turn would crowd out what it must hear. One that is not told is
/// learned again by the next engine.
#[derive(Default)]
struct Told {
    since: Nanos,
    hops: u32,
}

impl Told {
    fn allows(&mut self, now: Nanos) -> bool {
        if now.since(self.since) >= Duration::from_secs(1) {
            *self = Self { since: now, hops: 0 };
        }
        self.hops += 1;
        self.hops <= NEXT_HOPS_PER_SECOND
    }
}

impl Links {
    pub fn new(topology: Topology) -> Self {
        Self { topology, told: Told::default() }
    }

    /// An authentic frame of the domain came from there.
    pub fn handle_seen(
        &mut self,
        now: Nanos,
        domain: Domain,
        hop: Hop,
        recovery: &mut Recovery,
        output: &mut Output,
    ) -> bool {
        let is_new = self.topology.handle_authentic(domain, hop);
        if is_new {
            self.learned(now, domain, hop, recovery, output);
        }
        is_new
    }

    /// Draws the conclusions from what became of links.
    pub fn handle_events(&mut self, now: Nanos, recovery: &mut Recovery, output: &mut Output) {
        while let Some(event) = self.topology.poll_event() {
            match event {
                LinkEvent::Up(domain) => {
                    output.event(Event::LinkUp(domain));
                    // What it did while it was away is asked for; what recovery had begun goes on.
                    if recovery.server(domain).is_some_and(|server| server.is_reconciled()) {
                        recovery.restart(now, domain);
                    }
                }
                LinkEvent::Moved(domain, hop) => self.learned(now, domain, hop, recovery, output),
                LinkEvent::Down(domain) if self.topology.next_hop(domain).is_none() => {
                    output.event(Event::LinkUnknown(domain));
                }
                LinkEvent::Down(domain) => output.event(Event::LinkDown(domain)),
            }
        }
    }

    /// A domain is elsewhere than was known: what was on its way to it may have gone nowhere.
    fn learned(&mut self, now: Nanos, domain: Domain, hop: Hop, recovery: &mut Recovery, output: &mut Output) {
        output.event(Event::NextHop(domain, hop));
        if self.told.allows(now) {
            output.notices.push_back(Notice::NextHop { domain, hop });
        }
        recovery.restart(now, domain);
    }

    /// Answers a heartbeat that came in this envelope. `held` are our parts in the domain.
    pub fn answer(
        &self,
        domain: Domain,
        asked: &Envelope,
        header: &Header,
        sent_ns: u64,
        held: u32,
    ) -> Option<Transmit> {
        let marks = self.topology.route(domain).map(|route| route.marks).unwrap_or_default();
        // The worker has seen to it that it bears our address there.
        let envelope = marks.answer(asked, asked.dst_mac)?;
        let message = Message::HeartbeatAck { sent_ns, held, boot_generation: 0, age: 0, highest_epoch: Epoch::NONE };
        Some(Transmit { domain, envelope, body: Body::Message(header.answer(Status::Ok), message) })
    }

    /// The next heartbeat that is due.
    pub fn poll_heartbeat(&mut self, now: Nanos, epoch: Epoch, recovery: &mut Recovery) -> Option<Transmit> {
        let (envelope, header, message) = self.topology.poll_transmit(now, epoch, recovery)?;
        let domain = envelope.to.domain()?;
        // A heartbeat under our epoch would take back what somebody else controls.
        let is_given_up = recovery.server(domain).is_some_and(|server| server.fenced_by().is_some());
        let epoch = if is_given_up { Epoch::NONE } else { header.epoch };
        let header = Header { epoch, ..header };
        Some(Transmit { domain, envelope, body: Body::Message(header, message) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_hops_are_told_no_faster_than_a_keeper_takes_them() {
        let mut told = Told::default();
        let second = |at: u64| Nanos(at * 1_000_000_000);
        let allowed = |told: &mut Told, at| (0..3 * NEXT_HOPS_PER_SECOND).filter(|_| told.allows(second(at))).count();
        assert_eq!(allowed(&mut told, 5), NEXT_HOPS_PER_SECOND as usize);
        assert_eq!(allowed(&mut told, 6), NEXT_HOPS_PER_SECOND as usize);
    }
}
