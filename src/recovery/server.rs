//! The machine for one autonomous server: what the steps share, and who gets which answer.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use super::ask::{Ask, RoundTrip};
use super::audit::Audit;
use super::connect::Connect;
use super::lookup::Listing;
use super::orphans::Ends;
use super::report::{Progress, ServerReport, Timeline};
use super::takeover::Takeovers;
use super::update::Updates;
use super::{Body, Cursor, Event, Holdings, Path, Phase, Request, Settings};
use crate::time::Nanos;
use crate::wire::{Domain, Epoch, Header, MeetingId, MeetingSummary, Message, Opcode, Page, Status, Transaction};
use crate::{limits, wire};

/// What has become of one meeting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Its takeover is wanted or on its way.
    Asked,
    /// It is taken over; its update is wanted or on its way.
    Taken,
    /// It is updated.
    Updated,
    /// The autonomous server does not have it.
    Missing,
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

/// What the machine knows of one meeting. One that a living cache held and the autonomous server gave at
/// once has no entry: of a million meetings nothing need be remembered that the table does not say.
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
/// After `new`, and after each `handle_*`, call [`Self::poll_event`] and [`Self::poll_transmit`] until they give nothing;
/// then wait for a frame or for [`Self::poll_timeout`], whose coming is another reason to poll and nothing more. What
/// waits inside is bounded by the windows and by what the table and the autonomous server hold.
pub struct ServerRecovery {
    pub(super) domain: Domain,
    pub(super) epoch: Epoch,
    pub(super) settings: Settings,
    pub(super) transactions: wire::Transactions,
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
    /// Meetings that the sweep over the cache asked for and the autonomous server holds, without those that a client has
    /// started since: they would make up for orphans.
    pub(super) swept_held: u32,
    /// Whether what is held under this epoch may have been taken over by this machine before it began again.
    pub(super) began_again: bool,
    /// What was told already, so that a second round does not tell it again.
    pub(super) told_missing: BTreeSet<MeetingId>,
    pub(super) told_orphan: BTreeSet<MeetingId>,
    pub(super) told_full: BTreeSet<MeetingId>,
    pub(super) unfinished: BTreeSet<MeetingId>,
    told_refused: BTreeSet<(MeetingId, u8, Status)>,
    pub(super) events: VecDeque<Event>,
    pub(super) timeline: Timeline,
    pub(super) progress: Progress,
    stale: bool,
    /// How many meetings the autonomous server said it holds when that last changed, and how many parts there were here.
    heard: Option<(u32, u32)>,
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
            transactions: wire::Transactions::default(),
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
            told_missing: BTreeSet::new(),
            told_orphan: BTreeSet::new(),
            told_full: BTreeSet::new(),
            unfinished: BTreeSet::new(),
            told_refused: BTreeSet::new(),
            events: VecDeque::new(),
            timeline: Timeline { began: now, ..Timeline::default() },
            progress: Progress::default(),
            stale: false,
            heard: None,
            now,
        }
    }

    /// As [`Self::new`] under this epoch, of a machine that was made ahead and asked for nothing yet.
    pub(super) fn begin(&mut self, epoch: Epoch, now: Nanos) {
        (self.epoch, self.now, self.timeline.began) = (epoch, now, now);
    }

    /// Begins again: the autonomous server restarted, or its link came back after it was thought down. Where the database
    /// was to be walked and has not been, it still is; else the cache holds everything by now, and what of it was not
    /// updated yet is in doubt there. A machine that stopped stays so.
    pub fn restart(&mut self, now: Nanos) {
        let path = if self.sweeps_database && !self.swept { Path::Database } else { Path::Cache };
        let fresh = Self::new(self.domain, self.epoch, path, self.settings.clone(), now);
        let transactions = std::mem::take(&mut self.transactions);
        let events = std::mem::take(&mut self.events);
        *self = Self { transactions, events, stale: self.stale, began_again: true, ..fresh };
    }

    /// Holds both sides against each other once more: a command was not answered in time, and nobody knows whether it was
    /// carried out. Agreeing costs a frame; differing begins a round.
    pub fn doubt(&mut self) {
        if self.audit.has_agreed() {
            self.audit = Audit::default();
        } else {
            self.audit.ask_anew();
        }
    }

    /// Hears how many meetings the autonomous server holds, which every heartbeat's answer says. One that restarts faster
    /// than its link goes down is noticed by that alone: by a change that our own starts and ends, `ours` being the
    /// parts that there are here, do not account for. It costs an audit where one of them was just under way.
    pub fn handle_held(&mut self, held: u32, ours: impl FnOnce() -> u32) {
        if self.heard.is_some_and(|(last, _)| last == held) {
            return;
        }
        let ours = ours();
        let before = self.heard.replace((held, ours));
        let grown = |now: u32, before: u32| i64::from(now) - i64::from(before);
        if before.is_some_and(|before| grown(held, before.0) != grown(ours, before.1)) {
            self.doubt();
        }
    }

    /// Takes a message that this domain's autonomous server sent, authentic. Gives whether it answered recovery; if not,
    /// it is somebody else's.
    pub fn handle_message(
        &mut self,
        now: Nanos,
        header: &Header,
        message: &Message,
        holdings: &mut dyn Holdings,
    ) -> bool {
        self.now = self.now.max(now);
        // Whoever was told it: a newer controller is a newer controller.
        if let Message::Refused { status: Status::StaleEpoch, value, .. } = *message
            && Epoch(value) > self.epoch
        {
            self.become_stale(Epoch(value));
        }
        let answer = matches!(
            message,
            Message::ConnectAck { .. } | Message::Audit { .. } | Message::MeetingAck { .. } | Message::Refused { .. }
        );
        if !answer || !wire::Transactions::is_recovery(header.transaction) {
            return false;
        }
        // An answer to the one who died: its transactions are not ours.
        if header.epoch != self.epoch || self.stale {
            return true;
        }
        let transaction = header.transaction;
        match *message {
            Message::ConnectAck { highest_epoch, held, window, .. } if is(self.connect.ask_mut(), transaction) => {
                self.handle_connect_ack(now, highest_epoch, held, window);
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

    /// Takes a page that this domain's autonomous server sent, authentic. As [`Self::handle_message`].
    pub fn handle_page(
        &mut self,
        now: Nanos,
        opcode: Opcode,
        header: &Header,
        page: &Page<'_>,
        holdings: &mut dyn Holdings,
    ) -> bool {
        self.now = self.now.max(now);
        let answer = matches!(opcode, Opcode::Info | Opcode::TakeoverBatchAck | Opcode::State);
        if !answer || !wire::Transactions::is_recovery(header.transaction) {
            return false;
        }
        if header.epoch != self.epoch || self.stale {
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
    pub fn poll_transmit(&mut self, now: Nanos, holdings: &mut dyn Holdings) -> Option<Request> {
        self.now = self.now.max(now);
        if self.stale {
            return None;
        }
        // A living cache knows what to take over: the first of it goes out before anything is asked.
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
        let request = self
            .poll_takeover(now, holdings)
            .or_else(|| self.poll_listing(now))
            .or_else(|| self.poll_update(now, holdings))
            .or_else(|| self.poll_end(now, holdings));
        self.note_progress(now);
        request.or_else(|| self.poll_audit(now, holdings))
    }

    /// When to poll again if nothing comes. None: never.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        if self.stale {
            return None;
        }
        let [quiet, sweep] = [self.quiet_until, self.sweep_resume].map(|at| Some(at).filter(|at| *at > self.now));
        let steps = [self.takeovers.due(), self.listing.due(), self.updates.due(), self.ends.due(), self.audit.due()];
        let steps = steps.into_iter().chain([quiet, sweep]);
        let steps = steps.flatten().map(|due| due.max(self.quiet_until)).min();
        steps.into_iter().chain(self.connect.due()).min()
    }

    /// The next thing that the engine should know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Stops at once and for good: some autonomous server has a newer controller.
    pub fn stop(&mut self) {
        self.stale = true;
    }

    /// Whom it recovers from.
    pub fn domain(&self) -> Domain {
        self.domain
    }

    /// What it is doing: of what overlaps, the first that is not done.
    pub fn phase(&self) -> Phase {
        if self.stale {
            Phase::Stale
        } else if self.audit.has_agreed() {
            Phase::Reconciled
        } else if self.audit.resume.is_some() {
            Phase::Differing
        } else if !self.connect.is_connected() {
            Phase::Connecting
        } else if !self.is_acknowledged() {
            Phase::TakingOver
        } else if !self.is_updated() {
            Phase::Updating
        } else {
            Phase::Auditing
        }
    }

    /// Whether both sides agree, proven by the audit.
    pub fn is_reconciled(&self) -> bool {
        self.phase() == Phase::Reconciled
    }

    /// How far it is. Walks over its meetings.
    pub fn progress(&self) -> Progress {
        let mut progress = Progress { unfinished: self.unfinished.len() as u32, ..self.progress };
        for known in self.meetings.values() {
            let (asked, other) = match known.step {
                Step::Asked => (1, None),
                Step::Taken => (1, Some(&mut progress.taken_over)),
                Step::Updated => {
                    progress.taken_over += 1;
                    (1, Some(&mut progress.updated))
                }
                Step::Missing => (1, Some(&mut progress.missing)),
                Step::Refused => (1, Some(&mut progress.refused)),
                Step::Orphan | Step::OrphanEnding | Step::OrphanEnded => (0, Some(&mut progress.orphans)),
                Step::Unfinished => (0, None),
            };
            if let Some(count) = other {
                *count += 1;
            }
            progress.asked += asked;
        }
        progress
    }

    /// When each phase was done.
    pub fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// All of it for people. Walks over its meetings.
    pub fn report(&self) -> ServerReport {
        let since = |time: Option<Nanos>| time.map(|time| time.0.saturating_sub(self.timeline.began.0));
        let named = |steps: &[Step]| {
            let of = self.meetings.iter().filter(|(_, known)| steps.contains(&known.step));
            of.map(|(meeting, _)| *meeting).take(limits::REPORT_NAMES_MAX).collect()
        };
        ServerReport {
            domain: self.domain,
            phase: self.phase(),
            connected_ns: since(self.timeline.connected),
            listed_ns: since(self.timeline.listed),
            first_takeover_ns: since(self.timeline.first_takeover),
            all_acknowledged_ns: since(self.timeline.all_acknowledged),
            updated_ns: since(self.timeline.updated),
            reconciled_ns: since(self.timeline.reconciled),
            progress: self.progress(),
            missing_meetings: named(&[Step::Missing]),
            orphan_meetings: named(&[Step::Orphan, Step::OrphanEnding, Step::OrphanEnded]),
        }
    }

    /// Whether what the cache says of terminals is believed where the audit agrees, and asked for only where it does not.
    /// A meeting's version counts all that was commanded, unless the cache has the part in doubt; what terminals did
    /// meanwhile they report until it is acknowledged.
    pub(super) fn trusts_cache(&self) -> bool {
        self.overlaps
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

    pub(super) fn become_stale(&mut self, highest: Epoch) {
        if !std::mem::replace(&mut self.stale, true) {
            self.events.push_back(Event::Stale { domain: self.domain, highest });
        }
    }

    pub(super) fn tell_refused(&mut self, meeting: MeetingId, opcode: u8, status: Status) {
        if self.told_refused.insert((meeting, opcode, status)) {
            self.events.push_back(Event::Refused { domain: self.domain, meeting, opcode, status });
        }
    }

    /// Whether every takeover that is known to be wanted was answered.
    fn is_acknowledged(&self) -> bool {
        self.swept && self.takeovers.is_idle() && (self.overlaps || self.listing.is_complete())
    }

    /// Whether nothing is left but the proof.
    pub(super) fn is_updated(&self) -> bool {
        self.connect.is_connected()
            && self.listing.is_complete()
            && self.is_acknowledged()
            && self.updates.is_idle()
            && self.ends.is_idle()
    }

    fn note_progress(&mut self, now: Nanos) {
        if self.timeline.all_acknowledged.is_none() && self.is_acknowledged() {
            self.timeline.all_acknowledged = Some(now);
            self.events.push_back(Event::AllAcknowledged { domain: self.domain });
        }
        if self.timeline.updated.is_none() && self.is_updated() {
            self.timeline.updated = Some(now);
        }
    }

    fn handle_refused(
        &mut self,
        now: Nanos,
        header: &Header,
        opcode: u8,
        status: Status,
        value: u64,
        holdings: &mut dyn Holdings,
    ) {
        let transaction = header.transaction;
        if status == Status::UnknownMeeting {
            if let Some(meeting) = self.updates.give_up(transaction) {
                return self.handle_absence(meeting, holdings);
            }
            if self.ends.find_mut(transaction).is_some() {
                return self.handle_end_ack(transaction);
            }
        }
        let wait = match status {
            Status::Busy => std::time::Duration::from_nanos(value).min(self.settings.busy_max),
            _ => self.settings.rto_max,
        };
        let until = now + wait;
        let Some(ask) = self.find_mut(transaction) else { return };
        ask.refused(until);
        match status {
            // What one request is too much for, others are too.
            Status::Busy | Status::Capacity => {
                self.progress.busy += 1;
                self.quiet_until = self.quiet_until.max(until);
            }
            _ => self.tell_refused(header.meeting, opcode, status),
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
