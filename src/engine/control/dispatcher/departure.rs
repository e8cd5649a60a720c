//! An engine that is to leave for another: a client asks for an upgrade, the keeper prepares it and
//! orders it; or an operator has given this server control, which the next engine has.
//!
//! Before it leaves it finishes what clients have asked for, within [`UPGRADE_DRAIN`], and begins
//! nothing more. What is not finished then the next engine finishes or undoes, as after a death.

use super::event::Event;
use super::output::Output;
use crate::api::Answer;
use crate::cms::{Refusal, RefusalKind, ReplyId};
use crate::handover::protocol::Notice;
use crate::handover::{UpgradeForm, Upgrading};
use crate::limits::UPGRADE_DRAIN;
use crate::time::Nanos;

/// Whether and when this engine leaves.
#[derive(Default)]
pub(super) struct Departure {
    /// The client that asked for an upgrade and has not been answered.
    client: Option<ReplyId>,
    /// When this engine leaves, done or not.
    leaves: Option<Nanos>,
    /// It leaves for one that controls under another term, which the table has already.
    is_for_term: bool,
}

impl Departure {
    /// A client asks for an upgrade: the keeper is told, and says what becomes of it.
    pub fn ask(&mut self, form: UpgradeForm, client: ReplyId, output: &mut Output) {
        if self.client.is_some() || self.leaves.is_some() {
            return output.reply(client, Err(refusal("an upgrade is under way")));
        }
        output.notices.push_back(Notice::Upgrade { form });
        self.client = Some(client);
    }

    /// A client is gone, and waits for nothing.
    pub fn handle_gone(&mut self, client: ReplyId) {
        self.client.take_if(|waiting| *waiting == client);
    }

    /// The keeper orders the hand-over: the client is answered before anything else, for soon
    /// another engine answers.
    pub fn begin(&mut self, upgrading: Upgrading, now: Nanos, output: &mut Output) {
        output.event(Event::HandingOver(upgrading.clone()));
        if let Some(client) = self.client.take() {
            output.reply(client, Ok(Answer::Upgrading(upgrading)));
        }
        self.leaves = Some(now + UPGRADE_DRAIN);
    }

    /// There is none, and this engine goes on, though it may have been ordered to leave: the one
    /// that was to follow is dead.
    pub fn refuse(&mut self, why: String, output: &mut Output) {
        if let Some(client) = self.client.take() {
            output.reply(client, Err(refusal(&why)));
        }
        if !self.is_for_term && self.leaves.take().is_some() {
            output.event(Event::NotHandingOver { why });
        }
    }

    /// This engine leaves for one that controls under another term.
    pub fn leave_for_term(&mut self, now: Nanos) {
        self.leaves = Some(now + UPGRADE_DRAIN);
        self.is_for_term = true;
    }

    /// Whether this engine is to leave, and begins nothing more.
    pub const fn is_ordered(&self) -> bool {
        self.leaves.is_some()
    }

    /// Whether it leaves now, with so many operations under way.
    pub fn is_due(&self, now: Nanos, under_way: usize) -> bool {
        self.leaves.is_some_and(|leaves| under_way == 0 || now >= leaves)
    }

    /// When it leaves at the latest.
    pub const fn deadline(&self) -> Option<Nanos> {
        self.leaves
    }
}

/// What a client is told whose request came too late for this engine.
pub(super) fn too_late() -> Refusal {
    Refusal::new(RefusalKind::Busy, "the next engine is taking over", "ask again in a second")
}

fn refusal(why: &str) -> Refusal {
    Refusal::new(RefusalKind::Conflict, format!("no upgrade: {why}"), "all is as it was")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_was_to_leave_stays_when_the_upgrade_is_taken_back() {
        let (mut departure, mut output) = (Departure::default(), Output::default());
        let upgrading = Upgrading { successor: 7, version: "9.9.9".into(), within: 1 };
        departure.begin(upgrading, Nanos(1), &mut output);
        assert!(departure.is_ordered());
        departure.refuse("engine 7 killed (SIGKILL)".into(), &mut output);
        assert!(!departure.is_ordered());
    }

    #[test]
    fn an_engine_that_makes_room_for_another_term_leaves_even_if_an_upgrade_is_refused() {
        let (mut departure, mut output) = (Departure::default(), Output::default());
        departure.leave_for_term(Nanos(1));
        departure.refuse("the new program (engine 7) does not stand by within 30 s".into(), &mut output);
        assert!(departure.is_ordered(), "the table is of the next term already, and this engine is not");
    }

    #[test]
    fn a_client_that_is_gone_keeps_no_other_from_asking() {
        let (mut departure, mut output) = (Departure::default(), Output::default());
        departure.ask(UpgradeForm::default(), ReplyId(1), &mut output);
        departure.ask(UpgradeForm::default(), ReplyId(2), &mut output);
        assert!(matches!(output.replies.pop_front(), Some((ReplyId(2), Err(_)))), "one at a time");
        departure.handle_gone(ReplyId(1));
        departure.ask(UpgradeForm::default(), ReplyId(3), &mut output);
        assert!(output.replies.is_empty());
        assert_eq!(output.notices.len(), 2);
    }
}
