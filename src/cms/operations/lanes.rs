//! Commands on their way: a lane per autonomous server. A command waits here until the window of
//! its domain's [`Exchange`] has room, which repeats it from then on until it is answered, or given
//! up with its operation.
//!
//! What was given up is not sent again from that moment on. It may have been carried out all the
//! same, or may be yet: an answer that comes after all says so, and recovery, which follows both
//! sides, hears of it ([`Heard::Late`]).

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::OperationId;
use crate::cascade::{Exchange, Exchanges, Purpose};
use crate::limits::{COMMANDS_GIVEN_UP_MAX, COMMANDS_IN_FLIGHT_MAX};
use crate::time::Nanos;
use crate::wire::{Address, Domain, Epoch, Header, MeetingId, Message, Opcode, Status, Transaction};

/// A frame to be sent to a domain's autonomous server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Command {
    /// Whom it is for.
    pub domain: Domain,
    /// Transaction, epoch and meeting.
    pub header: Header,
    /// What it asks.
    pub message: Message,
}

/// What operations are made with.
#[derive(Clone, Debug)]
pub struct CommandSettings {
    /// What runs are drawn from: a random number, another one for each engine.
    pub runs: u64,
}

impl Default for CommandSettings {
    fn default() -> Self {
        Self { runs: 1 }
    }
}

/// The shortest time that a BUSY puts a command off.
const BUSY_MIN: Duration = Duration::from_millis(1);

/// What an arriving message was.
#[derive(Debug)]
pub(super) enum Heard {
    /// No answer to a command of ours that is outstanding.
    NotOurs,
    /// An answer after which the command is asked again later.
    Later,
    /// A newer dispatch server controls.
    Stale(Epoch),
    /// An answer to a command that was given up: it was carried out, or refused, after nobody
    /// waited for it any more.
    Late,
    /// An answer.
    Answered(Answered),
}

#[derive(Debug)]
pub(super) struct Answered {
    pub operation: OperationId,
    pub domain: Domain,
    /// What was asked.
    pub asked: Message,
    /// The version that the meeting's part has now, or why not.
    pub result: Result<u64, Status>,
    /// Whether it was so before: this command has not changed anything.
    pub already: bool,
    pub round_trip: Duration,
}

#[derive(Debug)]
struct Pending {
    operation: OperationId,
    meeting: MeetingId,
    message: Message,
}

#[derive(Debug)]
struct Lane {
    domain: Domain,
    waiting: VecDeque<Pending>,
    in_flight: usize,
    /// Another dispatch server controls the domain, under this epoch: nothing is sent there.
    fenced_by: Option<Epoch>,
}

/// A request of a domain's exchange.
type Place = (Domain, Transaction);

#[derive(Debug)]
pub(super) struct Lanes {
    epoch: Epoch,
    /// Ascending by domain.
    lanes: Vec<Lane>,
    /// Whose turn it is.
    turn: usize,
    in_flight: HashMap<Place, Pending>,
    /// What the exchanges are to be told: nobody waits for these any more.
    to_close: Vec<Place>,
    /// Commands that were given up and not answered since, the oldest first; and what they were
    /// about.
    given_up: VecDeque<Place>,
    late: HashMap<Place, MeetingId>,
    waiting: usize,
}

impl Lanes {
    pub fn new(epoch: Epoch, domains: impl IntoIterator<Item = Domain>) -> Self {
        let lane = |domain| Lane { domain, waiting: VecDeque::new(), in_flight: 0, fenced_by: None };
        let mut lanes: Vec<_> = domains.into_iter().map(lane).collect();
        lanes.sort_by_key(|lane| lane.domain);
        lanes.dedup_by_key(|lane| lane.domain);
        Self {
            epoch,
            lanes,
            turn: 0,
            in_flight: HashMap::new(),
            to_close: Vec::new(),
            given_up: VecDeque::new(),
            late: HashMap::new(),
            waiting: 0,
        }
    }

    pub fn has(&self, domain: Domain) -> bool {
        self.lane(domain).is_some()
    }

    /// Commands that have not been sent yet.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Puts a command at the end of its lane; false where the domain has none, or is not ours any
    /// more.
    #[must_use]
    pub fn push(&mut self, domain: Domain, operation: OperationId, meeting: MeetingId, message: Message) -> bool {
        let Some(lane) = self.lane_mut(domain).filter(|lane| lane.fenced_by.is_none()) else { return false };
        lane.waiting.push_back(Pending { operation, meeting, message });
        self.waiting += 1;
        true
    }

    /// Who else controls a domain, and under which epoch.
    pub fn fenced_by(&self, domain: Domain) -> Option<Epoch> {
        self.lane(domain)?.fenced_by
    }

    /// Sends nothing to a domain any more, for another dispatch server controls it. Gives the
    /// operations that waited for it.
    pub fn fence(&mut self, domain: Domain, by: Epoch) -> BTreeSet<OperationId> {
        let Some(lane) = self.lane_mut(domain) else { return BTreeSet::new() };
        lane.fenced_by = Some(by);
        let waiting = std::mem::take(&mut lane.waiting);
        self.waiting -= waiting.len();
        let sent = self.land_all(|place, _| place.0 == domain);
        waiting
            .into_iter()
            .chain(sent.into_iter().map(|(_, pending)| pending))
            .map(|pending| pending.operation)
            .collect()
    }

    /// Gives up all that an operation has waiting or in flight: nothing of it is sent any more.
    pub fn give_up(&mut self, operation: OperationId) {
        for lane in &mut self.lanes {
            let before = lane.waiting.len();
            lane.waiting.retain(|pending| pending.operation != operation);
            self.waiting -= before - lane.waiting.len();
        }
        for (place, pending) in self.land_all(|_, pending| pending.operation == operation) {
            if self.given_up.len() >= COMMANDS_GIVEN_UP_MAX
                && let Some(oldest) = self.given_up.pop_front()
            {
                self.late.remove(&oldest);
            }
            self.given_up.push_back(place);
            self.late.insert(place, pending.meeting);
        }
    }

    pub fn handle_message(
        &mut self,
        now: Nanos,
        domain: Domain,
        header: &Header,
        message: &Message,
        exchanges: &mut dyn Exchanges,
    ) -> Heard {
        self.close_given_up(exchanges);
        let place = (domain, header.transaction);
        let Some(exchange) = exchanges.exchange(domain) else { return Heard::NotOurs };
        let asked = exchange.asked(header, message.opcode()) == Some(Purpose::Command);
        let Some(asked) = self.in_flight.get(&place).filter(|_| asked).map(|pending| pending.message) else {
            return self.heard_late(place, header, message);
        };
        let result = match *message {
            // Who it is about is told by the answer too, and a command has one terminal.
            Message::MemberAck { terminal, .. } if about(&asked) != Some(terminal) => return Heard::NotOurs,
            Message::MeetingAck { version, .. } | Message::MemberAck { version, .. } => Ok(version),
            Message::Refused { status: Status::Busy, value, .. } => {
                let wait = Duration::from_nanos(value).clamp(BUSY_MIN, exchange.rto_max().max(BUSY_MIN));
                exchange.postpone(header.transaction, now + wait);
                return Heard::Later;
            }
            Message::Refused { status: Status::StaleEpoch, value, .. } if Epoch(value) > self.epoch => {
                return Heard::Stale(Epoch(value));
            }
            Message::Refused { status, .. } => Err(status),
            _ => return Heard::NotOurs,
        };
        let round_trip = exchange.answered(now, header.transaction).unwrap_or_default();
        let Some(pending) = self.land(place) else { return Heard::NotOurs };
        let already = header.status == Status::Already.wire();
        Heard::Answered(Answered { operation: pending.operation, domain, asked, result, already, round_trip })
    }

    /// Whether an answer to no command in flight is one to a command that was given up. It tells
    /// that once.
    fn heard_late(&mut self, place: Place, header: &Header, message: &Message) -> Heard {
        let answers =
            matches!(message, Message::MeetingAck { .. } | Message::MemberAck { .. } | Message::Refused { .. });
        if !answers || header.epoch != self.epoch || self.late.get(&place) != Some(&header.meeting) {
            return Heard::NotOurs;
        }
        self.late.remove(&place);
        Heard::Late
    }

    /// The next command to send, of each lane in turn: a repeat that is due, else what waits first.
    pub fn poll_transmit(&mut self, now: Nanos, exchanges: &mut dyn Exchanges) -> Option<Command> {
        self.close_given_up(exchanges);
        for _ in 0..self.lanes.len() {
            let turn = self.turn % self.lanes.len();
            self.turn = turn + 1;
            let lane = &self.lanes[turn];
            if lane.waiting.is_empty() && lane.in_flight == 0 {
                continue;
            }
            let Some(exchange) = exchanges.exchange(lane.domain) else { continue };
            let command = self.repeat(now, turn, exchange);
            if let Some(command) = command.or_else(|| self.depart(now, turn, exchange)) {
                return Some(command);
            }
        }
        None
    }

    fn repeat(&mut self, now: Nanos, turn: usize, exchange: &mut Exchange) -> Option<Command> {
        let domain = self.lanes[turn].domain;
        let due = exchange.poll_due(now, Purpose::Command)?;
        let Some(pending) = self.in_flight.remove(&(domain, due.before)) else {
            exchange.close(due.transaction);
            return None;
        };
        Some(self.sent((domain, due.transaction), pending))
    }

    fn depart(&mut self, now: Nanos, turn: usize, exchange: &mut Exchange) -> Option<Command> {
        let lane = &mut self.lanes[turn];
        if self.in_flight.len() >= COMMANDS_IN_FLIGHT_MAX {
            return None;
        }
        let Pending { meeting, message, .. } = lane.waiting.front()?;
        let opcode = Opcode::from_wire(message.opcode()).expect("a command is a request of the wire's");
        let transaction = exchange.ask(now, Purpose::Command, opcode, *meeting)?;
        let pending = lane.waiting.pop_front()?;
        let domain = lane.domain;
        lane.in_flight += 1;
        self.waiting -= 1;
        Some(self.sent((domain, transaction), pending))
    }

    /// The frame of a command that is in flight at this place from now on. Numbers go round, so an
    /// old one that was given up may have been there.
    fn sent(&mut self, place: Place, pending: Pending) -> Command {
        let header = Header::request(place.1, self.epoch, pending.meeting);
        let command = Command { domain: place.0, header, message: pending.message };
        self.late.remove(&place);
        self.in_flight.insert(place, pending);
        command
    }

    /// Nothing more is sent, ever.
    pub fn stop(&mut self) {
        self.land_all(|_, _| true);
        self.given_up.clear();
        self.late.clear();
        self.waiting = 0;
        for lane in &mut self.lanes {
            lane.waiting.clear();
            lane.fenced_by = None;
        }
    }

    fn land(&mut self, place: Place) -> Option<Pending> {
        let pending = self.in_flight.remove(&place)?;
        if let Some(lane) = self.lane_mut(place.0) {
            lane.in_flight -= 1;
        }
        Some(pending)
    }

    /// Takes back what is in flight and meant.
    fn land_all(&mut self, is_meant: impl Fn(&Place, &Pending) -> bool) -> Vec<(Place, Pending)> {
        let meant = |(place, pending): (&Place, &Pending)| is_meant(place, pending).then_some(*place);
        // In the order in which they were sent, so that a seed tells the whole story.
        let mut places: Vec<_> = self.in_flight.iter().filter_map(meant).collect();
        places.sort_unstable();
        let landed: Vec<_> = places.into_iter().filter_map(|place| Some((place, self.land(place)?))).collect();
        self.to_close.extend(landed.iter().map(|(place, _)| *place));
        landed
    }

    fn close_given_up(&mut self, exchanges: &mut dyn Exchanges) {
        for (domain, transaction) in self.to_close.drain(..) {
            if let Some(exchange) = exchanges.exchange(domain) {
                exchange.close(transaction);
            }
        }
    }

    fn lane(&self, domain: Domain) -> Option<&Lane> {
        let at = self.lanes.binary_search_by_key(&domain, |lane| lane.domain).ok()?;
        Some(&self.lanes[at])
    }

    fn lane_mut(&mut self, domain: Domain) -> Option<&mut Lane> {
        let at = self.lanes.binary_search_by_key(&domain, |lane| lane.domain).ok()?;
        Some(&mut self.lanes[at])
    }
}

/// The terminal that a command is about.
fn about(message: &Message) -> Option<Address> {
    match *message {
        Message::MemberAdd { terminal, .. }
        | Message::MemberRemove { terminal }
        | Message::RoleSet { terminal, .. }
        | Message::FlagsSet { terminal, .. } => Some(terminal),
        _ => None,
    }
}
