//! Parts that are started, and members that are added to these and to others: what `start`, `add`
//! and `resume` have in common. `settle` adds members the same way.
//!
//! Parts and members are entered into the table before the first command, for a new member's first
//! report may overtake the acknowledgement. A part that is started gets its members when its
//! autonomous server has acknowledged the start.

use std::collections::{BTreeMap, BTreeSet};

use super::chair::takes_chair;
use super::context::Context;
use super::lanes::Answered;
use super::operation::Step;
use super::refusals::declined;
use super::table_access::{Joined, insist, join, part_of, refused_by_table};
use crate::cms::{Refusal, RefusalKind, Refused};
use crate::database::{Change, KeyParameters, Member, PartParameters};
use crate::table::TableError;
use crate::wire::{
    Address, Domain, Flags, Layout, Level, MeetingId, MeetingState, Message, Role, Run, Status, WINDOW_NONE,
};

/// What a MEETING_START says, but for the number of participants.
#[derive(Clone, Copy, Debug)]
struct Head {
    level: Level,
    layout: Layout,
    chairman: Address,
    run: Run,
}

#[derive(Debug, Default)]
pub(super) struct Joining {
    head: Option<Head>,
    /// Parts that are started.
    pub starting: Vec<Domain>,
    /// Members that are to be added and were not sent yet.
    pub adding: BTreeMap<Domain, Vec<Member>>,
    /// Members that their autonomous server took.
    pub accepted: Vec<Address>,
    pub refused: Vec<Refused>,
    /// Parts that their autonomous server would not start: it has none of it.
    pub declined: BTreeSet<Domain>,
    /// Whether an autonomous server has another conference of this number.
    pub is_taken: bool,
}

impl Joining {
    /// Plans to start the parts that are `starting`, with their members.
    pub fn plan(&mut self, context: &Context<'_>, parameters: &KeyParameters) {
        let KeyParameters { level, layout, chairman, run, .. } = *parameters;
        self.head = Some(Head { level, layout, chairman, run });
        for part in parameters.parts.iter().filter(|part| part.state == MeetingState::Starting) {
            if context.shared.lanes.has(part.domain) {
                self.starting.push(part.domain);
                self.adding.insert(part.domain, parameters.members_in(part.domain).copied().collect());
            }
        }
    }

    /// Enters all that is planned into the table, or nothing.
    pub fn enter(&mut self, context: &mut Context<'_>, parameters: &KeyParameters) -> Result<(), Refusal> {
        let planned = std::mem::take(&mut self.starting);
        let entered = self.try_enter(context, parameters, &planned);
        if entered.is_ok() {
            self.starting = planned;
        } else {
            self.take_back(context);
        }
        entered
    }

    fn try_enter(
        &mut self,
        context: &mut Context<'_>,
        parameters: &KeyParameters,
        planned: &[Domain],
    ) -> Result<(), Refusal> {
        for &domain in planned {
            let part = part_of(parameters, domain, MeetingState::Starting);
            match insist(|| context.writer.insert_part(&part)) {
                Ok(()) => self.starting.push(domain),
                Err(TableError::Exists) => {}
                Err(error) => return Err(refused_by_table(error)),
            }
        }
        for (&domain, members) in &self.adding {
            for member in members {
                context.join(domain, member)?;
            }
        }
        Ok(())
    }

    /// Takes out of the table again what [`Self::enter`] has entered.
    pub fn take_back(&mut self, context: &mut Context<'_>) {
        let meeting = context.operation.meeting;
        for terminal in std::mem::take(&mut context.operation.joined) {
            context.write(|writer| writer.leave(meeting, terminal));
        }
        for domain in std::mem::take(&mut self.starting) {
            context.write(|writer| writer.remove_part(meeting, domain));
        }
    }

    /// Starts the parts that are new; adds the members of those that are not.
    pub fn send(&mut self, context: &mut Context<'_>) {
        context.operation.step = Step::Commanding;
        let domains: Vec<_> = self.adding.keys().copied().collect();
        for domain in domains {
            match self.head.filter(|_| self.starting.contains(&domain)) {
                Some(Head { level, layout, chairman, run }) => {
                    let participants = self.adding[&domain].len() as u16;
                    let message = Message::MeetingStart { level, layout, chairman, participants, run };
                    context.send_or_fail(domain, message);
                }
                None => self.send_members(context, domain),
            }
        }
    }

    fn send_members(&mut self, context: &mut Context<'_>, domain: Domain) {
        for Member { terminal, role, .. } in self.adding.remove(&domain).unwrap_or_default() {
            context.send_or_fail(domain, Message::MemberAdd { terminal, role });
        }
    }

    /// The answer to the start of a part, or to the adding of a member; to other commands none.
    pub fn answered(&mut self, context: &mut Context<'_>, answered: &Answered) {
        match (answered.asked, answered.result) {
            (Message::MeetingStart { .. }, Ok(version)) => self.started(context, answered, version),
            (Message::MeetingStart { .. }, Err(status)) => self.not_started(context, answered.domain, status),
            (Message::MemberAdd { terminal, role }, Ok(_)) => self.added(context, answered.domain, terminal, role),
            (Message::MemberAdd { terminal, .. }, Err(why)) => self.not_added(context, terminal, why),
            _ => {}
        }
    }

    fn started(&mut self, context: &mut Context<'_>, answered: &Answered, version: u64) {
        let epoch = context.shared.epoch;
        let head = self.head.filter(|_| !answered.already);
        context.write_part(answered.domain, |part| {
            part.epoch = epoch;
            // A conference that began just now has no members, and is what it was started as, so
            // its version stands for all of it. The version of one that was there before does not
            // say who is in it. The part may have been entered as something else, by an engine that
            // knew the conference otherwise.
            if let Some(Head { level, layout, chairman, run }) = head {
                part.version = version;
                (part.level, part.layout, part.chairman, part.run) = (level, layout, chairman, run);
                part.is_unlisted = false;
            }
        });
        self.send_members(context, answered.domain);
    }

    fn not_started(&mut self, context: &mut Context<'_>, domain: Domain, status: Status) {
        self.adding.remove(&domain);
        self.declined.insert(domain);
        self.is_taken |= status == Status::Conflict;
        context.operation.fail(match status {
            Status::Conflict => held_by_others(domain, context.operation.meeting),
            status => declined(domain, "the start of the conference", status),
        });
    }

    /// A member was taken, or was there before.
    fn added(&mut self, context: &mut Context<'_>, domain: Domain, terminal: Address, role: Role) {
        let meeting = context.operation.meeting;
        let is_new = context.operation.joined.contains(&terminal);
        let member = Member { terminal, role, flags: Flags::default(), window: WINDOW_NONE };
        // An update that was answered before this command may have taken the new member out again.
        match join(context.writer, meeting, domain, &member) {
            // Flags and window of one that was a member before are its own.
            Ok(Joined::Before(_)) if !is_new => context.note_member(terminal, |member| member.role = role),
            Ok(_) => context.operation.changes.push(Change::Member(meeting, member)),
            Err(refusal) => {
                context.shared.warn(meeting, format!("{terminal} is missing in the table: {refusal}"));
                context.operation.changes.push(Change::Member(meeting, member));
            }
        }
        if role == Role::Chairman {
            takes_chair(context, domain, terminal);
        } else {
            context.note(domain, None);
        }
        self.accepted.push(terminal);
    }

    fn not_added(&mut self, context: &mut Context<'_>, terminal: Address, why: Status) {
        let meeting = context.operation.meeting;
        if context.operation.joined.remove(&terminal) {
            context.write(|writer| writer.leave(meeting, terminal));
            context.operation.changes.push(Change::RemoveMember(meeting, terminal));
        }
        self.refused.push(Refused { terminal, why });
    }

    /// Commits that the parts that were started are in meeting. False where no member was taken:
    /// the operation failed.
    pub fn conclude(&mut self, context: &mut Context<'_>) -> bool {
        if self.accepted.is_empty() {
            context.operation.fail(no_member(&self.refused));
            return false;
        }
        for &domain in &self.starting {
            context.write_part(domain, |part| part.state = MeetingState::InMeeting);
        }
        context.commit_done();
        true
    }

    /// Takes out the members that were added, and marks what was started as ending. Gives what is
    /// to be committed, and the parts that their autonomous servers are still to end.
    pub fn undo(&mut self, context: &mut Context<'_>) -> (Vec<Change>, Vec<Domain>) {
        let meeting = context.operation.meeting;
        for terminal in std::mem::take(&mut context.operation.joined) {
            // At once: it is free for other conferences, and need not wait for a domain that may be
            // silent for long.
            context.write(|writer| writer.leave(meeting, terminal));
            let changes = &mut context.operation.changes;
            changes.retain(|change| !matches!(change, Change::Member(_, member) if member.terminal == terminal));
            context.operation.changes.push(Change::RemoveMember(meeting, terminal));
        }
        let started = std::mem::take(&mut self.starting);
        let mut changes = context.acknowledged();
        changes.retain(|change| !matches!(change, Change::Part(_, part) if started.contains(&part.domain)));
        let mut ending = Vec::new();
        for domain in started {
            // Its members go with it.
            changes.push(Change::RemovePart(meeting, domain));
            if self.declined.contains(&domain) {
                context.write(|writer| writer.remove_part(meeting, domain));
                continue;
            }
            context.write_part(domain, |part| part.state = MeetingState::Ending);
            let version = context.table().part(meeting, domain).map_or(0, |part| part.version);
            changes.push(Change::Part(meeting, PartParameters { domain, version, state: MeetingState::Ending }));
            ending.push(domain);
        }
        (changes, ending)
    }
}

fn no_member(refused: &[Refused]) -> Refusal {
    let why = refused.first().map_or("it was given none".to_owned(), |Refused { terminal, why }| {
        format!("of {terminal} its autonomous server said \"{why}\"")
    });
    let what = format!("no member could be added: {why}");
    Refusal::new(RefusalKind::Declined, what, "see that the terminals are known to their autonomous servers")
}

/// The number belongs to another conference, which this server has not started, or does not know
/// any more.
fn held_by_others(domain: Domain, meeting: MeetingId) -> Refusal {
    let what = format!("the autonomous server of domain {domain} holds another meeting {meeting}");
    let remedy = "choose another id, or none for the next free one; see `baton recovery orphans` for what that one is";
    Refusal::new(RefusalKind::Conflict, what, remedy)
}
