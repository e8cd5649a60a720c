//! The terminals of a simulated domain: their states, and the reports that are on their way.
//!
//! Each terminal has at most one version outstanding of its own accord: what it would report next
//! waits until the last is acknowledged, so that a report that had to be repeated shows in the
//! counters as just that. A command of the dispatch server does not wait; the version that it
//! overtakes is acknowledged with the newer one, as wire.md allows.
//!
//! A terminal with which nothing has happened yet has no record: what it is follows from a rule.
//! Ten million of them cost four bytes each, of pages that are never touched.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::numbering::Numbering;
use super::preload::{PreloadedDomain, idle};
use super::timer_lists::DueLists;
use super::{Counters, Random, Settings};
use crate::limits::INFO_BYTES_MAX;
use crate::time::Nanos;
use crate::wire::{Address, Business, Decode, Flags, Info, MeetingId, Role, Status, TerminalState};

/// A terminal that was called reports after this, so that the answer to its call comes first.
const SETTLE: Duration = Duration::from_millis(5);
/// It takes the call after so long or, by chance, up to twice as long.
const RINGS: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(40)];
/// Lists of [`DueLists`] before the first wait for an acknowledgement: at once, and [`SETTLE`].
const WAIT_AT_ONCE: usize = 0;
const WAIT_SETTLE: usize = 1;
const WAIT_REPEAT: usize = 2;
/// Terminals that are looked at for one that has nothing outstanding.
const LOOK_MAX: usize = 64;
/// Every so many-th terminal has a caption, which takes a REPORT_INFO.
const CAPTION_EVERY: usize = 16;
/// One report of so many of a terminal's own accord is a keep-alive: the same version once more.
const KEEP_ALIVE_ONE_IN: u64 = 16;

struct Terminal {
    state: TerminalState,
    window: u8,
    /// The last version acknowledged.
    acknowledged: Option<u32>,
    /// Whether the current version, or its keep-alive, is not acknowledged yet.
    outstanding: bool,
    /// A version that was sent, and overtaken before its acknowledgement came.
    overtaken: Option<u32>,
    /// How often the current version was sent.
    sent: u8,
    sent_at: Nanos,
    /// Its place among the members that report.
    place: u32,
}

/// A report to be sent.
pub(super) struct Report {
    pub state: TerminalState,
    pub ack_now: bool,
}

/// All terminals of a domain.
pub(super) struct Terminals {
    numbering: Numbering,
    preload: Option<PreloadedDomain>,
    /// By terminal, one more than the number of its record; 0 where it has none.
    places: Box<[u32]>,
    records: Vec<Terminal>,
    /// By the numbers of records, like `rings`.
    reports: DueLists,
    rings: DueLists,
    /// Those that report of their own accord.
    members: Vec<u32>,
    /// How many are in a meeting.
    in_meetings: usize,
    cursor: usize,
    ack_now_one_in: u32,
    random: Random,
    round_trip: Histogram<u64>,
}

impl Terminals {
    pub fn new(settings: &Settings, numbering: Numbering, seed: u64) -> Self {
        let mut waits = vec![Duration::ZERO, SETTLE, settings.rto];
        while waits.last().is_some_and(|&wait| wait < settings.rto_max && !wait.is_zero()) {
            waits.push((waits[waits.len() - 1] * 2).min(settings.rto_max));
        }
        let in_meetings = settings.preload.map_or(0, |preload| preload.terminals() as usize).min(numbering.count());
        Self {
            numbering,
            preload: settings.preload,
            places: vec![0; numbering.count()].into(),
            records: Vec::new(),
            reports: DueLists::new(&waits),
            rings: DueLists::new(&RINGS),
            members: (0..in_meetings.min(numbering.own()) as u32).collect(),
            in_meetings,
            cursor: 0,
            ack_now_one_in: settings.ack_now_one_in,
            random: Random::new(seed),
            round_trip: super::counters::latencies(),
        }
    }

    pub fn index(&self, terminal: Address) -> Option<usize> {
        self.numbering.index(terminal)
    }

    pub fn state(&self, terminal: Address) -> Option<TerminalState> {
        self.index(terminal).map(|index| self.look(index).0)
    }

    pub fn window(&self, terminal: Address) -> Option<u8> {
        let index = self.index(terminal)?;
        Some(self.record(index).map_or(u8::MAX, |record| self.records[record].window))
    }

    pub fn set_window(&mut self, terminal: Address, window: u8) -> Result<bool, Status> {
        let index = self.index(terminal).ok_or(Status::UnknownTerminal)?;
        let record = self.touch(index);
        Ok(std::mem::replace(&mut self.records[record].window, window) != window)
    }

    /// Every terminal with the last version of it that was acknowledged.
    pub fn all(&self) -> impl Iterator<Item = (TerminalState, Option<u32>)> + '_ {
        (0..self.numbering.count()).map(|index| self.look(index))
    }

    /// Those with which something has happened.
    pub fn changed(&self) -> impl Iterator<Item = (&TerminalState, Option<u32>)> {
        self.records.iter().map(|one| (&one.state, one.acknowledged))
    }

    /// How many are in a meeting.
    pub const fn in_meetings(&self) -> usize {
        self.in_meetings
    }

    /// One of the server's own domain, each in turn, to send a probe from.
    pub fn nth(&self, number: u64) -> Option<Address> {
        let index = number.checked_rem(self.numbering.own() as u64)?;
        Some(self.numbering.address(index as usize))
    }

    /// The number of a terminal's record, if it has one.
    fn record(&self, index: usize) -> Option<usize> {
        (self.places[index] as usize).checked_sub(1)
    }

    /// A terminal's state, and the last version of it that was acknowledged.
    pub fn look(&self, index: usize) -> (TerminalState, Option<u32>) {
        match self.record(index) {
            Some(record) => (self.records[record].state, self.records[record].acknowledged),
            None => self.at_first(index),
        }
    }

    /// What a terminal is with which nothing has happened yet.
    fn at_first(&self, index: usize) -> (TerminalState, Option<u32>) {
        match &self.preload {
            Some(preload) if index < preload.terminals() as usize => (preload.state(index), Some(1)),
            _ => (idle(self.numbering.address(index)), None),
        }
    }

    /// The number of a terminal's record, made where it has none.
    fn touch(&mut self, index: usize) -> usize {
        if let Some(record) = self.record(index) {
            return record;
        }
        let (state, acknowledged) = self.at_first(index);
        self.records.push(Terminal::new(state, acknowledged, index));
        self.places[index] = self.records.len() as u32;
        self.records.len() - 1
    }

    /// Called into a meeting: it rings, and reports that it does.
    pub fn join(&mut self, now: Nanos, terminal: Address, meeting: MeetingId, role: Role) {
        let Some(index) = self.index(terminal) else { return };
        let record = self.touch(index);
        let one = &mut self.records[record];
        one.place = self.members.len() as u32;
        self.members.push(index as u32);
        self.in_meetings += 1;
        let state = &mut one.state;
        (state.meeting, state.role, state.business, state.decode) = (meeting, role, Business::Invited, Decode::Stopped);
        one.renew();
        self.reports.wait(record, WAIT_SETTLE, now);
        self.rings.wait(record, self.random.below(2) as usize, now);
    }

    /// Out of its meeting. What it had to report of it is nobody's concern any more.
    pub fn leave(&mut self, terminal: Address) {
        let Some(index) = self.index(terminal) else { return };
        let record = self.touch(index);
        self.reports.cancel(record);
        self.rings.cancel(record);
        let one = &mut self.records[record];
        let place = one.place as usize;
        let state = &mut one.state;
        self.in_meetings -= usize::from(state.meeting != MeetingId::NONE);
        (state.meeting, state.role, state.business, state.decode) =
            (MeetingId::NONE, Role::Participant, Business::Idle, Decode::Stopped);
        one.renew();
        (one.outstanding, one.overtaken) = (false, None);
        if self.members.get(place) == Some(&(index as u32)) {
            self.members.swap_remove(place);
            if let Some(&moved) = self.members.get(place) {
                let moved = self.touch(moved as usize);
                self.records[moved].place = place as u32;
            }
        }
    }

    /// Rings a member again; false where it is in the meeting, or rings, already.
    pub fn call(&mut self, now: Nanos, terminal: Address) -> bool {
        let rings = self.change(now, terminal, |state| {
            if state.business != Business::InMeeting {
                state.business = Business::Invited;
            }
        });
        if let (true, Some(index)) = (rings, self.index(terminal)) {
            let record = self.touch(index);
            self.rings.wait(record, 0, now);
        }
        rings
    }

    /// Changes a terminal's state; if that makes a difference, it is a new version, reported at
    /// once.
    pub fn change(&mut self, now: Nanos, terminal: Address, change: impl FnOnce(&mut TerminalState)) -> bool {
        let Some(index) = self.index(terminal) else { return false };
        let record = self.touch(index);
        let one = &mut self.records[record];
        let before = one.state;
        change(&mut one.state);
        if one.state == before {
            return false;
        }
        one.renew();
        if one.state.meeting != MeetingId::NONE {
            self.reports.wait(record, WAIT_AT_ONCE, now);
        }
        true
    }

    /// One member reports of its own accord: something changed, or nothing and it says so. False
    /// where all that were looked at wait for acknowledgements.
    pub fn report_something(&mut self, now: Nanos) -> bool {
        for _ in 0..LOOK_MAX.min(self.members.len()) {
            self.cursor = if self.cursor + 1 < self.members.len() { self.cursor + 1 } else { 0 };
            let index = self.members[self.cursor] as usize;
            let record = self.touch(index);
            let one = &mut self.records[record];
            if one.outstanding {
                continue;
            }
            if one.acknowledged.is_some() && self.random.below(KEEP_ALIVE_ONE_IN) == 0 {
                (one.outstanding, one.sent) = (true, 0);
            } else {
                one.happens(index, self.random.number());
                one.renew();
            }
            self.reports.wait(record, WAIT_AT_ONCE, now);
            return true;
        }
        false
    }

    /// Those whose ringing is over take the call.
    pub fn handle_timeout(&mut self, now: Nanos) {
        while let Some(record) = self.rings.take_due(now) {
            let terminal = self.records[record].state.terminal;
            self.change(now, terminal, |state| {
                (state.business, state.decode) = (Business::InMeeting, Decode::Decoding);
                state.flags = state.flags.with(Flags::ONLINE, Flags::ONLINE);
            });
        }
    }

    pub fn poll_timeout(&self) -> Option<Nanos> {
        [self.reports.next_due(), self.rings.next_due()].into_iter().flatten().min()
    }

    /// Whether a report is due by now.
    pub fn wants_transmit(&self, now: Nanos) -> bool {
        self.reports.next_due().is_some_and(|due| due <= now)
    }

    /// The next report to be sent. It counts as sent.
    pub fn poll_report(&mut self, now: Nanos, counters: &mut Counters) -> Option<Report> {
        let record = self.reports.take_due(now)?;
        let one = &mut self.records[record];
        let repeated = one.sent > 0;
        if repeated {
            counters.reports_retransmitted += 1;
            // Counted at the first repetition alone, because what is counted are versions.
            counters.reports_unanswered += u64::from(one.sent == 1);
        } else {
            counters.reports_sent += 1;
            one.sent_at = now;
        }
        self.reports.wait(record, WAIT_REPEAT + usize::from(one.sent), now);
        one.sent = one.sent.saturating_add(1);
        let asked = self.ack_now_one_in != 0 && self.random.below(self.ack_now_one_in.into()) == 0;
        Some(Report { state: one.state, ack_now: repeated || asked })
    }

    /// A version, and all before it, is acknowledged, or refused.
    pub fn handle_ack(
        &mut self,
        now: Nanos,
        (terminal, version, status): (Address, u32, Status),
        counters: &mut Counters,
    ) {
        let Some(index) = self.index(terminal) else {
            counters.acks_strange += 1;
            return;
        };
        if !status.is_success() {
            counters.reports_refused += 1;
            return;
        }
        let record = self.touch(index);
        let one = &mut self.records[record];
        if newer(version, one.state.version) {
            counters.acks_strange += 1;
            return;
        }
        if one.acknowledged.is_none_or(|last| newer(version, last)) {
            one.acknowledged = Some(version);
        }
        if let Some(overtaken) = one.overtaken.filter(|&overtaken| !newer(overtaken, version)) {
            one.overtaken = None;
            if overtaken == version {
                counters.reports_acknowledged += 1;
            } else {
                counters.reports_unanswered += 1;
            }
        }
        if version == one.state.version && one.outstanding && one.sent > 0 {
            one.outstanding = false;
            self.reports.cancel(record);
            counters.reports_acknowledged += 1;
            self.round_trip.saturating_record(now.since(one.sent_at).as_nanos() as u64);
        } else {
            counters.acks_repeated += 1;
        }
    }

    /// Reports, or their repetitions, still to come.
    pub const fn outstanding(&self) -> usize {
        self.reports.waiting()
    }

    /// Whether nothing is on its way, and nothing happens of itself.
    pub const fn is_quiet(&self) -> bool {
        self.reports.waiting() == 0 && self.rings.waiting() == 0
    }

    /// From a report's first sending to its acknowledgement, in nanoseconds.
    pub const fn round_trip(&self) -> &Histogram<u64> {
        &self.round_trip
    }

    /// Forgets the latencies measured so far.
    pub fn reset(&mut self) {
        self.round_trip.reset();
    }
}

impl Terminal {
    /// Its place among the members is what it is when all are in meetings from the beginning.
    const fn new(state: TerminalState, acknowledged: Option<u32>, index: usize) -> Self {
        Self {
            state,
            window: u8::MAX,
            acknowledged,
            outstanding: false,
            overtaken: None,
            sent: 0,
            sent_at: Nanos(0),
            place: index as u32,
        }
    }

    /// The state is a new version, not sent yet.
    fn renew(&mut self) {
        if self.outstanding && self.sent > 0 {
            self.overtaken = Some(self.state.version);
        }
        // 0 is of a terminal that has not reported: it is skipped.
        self.state.version = self.state.version.checked_add(1).unwrap_or(1);
        (self.outstanding, self.sent) = (true, 0);
    }

    /// What goes on in a terminal in the course of a conference.
    fn happens(&mut self, index: usize, chance: u64) {
        let state = &mut self.state;
        let toggle = |flags: Flags, flag: Flags| Flags(flags.0 ^ flag.0);
        match chance % 5 {
            0 => state.flags = toggle(state.flags, Flags::HAND_RAISED),
            1 => state.flags = toggle(state.flags, Flags::AUDIO),
            2 if state.decode == Decode::Decoding => state.decode = Decode::Stalled,
            2 => state.decode = Decode::Decoding,
            3 => state.channel = state.channel.wrapping_add(1),
            _ if index.is_multiple_of(CAPTION_EVERY) => {
                // Letters alone, so that no caption ends in a zero byte that a reader might take
                // for padding.
                state.info = Info::zeros(8 + usize::from((chance >> 8) as u8) % (INFO_BYTES_MAX - 7));
                let mut letters = Random::new(chance);
                state.info.fill_with(|| b'a' + letters.below(26) as u8);
            }
            _ => state.info[..4].copy_from_slice(&(chance as u32).to_be_bytes()),
        }
    }
}

/// Whether `version` comes after `than`, in the arithmetic of numbers that wrap.
const fn newer(version: u32, than: u32) -> bool {
    (version.wrapping_sub(than) as i32) > 0
}
