//! Operators, each with terminals and a conference of its own, one request at a time. What they
//! were told they hold the servers to at the end.

use std::time::Duration;

use super::expected::{Expected, Muted};
use super::site::Site;
use crate::api::{Answer, OrphanFate, Reply, Request};
use crate::cms::{ConferenceReply, ConferenceRequest, NewMember, ReplyId, StartMeeting};
use crate::database::Database;
use crate::handover::UpgradeForm;
use crate::lab::sim::Random;
use crate::table::Table;
use crate::time::Nanos;
use crate::wire::{Address, Flags, Layout, Level, MeetingId, Role};

/// How late an answer may be, as the API has it: what is given up at its deadline may have to be
/// written down before that is said.
const GRACE: Duration = Duration::from_secs(2);
/// The numbers of one operator's conferences.
const NUMBERS: u64 = 1000;

/// All of them.
#[derive(Default)]
pub(super) struct Operators {
    all: Vec<Operator>,
    next_reply: u64,
    /// What is asked at once, by nobody in particular.
    errands: Vec<Request>,
    flaws: Vec<String>,
    /// Whether nobody asks for more.
    are_resting: bool,
    pub done: u64,
    pub refused: u64,
    pub unheard: u64,
}

struct Operator {
    terminals: Vec<Address>,
    muted: Muted,
    /// The number of its next conference.
    next_meeting: u64,
    meeting: Option<Expected>,
    /// Its conferences that are surely over.
    ended: Vec<MeetingId>,
    pending: Option<Pending>,
    /// When it asks for more.
    next: Nanos,
    random: Random,
}

struct Pending {
    client: ReplyId,
    /// None for what is not about its conference.
    request: Option<ConferenceRequest>,
    deadline: Nanos,
}

impl Operators {
    /// One more, with these terminals.
    pub fn add(&mut self, terminals: Vec<Address>, now: Nanos, mut random: Random) {
        let next = now + Duration::from_micros(random.below(500_000));
        let next_meeting = 100_000 + NUMBERS * self.all.len() as u64;
        self.all.push(Operator {
            terminals,
            muted: Muted::new(),
            next_meeting,
            meeting: None,
            ended: Vec::new(),
            pending: None,
            next,
            random,
        });
    }

    /// Asks something that is not about a conference.
    pub fn ask(&mut self, request: Request) {
        self.errands.push(request);
    }

    /// Nobody asks for more from now on.
    pub fn rest(&mut self) {
        self.are_resting = true;
    }

    /// Whether nobody waits for an answer.
    pub fn is_idle(&self) -> bool {
        self.all.iter().all(|operator| operator.pending.is_none())
    }

    /// The next request.
    pub fn poll_request(&mut self, now: Nanos) -> Option<(ReplyId, Request, Nanos)> {
        let Self { all, errands, next_reply, are_resting, .. } = self;
        let operator = all.iter_mut().find(|operator| {
            operator.pending.is_none() && (!errands.is_empty() || operator.next <= now && !*are_resting)
        })?;
        *next_reply += 1;
        let client = ReplyId(*next_reply);
        let deadline = now + Duration::from_millis(200 + operator.random.below(8_000));
        let (request, asked) = match errands.pop() {
            Some(errand) => (None, errand),
            None => {
                let request = operator.choose();
                (Some(request.clone()), Request::Conference(request))
            }
        };
        operator.pending = Some(Pending { client, request, deadline });
        Some((client, asked, deadline))
    }

    /// When somebody asks for more, or is to have been answered.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        let of = |operator: &Operator| match &operator.pending {
            Some(pending) => Some(pending.deadline + GRACE),
            None => (!self.are_resting).then_some(operator.next),
        };
        self.all.iter().filter_map(of).min()
    }

    /// Those who wait no longer. What is asked of a conference is answered in time; an upgrade
    /// waits for the keeper, and control for the disk.
    pub fn handle_timeout(&mut self, now: Nanos) -> Vec<ReplyId> {
        let mut gone = Vec::new();
        for operator in &mut self.all {
            let late = operator.pending.take_if(|pending| pending.deadline + GRACE <= now);
            if let Some(request) = late.as_ref().and_then(|late| late.request.as_ref()) {
                self.flaws.push(format!("not answered: {request:?}"));
            }
            gone.extend(late.map(|late| late.client));
        }
        gone
    }

    pub fn handle_reply(&mut self, now: Nanos, client: ReplyId, reply: Reply) {
        let waits = |operator: &&mut Operator| operator.pending.as_ref().is_some_and(|one| one.client == client);
        let Some(operator) = self.all.iter_mut().find(waits) else {
            return self.flaws.push(format!("answered again, or unasked: {client:?} {reply:?}"));
        };
        let Some(pending) = operator.pending.take() else { return };
        operator.next = now + Duration::from_micros(operator.random.below(400_000));
        if reply.is_ok() {
            self.done += 1
        } else {
            self.refused += 1
        }
        let Some(request) = pending.request else { return };
        let reply: ConferenceReply = match reply {
            Ok(Answer::Conference(answer)) => Ok(answer),
            Ok(other) => return self.flaws.push(format!("{request:?} was answered {other:?}")),
            Err(refusal) => Err(refusal),
        };
        operator.learn(&request, Some(&reply));
    }

    /// The engine is gone: who waits is not answered any more.
    pub fn handle_death(&mut self) {
        for operator in &mut self.all {
            let Some(pending) = operator.pending.take() else { continue };
            self.unheard += 1;
            if let Some(request) = pending.request {
                operator.learn(&request, None);
            }
        }
    }

    /// What went wrong, and what is not as it was said to be.
    pub fn flaws(&self, sites: &[Site], table: &Table, database: &Database) -> Vec<String> {
        let mut flaws = self.flaws.clone();
        for operator in &self.all {
            if let Some(expected) = &operator.meeting {
                flaws.extend(expected.flaws(sites, &operator.muted));
            }
            for &meeting in &operator.ended {
                let held = sites.iter().filter(|site| site.server.meeting(meeting).is_some()).count();
                let in_table = table.parts_of(meeting).count();
                let in_database = database.meeting(meeting).expect("memory can be read").is_some();
                if held + in_table > 0 || in_database {
                    flaws.push(format!(
                        "{meeting} has ended: {held} servers hold it, {in_table} parts, in the database: {in_database}"
                    ));
                }
            }
        }
        flaws
    }
}

impl Operator {
    fn learn(&mut self, request: &ConferenceRequest, reply: Option<&ConferenceReply>) {
        let Some(meeting) = &mut self.meeting else { return };
        if meeting.learn(request, reply, &mut self.muted) {
            self.ended.push(meeting.meeting);
            self.meeting = None;
        }
    }

    fn terminal(&mut self) -> Address {
        self.terminals[self.random.below(self.terminals.len() as u64) as usize]
    }

    fn role(&mut self) -> Role {
        [Role::Participant, Role::Chairman, Role::SpeakerOne][self.random.below(3) as usize]
    }

    fn layout(&mut self) -> Layout {
        Layout::new(1 + self.random.below(13) as u8).expect("1 to 13")
    }

    fn choose(&mut self) -> ConferenceRequest {
        let Some(expected) = self.meeting.clone() else { return self.start() };
        let meeting = expected.meeting;
        let terminal = self.terminal();
        match self.random.below(12) {
            0 => ConferenceRequest::End { meeting },
            1 | 2 => ConferenceRequest::SetLayout { meeting, layout: self.layout() },
            3 | 4 => ConferenceRequest::SetRole { meeting, terminal, role: self.role() },
            5 | 6 => {
                let value = if self.random.below(2) == 0 { Flags::MUTED } else { Flags::default() };
                ConferenceRequest::SetFlags { meeting, terminal, mask: Flags::MUTED, value }
            }
            7 | 8 => ConferenceRequest::Remove { meeting, terminal },
            _ => {
                let all = self.terminals.iter().copied().filter(|&terminal| expected.lacks(terminal));
                let mut members: Vec<_> = all.map(NewMember::participant).collect();
                members.truncate(1 + self.random.below(3) as usize);
                match members.first_mut() {
                    Some(first) => first.role = self.role(),
                    None => return ConferenceRequest::Remove { meeting, terminal },
                }
                ConferenceRequest::Add { meeting, members }
            }
        }
    }

    /// A new conference, now and then under the number of one that has ended.
    fn start(&mut self) -> ConferenceRequest {
        let again = if self.random.below(4) == 0 { self.ended.pop() } else { None };
        let meeting = again.unwrap_or_else(|| {
            self.next_meeting += 1;
            MeetingId(self.next_meeting)
        });
        self.meeting = Some(Expected::new(meeting));
        let mut members: Vec<_> = self.terminals.iter().copied().map(NewMember::participant).collect();
        let first = self.random.below(members.len() as u64) as usize;
        members.rotate_left(first);
        members.truncate(1 + self.random.below(members.len() as u64) as usize);
        let chairman = (self.random.below(2) == 0).then(|| members[0].terminal);
        ConferenceRequest::Start(StartMeeting {
            meeting: Some(meeting),
            name: "conference".into(),
            level: Level::new(1 + self.random.below(5) as u8).expect("1 to 5"),
            layout: self.layout(),
            chairman,
            members,
            created_ms: 1,
        })
    }
}

/// What operators ask now and then that is not about a conference.
pub(super) fn errand(random: &mut Random, orphan: MeetingId) -> Request {
    let become_of = if random.below(2) == 0 { OrphanFate::Adopted } else { OrphanFate::Ended };
    match random.below(6) {
        0 => Request::Status,
        1 => Request::RecoveryLast,
        2 => Request::Orphans,
        3 => Request::Orphan { meeting: orphan, become_of },
        4 => Request::Upgrade(UpgradeForm::default()),
        _ => Request::TakeControl,
    }
}
