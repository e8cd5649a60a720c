//! Which autonomous domain is reached by which of our interfaces and over which link, and whether
//! that link lives.
//!
//! In its simplest form each domain is one hop away: its autonomous server answers on this
//! Ethernet. What lies beyond is asked through [`Topology::next_hop`] all the same, so that a route
//! through another domain has its place here and no caller need know.
//!
//! No I/O: frames that were checked go in by `handle_*`, what is to be sent comes out of
//! [`Topology::poll_transmit`], and time is an argument. What always holds: a domain's next hop is
//! what the configuration names, or else is learned from frames *whose tag was right*. The tag does
//! not cover Ethernet's header, so a frame that was recorded and sent again from another place
//! could draw a link there. So while heartbeats are answered the next hop does not move at all, and
//! while they are not, those that may be the domain's are tried in turn: the last that answered is
//! among them, and the one that answers is it.

mod exchange;
mod hop;
mod link;
mod round_trip;
mod speakers;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use arrayvec::ArrayVec;

pub use exchange::{Due, Exchange, Exchanges, Purpose};
pub use hop::{Hop, Marks, is_group};
pub use link::{LinkState, Liveness};
pub use speakers::{Speakers, Voice};

use crate::config::{AutonomousDomain, Config, Heartbeat};
use crate::limits::HOPS_TRIED;
use crate::time::Nanos;
use crate::wire::{Address, Direction, Domain, Envelope, Epoch, Header, Key, Mac, MeetingId, Message, Transaction};

/// How frames to a domain are addressed and tagged.
#[derive(Clone, Debug)]
pub struct Route {
    /// Whose autonomous server the route leads to.
    pub domain: Domain,
    hop: Option<Hop>,
    /// What may be its next hop, and when the last heartbeat went there. The first is the one that
    /// answered last or, where none did, that was heard first.
    hops: ArrayVec<(Hop, Nanos), HOPS_TRIED>,
    /// How often another of them was tried.
    turns: usize,
    learns: bool,
    /// The only interface that it is at, where that is configured.
    at: Option<u8>,
    /// What frames to it bear.
    pub marks: Marks,
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
    /// It has answered from elsewhere than before, and comes up there.
    Moved(Domain, Hop),
}

/// Times that a link can change between two looks, and then back: down, elsewhere, up.
const EVENTS_A_LINK: usize = 3;

/// The domains, their links and their keys.
///
/// Order of calls: `handle_*` as frames come in; then [`Self::poll_transmit`] until it gives
/// nothing, [`Self::poll_event`] until it gives nothing, and again no later than
/// [`Self::poll_timeout`].
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
    /// A next hop is another than when [`Self::take_turned`] was asked last.
    turned: bool,
}

impl Topology {
    /// The domains of a configuration, on interfaces with these Ethernet addresses. Every link is
    /// unknown at first.
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
            events: std::collections::VecDeque::with_capacity(routes.len() * EVENTS_A_LINK),
            routes,
            links,
            by_number,
            speakers: Arc::new(Speakers::of(domains)),
            turn: 0,
            turned: false,
        }
    }

    /// Those of our interfaces.
    pub fn own_macs(&self) -> &[Mac] {
        &self.own_macs
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

    /// How a frame to a domain's server is addressed: the template for requests. None while its
    /// next hop is neither configured nor learned, or the domain is not known.
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
            vlan: route.marks.vlan,
            ethertype: self.ethertype,
            to: address,
            from: self.own_address,
            label: route.marks.label,
        })
    }

    /// The state of a domain's link.
    pub fn link(&self, domain: Domain) -> Option<&Liveness> {
        self.by_number.get(&domain).map(|&n| &self.links[n])
    }

    /// Takes note of a frame from a domain's server whose tag has been checked: where the next hop
    /// is learned and the link is not up by it, that is where the frame came from, or what is tried
    /// next. True where it is the first that is known of the domain.
    pub fn handle_authentic(&mut self, domain: Domain, from: Hop) -> bool {
        let Some(&n) = self.by_number.get(&domain) else { return false };
        let route = &mut self.routes[n];
        let is_elsewhere = route.at.is_some_and(|at| at != from.interface);
        // One that we do not have: it was learned before the configuration changed.
        let is_nowhere = usize::from(from.interface) >= self.own_macs.len();
        if !route.learns
            || is_group(from.mac)
            || is_elsewhere
            || is_nowhere
            || self.links[n].state() == LinkState::Up
            || route.hops.iter().any(|(hop, _)| *hop == from)
        {
            return false;
        }
        let is_first = route.hops.is_empty();
        if route.hops.is_full() {
            // Not the one that answered last: it may have been away for a moment.
            route.hops.remove(1);
        }
        route.hops.push((from, Nanos(0)));
        if is_first {
            route.hop = Some(from);
            self.turned = true;
            // The first heartbeat there is due at once.
            self.links[n].hurry();
        }
        is_first
    }

    /// Takes an answer to a heartbeat of ours, its tag checked: `sent` is the time that the
    /// heartbeat bore. False where it does not count, as an old one does not: nothing else that it
    /// says is to be believed then.
    pub fn handle_heartbeat_ack(&mut self, now: Nanos, domain: Domain, sent: Nanos, meetings_held: u32) -> bool {
        let Some(&n) = self.by_number.get(&domain) else { return false };
        let Some(comes_up) = self.links[n].handle_ack(now, sent, meetings_held) else { return false };
        if let Some(hop) = self.routes[n].answered(sent) {
            self.event(LinkEvent::Moved(domain, hop));
            self.turned = true;
        }
        if comes_up {
            self.event(LinkEvent::Up(domain));
        }
        true
    }

    /// Whether a next hop has changed since this was asked last.
    pub fn take_turned(&mut self) -> bool {
        std::mem::take(&mut self.turned)
    }

    /// The next heartbeat that is due, if any: where to, and what.
    /// Heartbeats bear numbers of the one sequence, too: an autonomous server need not make an
    /// exception of them.
    pub fn poll_transmit(
        &mut self,
        now: Nanos,
        epoch: Epoch,
        exchanges: &mut dyn Exchanges,
    ) -> Option<(Envelope, Header, Message)> {
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
            let link = &self.links[n];
            // One of those before this one was not answered either.
            if link.state() != LinkState::Up && link.unanswered() > 1 {
                self.turned |= self.routes[n].turn();
            }
            self.routes[n].beaten(now);
            // A domain whose next hop has yet to be learned is silent to us: its own heartbeats
            // bring it.
            if let Some(envelope) = self.next_hop(domain) {
                let transaction = exchanges.exchange(domain).map_or(Transaction(0), Exchange::draw);
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
        // A caller that does not fetch the events does not get them all; the links themselves say
        // how things stand.
        if self.events.len() < self.routes.len() * EVENTS_A_LINK {
            self.events.push_back(event);
        }
    }
}

impl Route {
    fn new(domain: &AutonomousDomain) -> Self {
        Self {
            domain: domain.number,
            hop: domain.mac.map(|mac| Hop { interface: domain.interface.unwrap_or(0), mac }),
            hops: ArrayVec::new(),
            turns: 0,
            learns: domain.mac.is_none(),
            at: domain.interface,
            marks: Marks { vlan: domain.vlan, label: domain.label },
            to_it: domain.key(Direction::Dispatch),
            from_it: domain.key(Direction::Autonomous),
        }
    }

    /// Its next hop, configured or learned.
    pub fn hop(&self) -> Option<Hop> {
        self.hop
    }

    /// Goes on to the next that may be its next hop: the first every other time, for what else is
    /// heard may be made up, and the others in turn between. True where that is another.
    fn turn(&mut self) -> bool {
        let others = self.hops.len().saturating_sub(1);
        if others == 0 {
            return false;
        }
        self.turns = self.turns.wrapping_add(1);
        let at = if self.turns.is_multiple_of(2) { 0 } else { 1 + self.turns / 2 % others };
        let before = self.hop;
        self.hop = Some(self.hops[at].0);
        self.hop != before
    }

    /// A heartbeat goes to its next hop now.
    fn beaten(&mut self, now: Nanos) {
        if let Some(tried) = self.hops.iter_mut().find(|(hop, _)| Some(*hop) == self.hop) {
            tried.1 = now;
        }
    }

    /// The heartbeat that was sent then is answered: where it went is its next hop. Gives that
    /// where it was not so before.
    fn answered(&mut self, sent: Nanos) -> Option<Hop> {
        // 0 is of those that no heartbeat went to.
        let at = self.hops.iter().position(|(_, beaten)| *beaten == sent && sent != Nanos(0))?;
        let answers = self.hops[at];
        // What else was heard may have been an old frame from elsewhere.
        self.hops.clear();
        self.hops.push(answers);
        self.hop = Some(answers.0);
        (at > 0).then_some(answers.0)
    }
}
