//! Commands on their way: a lane per autonomous server, with a window, so that a thousand conferences started at once
//! do not overrun the ring of the server that they are for; repeated with growing pauses until they are answered.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use super::OperationId;
use crate::limits::COMMANDS_IN_FLIGHT_MAX;
use crate::time::Nanos;
use crate::wire::{Domain, Epoch, Header, MeetingId, Message, Opcode, Status, Transaction, Transactions};

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
    /// After how long an unanswered command is sent again the first time; then twice as long each time.
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
}

#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Pending>,
    in_flight: usize,
}

#[derive(Debug)]
pub(super) struct Lanes {
    epoch: Epoch,
    settings: CommandSettings,
    lanes: BTreeMap<Domain, Lane>,
    /// The lane that had its turn last.
    turn: Option<Domain>,
    flights: HashMap<Transaction, Flight>,
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

    /// Puts a command at the end of its lane.
    pub fn push(&mut self, domain: Domain, operation: OperationId, meeting: MeetingId, message: Message) {
        let lane = self.lanes.get_mut(&domain).expect("an operation names domains that have a lane");
        lane.waiting.push_back(Pending { operation, meeting, message });
        self.waiting += 1;
    }

    pub fn handle_message(&mut self, now: Nanos, domain: Domain, header: &Header, message: &Message) -> Heard {
        let transaction = header.transaction;
        let Some(flight) = self.flights.get_mut(&transaction) else { return Heard::NotOurs };
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
            Message::MeetingAck { version, .. } | Message::MemberAck { version, .. } => Ok(version),
            Message::Refused { status: Status::Busy, value, .. } => {
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
        let flight = self.land(transaction).expect("it was just found");
        Heard::Answered(Answered {
            operation: flight.pending.operation,
            domain,
            asked,
            result,
            already: header.status == Status::Already.wire(),
            round_trip: now.since(flight.sent),
        })
    }

    /// The next command to send: a repeat that is due, else the next of each lane in turn. What belongs to an operation
    /// that is not `alive` any more is dropped.
    pub fn poll_transmit(&mut self, now: Nanos, alive: impl Fn(OperationId) -> bool) -> Option<Command> {
        while let Some(transaction) = self.due.pop_front() {
            let Some(flight) = self.flights.get_mut(&transaction) else { continue };
            if !alive(flight.pending.operation) {
                self.land(transaction);
                continue;
            }
            flight.pause = (flight.pause * 2).min(self.settings.repeat_max);
            flight.again = now + flight.pause;
            self.timers.push(Reverse((flight.again, transaction)));
            return Some(command(self.epoch, transaction, flight));
        }
        for _ in 0..self.lanes.len() {
            let after = self.turn.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
            let next =
                self.lanes.range((after, std::ops::Bound::Unbounded)).next().or_else(|| self.lanes.iter().next());
            let (&domain, _) = next?;
            self.turn = Some(domain);
            if let Some(command) = self.depart(now, domain, &alive) {
                return Some(command);
            }
        }
        None
    }

    fn depart(&mut self, now: Nanos, domain: Domain, alive: impl Fn(OperationId) -> bool) -> Option<Command> {
        let lane = self.lanes.get_mut(&domain)?;
        if lane.in_flight >= self.settings.window || self.flights.len() >= COMMANDS_IN_FLIGHT_MAX {
            return None;
        }
        let pending = loop {
            let pending = lane.waiting.pop_front()?;
            self.waiting -= 1;
            if alive(pending.operation) {
                break pending;
            }
        };
        lane.in_flight += 1;
        let transaction = self.number();
        let pause = self.settings.repeat_min;
        let flight = Flight { domain, pending, sent: now, pause, again: now + pause };
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

    /// A number that no command in flight has. There are more numbers than commands may be in flight, so one is found.
    fn number(&self) -> Transaction {
        loop {
            let number = self.settings.transactions.next();
            if !self.flights.contains_key(&number) {
                return number;
            }
        }
    }
}

fn command(epoch: Epoch, transaction: Transaction, flight: &Flight) -> Command {
    let Pending { meeting, message, .. } = flight.pending;
    Command { domain: flight.domain, header: Header::request(transaction, epoch, meeting), message }
}
