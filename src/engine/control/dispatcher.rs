//! All that the control thread decides: what follows from each frame, each outcome of the database,
//! each request of a client, each order of the keeper, and from time.
//!
//! Recovery, operations, links, terms and the journal meet here. No I/O, clock, channel or thread:
//! inputs are `handle_*`, outputs `poll_*`, and time is an argument. So a simulation
//! (`lab::sim::cluster`) drives the code that production runs. The table is memory that outlives
//! the process, and is worked on directly; what is to be durable leaves as jobs for the database.

mod beginning;
mod conclusions;
mod counted;
mod departure;
mod event;
mod journal;
mod links;
mod orphans;
mod output;
mod records;
mod status;
mod terms;
mod troubles;
mod unfinished;
mod walks;

#[cfg(test)]
#[path = "tests/dispatcher.rs"]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::beginning::Beginning;
use self::departure::{Departure, too_late};
pub(crate) use self::event::{Body, End, Event, Transmit, WorkerChange};
use self::journal::Committed;
pub(crate) use self::journal::Journal;
use self::links::Links;
use self::output::Output;
use self::records::Records;
use self::status::{KeeperWords, Seen};
use self::terms::Terms;
use self::troubles::Troubles;
use self::unfinished::Unfinished;
use self::walks::Walks;
use crate::api::{Answer, Reply, Request, Status};
use crate::cascade::{Hop, Topology};
use crate::cms::{CommandSettings, Operations, ReplyId};
use crate::database::{CommitError, DatabaseError, Job, Opened, Outcome};
use crate::handover::protocol::{Notice, Order};
use crate::limits::CONTROL_BATCH;
use crate::link::troubles::Trouble;
use crate::recovery::{Heard, Recovery, Warmed, Warming};
use crate::table::Table;
use crate::time::Nanos;
use crate::wire::{Domain, Epoch, Frame, Header, MeetingId, Message};

/// The decisions of one engine.
///
/// Order of calls: any `handle_*` as things come in, then [`Self::handle_timeout`], which draws the
/// conclusions. Then [`Self::poll_worker_change`] and [`Self::end`] before anything is sent;
/// [`Self::poll_transmit`], [`Self::poll_commit`], [`Self::poll_reply`], [`Self::poll_notice`] and
/// [`Self::poll_event`] until each gives nothing or there is no room for more; and again at
/// [`Self::poll_timeout`] at the latest.
pub(crate) struct Dispatcher {
    ethertype: u16,
    links: Links,
    recovery: Recovery,
    operations: Operations,
    records: Records,
    walks: Walks,
    unfinished: Unfinished,
    terms: Terms,
    departure: Departure,
    troubles: Troubles,
    keeper: KeeperWords,
    output: Output,
    /// Conclusions are to be drawn.
    is_due: bool,
    end: Option<End>,
}

impl Dispatcher {
    /// Begins. Nothing is sent or written before the first `poll_*`.
    pub fn new(beginning: Beginning) -> Self {
        let Beginning { path, epoch, ethertype, topology, recovery, journal, writer, opened, warming, runs } =
            beginning;
        Self {
            ethertype,
            operations: Operations::new(epoch, topology.domains(), CommandSettings { runs }),
            records: Records::new(writer, opened, warming, journal, topology.speakers().clone()),
            walks: Walks::new(path, topology.domains()),
            unfinished: Unfinished::default(),
            links: Links::new(topology),
            recovery,
            terms: Terms::new(epoch),
            departure: Departure::default(),
            troubles: Troubles::default(),
            keeper: KeeperWords::default(),
            output: Output::default(),
            is_due: true,
            end: None,
        }
    }

    /// Takes a frame whose tag a worker has checked. It bears, as where it came to, the address of
    /// the interface that it came by.
    pub fn handle_frame(&mut self, now: Nanos, bytes: &[u8]) {
        let Ok(frame) = Frame::parse(bytes, self.ethertype) else { return };
        self.is_due = true;
        // What is for the control thread is said by autonomous servers alone: the worker asks the
        // same.
        let domain = self.records.speakers().server(frame.envelope().from);
        let is_expected = domain.is_some_and(|domain| self.take_frame(now, domain, &frame));
        self.output.unexpected += u64::from(!is_expected);
    }

    fn take_frame(&mut self, now: Nanos, domain: Domain, frame: &Frame<'_>) -> bool {
        let (header, Ok(opcode)) = (frame.header(), frame.opcode()) else { return false };
        let Self { recovery, operations, records, links, output, .. } = self;
        match (frame.message(), frame.page()) {
            (Ok(Message::Heartbeat { sent_ns }), _) => {
                let held = records.parts_in(domain);
                if let Some(answer) = links.answer(domain, &frame.envelope(), &header, sent_ns, held) {
                    output.answer(answer);
                }
                true
            }
            (Ok(Message::HeartbeatAck { sent_ns, held, boot_generation, highest_epoch, .. }), _) => {
                // What was recorded and is sent again says nothing about now.
                if links.topology.handle_heartbeat_ack(now, domain, Nanos(sent_ns), held) {
                    let heard = Heard { held, boot_generation, highest: highest_epoch };
                    recovery.handle_heartbeat(now, domain, heard, || records.parts_in(domain));
                }
                true
            }
            (Ok(message), _) => {
                let is_recovery =
                    records.with(operations, |store| recovery.handle_message(now, domain, &header, &message, store));
                is_recovery || self.take_acknowledgement(now, domain, &header, &message)
            }
            (_, Ok(page)) => {
                records.with(operations, |store| recovery.handle_page(now, domain, opcode, &header, &page, store))
            }
            _ => false,
        }
    }

    /// Gives operations an answer to one of their commands. A version below the table's, though
    /// commands make it greater, is a sign that the autonomous server has lost its memory, or that
    /// the answer is an old one: which of the two is to be proven.
    fn take_acknowledgement(&mut self, now: Nanos, domain: Domain, header: &Header, message: &Message) -> bool {
        let writer = &mut self.records.writer;
        let is_ours = self.operations.handle_message(now, domain, header, message, &mut self.recovery, writer);
        if let (true, Message::MeetingAck { version, .. } | Message::MemberAck { version, .. }) = (is_ours, message)
            && writer.table().part(header.meeting, domain).is_some_and(|part| part.version > *version)
        {
            self.recovery.prove(domain);
        }
        self.write_operations();
        is_ours
    }

    /// An authentic frame of the domain came from there.
    pub fn handle_seen(&mut self, now: Nanos, domain: Domain, hop: Hop) {
        self.is_due |= self.links.handle_seen(now, domain, hop, &mut self.recovery, &mut self.output);
    }

    /// A terminal of the domain reported out of the first meeting, where the table has it in the
    /// other one, or in none.
    pub fn handle_stray(&mut self, now: Nanos, domain: Domain, meetings: [MeetingId; 2]) {
        let Self { recovery, operations, records, .. } = self;
        records.with(operations, |store| recovery.handle_stray(now, domain, meetings, store));
        self.is_due = true;
    }

    /// A worker has found something wrong with the table.
    pub fn handle_trouble(&mut self, now: Nanos, trouble: Trouble) {
        let Self { records, output, .. } = self;
        match trouble {
            Trouble::Full(terminal) => self.troubles.name_full(terminal, records, output),
            Trouble::Damaged(terminal) => {
                // Where that is too soon after another question, the terminal's next report, which
                // is that of a stranger now, asks again.
                if let Some((meeting, domain)) = troubles::discard_terminal(terminal, records, output) {
                    self.handle_stray(now, domain, [meeting, MeetingId::NONE]);
                }
            }
        }
    }

    /// Takes what the database's thread says.
    pub fn handle_outcome(&mut self, now: Nanos, outcome: Outcome) {
        self.is_due = true;
        let Self { records, terms, output, .. } = self;
        match outcome {
            Outcome::Waiting(error @ DatabaseError::Held { .. }) => output.event(Event::DatabaseHeld(error)),
            Outcome::Waiting(error) | Outcome::Failed(error) => {
                records.lose(&error);
                output.event(Event::DatabaseLost(error));
            }
            Outcome::Unwritable(error) => {
                records.database.set_unwritable(Some(format!("open, and not written: {error}")));
                output.event(Event::DatabaseUnwritable(error));
            }
            Outcome::Writable => {
                records.database.set_unwritable(None);
                // What was not written meanwhile is written now.
                self.walks.compare_again(self.links.topology.domains());
                output.event(Event::DatabaseWritable);
            }
            Outcome::Opened(opened) => self.handle_opened(now, opened),
            Outcome::Committed { id, result } => match records.journal.committed(id, result) {
                Committed::Update(Ok(())) => {}
                // An operation waits for nothing of this, and still must hear of it.
                Committed::Update(stale @ Err(CommitError::StaleEpoch { .. })) | Committed::Operation(stale) => {
                    self.operations.handle_committed(now, id, stale, &mut records.writer);
                    self.write_operations();
                }
                Committed::Update(Err(error)) => output.event(Event::UpdateNotWritten(error)),
            },
            Outcome::Given(Ok(block)) => {
                terms.begin_term(block.epoch(), block.end, records, output);
                // This engine makes room for one that controls under the new term.
                self.departure.leave_for_term(now);
            }
            Outcome::Given(Err(error)) => terms.refuse_control(error, output),
            Outcome::Reserved(Ok(block)) => terms.extend(block, records),
            Outcome::Reserved(Err(error)) => output.event(Event::NoneReserved(error)),
        }
    }

    fn handle_opened(&mut self, now: Nanos, opened: Opened) {
        let Self { records, terms, output, recovery, links, .. } = self;
        let fences = opened.fences.clone();
        if records.open(opened, terms.epoch) {
            output.event(Event::DatabaseOpen);
            // What could not be looked up is listed again.
            links.topology.domains().for_each(|domain| recovery.restart(now, domain));
        }
        terms.compare_fences(&fences, records, recovery);
    }

    /// Takes a client's request. It is answered by [`Self::poll_reply`], once; what it asks of a
    /// conference, at `deadline` at the latest. An engine that ends answers no more.
    pub fn handle_request(&mut self, now: Nanos, client: ReplyId, request: Request, deadline: Nanos) {
        self.is_due = true;
        let Self { records, recovery, operations, departure, terms, output, .. } = self;
        match request {
            Request::Conference(_) if departure.is_ordered() => output.reply(client, Err(too_late())),
            Request::Conference(request) => {
                operations.handle_request(now, client, request, deadline, &mut records.writer);
                self.write_operations();
            }
            Request::TakeControl => terms.take_control(client, departure.is_ordered(), records, output),
            Request::Upgrade(form) => departure.ask(form, client, output),
            Request::Status => {
                let status = self.status();
                self.output.reply(client, Ok(Answer::Status(Box::new(status))));
            }
            Request::RecoveryLast => {
                let mut report = serde_json::json!(recovery.report());
                report["snapshot"] = serde_json::json!(records.warmed());
                output.reply(client, Ok(Answer::Recovery(report)));
            }
            Request::Orphans => output.reply(client, Ok(Answer::Orphans(records.orphans.all()))),
            Request::Orphan { meeting, become_of } => {
                output.reply(client, records.decide_orphan(meeting, become_of, recovery, operations));
            }
        }
    }

    fn status(&self) -> Status {
        let Self { links, recovery, operations, records, keeper, output, terms, .. } = self;
        let (epoch, counted) = (terms.epoch, output.counted());
        let seen = Seen { epoch, links, recovery, operations, records, keeper, counted };
        status::status(&seen)
    }

    /// A client went away before it was answered.
    pub fn handle_gone(&mut self, client: ReplyId) {
        self.departure.handle_gone(client);
        self.terms.handle_gone(client);
    }

    /// Takes what the keeper orders.
    pub fn handle_order(&mut self, now: Nanos, order: Order) {
        self.is_due = true;
        match order {
            Order::Stop => self.end = self.end.or(Some(End::Stopped)),
            Order::Standby { state } => self.keeper.standby = state,
            Order::Steered { frames } => self.keeper.steered = frames,
            Order::Upgraded { state } => self.keeper.upgrade = state,
            Order::Yield { upgrading } => self.departure.begin(upgrading, now, &mut self.output),
            Order::Stay { why } => self.departure.refuse(why, &mut self.output),
            // It is we who learn.
            Order::NextHop { .. } => {}
        }
    }

    /// Does what is due, and draws the conclusions from all that came in.
    pub fn handle_timeout(&mut self, now: Nanos) {
        self.is_due = false;
        self.walk(now);
        self.operations.handle_timeout(now, &mut self.records.writer);
        self.links.handle_events(now, &mut self.recovery, &mut self.output);
        self.take_recovery_events(now);
        self.take_operations_events();
        self.write_operations();
        self.unfinished.look(now, &mut self.records, &self.operations, &mut self.recovery);
        if self.end.is_none() && self.departure.is_due(now, self.operations.under_way()) {
            self.end = Some(End::Leaves);
        }
    }

    /// Goes on with filling the table or holding it against the database.
    fn walk(&mut self, now: Nanos) {
        let Self { walks, records, operations, output, links, unfinished, recovery, .. } = self;
        let damage = walks.read_on(now, records, (recovery, operations), unfinished);
        if let Some(domain) = damage.domain {
            recovery.mend(domain);
        }
        // Its members are asked for when no operation has it, and both sides agree otherwise.
        for (domain, meeting) in damage.in_doubt {
            unfinished.note(domain, meeting);
        }
        records.warming.iter_mut().for_each(Warming::begin_round);
        let is_whole = walks.fill(now, records, operations, links.topology.domains());
        if let Some(fault) = records.warming.as_mut().and_then(Warming::take_fault) {
            output.event(Event::SnapshotRefused(fault));
        }
        if !is_whole {
            return;
        }
        if let Some(warming) = &mut records.warming {
            warming.end();
            output.event(Event::Warmed(warming.warmed().clone()));
        }
        walks.begin_comparing(links.topology.domains());
        if let Some((next_meeting, unfinished, wanted)) = records.take_unfinished() {
            // The parts of a start that goes on are in doubt, and it may be over at once.
            for parameters in &unfinished {
                parameters.parts.iter().for_each(|part| self.unfinished.note(part.domain, parameters.meeting));
            }
            operations.handle_opened(now, next_meeting, unfinished, wanted, &mut records.writer);
        }
        output.notices.push_back(Notice::Complete);
    }

    /// What operations have decided goes into the journal before anything that is decided later.
    fn write_operations(&mut self) {
        while let Some((id, changes)) = self.operations.poll_commit() {
            self.records.journal.operation(id, changes);
        }
    }

    /// Something that the workers are to see before anything more is sent.
    pub fn poll_worker_change(&mut self) -> Option<WorkerChange> {
        let turned = || self.links.topology.take_turned().then_some(WorkerChange::NextHops);
        self.output.changes.pop_front().or_else(turned)
    }

    /// The next frame to send.
    pub fn poll_transmit(&mut self, now: Nanos) -> Option<Transmit> {
        if matches!(self.end, Some(End::Fenced(_))) {
            return None;
        }
        // In turns: a flood of heartbeats, which all who have recorded one can send, must not keep
        // anything of ours from going.
        let found = if self.output.takes_turn() {
            self.output.answers.pop_front().or_else(|| self.find_transmit(now))
        } else {
            self.find_transmit(now).or_else(|| self.output.answers.pop_front())
        };
        // Sending has consequences, too: a link goes down by a heartbeat too many.
        self.is_due |= found.is_some();
        found
    }

    /// The next answer to a heartbeat: what may go though there is no room for anything else.
    pub fn poll_answer(&mut self) -> Option<Transmit> {
        self.output.answers.pop_front().filter(|_| !matches!(self.end, Some(End::Fenced(_))))
    }

    fn find_transmit(&mut self, now: Nanos) -> Option<Transmit> {
        let Self { links, recovery, operations, records, .. } = self;
        for _ in 0..CONTROL_BATCH {
            if let Some(heartbeat) = links.poll_heartbeat(now, self.terms.epoch, recovery) {
                return Some(heartbeat);
            }
            let (domain, body) =
                if let Some(request) = records.with(operations, |store| recovery.poll_transmit(now, store)) {
                    (request.domain, Body::Recovery(request))
                } else {
                    let command = operations.poll_transmit(now, recovery)?;
                    (command.domain, Body::Message(command.header, command.message))
                };
            if let Some(envelope) = links.topology.next_hop(domain) {
                return Some(Transmit { domain, envelope, body });
            }
            self.output.unroutable += 1;
        }
        self.is_due = true;
        None
    }

    /// The next job for the database. None while it is not open, but for what is written down when
    /// the engine ends.
    pub fn poll_commit(&mut self) -> Option<Job> {
        self.records.journal.poll(self.records.database.is_open(), self.terms.epoch)
    }

    /// The next answer to a client.
    pub fn poll_reply(&mut self) -> Option<(ReplyId, Reply)> {
        self.output.replies.pop_front().or_else(|| {
            let (client, reply) = self.operations.poll_reply()?;
            Some((client, reply.map(Answer::Conference)))
        })
    }

    /// The next thing to tell the keeper.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.output.notices.pop_front()
    }

    /// The next thing for the log.
    pub fn poll_event(&mut self) -> Option<Event> {
        let replaced = || self.records.replaced.pop().map(|(meeting, domain)| Event::PartReplaced(domain, meeting));
        self.output.events.pop_front().or_else(replaced)
    }

    /// Whether [`Self::handle_timeout`] has conclusions to draw.
    pub const fn is_due(&self) -> bool {
        self.is_due
    }

    /// When [`Self::handle_timeout`] and [`Self::poll_transmit`] have something to do again. A time
    /// gone by means now.
    pub fn poll_timeout(&mut self) -> Option<Nanos> {
        if self.is_due {
            return Some(Nanos(0));
        }
        let due = [
            self.recovery.poll_timeout(),
            self.operations.poll_timeout(),
            self.links.topology.poll_timeout(),
            self.departure.deadline(),
            self.walks.due(&self.records),
            self.unfinished.due(),
        ];
        due.into_iter().flatten().min()
    }

    /// Whether this engine ends, and why.
    pub const fn end(&self) -> Option<End> {
        self.end
    }

    /// Round trips of commands answered since this was last called.
    pub fn take_round_trips(&mut self) -> impl Iterator<Item = Duration> + '_ {
        self.operations.take_round_trips()
    }

    pub fn epoch(&self) -> Epoch {
        self.terms.epoch
    }

    pub fn table(&self) -> &Arc<Table> {
        self.records.writer.table()
    }

    pub fn topology(&self) -> &Topology {
        &self.links.topology
    }

    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Whether a snapshot of the table holds at least what the last one does: the table holds all
    /// that the database holds, and nothing that came from a snapshot is in doubt any more.
    pub fn is_settled(&self) -> bool {
        self.walks.is_filled() && self.recovery.is_refreshed()
    }

    /// What came of the snapshot that a new table was warmed from.
    pub fn warmed(&self) -> Option<&Warmed> {
        self.records.warmed()
    }

    pub fn operations(&self) -> &Operations {
        &self.operations
    }
}
