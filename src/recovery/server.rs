//! The machine for one autonomous server: the steps in their order, and who gets which answer.

use std::time::Duration;

use super::audit::Audit;
use super::connect::Connect;
use super::event::Event;
use super::lookup::{Before, Lookups};
use super::orphans;
use super::path::Path;
use super::pulse::Pulse;
use super::refresh::Refresh;
use super::request::Request;
use super::settings::{Orphans, Settings};
use super::shared::Shared;
use super::step::Step;
use super::store::Store;
use super::sweep::Sweep;
use super::takeover::Takeovers;
use super::update::Updates;
use crate::cascade::{Exchange, Purpose};
use crate::limits;
use crate::time::Nanos;
use crate::wire::{Domain, Epoch, Header, MeetingId, Message, Opcode, Page, Status};

/// Recovery of the meetings of one autonomous server.
///
/// After `new`, and after each `handle_*`, call [`Self::poll_event`] and [`Self::poll_transmit`]
/// until they give nothing; then wait for a frame or for [`Self::poll_timeout`], whose coming is
/// another reason to poll and nothing more. What waits inside is bounded by the windows and by what
/// the table and the autonomous server hold.
#[derive(Debug)]
pub struct ServerRecovery {
    pub(super) shared: Shared,
    pub(super) connect: Connect,
    pub(super) lookups: Lookups,
    pub(super) sweep: Sweep,
    pub(super) takeovers: Takeovers,
    pub(super) updates: Updates,
    pub(super) audit: Audit,
    pub(super) refresh: Refresh,
    pub(super) pulse: Pulse,
    /// Under which epoch somebody else controls the domain.
    pub(super) fenced: Option<Epoch>,
}

impl ServerRecovery {
    /// A machine that begins now. `epoch` is durable already (wire.md, rule 1).
    pub fn new(domain: Domain, epoch: Epoch, path: Path, settings: Settings, now: Nanos) -> Self {
        let mut shared = Shared::new(domain, epoch, path != Path::Database, settings.bounded(), now);
        shared.refreshes = path == Path::Snapshot;
        Self {
            shared,
            connect: Connect::default(),
            lookups: Lookups::default(),
            sweep: Sweep::new(path),
            takeovers: Takeovers::default(),
            updates: Updates::default(),
            audit: Audit::default(),
            refresh: Refresh::default(),
            pulse: Pulse::default(),
            fenced: None,
        }
    }

    /// As [`Self::new`] under this epoch, of a machine that was made ahead and asked for nothing
    /// yet.
    pub(super) fn begin(&mut self, epoch: Epoch, now: Nanos) {
        self.shared.epoch = epoch;
        self.shared.exchange.begin(epoch);
        self.shared.now = now;
        self.shared.timeline.began = now;
    }

    /// Takes a message that this domain's autonomous server sent, authentic. Gives whether it
    /// answered recovery; if not, it is somebody else's.
    pub fn handle_message(&mut self, now: Nanos, header: &Header, message: &Message, holdings: &mut dyn Store) -> bool {
        self.shared.now = self.shared.now.max(now);
        let asked = self.shared.exchange.asked(header, message.opcode());
        let Some(purpose) = asked.filter(|purpose| *purpose != Purpose::Command) else {
            // Nobody else asks what these answer: they came twice, or late, or answer the one who
            // died.
            return matches!(message, Message::ConnectAck { .. } | Message::Audit { .. });
        };
        let transaction = header.transaction;
        match *message {
            Message::ConnectAck { highest_epoch, boot_generation, held, window } => {
                self.shared.alarms.answered(Opcode::Connect);
                if highest_epoch > self.shared.epoch {
                    self.fence(highest_epoch);
                } else if self.note_boot(boot_generation as u16) {
                    // What was asked for until now may have been answered out of the memory that
                    // went with its last life.
                    self.restart_forgetful(now);
                } else {
                    self.connect.handle_ack(&mut self.shared, now, transaction, held, window);
                }
            }
            Message::Audit { count, digest } => {
                let differs = self.audit.handle_audit(&mut self.shared, now, transaction, (count, digest), holdings);
                if differs {
                    self.begin_round();
                }
            }
            Message::MeetingAck { opcode: Opcode::MeetingEndAck, .. } => {
                orphans::handle_end_ack(&mut self.shared, now, transaction, header.meeting);
            }
            Message::Refused { opcode, status, value } => {
                self.handle_refused(now, header, purpose, (opcode, status, value), holdings);
            }
            _ => {}
        }
        self.note_progress(now);
        true
    }

    /// Takes a page that this domain's autonomous server sent, authentic. As
    /// [`Self::handle_message`].
    pub fn handle_page(
        &mut self,
        now: Nanos,
        opcode: Opcode,
        header: &Header,
        page: &Page<'_>,
        holdings: &mut dyn Store,
    ) -> bool {
        self.shared.now = self.shared.now.max(now);
        let (shared, transaction) = (&mut self.shared, header.transaction);
        match shared.exchange.asked(header, opcode.wire()) {
            Some(Purpose::Listing) => self.lookups.handle_info(shared, now, transaction, page, holdings),
            Some(Purpose::Takeover) => self.takeovers.handle_ack(shared, now, transaction, page, holdings),
            Some(Purpose::State) => self.updates.handle_state(shared, now, transaction, page, holdings),
            _ => return matches!(opcode, Opcode::Info | Opcode::TakeoverBatchAck | Opcode::State),
        }
        self.note_progress(now);
        true
    }

    fn handle_refused(
        &mut self,
        now: Nanos,
        header: &Header,
        purpose: Purpose,
        (opcode, status, value): (u8, Status, u64),
        holdings: &mut dyn Store,
    ) {
        let (shared, transaction) = (&mut self.shared, header.transaction);
        let attempts = shared.exchange.attempts(transaction);
        match (status, purpose) {
            (Status::StaleEpoch, _) if Epoch(value) > shared.epoch => return self.fence(Epoch(value)),
            (Status::UnknownMeeting, Purpose::State) => {
                return self.updates.handle_unknown(shared, transaction, holdings);
            }
            (Status::UnknownMeeting, Purpose::End) => {
                return orphans::handle_end_ack(shared, now, transaction, header.meeting);
            }
            (Status::Busy, _) => {
                let until = now + Duration::from_nanos(value).min(shared.settings.busy_max);
                if shared.exchange.postpone(transaction, until) {
                    shared.note_busy(until);
                }
                return;
            }
            // One meeting's refusal holds up no other. Without room for one answer there may be
            // some later; not for ever.
            (Status::Capacity, Purpose::State) if attempts > limits::ATTEMPTS_SAID_AFTER => {
                return self.updates.put_off(shared, now, transaction, status);
            }
            (Status::Capacity, _) => {
                let until = now + shared.settings.rto_max;
                if shared.exchange.postpone(transaction, until) {
                    shared.note_busy(until);
                }
                return;
            }
            (_, Purpose::State) => return self.updates.put_off(shared, now, transaction, status),
            (_, Purpose::End) => {
                shared.exchange.close(transaction);
                shared.meetings.set_step(header.meeting, Step::Orphan);
                return shared.alarms.refused(header.meeting, opcode, status);
            }
            _ => {}
        }
        shared.exchange.postpone(transaction, now + shared.settings.rto_max);
        shared.alarms.refused(MeetingId::NONE, opcode, status);
        // What it does not list is asked for by name, as far as we hold it.
        if purpose == Purpose::Listing && attempts > limits::ATTEMPTS_SAID_AFTER {
            self.lookups.give_up(shared, transaction, holdings);
        }
    }

    /// The next frame to send. None: nothing until a frame comes or [`Self::poll_timeout`].
    pub fn poll_transmit(&mut self, now: Nanos, holdings: &mut dyn Store) -> Option<Request> {
        self.shared.now = self.shared.now.max(now);
        if self.fenced.is_some() {
            return None;
        }
        // A living cache knows what to take over: the first of it goes out before anything is
        // asked.
        if self.shared.overlaps
            && self.shared.timeline.first_takeover.is_none()
            && let Some(request) = self.poll_takeover(now, holdings)
        {
            return Some(request);
        }
        if let Some(request) = self.connect.poll(&mut self.shared, now) {
            return Some(request);
        }
        if now < self.shared.quiet_until {
            return None;
        }
        if self.audit.resume().is_some_and(|resume| resume <= now)
            || self.lookups.poll_undecided(&mut self.shared, now, holdings)
        {
            // Where it is for what could not be looked up: what was noted of the others is still
            // so.
            self.begin_round();
        }
        let request = self
            .poll_takeover(now, holdings)
            .or_else(|| self.poll_listing(now, holdings))
            .or_else(|| self.poll_update(now, holdings))
            .or_else(|| orphans::poll_end(&mut self.shared, now, holdings));
        self.note_progress(now);
        if request.is_some() {
            return request;
        }
        let proof = if self.is_updated() { self.audit.poll(&mut self.shared, now, holdings) } else { None };
        proof.or_else(|| self.poll_refresh(now, holdings))
    }

    /// When both sides agree, and as often as that is proven anew nothing else is asked meanwhile;
    /// and between two rounds, where they do not come to agree.
    fn poll_refresh(&mut self, now: Nanos, holdings: &mut dyn Store) -> Option<Request> {
        let proves_later = self.audit.has_agreed() && self.audit.next(&self.shared).is_some_and(|at| at > now);
        let waits = self.audit.resume().is_some_and(|at| at > now);
        if !self.shared.refreshes || !(proves_later || waits) {
            return None;
        }
        if self.is_updated() {
            self.refresh.end(&mut self.shared);
        }
        if self.shared.refreshes && self.shared.meetings.updates.is_empty() {
            self.refresh.fill(&mut self.shared, holdings);
        }
        self.poll_update(now, holdings)
    }

    /// From a living cache at once; in order, when the link is up and the listing done.
    fn poll_takeover(&mut self, now: Nanos, holdings: &mut dyn Store) -> Option<Request> {
        let is_time = self.shared.overlaps || (self.connect.is_connected() && self.lookups.is_complete());
        self.takeovers.poll(&mut self.shared, now, &mut self.sweep, is_time, holdings)
    }

    fn poll_listing(&mut self, now: Nanos, holdings: &mut dyn Store) -> Option<Request> {
        let before = Before {
            is_connected: self.connect.is_connected(),
            is_taken_over: self.is_swept(),
            found: self.takeovers.found(),
            has_doubts: self.takeovers.has_doubts(),
        };
        self.lookups.poll(&mut self.shared, now, &before, holdings)
    }

    /// Under a living cache, as each takeover is answered; in order, when all are.
    fn poll_update(&mut self, now: Nanos, holdings: &mut dyn Store) -> Option<Request> {
        let is_time = self.shared.overlaps || self.is_swept();
        self.updates.poll(&mut self.shared, now, is_time, holdings)
    }

    /// Lists from 0 again, step after step.
    pub(super) fn begin_round(&mut self) {
        self.shared.overlaps = false;
        self.shared.meetings.begin_round();
        self.lookups.begin_round(&mut self.shared);
        self.sweep.begin_round();
        self.audit.begin_round();
    }

    /// When to poll again if nothing comes, repeats of commands included. None: never.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        if self.fenced.is_some() {
            return None;
        }
        let Shared { exchange, quiet_until, now, .. } = &self.shared;
        // What is past of these waits for something else, which has a time of its own or comes with
        // a frame.
        let later = [
            Some(*quiet_until),
            Some(self.sweep.resume()),
            Some(self.refresh.resume()),
            self.lookups.due(),
            self.takeovers.due(),
            self.updates.again.due(),
            self.audit.next(&self.shared),
        ];
        let later = later.map(|at| at.filter(|at| at > now));
        use Purpose::{Audit, End, Listing, State, Takeover};
        let due = [Takeover, Listing, State, End].map(|purpose| exchange.due(purpose));
        // A proof is not repeated while something else goes on that it would be about.
        let proof = exchange.due(Audit).filter(|_| self.is_updated());
        let steps = due.into_iter().chain([proof, self.audit.resume()]).chain(later);
        let steps = steps.flatten().map(|due| due.max(*quiet_until));
        let others = [Purpose::Connect, Purpose::Command].map(|purpose| exchange.due(purpose));
        steps.chain(others.into_iter().flatten()).min()
    }

    /// The next thing that the engine should know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.shared.alarms.poll()
    }

    /// Makes of one orphan what an operator says, against the setting for all. False where none is
    /// held under that number that was listed, or the number is one of ours, or there is no room to
    /// adopt it.
    pub fn decide_orphan(&mut self, meeting: MeetingId, become_of: Orphans, holdings: &mut dyn Store) -> bool {
        orphans::decide(&mut self.shared, meeting, become_of, holdings)
    }

    /// Whom it recovers from.
    pub fn domain(&self) -> Domain {
        self.shared.domain
    }

    /// What is asked of this autonomous server, commands included.
    pub fn exchange(&mut self) -> &mut Exchange {
        &mut self.shared.exchange
    }
}
