//! What the steps of one machine share.

use super::alarms::Alarms;
use super::meetings::Meetings;
use super::report::{Progress, Timeline};
use super::request::{Body, Request};
use super::settings::Settings;
use super::step::Step;
use super::store::{Absence, Store};
use crate::cascade::{Due, Exchange, Purpose};
use crate::limits;
use crate::time::Nanos;
use crate::wire::{Address, Domain, Epoch, Header, MeetingId, MeetingSummary, Message, Opcode, Transaction};

/// What every step may look at and add to. Each step's own state is in its own file.
#[derive(Debug)]
pub(super) struct Shared {
    pub domain: Domain,
    pub epoch: Epoch,
    pub settings: Settings,
    pub exchange: Exchange,
    pub meetings: Meetings,
    pub alarms: Alarms,
    pub timeline: Timeline,
    pub progress: Progress,
    /// Whether the steps overlap: the cache path's first round. Else they go in order.
    pub overlaps: bool,
    /// Whether parts that are in doubt, and differ in nothing, are asked about when both sides
    /// agree: their terminals are what a snapshot says, which is seconds old.
    pub refreshes: bool,
    /// Whether what is held under this epoch may have been taken over by this machine before it
    /// began again.
    pub began_again: bool,
    /// Whether the autonomous server may have lost what its terminals were.
    pub is_forgetful: bool,
    /// The autonomous server is busy: nothing but CONNECT is sent before.
    pub quiet_until: Nanos,
    /// The latest time that was heard of.
    pub now: Nanos,
}

impl Shared {
    pub fn new(domain: Domain, epoch: Epoch, overlaps: bool, settings: Settings, now: Nanos) -> Self {
        let mut exchange = Exchange::new(epoch, settings.rto_min, settings.rto_max);
        exchange.set_window(Purpose::State, settings.queries);
        exchange.set_window(Purpose::End, settings.queries);
        Self {
            domain,
            epoch,
            settings,
            exchange,
            meetings: Meetings::default(),
            alarms: Alarms::new(domain),
            timeline: Timeline { began: now, ..Timeline::default() },
            progress: Progress::default(),
            overlaps,
            refreshes: false,
            began_again: false,
            is_forgetful: false,
            quiet_until: Nanos(0),
            now,
        }
    }

    /// Begins again. What was told stays told, commands stay outstanding and numbers go on.
    pub fn restart(&mut self, overlaps: bool, now: Nanos) {
        self.exchange.close_all(|purpose| purpose != Purpose::Command);
        self.exchange.set_window(Purpose::Takeover, limits::TAKEOVER_WINDOW_FIRST);
        self.exchange.forget_round_trip();
        self.meetings = Meetings::default();
        self.timeline = Timeline { began: now, ..Timeline::default() };
        self.progress = Progress::default();
        self.overlaps = overlaps;
        self.began_again = true;
        self.quiet_until = Nanos(0);
        self.now = now;
    }

    /// Whether what the cache says of terminals is believed where the audit agrees, and asked for
    /// only where it does not. A meeting's version counts all that was commanded, unless the cache
    /// has the part in doubt; what terminals did meanwhile they report until it is acknowledged.
    pub fn trusts_cache(&self) -> bool {
        self.overlaps && !self.is_forgetful
    }

    pub fn request(&self, transaction: Transaction, meeting: MeetingId, message: Message) -> Request {
        let header = Header::request(transaction, self.epoch, meeting);
        Request { domain: self.domain, header, body: Body::Message(message) }
    }

    /// A request of this purpose went out again.
    pub fn note_repeat(&mut self, due: &Due) {
        self.progress.repeated += 1;
        if due.attempts > limits::ATTEMPTS_SAID_AFTER {
            self.alarms.unanswered(due.opcode, due.meeting);
        }
    }

    /// A page had a record that cannot be; it was dropped.
    pub fn note_bad(&mut self, opcode: Opcode, meeting: MeetingId) {
        self.progress.malformed += 1;
        self.alarms.bad_record(opcode, meeting);
    }

    /// A list had a terminal that is another domain's, or none; it was dropped.
    pub fn note_foreign(&mut self, terminal: Address) {
        self.progress.foreign += 1;
        self.alarms.foreign(terminal);
    }

    /// What one request is too much for, others are too.
    pub fn note_busy(&mut self, until: Nanos) {
        self.progress.busy += 1;
        self.quiet_until = self.quiet_until.max(until);
    }

    /// The autonomous server said itself that it has no such meeting.
    pub fn handle_absence(&mut self, meeting: MeetingId, holdings: &mut dyn Store) {
        match holdings.missing(self.domain, meeting) {
            Absence::Missing => {
                self.meetings.set_step(meeting, Step::Missing);
                self.alarms.missing(meeting);
            }
            Absence::Unfinished => {
                self.meetings.set_step(meeting, Step::Unfinished);
                self.alarms.unfinished(meeting);
            }
            Absence::Gone => self.meetings.forget(meeting),
        }
    }

    /// Writes a meeting's information back; gives whether its members are to be asked for. From the
    /// second round on an audit has differed, and what is listed counts though it is older.
    pub fn update_meeting(&self, summary: &MeetingSummary, holdings: &mut dyn Store) -> bool {
        // Asked before anything is written: what is listed takes no doubt away.
        let is_later = self.refreshes && holdings.is_as_listed(self.domain, summary);
        holdings.update_meeting(self.domain, summary, self.meetings.round > 1) && !is_later
    }
}
