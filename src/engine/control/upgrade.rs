//! An upgrade as the engine that is to hand over sees it: a client asks, the keeper prepares and
//! orders, and the engine leaves.
//!
//! Before it leaves it finishes what clients have asked for, within [`UPGRADE_DRAIN`], and begins
//! nothing more. What is not finished then the next engine finishes or undoes, as after a death.

use super::Control;
use crate::api::{Answer, Reply};
use crate::cms::{Refusal, RefusalKind};
use crate::handover::protocol::{KeeperLine, Notice};
use crate::handover::{Program, UpgradeForm, UpgradeState, Upgrading};
use crate::limits::UPGRADE_DRAIN;
use crate::time::Nanos;

type Client = tokio::sync::oneshot::Sender<Reply>;

/// What the control thread knows of upgrades.
pub(crate) struct Upgrade {
    /// What this engine runs.
    pub program: Program,
    /// How the last upgrade does, by the keeper's word.
    pub state: UpgradeState,
    /// Who waits for word of one.
    client: Option<Client>,
    /// When this engine leaves, done or not.
    leaves: Option<Nanos>,
    /// It leaves for one that controls under another term, which the table has already.
    is_for_term: bool,
}

impl Upgrade {
    pub fn new() -> Self {
        Self { program: Program::running(), state: UpgradeState::None, client: None, leaves: None, is_for_term: false }
    }

    /// A client asks for one: the keeper is told, and says what becomes of it.
    pub fn ask(&mut self, form: UpgradeForm, client: Client, keeper: &KeeperLine) {
        // A client that has gone away meanwhile waits for nothing.
        let is_waited_for = self.client.as_ref().is_some_and(|client| !client.is_closed());
        if is_waited_for || self.leaves.is_some() {
            let _ = client.send(Err(refusal("an upgrade is under way")));
            return;
        }
        match keeper.tell(&Notice::Upgrade { form }) {
            Ok(()) => self.client = Some(client),
            Err(error) => {
                let _ = client.send(Err(refusal(&format!("the keeper does not hear: {error}"))));
            }
        }
    }

    /// The keeper orders the hand-over: the client is answered before anything else, for soon
    /// another engine answers.
    pub fn begin(&mut self, upgrading: Upgrading, now: Nanos) {
        tracing::info!(successor = upgrading.successor, version = %upgrading.version, "handing over");
        if let Some(client) = self.client.take() {
            let _ = client.send(Ok(Answer::Upgrading(upgrading)));
        }
        self.leaves = Some(now + UPGRADE_DRAIN);
    }

    /// There is none, and this engine goes on, though it may have been ordered to leave: whoever
    /// was to follow is dead.
    pub fn refuse(&mut self, why: &str) {
        if !self.is_for_term && self.leaves.take().is_some() {
            tracing::info!(%why, "not handing over: this engine goes on");
        }
        if let Some(client) = self.client.take() {
            let _ = client.send(Err(refusal(why)));
        }
    }

    /// This engine is to leave then, done or not, for one to follow that controls under another
    /// term.
    pub const fn leave(&mut self, at: Nanos) {
        (self.leaves, self.is_for_term) = (Some(at), true);
    }

    /// Whether this engine is to leave, and begins nothing more.
    pub const fn is_ordered(&self) -> bool {
        self.leaves.is_some()
    }
}

impl Control {
    /// Whether it is time to leave.
    pub(super) fn is_to_leave(&self, now: Nanos) -> bool {
        self.upgrade.leaves.is_some_and(|leaves| self.operations.under_way() == 0 || now >= leaves)
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
        let mut upgrade = Upgrade::new();
        upgrade.begin(Upgrading { successor: 7, version: "9.9.9".into(), within: 1 }, Nanos(1));
        assert!(upgrade.is_ordered());
        upgrade.refuse("engine 7 killed (SIGKILL)");
        assert!(!upgrade.is_ordered());
    }

    #[test]
    fn an_engine_that_makes_room_for_another_term_leaves_whatever_becomes_of_an_upgrade() {
        let mut upgrade = Upgrade::new();
        upgrade.leave(Nanos(1));
        upgrade.refuse("the new program (engine 7) does not stand by within 30 s");
        assert!(upgrade.is_ordered(), "the table is of the next term already, and this engine is not");
    }
}
