//! Commands on their way: a lane per autonomous server, with a window, so that a thousand
//! conferences started at once do not overrun the ring of the server that they are for; repeated
//! with growing pauses until they are answered, or given up with their operation.
//!
//! What was given up is not sent again from that moment on. It may have been carried out all the
//! same, or may be yet: an answer that comes after all says so, and whoever follows both sides
//! hears of it ([`Heard::Late`]).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use super::OperationId;
use crate::limits::{COMMANDS_GIVEN_UP_MAX, COMMANDS_IN_FLIGHT_MAX};
use crate::time::Nanos;
use crate::wire::{Address, Domain, Epoch, Header, MeetingId, Message, Opcode, Status, Transaction, Transactions};

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

/// How commands are sent.
#[derive(Clone, Debug)]
pub struct CommandSettings {
    /// Commands outstanding at one autonomous server, at most.
    pub window: usize,
    /// After how long an unanswered command is sent again the first time; then twice as long each
    /// time.
    pub repeat_min: Duration,
    /// The longest pause between two repeats.
    pub repeat_max: Duration,
    /// What transactions are drawn from: the one source of this engine.
    pub transactions: Transactions,
    /// What runs are drawn from: a random number, another one for each engine.
    pub runs: u64,
}

impl Default for CommandSettings {
    fn default() -> Self {
        Self {
            window: 256,
            repeat_min: Duration::from_millis(50),
            repeat_max: Duration::from_secs(1),
            transactions: Transactions::default(),
            runs: 1,
        }
    }
}

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
struct Flight {
    domain: Domain,
    pending: Pending,
    sent: Nanos,
    pause: Duration,
    /// When it is sent again; timers of other times are void.
    again: Nanos,
    /// It was answered BUSY: it is sent again under another transaction, for that may be what the
    /// autonomous server remembers as the answer to this one.
    is_busy: bool,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Pending>,
    in_flight: usize,
    /// Another dispatch server controls the domain, under this epoch: nothing is sent there.
    fenced_by: Option<Epoch>,
}

#[derive(Debug)]
pub(super) struct Lanes {
    epoch: Epoch,
    settings: CommandSettings,
    lanes: BTreeMap<Domain, Lane>,
    /// The lane that had its turn last.
    turn: Option<Domain>,
    flights: HashMap<Transaction, Flight>,
    /// Commands that were given up and not answered since, the oldest first; and whose answers they
    /// are.
    given_up: VecDeque<Transaction>,
    late: HashMap<Transaction, (Domain, MeetingId)>,
    timers: BinaryHeap<Reverse<(Nanos, Transaction)>>,
    due: VecDeque<Transaction>,
    waiting: usize,
}

impl Lanes {
    pub fn new(epoch: Epoch, domains: impl IntoIterator<Item = Domain>, settings: CommandSettings) -> Self {
        assert!(settings.window > 0, "commands can be sent");
        Self {
            epoch,
            settings,
            lanes: domains.into_iter().map(|domain| (domain, Lane::default())).collect(),
            turn: None,
            flights: HashMap::new(),
            given_up: VecDeque::new(),
            late: HashMap::new(),
            timers: BinaryHeap::new(),
            due: VecDeque::new(),
            waiting: 0,
        }
    }

    pub fn has(&self, domain: Domain) -> bool {
        self.lanes.contains_key(&domain)
    }

    /// Commands that have not been sent yet.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Puts a command at the end of its lane; false where the domain has none, or is not ours any
    /// more.
    #[must_use]
    pub fn push(&mut self, domain: Domain, operation: OperationId, meeting: MeetingId, message: Message) -> bool {
        let Some(lane) = self.lanes.get_mut(&domain).filter(|lane| lane.fenced_by.is_none()) else { return false };
        lane.waiting.push_back(Pending { operation, meeting, message });
        self.waiting += 1;
        true
    }

    /// Who else controls a domain, and under which epoch.
    pub fn fenced_by(&self, domain: Domain) -> Option<Epoch> {
        self.lanes.get(&domain)?.fenced_by
    }

    /// Sends nothing to a domain any more, for another dispatch server controls it. Gives the
    /// operations that waited for it.
    pub fn fence(&mut self, domain: Domain, by: Epoch) -> BTreeSet<OperationId> {
        let Some(lane) = self.lanes.get_mut(&domain) else { return BTreeSet::new() };
        lane.fenced_by = Some(by);
        let waiting = std::mem::take(&mut lane.waiting);
        self.waiting -= waiting.len();
        let mut waited: BTreeSet<_> = waiting.iter().map(|pending| pending.operation).collect();
        let flights: Vec<_> =
            self.flights.iter().filter(|(_, flight)| flight.domain == domain).map(|(&at, _)| at).collect();
        waited.extend(flights.into_iter().filter_map(|at| self.land(at)).map(|flight| flight.pending.operation));
        waited
    }

    /// Gives up whatever an operation has waiting or in flight: nothing of it is sent any more.
    pub fn give_up(&mut self, operation: OperationId) {
        for lane in self.lanes.values_mut() {
            let before = lane.waiting.len();
            lane.waiting.retain(|pending| pending.operation != operation);
            self.waiting -= before - lane.waiting.len();
        }
        let of_operation = |(&transaction, flight): (&Transaction, &Flight)| {
            (flight.pending.operation == operation).then_some(transaction)
        };
        let given_up: Vec<_> = self.flights.iter().filter_map(of_operation).collect();
        for transaction in given_up {
            let Some(flight) = self.land(transaction) else { continue };
            if self.given_up.len() >= COMMANDS_GIVEN_UP_MAX
                && let Some(oldest) = self.given_up.pop_front()
            {
                self.late.remove(&oldest);
            }
            self.given_up.push_back(transaction);
            self.late.insert(transaction, (flight.domain, flight.pending.meeting));
        }
    }

    pub fn handle_message(&mut self, now: Nanos, domain: Domain, header: &Header, message: &Message) -> Heard {
        let transaction = header.transaction;
        let Some(flight) = self.flights.get_mut(&transaction) else { return self.heard_late(domain, header, message) };
        let asked = flight.pending.message;
        let expected = Opcode::from_wire(asked.opcode()).and_then(Opcode::answer).map(Opcode::wire);
        if flight.domain != domain
            || header.epoch != self.epoch
            || header.meeting != flight.pending.meeting
            || Some(message.opcode()) != expected
        {
            return Heard::NotOurs;
        }
        let result = match *message {
            // Who it is about is told by the answer too, and a command has one terminal.
            Message::MemberAck { terminal, .. } if about(&asked) != Some(terminal) => return Heard::NotOurs,
            Message::MeetingAck { version, .. } | Message::MemberAck { version, .. } => Ok(version),
            Message::Refused { status: Status::Busy, value, .. } => {
                // The same answer again, which anybody may have recorded, puts nothing off.
                if std::mem::replace(&mut flight.is_busy, true) {
                    return Heard::Later;
                }
                let wait = Duration::from_nanos(value).clamp(Duration::from_millis(1), self.settings.repeat_max);
                flight.again = now + wait;
                self.timers.push(Reverse((flight.again, transaction)));
                return Heard::Later;
            }
            Message::Refused { status: Status::StaleEpoch, value, .. } if Epoch(value) > self.epoch => {
                return Heard::Stale(Epoch(value));
            }
            Message::Refused { status, .. } => Err(status),
            _ => return Heard::NotOurs,
        };
        let Some(flight) = self.land(transaction) else { return Heard::NotOurs };
        Heard::Answered(Answered {
            operation: flight.pending.operation,
            domain,
            asked,
            result,
            already: header.status == Status::Already.wire(),
            round_trip: now.since(flight.sent),
        })
    }

    /// Whether an answer to no command in flight is one to a command that was given up. It tells
    /// that once.
    fn heard_late(&mut self, domain: Domain, header: &Header, message: &Message) -> Heard {
        let answers =
            matches!(message, Message::MeetingAck { .. } | Message::MemberAck { .. } | Message::Refused { .. });
        let asked = self.late.get(&header.transaction);
        if !answers || header.epoch != self.epoch || asked != Some(&(domain, header.meeting)) {
            return Heard::NotOurs;
        }
        self.late.remove(&header.transaction);
        Heard::Late
    }

    /// The next command to send: a repeat that is due, else the next of each lane in turn.
    pub fn poll_transmit(&mut self, now: Nanos) -> Option<Command> {
        while let Some(transaction) = self.due.pop_front() {
            let Some(mut flight) = self.flights.remove(&transaction) else { continue };
            let is_busy = std::mem::take(&mut flight.is_busy);
            let transaction = if is_busy { self.number() } else { transaction };
            flight.pause = (flight.pause * 2).min(self.settings.repeat_max);
            flight.again = now + flight.pause;
            self.timers.push(Reverse((flight.again, transaction)));
            let command = command(self.epoch, transaction, &flight);
            self.flights.insert(transaction, flight);
            return Some(command);
        }
        for _ in 0..self.lanes.len() {
            let after = self.turn.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
            let next =
                self.lanes.range((after, std::ops::Bound::Unbounded)).next().or_else(|| self.lanes.iter().next());
            let (&domain, _) = next?;
            self.turn = Some(domain);
            if let Some(command) = self.depart(now, domain) {
                return Some(command);
            }
        }
        None
    }

    fn depart(&mut self, now: Nanos, domain: Domain) -> Option<Command> {
        let lane = self.lanes.get_mut(&domain)?;
        if lane.in_flight >= self.settings.window || self.flights.len() >= COMMANDS_IN_FLIGHT_MAX {
            return None;
        }
        let pending = lane.waiting.pop_front()?;
        self.waiting -= 1;
        lane.in_flight += 1;
        let transaction = self.number();
        let pause = self.settings.repeat_min;
        let flight = Flight { domain, pending, sent: now, pause, again: now + pause, is_busy: false };
        self.timers.push(Reverse((flight.again, transaction)));
        let command = command(self.epoch, transaction, &flight);
        self.flights.insert(transaction, flight);
        Some(command)
    }

    pub fn handle_timeout(&mut self, now: Nanos) {
        while let Some(&Reverse((at, transaction))) = self.timers.peek()
            && at <= now
        {
            self.timers.pop();
            if self.flights.get(&transaction).is_some_and(|flight| flight.again == at) {
                self.due.push_back(transaction);
            }
        }
    }

    /// When the next repeat is due. Timers of what was answered are dropped on the way.
    pub fn poll_timeout(&mut self) -> Option<Nanos> {
        while let Some(&Reverse((at, transaction))) = self.timers.peek() {
            if self.flights.get(&transaction).is_some_and(|flight| flight.again == at) {
                return Some(at);
            }
            self.timers.pop();
        }
        None
    }

    /// Nothing more is sent, ever.
    pub fn stop(&mut self) {
        self.flights.clear();
        self.given_up.clear();
        self.late.clear();
        self.timers.clear();
        self.due.clear();
        self.waiting = 0;
        for lane in self.lanes.values_mut() {
            *lane = Lane::default();
        }
    }

    fn land(&mut self, transaction: Transaction) -> Option<Flight> {
        let flight = self.flights.remove(&transaction)?;
        if let Some(lane) = self.lanes.get_mut(&flight.domain) {
            lane.in_flight -= 1;
        }
        Some(flight)
    }

    /// A number that no command in flight has, and none that was given up. There are more numbers
    /// than there may be of both, so one is found.
    fn number(&self) -> Transaction {
        loop {
            let number = self.settings.transactions.next();
            if !self.flights.contains_key(&number) && !self.late.contains_key(&number) {
                return number;
            }
        }
    }
}

fn command(epoch: Epoch, transaction: Transaction, flight: &Flight) -> Command {
    let Pending { meeting, message, .. } = flight.pending;
    Command { domain: flight.domain, header: Header::request(transaction, epoch, meeting), message }
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
