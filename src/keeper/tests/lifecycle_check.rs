//! What always holds of what a lifecycle does, after any inputs.

use crate::handover::protocol::{Notice, Order};
use crate::keeper::lifecycle::{Action, Event, Input, Purpose, Start};
use crate::limits::{RESTART_PAUSE_MS_MAX, RESTARTS_FREE};
use crate::time::Nanos;
use std::time::Duration;

/// Engines that are started to control in a second, at most: some free ones after each of the four
/// that can have controlled for long enough for their deaths to be accidents.
const STARTS_PER_SECOND: usize = 4 * (RESTARTS_FREE as usize + 2);

/// Where an upgrade is, by what is given out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Upgrade {
    #[default]
    None,
    Asked,
    /// This process is to have the locks.
    HandedTo(u32),
    Trial(u32),
}

/// Looks at all that goes in and comes out.
#[derive(Debug, Default)]
pub struct Check {
    stopped: bool,
    has_ended: bool,
    upgrade: Upgrade,
    /// Upgrades that were asked for while one was under way.
    beside: u32,
    /// A trial has just ended badly: its asker is told.
    tells: Option<Nanos>,
    /// When engines were started to control.
    starts: Vec<Nanos>,
    not_before: Nanos,
    judged: Option<Nanos>,
    pub upgrades_kept: u32,
    pub upgrades_returned: u32,
}

impl Check {
    /// `is_heard`: it is of the engine that controls, whose clients alone wait for an answer.
    pub fn input(&mut self, input: &Input, is_heard: bool) {
        match input {
            Input::Stop => self.stopped = true,
            _ if !is_heard => {}
            Input::Notice(_, Notice::Upgrade { .. }) if self.upgrade == Upgrade::None => {
                self.upgrade = Upgrade::Asked;
            }
            // The order to hand over answers it.
            Input::Notice(_, Notice::Upgrade { .. }) if matches!(self.upgrade, Upgrade::HandedTo(_)) => {}
            Input::Notice(_, Notice::Upgrade { .. }) => self.beside += 1,
            _ => {}
        }
    }

    pub fn action(&mut self, action: &Action, now: Nanos) {
        assert!(!self.has_ended, "{action:?} after the end");
        match action {
            Action::Start(start) => self.start(start, now),
            Action::Order { order: Order::Yield { upgrading }, .. } => {
                assert_eq!(self.upgrade, Upgrade::Asked, "handed over as it was asked");
                self.upgrade = Upgrade::HandedTo(upgrading.successor);
            }
            Action::JudgeTable => self.judged = Some(now),
            Action::End(_) => self.has_ended = true,
            Action::Log(event) => self.event(event, now),
            _ => {}
        }
    }

    fn start(&mut self, start: &Start, now: Nanos) {
        assert!(!self.stopped, "{start:?} after a stop was asked for");
        if !matches!(start.purpose, Purpose::Control { .. }) {
            return;
        }
        assert!(now >= self.not_before, "an engine is started before its time: {now:?}, not {:?}", self.not_before);
        self.starts.push(now);
        let recent = self.starts.iter().rev().take_while(|at| now.since(**at) < Duration::from_secs(1)).count();
        assert!(recent <= STARTS_PER_SECOND, "{recent} engines are started in a second");
    }

    fn event(&mut self, event: &Event, now: Nanos) {
        match *event {
            Event::Paused { failures, pause, .. } | Event::StandbysSlowDown { failures, pause, .. } => {
                let doubled = failures.checked_sub(RESTARTS_FREE + 1).map_or(0, |times| 100 << times.min(16));
                let longest = Duration::from_millis(RESTART_PAUSE_MS_MAX);
                let grown = Duration::from_millis(doubled).min(longest);
                assert!((grown..=longest).contains(&pause), "{pause:?} after {failures} failures");
                if matches!(event, Event::Paused { .. }) && self.judged != Some(now) {
                    self.not_before = now + pause;
                }
            }
            Event::CannotStart { pause, .. } => self.not_before = now + pause,
            Event::UpgradeRefused { .. } => {
                if self.beside > 0 {
                    self.beside -= 1;
                } else if self.tells.take() != Some(now) {
                    assert_eq!(self.upgrade, Upgrade::Asked, "what was not asked for is refused");
                    self.upgrade = Upgrade::None;
                }
            }
            Event::OnTrial { pid, .. } => {
                assert_eq!(self.upgrade, Upgrade::HandedTo(pid));
                self.upgrade = Upgrade::Trial(pid);
            }
            Event::TrialFailed { pid, .. } => {
                assert!([Upgrade::HandedTo(pid), Upgrade::Trial(pid)].contains(&self.upgrade), "{:?}", self.upgrade);
                self.tells = matches!(self.upgrade, Upgrade::HandedTo(_)).then_some(now);
                self.upgrade = Upgrade::None;
                self.upgrades_returned += 1;
            }
            Event::ProgramKept { pid } => {
                assert_eq!(self.upgrade, Upgrade::Trial(pid));
                self.upgrade = Upgrade::None;
                self.upgrades_kept += 1;
            }
            _ => {}
        }
    }

    /// Every upgrade that was asked for has come to an end.
    pub fn is_settled(&self) -> bool {
        self.upgrade == Upgrade::None && self.beside == 0
    }
}
