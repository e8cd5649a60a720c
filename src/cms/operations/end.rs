//! End a conference, or what is left of one in a domain.
//!
//! It is written ahead as `ending`, and the client is told when every autonomous server has ended
//! its part. Where one does not, an errand goes on until it has. A conference that the database
//! never had is promised to nobody, and can be ended all the same.
//!
//! An errand ends only what was begun to be ended: it may have waited so long that a client has
//! ended the conference itself, and started another one of its number.

use std::time::Duration;

use super::context::Context;
use super::lanes::Answered;
use super::operation::{Errand, Scope, Step};
use super::refusals::{NotNow, declined, nothing_left, undurable};
use super::table_access::is_begun;
use super::verb::Verb;
use crate::cms::{ConferenceReply, Refusal};
use crate::database::{Change, CommitError, PartParameters, Wanted};
use crate::table::Part;
use crate::wire::{Domain, Epoch, MeetingState, Message, Run, Status};

/// An end that was not answered, or declined, was tried just now.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct End {
    scope: Scope,
    /// Domains of the parts that are ended.
    domains: Vec<Domain>,
}

impl End {
    pub fn new(scope: Scope) -> Self {
        Self { scope, domains: Vec::new() }
    }
}

impl Verb for End {
    fn commands(&self, parts: usize, _wanted: Option<&Wanted>) -> usize {
        2 * parts
    }

    fn begin(&mut self, context: &mut Context<'_>) -> Result<(), NotNow> {
        let meeting = context.operation.meeting;
        let is_errand = context.operation.errand.is_some();
        let mut parts = match context.parts() {
            // It is ended already.
            Err(NotNow::Refuse(_)) if is_errand => Vec::new(),
            parts => parts?,
        };
        if let Scope::Part(domain) = self.scope {
            parts.retain(|part| part.domain == domain);
        }
        if is_errand {
            // What is in meeting, or was and is missing or not taken over yet, nobody has begun to
            // end.
            parts.retain(is_begun);
        }
        if parts.is_empty() {
            context.operation.finish(Ok(nothing_left(meeting)));
            return Ok(());
        }
        self.domains = parts.iter().map(|part| part.domain).collect();
        if !is_errand {
            // Nothing is written ahead of what another dispatch server may end.
            context.refuse_fenced(self.domains.iter().copied())?;
        }
        let changes = parts.iter().map(|part| {
            let part = PartParameters { domain: part.domain, version: part.version, state: MeetingState::Ending };
            Change::Part(meeting, part)
        });
        context.log(changes.collect());
        Ok(())
    }

    /// Ends the parts. Of one that was not taken over under this epoch, or never was acknowledged,
    /// it is not known here whether its autonomous server holds it, or another one of its number:
    /// starting it again tells, for that changes nothing where it is held, and is refused where
    /// another is.
    fn written_ahead(&mut self, context: &mut Context<'_>) {
        context.operation.step = Step::Commanding;
        let meeting = context.operation.meeting;
        for &domain in &self.domains {
            let Some(part) = context.table().part(meeting, domain) else { continue };
            if part.state == MeetingState::Ended {
                continue;
            }
            context.write_part(domain, |part| part.state = MeetingState::Ending);
            if !context.shared.lanes.has(domain) {
                // It cannot be reached from here. Its end is remembered, and made true when its
                // domain comes back.
                let what = format!("ended without domain {domain}, which is not in the configuration");
                context.shared.warn(meeting, what);
            } else if part.epoch == context.shared.epoch || part.run == Run::NONE {
                context.send_or_fail(domain, Message::MeetingEnd { reason: 0 });
            } else {
                let Part { level, layout, chairman, run, .. } = part;
                let message = Message::MeetingStart { level, layout, chairman, participants: 0, run };
                context.send_or_fail(domain, message);
            }
        }
    }

    fn not_written_ahead(&mut self, context: &mut Context<'_>, error: CommitError) {
        match error {
            CommitError::Unknown(_) => self.written_ahead(context),
            error => context.operation.finish(Err(undurable(&error))),
        }
    }

    fn answered(&mut self, context: &mut Context<'_>, answered: &Answered) {
        let domain = answered.domain;
        match (answered.asked, answered.result) {
            // The autonomous server holds the conference that is to be ended.
            (Message::MeetingStart { .. }, Ok(version)) => {
                let epoch = context.shared.epoch;
                context.write_part(domain, |part| (part.epoch, part.version) = (epoch, version));
                context.send_or_fail(domain, Message::MeetingEnd { reason: 0 });
            }
            // It holds another one of its number, which is not ended; or has no room for it, and so
            // does not hold it; or does not have it, and so has ended it.
            (Message::MeetingStart { .. }, Err(Status::Conflict | Status::Capacity))
            | (Message::MeetingEnd { .. }, Ok(_) | Err(Status::UnknownMeeting)) => {
                // It is not asked again, even where other parts cannot be ended.
                context.write_part(domain, |part| (part.epoch, part.state) = (Epoch::NONE, MeetingState::Ended));
            }
            (_, Err(status)) => context.operation.fail(declined(domain, "the end of the conference", status)),
            (_, Ok(_)) => {}
        }
    }

    fn unreachable_remedy(&self) -> &'static str {
        "the conference is ended there as soon as they do: see `baton status`"
    }

    fn expired(&mut self, context: &mut Context<'_>) {
        self.undo(context);
    }

    fn conclude(&mut self, context: &mut Context<'_>) {
        let meeting = context.operation.meeting;
        let others = context.table().parts_of(meeting).any(|part| !self.domains.contains(&part.domain));
        if others {
            let changes = self.domains.iter().map(|&domain| Change::RemovePart(meeting, domain));
            context.commit(changes.collect());
        } else {
            context.shared.wanted.remove(&meeting);
            context.shared.unsaid.remove(&meeting);
            context.commit(vec![Change::End(meeting)]);
        }
    }

    /// What was begun is not undone: the errand goes on with it.
    fn undo(&mut self, context: &mut Context<'_>) {
        self.go_on_later(context);
        context.operation.finish_failed();
    }

    fn answer(&mut self, context: &mut Context<'_>, result: Result<(), Refusal>) -> ConferenceReply {
        let meeting = context.operation.meeting;
        match result {
            Ok(()) => {
                for &domain in &self.domains {
                    context.write(|writer| writer.remove_part(meeting, domain));
                }
                Ok(nothing_left(meeting))
            }
            Err(refusal) => {
                self.go_on_later(context);
                Err(refusal)
            }
        }
    }
}

impl End {
    /// What a client asked for goes on without it. An errand is left again anyway.
    fn go_on_later(&self, context: &mut Context<'_>) {
        if context.operation.errand.is_none() {
            context.operation.leaves.push((PAUSE, Errand::End(self.scope)));
        }
    }
}
