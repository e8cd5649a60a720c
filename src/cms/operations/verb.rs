//! What every verb answers to. A file beside this one for each: `start`, `add`, `remove`, `role`,
//! `flags`, `layout` and `end`, which clients ask for, and `resume` and `settle`, which are
//! errands.
//!
//! ```text
//! begin ─► written_ahead ─► answered, for each command ─► conclude ─► answer
//!   │            ▲                    │                      ▲
//!   └─ one command: no writing ahead ─┤       or, where something failed,
//!                                     └─ expired ─────────► undo ──► answer
//! ```

use std::fmt::Debug;

use super::context::Context;
use super::lanes::Answered;
use super::operation::Step;
use super::refusals::{NotNow, undurable};
use crate::cms::{ConferenceReply, Refusal};
use crate::database::{Change, CommitError, Wanted};

/// A verb has its plan and what came of it; [`Context`] has everything else.
pub(super) trait Verb: Debug + Send {
    /// How many commands it may send at most, roughly, in a conference of so many parts.
    fn commands(&self, _parts: usize, _wanted: Option<&Wanted>) -> usize {
        1
    }

    /// Plans, and writes ahead or sends the first commands. It is called again after it said that
    /// it has to wait, and begins with a new plan then.
    fn begin(&mut self, context: &mut Context<'_>) -> Result<(), NotNow>;

    /// Sends the first commands of the plan.
    fn send(&mut self, _context: &mut Context<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    /// Writes ahead what takes several commands, with `changes`. One command is sent at once, for
    /// it is carried out or not.
    fn log_or_send(&mut self, context: &mut Context<'_>, commands: usize, changes: Vec<Change>) -> Result<(), NotNow> {
        if commands <= 1 && changes.is_empty() {
            context.operation.step = Step::Commanding;
            return Ok(self.send(context)?);
        }
        context.log_wanted(changes);
        Ok(())
    }

    /// What was written ahead is durable, so that the first command may go out.
    fn written_ahead(&mut self, context: &mut Context<'_>) {
        context.note_wanted();
        context.operation.step = Step::Commanding;
        if let Err(refusal) = self.send(context) {
            context.operation.fail(refusal);
        }
    }

    /// It is not durable, and nothing has happened.
    fn not_written_ahead(&mut self, context: &mut Context<'_>, error: CommitError) {
        if context.is_rewritten_for(&error) {
            let changes = context.whole();
            context.log_wanted(changes);
        } else {
            self.take_back(context);
            context.operation.finish(Err(undurable(&error)));
        }
    }

    /// Takes out of the table again what was entered before it was written ahead.
    fn take_back(&mut self, _context: &mut Context<'_>) {}

    /// An autonomous server has answered a command. The versions are noted already.
    fn answered(&mut self, context: &mut Context<'_>, answered: &Answered);

    /// The advice where a domain does not answer.
    fn unreachable_remedy(&self) -> &'static str {
        "see `baton status` for the link, and ask again"
    }

    /// The deadline has come, and some commands are not answered. They are given up already, and
    /// the operation has failed.
    fn expired(&mut self, context: &mut Context<'_>) {
        let operation = &mut *context.operation;
        operation.given_up.extend(std::mem::take(&mut operation.outstanding).into_keys());
    }

    /// All commands are answered, and none failed the operation: commits what came of it.
    fn conclude(&mut self, context: &mut Context<'_>) {
        context.commit_done();
    }

    /// All commands are answered or given up, and something failed: commits that what it did is
    /// undone. The client is told why it failed when that is durable.
    fn undo(&mut self, context: &mut Context<'_>) {
        let changes = context.acknowledged();
        context.commit_undone(changes);
    }

    /// Whether it was begun under the number of another conference, and is to be begun again under
    /// the next one.
    fn is_misnumbered(&self) -> bool {
        false
    }

    /// The answer to the client, after the last commit.
    fn answer(&mut self, context: &mut Context<'_>, result: Result<(), Refusal>) -> ConferenceReply {
        result.map(|()| context.changed(Vec::new()))
    }
}
