//! What heartbeats and reports say of the other side, and how often something is made of it.

use std::time::Duration;

use super::settings::Settings;
use crate::limits;
use crate::time::Nanos;
use crate::wire::Epoch;

/// What the answer to a heartbeat says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heard {
    /// Meetings that the autonomous server holds.
    pub held: u32,
    /// Of its last start: the low bits of what CONNECT_ACK says.
    pub boot_generation: u16,
    /// The highest epoch that it has seen.
    pub highest: Epoch,
}

/// What heartbeats said, and what was made of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Pulse {
    /// How many meetings the autonomous server said it holds when that last changed, and how many
    /// parts there were here.
    heard: Option<(u32, u32)>,
    /// What it holds and what it ought to, where these differed when they were last compared.
    mismatch: Option<(u32, u32)>,
    /// They are compared then, though nothing has changed.
    compared: Nanos,
    /// No listing before, and how long that was.
    listing: (Nanos, Duration),
    /// No question about strays before.
    strays: Nanos,
    boot: Option<u16>,
    /// When another one was heard last.
    rebooted: Option<Nanos>,
}

impl Pulse {
    /// Of a machine that begins again: which start of the autonomous server was seen stays known.
    pub fn begin_again(&mut self) {
        *self = Self { boot: self.boot, rebooted: self.rebooted, ..Self::default() };
    }

    /// Notes the autonomous server's boot generation; gives whether it has restarted since it last
    /// said one. Two that it says in turn are no more than one restart in a while.
    pub fn note_boot(&mut self, boot: u16, now: Nanos, settings: &Settings) -> bool {
        let is_known = *self.boot.get_or_insert(boot) == boot;
        if is_known || self.rebooted.is_some_and(|at| now < at + settings.audit_pause) {
            return false;
        }
        self.boot = Some(boot);
        self.rebooted = Some(now);
        true
    }

    /// Whether to compare what is held on both sides: the number has changed, or differed, or it is
    /// long since that was done.
    pub fn is_to_compare(&mut self, held: u32, now: Nanos, settings: &Settings) -> bool {
        let has_changed = self.heard.is_none_or(|(last, _)| last != held);
        if !has_changed && self.mismatch.is_none() && now < self.compared {
            return false;
        }
        self.compared = now + settings.prove_every;
        true
    }

    /// Notes how many meetings are held there and here. True where the number there has changed and
    /// our own starts and ends do not account for it.
    pub fn has_grown_otherwise(&mut self, held: u32, ours: u32) -> bool {
        if self.heard.is_some_and(|(last, _)| last == held) {
            return false;
        }
        let before = self.heard.replace((held, ours));
        let grown = |now: u32, before: u32| i64::from(now) - i64::from(before);
        before.is_some_and(|before| grown(held, before.0) != grown(ours, before.1))
    }

    /// Nothing can be compared yet.
    pub fn forget_mismatch(&mut self) {
        self.mismatch = None;
    }

    /// Notes what is held and what ought to be. True where both numbers have differed twice in a
    /// row in the same way: one heartbeat may have come between a command and what it does here,
    /// two of them have not.
    pub fn has_mismatch(&mut self, held: u32, expected: u32) -> bool {
        if held == expected {
            self.mismatch = None;
            self.listing.1 = Duration::ZERO;
            return false;
        }
        self.mismatch.replace((held, expected)) == Some((held, expected))
    }

    /// Whether to list from 0: not if that was done a short while ago. After each time for twice as
    /// long, until it has helped.
    pub fn may_list(&mut self, now: Nanos, settings: &Settings) -> bool {
        let (not_before, pause) = &mut self.listing;
        if now < *not_before {
            return false;
        }
        *pause = (*pause * 2).clamp(settings.rto_max, limits::REFUSED_PAUSE_MAX);
        *not_before = now + *pause;
        self.mismatch = None;
        true
    }

    /// Whether to ask about what terminals report, for some time once.
    pub fn may_ask_about_strays(&mut self, now: Nanos) -> bool {
        let may = now >= self.strays;
        if may {
            self.strays = now + limits::STRAYS_PAUSE;
        }
        may
    }
}
