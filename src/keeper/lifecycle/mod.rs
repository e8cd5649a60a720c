//! What the keeper decides: which engine is started, killed, followed or taken back, and when.
//!
//! ```text
//!  controls ──dies──► its standby has the locks already, controls, and says so ──► the next standby is started
//!     └─────dies, and there is no standby──► once its pidfd says so, a new engine is handed the resources
//! ```
//!
//! The keeper does not decide that a standby takes over: the kernel does, by the locks
//! (`sys::robust_locks`). It keeps up with that; and it sees to it that an engine that hangs dies.
//!
//! [`Lifecycle`] is pure: time is an argument, and nothing here reads, writes, starts or kills. The
//! shell around it, [`supervisor`](super::supervisor), calls in this order:
//!
//! 1. [`poll_action`](Lifecycle::poll_action) until there is none, and does each. What has an
//!    answer is answered before the next is asked for.
//! 2. Waits for engines and signals, no longer than [`poll_timeout`](Lifecycle::poll_timeout).
//! 3. Looks at [`engines`](Lifecycle::engines) in that order, and at each first whether it has
//!    ended and then what it said, so that nothing that it said last is missed. Says whether the
//!    locks are [closed](Lifecycle::handle_closed_locks).
//! 4. Puts what it saw in the order in which it is to be judged ([`arrange`](Lifecycle::arrange))
//!    and gives it one by one to [`handle`](Lifecycle::handle), with step 1 after each.
//! 5. [`handle_timeout`](Lifecycle::handle_timeout).
//!
//! What always holds:
//!
//! - There is no state of an engine in which it is waited for without an end. One that controls
//!   shows that it lives by its threads' pulses; one that is to control by the pulse of its
//!   beginning; a standby has [`STANDBY_READY`](crate::limits::STANDBY_READY) until it stands by;
//!   one that said that it ends has as long as a hang may take.
//! - New locks are made when no engine has the old ones, or can still get them.
//! - Once a stop was asked for nothing is started.
//! - Engines that come to nothing one after the other may do so because of what one of them left in
//!   what they are all handed. After [`RENEW_AFTER`](crate::limits::RENEW_AFTER) in a row that is
//!   made anew, and the table looked at as at a start.
//!
//! `keeper/tests/lifecycle.rs` tries it under orders of events drawn by seed.

mod action;
mod deaths;
mod event;
mod exit;
mod inputs;
mod process;
mod reason;
mod stage;
mod starts;
mod state;
mod upgrade;
mod watch;

pub(super) use action::{Action, End, EngineId, Input, Outcome, Program, Purpose, Start};
pub(super) use event::{Event, Severity};
pub(super) use exit::{Exit, ExitStatus};
#[cfg(test)]
pub(super) use reason::Kill;
pub(super) use reason::StartFailure;
pub(super) use state::{Lifecycle, Settings};
