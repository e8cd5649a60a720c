//! Start a conference: a part in every domain that a member is in, or none at all.
//!
//! It is entered into the table as `starting` and written ahead before its first command, so that a
//! death leaves a start that `resume` finishes. Members that their autonomous server refuses are
//! left out; a domain that refuses, or does not answer, undoes all of it, and an errand ends the
//! parts that did start.

use super::add::members;
use super::context::{Context, Shared};
use super::joining::Joining;
use super::lanes::Answered;
use super::operation::{Errand, Scope, Step};
use super::refusals::{NotNow, bad, undurable};
use super::verb::Verb;
use crate::cms::{ConferenceAnswer, ConferenceReply, Refusal, RefusalKind, StartMeeting, Started};
use crate::database::{Change, CommitError, KeyParameters, PartParameters, Wanted};
use crate::limits::{MEETING_ID_MAX, NAME_BYTES_MAX, PARTS_MAX};
use crate::wire::{Address, Domain, MeetingId, MeetingState, Role, Run, mix};

/// The ids that are tried for a conference without one.
const CHOICES_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct Start {
    /// Id and run are those of the last attempt.
    parameters: Box<KeyParameters>,
    /// Whether the id is ours to choose.
    chooses_id: bool,
    joining: Joining,
}

impl Start {
    /// What a client asked for, made into what can be done.
    pub fn check(asked: &StartMeeting, has_domain: impl Fn(Domain) -> bool) -> Result<Self, Refusal> {
        let meeting = asked.meeting.unwrap_or(MeetingId::NONE);
        if asked.meeting == Some(MeetingId::NONE) || meeting.0 > MEETING_ID_MAX {
            let what = format!("{meeting} is not a meeting's id");
            return Err(bad(what, "give a number from 1 to 9007199254740991, or none for the next free one"));
        }
        if asked.name.len() > NAME_BYTES_MAX {
            return Err(bad(format!("the name has {} bytes", asked.name.len()), "give one of at most 128"));
        }
        let mut members = members(&asked.members, has_domain)?;
        if let Some(chairman) = asked.chairman {
            let others = members.iter().any(|member| member.role == Role::Chairman && member.terminal != chairman);
            let named = members.iter_mut().find(|member| member.terminal == chairman);
            match named {
                Some(_) if others => return Err(bad("two chairmen are named", "name one chairman")),
                Some(member) => member.role = Role::Chairman,
                None => {
                    let what = format!("chairman {chairman} is not among the members");
                    return Err(bad(what, "name the chairman as a member"));
                }
            }
        }
        let chairman = members.iter().find(|member| member.role == Role::Chairman);
        let mut parts: Vec<PartParameters> = Vec::new();
        for domain in members.iter().filter_map(|member| member.terminal.domain()) {
            // Members ascend by address, so a domain's stand together.
            if parts.last().is_none_or(|part| part.domain != domain) {
                parts.push(PartParameters { domain, version: 0, state: MeetingState::Starting });
            }
        }
        if parts.len() > PARTS_MAX {
            let what =
                format!("the members are in {} domains, and a conference spans at most {PARTS_MAX}", parts.len());
            return Err(bad(what, "start several conferences"));
        }
        let parameters = KeyParameters {
            meeting,
            run: Run::NONE,
            name: asked.name.clone(),
            level: asked.level,
            layout: asked.layout,
            chairman: chairman.map_or(Address::default(), |member| member.terminal),
            created_ms: asked.created_ms,
            parts,
            members,
        };
        let chooses_id = meeting == MeetingId::NONE;
        Ok(Self { parameters: Box::new(parameters), chooses_id, joining: Joining::default() })
    }

    /// The id that the client chose; [`MeetingId::NONE`] where it is to be chosen.
    pub fn meeting(&self) -> MeetingId {
        self.parameters.meeting
    }
}

impl Verb for Start {
    fn commands(&self, _parts: usize, _wanted: Option<&Wanted>) -> usize {
        self.parameters.members.len() + self.parameters.parts.len()
    }

    fn begin(&mut self, context: &mut Context<'_>) -> Result<(), NotNow> {
        if context.operation.meeting == MeetingId::NONE {
            let chosen = choose_id(context)?;
            context.operation.meeting = chosen;
            context.shared.turns.entry(chosen).or_default().push_back(context.id);
        }
        let meeting = context.operation.meeting;
        self.parameters.meeting = meeting;
        self.parameters.run = draw_run(context.shared);
        if context.table().parts_of(meeting).next().is_some() {
            return Err(exists(meeting).into());
        }
        context.refuse_fenced(self.parameters.parts.iter().map(|part| part.domain))?;
        self.joining = Joining::default();
        self.joining.plan(context, &self.parameters);
        self.joining.enter(context, &self.parameters)?;
        let mut changes = vec![Change::Create((*self.parameters).clone())];
        changes.extend(self.chooses_id.then_some(Change::Chosen(meeting)));
        context.log(changes);
        Ok(())
    }

    fn written_ahead(&mut self, context: &mut Context<'_>) {
        self.joining.send(context);
    }

    fn not_written_ahead(&mut self, context: &mut Context<'_>, error: CommitError) {
        self.joining.take_back(context);
        match error {
            CommitError::Exists(_) if self.chooses_id => context.operation.step = Step::Renumbering,
            CommitError::Exists(meeting) => context.operation.finish(Err(exists(meeting))),
            error => context.operation.finish(Err(undurable(&error))),
        }
    }

    fn answered(&mut self, context: &mut Context<'_>, answered: &Answered) {
        self.joining.answered(context, answered);
    }

    fn conclude(&mut self, context: &mut Context<'_>) {
        if !self.joining.conclude(context) {
            self.undo(context);
        }
    }

    /// What was started is ended. Where no part of it is left, there never was such a conference.
    fn undo(&mut self, context: &mut Context<'_>) {
        let meeting = context.operation.meeting;
        let (mut changes, _) = self.joining.undo(context);
        if context.table().parts_of(meeting).next().is_none() {
            changes = vec![Change::Forget(meeting)];
        } else {
            context.operation.leave(Errand::End(Scope::All));
        }
        context.commit_undone(changes);
    }

    fn is_misnumbered(&self) -> bool {
        self.joining.is_taken && self.chooses_id
    }

    fn answer(&mut self, context: &mut Context<'_>, result: Result<(), Refusal>) -> ConferenceReply {
        result.map(|()| {
            ConferenceAnswer::Started(Started {
                meeting: context.operation.meeting,
                parts: context.changed_parts(),
                members: self.joining.accepted.len(),
                refused: std::mem::take(&mut self.joining.refused),
            })
        })
    }
}

/// A run that no conference has: 64 bits of what this engine's random number gives.
fn draw_run(shared: &mut Shared) -> Run {
    shared.runs_drawn += 1;
    Run(mix(shared.runs_from ^ mix(shared.runs_drawn)).max(1))
}

fn choose_id(context: &mut Context<'_>) -> Result<MeetingId, Refusal> {
    for _ in 0..CHOICES_MAX {
        // Behind the highest that a client may choose they begin again: what is in use is passed
        // over.
        let next = context.shared.next_meeting.filter(|next| (1..=MEETING_ID_MAX).contains(&next.0));
        let choice = next.unwrap_or(MeetingId(1));
        context.shared.next_meeting = Some(MeetingId(choice.0 + 1));
        if !context.shared.taken.contains(&choice)
            && !context.shared.turns.contains_key(&choice)
            && context.table().parts_of(choice).next().is_none()
        {
            return Ok(choice);
        }
    }
    let what = "no free id was found";
    Err(Refusal::new(RefusalKind::Conflict, what, "give the conference an id that was never used"))
}

fn exists(meeting: MeetingId) -> Refusal {
    let what = format!("meeting {meeting} exists already");
    Refusal::new(RefusalKind::Conflict, what, "choose another id, or none for the next free one")
}
