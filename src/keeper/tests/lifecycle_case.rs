//! A lifecycle to which things happen one by one, and what it does in a word or two each.

use std::time::Duration;

use crate::handover::UpgradeForm;
use crate::handover::compat::Identity;
use crate::handover::protocol::{Notice, Order};
use crate::keeper::lifecycle::{
    Action, EngineId, Event, Exit, ExitStatus, Input, Lifecycle, Program, Purpose, Settings, StartFailure,
};
use crate::time::Nanos;

pub const HANG: Duration = Duration::from_secs(1);
/// When it all begins.
const NOW: Nanos = Nanos(1_000_000_000);
/// Seconds.
pub const TRIAL: u64 = 30;

/// A lifecycle whose starts succeed, unless `refuses` says why not. Engines are numbered from 1 in
/// the order of starts; their process ids are 100 higher.
pub struct Case {
    pub lifecycle: Lifecycle,
    pub now: Nanos,
    pub refuses: Option<StartFailure>,
    /// What the table is found to be when it is judged.
    pub table_is_complete: bool,
}

impl Case {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let now = NOW;
        let mut settings = Settings {
            hang: HANG,
            stop: Duration::from_secs(10),
            workers: 1,
            table_is_complete: true,
            rings_are_taken_up: false,
            program: "/usr/bin/baton".into(),
        };
        change(&mut settings);
        let mut case = Self { lifecycle: Lifecycle::new(settings, now), now, refuses: None, table_is_complete: true };
        case.lifecycle.handle_timeout(now);
        case
    }

    /// Engine 1 controls, and engine 2 stands by.
    pub fn with_standby() -> Self {
        let mut case = Self::new();
        case.does();
        case.says(1, Notice::Ready);
        assert_eq!(case.after(Duration::from_secs(1)), ["start standby 2"]);
        assert_eq!(case.says(2, standing()), ["2 stands by"]);
        case
    }

    /// As that, and engine 3, of a new program, is started to stand by.
    pub fn with_candidate() -> Self {
        let mut case = Self::with_standby();
        assert_eq!(case.says(1, upgrade()), ["start candidate 3"]);
        case
    }

    /// Engine 3, of a new program, controls on trial, and engine 4, of the one before, stands by.
    pub fn with_trial() -> Self {
        let mut case = Self::with_candidate();
        assert_eq!(case.says(3, standing()), ["3 stands by", "let 2 go", "1 yields"]);
        assert_eq!(case.says(3, Notice::Ready), ["3 controls", "3 on trial"]);
        assert_eq!(case.exits(1, ExitStatus::SUCCESS), ["3 followed"]);
        assert_eq!(case.after(Duration::from_secs(1)), ["start standby 4"]);
        assert_eq!(case.says(4, standing()), ["4 stands by"]);
        case
    }

    /// Takes all actions and does those that have an answer.
    pub fn actions(&mut self) -> Vec<Action> {
        let mut all = Vec::new();
        while let Some(action) = self.lifecycle.poll_action() {
            match &action {
                Action::Start(start) => {
                    // The keeper's own program runs, so it can be executed.
                    let is_own = start.program == Program::Own;
                    let refusal = self.refuses.clone();
                    let refusal = refusal.filter(|why| !is_own || !matches!(why, StartFailure::Program(_)));
                    let started = refusal.map_or(Ok(100 + start.engine.0), Err);
                    self.lifecycle.handle_started(started, self.now);
                }
                Action::JudgeTable => self.lifecycle.handle_table(self.table_is_complete),
                _ => {}
            }
            all.push(action);
        }
        all
    }

    /// What is done, in a word or two each.
    pub fn does(&mut self) -> Vec<String> {
        self.actions().iter().filter_map(brief).collect()
    }

    /// The engine that controls, or is about to.
    pub fn engine(&self) -> Option<u32> {
        self.lifecycle.engines().next().filter(|id| self.lifecycle.is_engine(*id)).map(|id| id.0)
    }

    pub fn sees(&mut self, input: Input) -> Vec<String> {
        self.sees_only(input);
        self.does()
    }

    /// What is to be done is not asked for yet.
    pub fn sees_only(&mut self, input: Input) {
        self.lifecycle.handle(input, self.now);
    }

    pub fn says(&mut self, engine: u32, notice: Notice) -> Vec<String> {
        self.sees(Input::Notice(EngineId(engine), notice))
    }

    pub fn exits(&mut self, engine: u32, status: ExitStatus) -> Vec<String> {
        self.exits_with(engine, status, false)
    }

    pub fn exits_with(&mut self, engine: u32, status: ExitStatus, table_is_bad: bool) -> Vec<String> {
        self.sees(Input::Exited(EngineId(engine), Exit { status, noticed: self.now, table_is_bad }))
    }

    /// Time goes by, in which threads count on.
    pub fn after(&mut self, time: Duration) -> Vec<String> {
        self.now = self.now + time;
        self.lifecycle.handle_timeout(self.now);
        self.does()
    }
}

pub fn standing() -> Notice {
    Notice::Standing { program: Identity::ours() }
}

pub fn upgrade() -> Notice {
    Notice::Upgrade { form: UpgradeForm { within: TRIAL } }
}

/// An end under a table that is as it should be.
pub fn exit(status: ExitStatus) -> Exit {
    Exit { status, noticed: NOW, table_is_bad: false }
}

pub fn brief(action: &Action) -> Option<String> {
    let number = |pid: u32| pid - 100;
    Some(match action {
        Action::Start(start) => {
            let program = if start.program == Program::Kept { " of the kept program" } else { "" };
            match start.purpose {
                Purpose::Control { .. } => format!("start {}{program}", start.engine.0),
                Purpose::StandBy { .. } => format!("start standby {}{program}", start.engine.0),
                Purpose::Replace { .. } => format!("start candidate {}{program}", start.engine.0),
            }
        }
        Action::Kill { engine, .. } => format!("kill {}", engine.0),
        Action::Discard { engine } => format!("let {} go", engine.0),
        Action::Order { engine, order: Order::Stop } => format!("{} stops", engine.0),
        Action::Order { engine, order: Order::Stay { .. } } => format!("{} stays", engine.0),
        Action::Order { engine, order: Order::Yield { .. } } => format!("{} yields", engine.0),
        Action::JudgeTable => "judge the table".into(),
        Action::RenewResources => "make all anew".into(),
        Action::Log(Event::Controls { pid }) => format!("{} controls", number(*pid)),
        Action::Log(Event::StandsBy { pid }) => format!("{} stands by", number(*pid)),
        Action::Log(Event::Followed { successor, .. } | Event::HandedOver { successor, .. }) => {
            format!("{} followed", number(*successor))
        }
        Action::Log(Event::OnTrial { pid, .. }) => format!("{} on trial", number(*pid)),
        Action::Log(Event::TrialFailed { pid, .. }) => format!("{} failed in its trial", number(*pid)),
        Action::Log(Event::ProgramKept { pid }) => format!("{}'s program is kept", number(*pid)),
        Action::Log(Event::FellBack { .. }) => "the kept program is dropped".into(),
        Action::Log(Event::Paused { pause, .. } | Event::CannotStart { pause, .. }) => format!("pause {pause:?}"),
        Action::Log(Event::NoStandby { pause, .. }) => format!("no standby for {pause:?}"),
        Action::End(end) => format!("end: {end:?}"),
        _ => return None,
    })
}
