//! Which autonomous domain is reached by which of our interfaces and over which link, and whether that link lives.
//!
//! In its simplest form each domain is one hop away: its autonomous server answers on this Ethernet. What lies beyond
//! is asked through [`Topology::next_hop`] all the same, so that a route through another domain has its place here and
//! no caller need know.
//!
//! No I/O: frames that were checked go in by `handle_*`, what is to be sent comes out of
//! [`Topology::poll_transmit`], and time is an argument. What always holds: a domain's next hop is what the
//! configuration names, or else is learned from frames *whose tag was right*. While its heartbeats are answered it does not
//! move at all: the tag does not cover Ethernet's header, so a frame that was recorded and sent again from another
//! place could otherwise draw a link there.

mod hop;
mod link;
mod speakers;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

pub use hop::Hop;
pub use link::{LinkState, Liveness};
pub use speakers::{Speakers, Voice};

use crate::config::{AutonomousDomain, Config, Heartbeat};
use crate::time::Nanos;
use crate::wire::{Address, Direction, Domain, Envelope, Epoch, Header, Key, Mac, MeetingId, Message, Transaction};

/// How frames to a domain are addressed and tagged.
#[derive(Clone, Debug)]
pub struct Route {
    /// The domain.
    pub domain: Domain,
    hop: Option<Hop>,
    learns: bool,
    /// The only interface that it is at, where that is configured.
    at: Option<u8>,
    vlan: Option<u16>,
    label: Option<u16>,
    /// What frames to it are tagged with.
    pub to_it: Key,
    /// What frames from it are checked with.
    pub from_it: Key,
}

/// A change of a link that somebody wants to hear of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkEvent {
    /// The domain's server answers.
    Up(Domain),
    /// It has stopped answering.
    Down(Domain),
}

/// The domains, their links and their keys.
///
/// Order of calls: `handle_*` as frames come in; then [`Self::poll_transmit`] until it gives nothing,
/// [`Self::poll_event`] until it gives nothing, and again no later than [`Self::poll_timeout`].
pub struct Topology {
    /// Those of our interfaces.
    own_macs: Vec<Mac>,
    own_address: Address,
    ethertype: u16,
    routes: Vec<Route>,
    links: Vec<Liveness>,
    by_number: HashMap<Domain, usize>,
    speakers: Arc<Speakers>,
    events: std::collections::VecDeque<LinkEvent>,
    /// Where the search for the next heartbeat goes on, so that no domain starves another.
    turn: usize,
}

impl Topology {
    /// The domains of a configuration, on interfaces with these Ethernet addresses. Every link is unknown at first.
    pub fn new(config: &Config, own_macs: &[Mac]) -> Self {
        Self::with(&config.domains, config.dispatch.address, config.interface.ethertype, own_macs, config.heartbeat)
    }

    /// As [`Self::new`], of these domains alone.
    pub fn with(
        domains: &[AutonomousDomain],
        own_address: Address,
        ethertype: u16,
        own_macs: &[Mac],
        heartbeat: Heartbeat,
    ) -> Self {
        let routes: Vec<_> = domains.iter().map(Route::new).collect();
        let by_number = routes.iter().enumerate().map(|(n, route)| (route.domain, n)).collect();
        let links = routes.iter().map(|_| Liveness::new(heartbeat)).collect();
        Self {
            own_macs: own_macs.to_vec(),
            own_address,
            ethertype,
            // Each link can change at most once between two looks, and then once back.
            events: std::collections::VecDeque::with_capacity(routes.len() * 2),
            routes,
            links,
            by_number,
            speakers: Arc::new(Speakers::of(domains)),
            turn: 0,
        }
    }

    /// The domains, ascending.
    pub fn domains(&self) -> impl ExactSizeIterator<Item = Domain> + '_ {
        self.routes.iter().map(|route| route.domain)
    }

    /// Who may speak for whom.
    pub fn speakers(&self) -> &Arc<Speakers> {
        &self.speakers
    }

    /// A domain's route; none for one that the configuration does not name.
    pub fn route(&self, domain: Domain) -> Option<&Route> {
        self.by_number.get(&domain).map(|&n| &self.routes[n])
    }

    /// How a frame to a domain's server is addressed: the template for requests. None while its next hop is neither
    /// configured nor learned, or the domain is not known.
    pub fn next_hop(&self, domain: Domain) -> Option<Envelope> {
        self.next_hop_to(domain.server())
    }

    /// As [`Self::next_hop`], to a terminal or another device of a domain.
    pub fn next_hop_to(&self, address: Address) -> Option<Envelope> {
        let route = self.route(address.domain()?)?;
        let Hop { interface, mac } = route.hop?;
        Some(Envelope {
            dst_mac: mac,
            src_mac: *self.own_macs.get(usize::from(interface))?,
            vlan: route.vlan,
            ethertype: self.ethertype,
            to: address,
            from: self.own_address,
            label: route.label,
        })
    }

    /// The state of a domain's link.
    pub fn link(&self, domain: Domain) -> Option<&Liveness> {
        self.by_number.get(&domain).map(|&n| &self.links[n])
    }

    /// Takes note of a frame from a domain's server whose tag has been checked: where the next hop is learned and the
    /// link is not up by it, that is where the frame came from. True where that changed the next hop.
    pub fn handle_authentic(&mut self, domain: Domain, from: Hop) -> bool {
        let Some(&n) = self.by_number.get(&domain) else { return false };
        let route = &mut self.routes[n];
        let is_group = from.mac.0[0] & 1 == 1;
        let is_elsewhere = route.at.is_some_and(|at| at != from.interface);
        if !route.learns
            || is_group
            || is_elsewhere
            || route.hop == Some(from)
            || self.links[n].state() == LinkState::Up
        {
            return false;
        }
        route.hop = Some(from);
        // The first heartbeat there is due at once.
        self.links[n].hurry();
        true
    }

    /// Takes an answer to a heartbeat of ours, its tag checked: `sent` is the time that the heartbeat bore. False where it does not
    /// count, see [`Liveness::handle_ack`]: nothing else that it says is to be believed then.
    pub fn handle_heartbeat_ack(&mut self, now: Nanos, domain: Domain, sent: Nanos, meetings_held: u32) -> bool {
        let Some(&n) = self.by_number.get(&domain) else { return false };
        let Some(comes_up) = self.links[n].handle_ack(now, sent, meetings_held) else { return false };
        if comes_up {
            self.event(LinkEvent::Up(domain));
        }
        true
    }

    /// The next heartbeat that is due, if any: where to, and what.
    pub fn poll_transmit(&mut self, now: Nanos, epoch: Epoch) -> Option<(Envelope, Header, Message)> {
        for _ in 0..self.routes.len() {
            let n = self.turn;
            self.turn = (n + 1) % self.routes.len();
            let domain = self.routes[n].domain;
            if !self.links[n].is_due(now) {
                continue;
            }
            if self.links[n].beat(now) {
                self.event(LinkEvent::Down(domain));
            }
            // A domain whose next hop has yet to be learned is silent to us: its own heartbeats bring it.
            if let Some(envelope) = self.next_hop(domain) {
                let transaction = Transaction(self.links[n].beats());
                let header = Header::request(transaction, epoch, MeetingId::NONE);
                return Some((envelope, header, Message::Heartbeat { sent_ns: now.0 }));
            }
        }
        None
    }

    /// When [`Self::poll_transmit`] has something next.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        self.links.iter().map(Liveness::next_beat).min()
    }

    /// The next change of a link.
    pub fn poll_event(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    fn event(&mut self, event: LinkEvent) {
        // Whoever does not fetch the events does not get them all; the links themselves say how things stand.
        if self.events.len() < self.routes.len() * 2 {
            self.events.push_back(event);
        }
    }
}

impl Route {
    fn new(domain: &AutonomousDomain) -> Self {
        Self {
            domain: domain.number,
            hop: domain.mac.map(|mac| Hop { interface: domain.interface.unwrap_or(0), mac }),
            learns: domain.mac.is_none(),
            at: domain.interface,
            vlan: domain.vlan,
            label: domain.label,
            to_it: domain.key(Direction::Dispatch),
            from_it: domain.key(Direction::Autonomous),
        }
    }

    /// Its next hop, configured or learned.
    pub fn hop(&self) -> Option<Hop> {
        self.hop
    }
}
