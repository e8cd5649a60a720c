//! The machine for one autonomous server: what the steps share, and who gets which answer.

use std::collections::{BTreeMap, HashSet, VecDeque};

use super::agreement::Pulse;
use super::ask::{Ask, RoundTrip};
use super::audit::Audit;
use super::connect::Connect;
use super::lookup::{Listing, Undecided};
use super::orphans::Ends;
use super::report::{Progress, Timeline};
use super::takeover::Takeovers;
use super::told::Told;
use super::update::Updates;
use super::{Body, Cursor, Event, Path, Request, Settings, Store};
use crate::limits;
use crate::time::Nanos;
use crate::wire::{
    Domain, Epoch, Header, MeetingId, MeetingSummary, Message, Opcode, Page, Status, Transaction, Transactions,
};

/// What has become of one meeting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Its takeover is wanted or on its way.
    Asked,
    /// It is taken over; its update is wanted or on its way.
    Taken,
    /// It is taken over, and its members cannot be had: they are asked for again later.
    Untold,
    /// It is updated.
    Updated,
    /// The autonomous server does not have it.
    Missing,
    /// Nor this one: another conference has its number.
    Replaced,
    /// Its start or end is the engine's to finish.
    Unfinished,
    /// The autonomous server does not give it.
    Refused,
    /// We do not know it, and leave it.
    Orphan,
    /// We do not know it, and end it.
    OrphanEnding,
    /// We did not know it, and ended it.
    OrphanEnded,
}

impl Step {
    /// Whether it is none of ours.
    pub const fn is_orphan(self) -> bool {
        matches!(self, Self::Orphan | Self::OrphanEnding | Self::OrphanEnded)
    }
}

/// What the machine knows of one meeting. One that a living cache held and the autonomous server
/// gave at once has no entry: of a million meetings nothing need be remembered that the table does
/// not say.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub step: Step,
    /// The round that it was last listed or asked for in.
    pub round: u32,
    /// What a listing said before the takeover was answered.
    pub summary: Option<Box<MeetingSummary>>,
}

/// Recovery of the meetings of one autonomous server.
///
/// After `new`, and after each `handle_*`, call [`Self::poll_event`] and [`Self::poll_transmit`]
/// until they give nothing; then wait for a frame or for [`Self::poll_timeout`], whose coming is
/// another reason to poll and nothing more. What waits inside is bounded by the windows and by what
/// the table and the autonomous server hold.
pub struct ServerRecovery {
    pub(super) domain: Domain,
    pub(super) epoch: Epoch,
    pub(super) settings: Settings,
    pub(super) transactions: Transactions,
    pub(super) round_trip: RoundTrip,
    pub(super) connect: Connect,
    pub(super) listing: Listing,
    pub(super) takeovers: Takeovers,
    pub(super) updates: Updates,
    pub(super) ends: Ends,
    pub(super) audit: Audit,
    /// Whether the steps overlap: the cache path's first round. Else they go in order.
    pub(super) overlaps: bool,
    pub(super) round: u32,
    /// Where the walk over what we hold is, what it walks, and whether it is through.
    pub(super) cursor: Cursor,
    pub(super) sweeps_database: bool,
    pub(super) swept: bool,
    /// The database could not be read: the walk goes on then.
    pub(super) sweep_resume: Nanos,
    /// The autonomous server is busy: nothing but CONNECT is sent before.
    pub(super) quiet_until: Nanos,
    pub(super) meetings: BTreeMap<MeetingId, Known>,
    /// Meetings that this round's listing named and that nothing more is to be noted of.
    pub(super) named: HashSet<MeetingId>,
    /// Meetings that the sweep over the cache asked for and the autonomous server holds, without
    /// those that a client has started since: they would make up for orphans.
    pub(super) swept_held: u32,
    /// Whether what is held under this epoch may have been taken over by this machine before it
    /// began again.
    pub(super) began_again: bool,
    /// Listed meetings that cannot be looked up yet.
    pub(super) undecided: Undecided,
    /// Whether the database was walked because of parts that cannot be read.
    pub(super) swept_damaged: bool,
    /// Whether the autonomous server may have lost what its terminals were.
    pub(super) is_forgetful: bool,
    pub(super) told: Told,
    pub(super) events: VecDeque<Event>,
    pub(super) timeline: Timeline,
    pub(super) progress: Progress,
    /// Under which epoch somebody else controls the domain.
    pub(super) fenced: Option<Epoch>,
    pub(super) pulse: Pulse,
    /// The latest time that was heard of.
    pub(super) now: Nanos,
}

impl ServerRecovery {
    /// A machine that begins now. `epoch` is durable already (wire.md §6).
    pub fn new(domain: Domain, epoch: Epoch, path: Path, settings: Settings, now: Nanos) -> Self {
        let settings = settings.bounded();
        Self {
            domain,
            epoch,
            transactions: Transactions::default(),
            round_trip: RoundTrip::new(&settings),
            settings,
            connect: Connect::default(),
            listing: Listing::default(),
            takeovers: Takeovers::default(),
            updates: Updates::default(),
            ends: Ends::default(),
            audit: Audit::default(),
            overlaps: path == Path::Cache,
            round: 1,
            cursor: Cursor::default(),
            sweeps_database: path == Path::Database,
            swept: false,
            sweep_resume: Nanos(0),
            quiet_until: Nanos(0),
            meetings: BTreeMap::new(),
            named: HashSet::new(),
            swept_held: 0,
            began_again: false,
            undecided: Undecided::default(),
            swept_damaged: false,
            is_forgetful: false,
            told: Told::default(),
            events: VecDeque::new(),
            timeline: Timeline { began: now, ..Timeline::default() },
            progress: Progress::default(),
            fenced: None,
            pulse: Pulse::default(),
            now,
        }
    }

    /// As [`Self::new`] under this epoch, of a machine that was made ahead and asked for nothing
    /// yet.
    pub(super) fn begin(&mut self, epoch: Epoch, now: Nanos) {
        (self.epoch, self.now, self.timeline.began) = (epoch, now, now);
    }

    /// Takes a message that this domain's autonomous server sent, authentic. Gives whether it
    /// answered recovery; if not, it is somebody else's.
    pub fn handle_message(&mut self, now: Nanos, header: &Header, message: &Message, holdings: &mut dyn Store) -> bool {
        self.now = self.now.max(now);
        let answer = matches!(
            message,
            Message::ConnectAck { .. } | Message::Audit { .. } | Message::MeetingAck { .. } | Message::Refused { .. }
        );
        if !answer || !Transactions::is_recovery(header.transaction) {
            return false;
        }
        // An answer to the one who died: its transactions are not ours.
        if header.epoch != self.epoch || self.fenced.is_some() {
            return true;
        }
        let transaction = header.transaction;
        match *message {
            Message::ConnectAck { highest_epoch, boot_generation, held, window }
                if is(self.connect.ask_mut(), transaction) =>
            {
                self.handle_connect_ack(now, (highest_epoch, boot_generation), held, window);
            }
            Message::Audit { count, digest } if is(self.audit.ask_mut(), transaction) => {
                self.handle_audit(now, (count, digest), holdings);
            }
            Message::MeetingAck { opcode: Opcode::MeetingEndAck, .. } => self.handle_end_ack(transaction),
            Message::Refused { opcode, status, value } => {
                self.handle_refused(now, header, opcode, status, value, holdings);
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
        self.now = self.now.max(now);
        let answer = matches!(opcode, Opcode::Info | Opcode::TakeoverBatchAck | Opcode::State);
        if !answer || !Transactions::is_recovery(header.transaction) {
            return false;
        }
        if header.epoch != self.epoch || self.fenced.is_some() {
            return true;
        }
        match opcode {
            Opcode::Info if is(self.listing.ask_mut(), header.transaction) => self.handle_info(now, page, holdings),
            Opcode::TakeoverBatchAck => self.handle_takeover_ack(now, header.transaction, page, holdings),
            Opcode::State => self.handle_state(now, header.transaction, page, holdings),
            _ => {}
        }
        self.note_progress(now);
        true
    }

    /// The next frame to send. None: nothing until a frame comes or [`Self::poll_timeout`].
    pub fn poll_transmit(&mut self, now: Nanos, holdings: &mut dyn Store) -> Option<Request> {
        self.now = self.now.max(now);
        if self.fenced.is_some() {
            return None;
        }
        // A living cache knows what to take over: the first of it goes out before anything is
        // asked.
        if self.overlaps
            && self.timeline.first_takeover.is_none()
            && let Some(request) = self.poll_takeover(now, holdings)
        {
            return Some(request);
        }
        if let Some(request) = self.poll_connect(now) {
            return Some(request);
        }
        if now < self.quiet_until {
            return None;
        }
        if self.audit.resume.is_some_and(|resume| resume <= now) {
            self.begin_round();
        }
        self.poll_undecided(now, holdings);
        let request = self
            .poll_takeover(now, holdings)
            .or_else(|| self.poll_listing(now, holdings))
            .or_else(|| self.poll_update(now, holdings))
            .or_else(|| self.poll_end(now, holdings));
        self.note_progress(now);
        request.or_else(|| self.poll_audit(now, holdings))
    }

    /// When to poll again if nothing comes. None: never.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        if self.fenced.is_some() {
            return None;
        }
        // What is past of these waits for something else, which has a time of its own or comes with
        // a frame.
        let later = [
            Some(self.quiet_until),
            Some(self.sweep_resume),
            self.undecided.due(),
            self.takeovers.refused.due(),
            self.updates.again.due(),
            self.audit.next(),
        ];
        let later = later.map(|at| at.filter(|at| *at > self.now));
        let steps = [self.takeovers.due(), self.listing.due(), self.updates.due(), self.ends.due(), self.audit.due()];
        let steps = steps.into_iter().chain(later);
        let steps = steps.flatten().map(|due| due.max(self.quiet_until)).min();
        steps.into_iter().chain(self.connect.due()).min()
    }

    /// The next thing that the engine should know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whom it recovers from.
    pub fn domain(&self) -> Domain {
        self.domain
    }

    /// Whether what the cache says of terminals is believed where the audit agrees, and asked for
    /// only where it does not. A meeting's version counts all that was commanded, unless the cache
    /// has the part in doubt; what terminals did meanwhile they report until it is acknowledged.
    pub(super) fn trusts_cache(&self) -> bool {
        self.overlaps && !self.is_forgetful
    }

    pub(super) fn request(&self, transaction: Transaction, meeting: MeetingId, message: Message) -> Request {
        let header = Header::request(transaction, self.epoch, meeting);
        Request { domain: self.domain, header, body: Body::Message(message) }
    }

    /// Notes what has become of a meeting, in this round.
    pub(super) fn set_step(&mut self, meeting: MeetingId, step: Step) {
        let round = self.round;
        let known = self.meetings.entry(meeting).or_insert(Known { step, round, summary: None });
        known.step = step;
        known.round = round;
    }

    /// A meeting that ended meanwhile.
    pub(super) fn forget(&mut self, meeting: MeetingId) {
        self.meetings.remove(&meeting);
    }

    fn handle_refused(
        &mut self,
        now: Nanos,
        header: &Header,
        opcode: u8,
        status: Status,
        value: u64,
        holdings: &mut dyn Store,
    ) {
        let transaction = header.transaction;
        // An answer to nothing that is on its way says nothing, whatever it says.
        if self.find_mut(transaction).is_none() {
            return;
        }
        let about = self.updates.asks_about(transaction);
        match status {
            Status::StaleEpoch if Epoch(value) > self.epoch => return self.fence(Epoch(value)),
            Status::UnknownMeeting if about.is_some() => {
                if let Some(meeting) = self.updates.give_up(transaction) {
                    self.updates.again.settle(meeting);
                    self.handle_absence(meeting, holdings);
                }
                return;
            }
            Status::UnknownMeeting if self.ends.find_mut(transaction).is_some() => {
                return self.handle_end_ack(transaction);
            }
            Status::Busy => {}
            // One meeting's refusal holds up no other. Without room for one answer there may be
            // some later; not for ever.
            Status::Capacity if about.is_none_or(|(_, attempts)| attempts <= limits::ATTEMPTS_SAID_AFTER) => {}
            _ if about.is_some() => return self.put_off_update(now, transaction, status),
            Status::Capacity => {}
            _ => {
                if let Some(meeting) = self.ends.give_up(transaction) {
                    self.set_step(meeting, Step::Orphan);
                    return self.tell_refused(meeting, opcode, status);
                }
            }
        }
        let wait = match status {
            Status::Busy => std::time::Duration::from_nanos(value).min(self.settings.busy_max),
            _ => self.settings.rto_max,
        };
        let until = now + wait;
        let Some(ask) = self.find_mut(transaction) else { return };
        ask.refused(until);
        let attempts = ask.attempts();
        match status {
            // What one request is too much for, others are too.
            Status::Busy | Status::Capacity => {
                self.progress.busy += 1;
                self.quiet_until = self.quiet_until.max(until);
            }
            _ => {
                self.tell_refused(MeetingId::NONE, opcode, status);
                // What it does not list is asked for by name, as far as we hold it.
                if is(self.listing.ask_mut(), transaction) && attempts > limits::ATTEMPTS_SAID_AFTER {
                    self.listing.give_up();
                    self.end_listing(holdings);
                }
            }
        }
    }

    /// The request on its way that bears this transaction.
    fn find_mut(&mut self, transaction: Transaction) -> Option<&mut Ask> {
        let one = [self.connect.ask_mut(), self.listing.ask_mut(), self.audit.ask_mut()];
        (one.into_iter().flatten().find(|ask| ask.transaction == transaction))
            .or_else(|| self.takeovers.find_mut(transaction))
            .or_else(|| self.updates.find_mut(transaction))
            .or_else(|| self.ends.find_mut(transaction))
    }
}

fn is(ask: Option<&mut Ask>, transaction: Transaction) -> bool {
    ask.is_some_and(|ask| ask.transaction == transaction)
}
