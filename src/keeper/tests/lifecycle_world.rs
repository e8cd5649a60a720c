//! Engines, locks and a kernel, as far as a keeper sees them, in a time of their own.
//!
//! What engines do here is what `engine::startup` and `sys::robust_locks` have real ones do: one
//! that dies gives its locks to who waits for them before its end is seen, one that gives up closes
//! them first, and one that hangs keeps them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::lifecycle_check::Check;
use super::lifecycle_engine::{Engine, Ill, State, random_time};
use crate::handover::UpgradeForm;
use crate::handover::protocol::{Notice, Order, Role};
use crate::keeper::lifecycle::{
    Action, End, EngineId, Event, Exit, ExitStatus, Input, Kill, Lifecycle, Purpose, Settings, Start, StartFailure,
};
use crate::lab::sim::Random;
use crate::time::Nanos;

const HANG: Duration = Duration::from_secs(1);
const STOP: Duration = Duration::from_secs(10);
const WORKERS: usize = 2;
/// A thread that lives counts at least as often.
const PULSE_NS: u64 = 100_000_000;

/// A keeper's lifecycle with all that it looks after.
#[derive(Debug)]
pub struct World {
    pub random: Random,
    pub now: Nanos,
    pub lifecycle: Lifecycle,
    pub check: Check,
    pub ended: Option<End>,
    engines: BTreeMap<EngineId, Engine>,
    /// Whether each is closed. The last is what engines are handed.
    locks: Vec<bool>,
    next_pid: u32,
    /// Engines that are started from now on do as they should, and those that run begin nothing
    /// wrong.
    calm: bool,
    /// What was seen at a time comes in any order, not as it is arranged.
    is_unordered: bool,
    /// All that the keeper sees and does is written down.
    pub is_told: bool,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let now = Nanos(1_000_000_000);
        let settings = Settings {
            hang: HANG,
            stop: STOP,
            workers: WORKERS,
            table_is_complete: random.chance(500_000),
            rings_are_taken_up: random.chance(300_000),
            program: "/usr/bin/baton".into(),
        };
        Self {
            lifecycle: Lifecycle::new(settings, now),
            is_unordered: random.chance(200_000),
            random,
            now,
            check: Check::default(),
            ended: None,
            engines: BTreeMap::new(),
            locks: vec![false],
            next_pid: 100,
            calm: false,
            is_told: false,
        }
    }

    pub fn calm(&mut self) {
        self.calm = true;
        self.engines.values_mut().for_each(|engine| engine.ill = None);
    }

    /// Whether an engine controls, in truth and to the keeper's knowledge, another stands by, and
    /// nothing else is there.
    pub fn is_well(&self) -> bool {
        let controls = |engine: &Engine| engine.state == State::Controls && engine.still.is_none();
        let controller = self.lifecycle.controller().and_then(|id| self.engines.get(&id));
        controller.is_some_and(controls)
            && self.engines.len() == 2
            && self.engines.values().all(|engine| !engine.is_mute)
            && self.engines.values().filter(|engine| engine.state == State::Waits).count() == 1
            && self.lifecycle.is_at_rest()
    }

    fn tell(&self, verb: &str, what: &dyn std::fmt::Debug) {
        if self.is_told {
            eprintln!("{:>12} {verb} {what:?}", self.now.0 / 1000);
        }
    }

    fn within(&mut self, most: Duration) -> Nanos {
        random_time(&mut self.random, self.now, most)
    }

    /// Goes on to what happens next, or to a time before it; sometimes the keeper is not let run,
    /// and much has happened when it is.
    pub fn step(&mut self, until: Nanos) {
        let next = self.engines.values().filter_map(Engine::next);
        let next = next.chain(self.lifecycle.poll_timeout()).chain([until]).min().expect("there is one");
        let late =
            if !self.calm && self.random.chance(30_000) { self.within(Duration::from_secs(3)) } else { self.now };
        let to = next.max(late).max(self.now);
        while let Some(at) = self.engines.values().filter_map(Engine::next).min().filter(|at| *at <= to) {
            self.now = at.max(self.now);
            let due: Vec<_> =
                self.engines.iter().filter(|(_, engine)| engine.next() == Some(at)).map(|(id, _)| *id).collect();
            due.into_iter().for_each(|id| self.happen(id));
            self.hand_locks_on();
        }
        self.now = to;
        self.round(false);
    }

    /// A client's wish comes to the engine that controls.
    pub fn ask_for_upgrade(&mut self) {
        let within = 1 + self.random.below(20);
        let Some(engine) = self.lifecycle.controller().and_then(|id| Some((id, self.engines.get_mut(&id)?))) else {
            return;
        };
        if engine.1.state == State::Controls && engine.1.still.is_none() && !engine.1.is_mute {
            engine.1.says.push_back(Input::Notice(engine.0, Notice::Upgrade { form: UpgradeForm { within } }));
        }
    }

    /// What the shell does between two waits.
    pub fn round(&mut self, stop: bool) {
        let mut seen: Vec<_> = stop.then_some(Input::Stop).into_iter().collect();
        for id in self.lifecycle.engines().collect::<Vec<_>>() {
            let Some(engine) = self.engines.get_mut(&id) else { continue };
            seen.extend(engine.says.drain(..));
            if let State::Ended(status) = engine.state {
                let exit = Exit { status, noticed: self.now, table_is_bad: engine.table_is_bad };
                seen.push(Input::Exited(id, exit));
            }
        }
        self.lifecycle.handle_closed_locks(*self.locks.last().expect("there are locks"));
        self.lifecycle.arrange(&mut seen);
        if self.is_unordered {
            seen = self.mix(seen);
        }
        for input in seen {
            if let Input::Exited(id, _) = &input {
                self.engines.remove(id);
            }
            let is_heard = input.engine().is_none_or(|id| self.lifecycle.is_engine(id));
            self.tell("sees", &input);
            self.check.input(&input, is_heard);
            self.lifecycle.handle(input, self.now);
            self.act();
        }
        self.lifecycle.handle_timeout(self.now);
        self.act();
        self.check_state();
    }

    /// In any order in which what is of one engine keeps its own.
    fn mix(&mut self, seen: Vec<Input>) -> Vec<Input> {
        let mut queues = BTreeMap::<_, VecDeque<Input>>::new();
        for input in seen {
            queues.entry(input.engine()).or_default().push_back(input);
        }
        let mut mixed = Vec::new();
        while !queues.is_empty() {
            let at = self.random.below(queues.len() as u64) as usize;
            let Some((&engine, queue)) = queues.iter_mut().nth(at) else { continue };
            match queue.pop_front() {
                Some(input) => mixed.push(input),
                None => drop(queues.remove(&engine)),
            }
        }
        mixed
    }

    /// What has to be so whenever the keeper has done all that it wants to.
    fn check_state(&self) {
        let working = self.engines.values().filter(|engine| engine.works() && engine.has_locks()).count();
        assert!(working <= 1, "{working} engines have locks: {:#?}", self.engines);
        if self.ended.is_some() {
            return;
        }
        let mut known: Vec<_> = self.lifecycle.engines().collect();
        known.sort_unstable();
        assert_eq!(known, self.engines.keys().copied().collect::<Vec<_>>(), "the keeper knows its engines");
        let due = self.lifecycle.poll_timeout();
        assert!(due.is_none_or(|due| due > self.now), "nothing is due twice: {:#?}", self.lifecycle);
    }

    fn act(&mut self) {
        while let Some(action) = self.lifecycle.poll_action() {
            if !matches!(action, Action::ReadPulses { .. }) {
                self.tell("does", &action);
            }
            self.check.action(&action, self.now);
            match action {
                Action::Start(start) => {
                    let started = self.start(&start);
                    self.lifecycle.handle_started(started, self.now);
                }
                Action::Kill { engine, why, .. } => {
                    let at = self.within(Duration::from_millis(2));
                    let Some(engine) = self.engines.get_mut(&engine) else { continue };
                    let because_of_others = [Kill::Late, Kill::StopAgain, Kill::StopOverdue].contains(&why);
                    assert!(engine.is_ill || because_of_others, "one that is well is killed: {why:?} {engine:#?}");
                    engine.kill.get_or_insert(at);
                }
                Action::Discard { engine } => {
                    self.engines.remove(&engine);
                    self.hand_locks_on();
                }
                Action::Order { engine, order } => self.order(engine, &order),
                Action::RenewLocks => {
                    let old = self.locks.len() - 1;
                    let user = self.engines.values().find(|engine| engine.works() && engine.locks == old);
                    assert!(user.is_none(), "locks are renewed while one works with them: {user:#?}");
                    self.locks.push(false);
                }
                Action::CloseLocks => *self.locks.last_mut().expect("there are locks") = true,
                Action::OpenLocks => {
                    let last = self.locks.len() - 1;
                    let waits = self.engines.values().find(|engine| engine.works() && engine.locks == last);
                    assert!(!self.locks[last] || waits.is_none(), "one may follow that must not: {waits:#?}");
                    self.locks[last] = false;
                }
                Action::ReadPulses { threads } => {
                    let id = self.lifecycle.engines().next().expect("whose pulses are read is there");
                    let at = self.engines[&id].still.unwrap_or(self.now).0 / PULSE_NS;
                    self.lifecycle.handle_pulses((0..threads).map(|_| at), self.now);
                }
                Action::JudgeTable => {
                    let complete = self.random.chance(500_000);
                    self.lifecycle.handle_table(complete);
                }
                Action::RenewResources => {
                    assert!(self.engines.values().all(|engine| !engine.works()), "it is made anew when all are dead");
                    self.locks.push(false);
                }
                Action::End(end) => {
                    // As the shell lets go of them.
                    let controls = self.engines.values().filter(|engine| engine.has_locks()).count();
                    for id in self.lifecycle.engines().rev().collect::<Vec<_>>() {
                        self.engines.remove(&id);
                        self.hand_locks_on();
                        let now = self.engines.values().filter(|engine| engine.has_locks()).count();
                        assert!(now <= controls, "one follows another that is let go");
                    }
                    assert!(self.engines.is_empty(), "somebody is left: {:#?}", self.engines);
                    self.ended = Some(end);
                }
                Action::Log(Event::ProgramKept { pid }) => {
                    let controller = self.lifecycle.controller().and_then(|id| self.engines.get(&id));
                    let engine = controller.filter(|engine| engine.pid == pid && engine.kill.is_none());
                    assert!(engine.is_some(), "a program is kept whose engine is dead, or to die");
                }
                Action::ReportUpgrade { .. }
                | Action::NoteHang { .. }
                | Action::KeepProgram
                | Action::DropProgram(_)
                | Action::CompleteTable
                | Action::LearnHop { .. }
                | Action::AnnounceControl { .. }
                | Action::AnnounceStop
                | Action::Log(_) => {}
            }
        }
    }

    fn start(&mut self, start: &Start) -> Result<u32, StartFailure> {
        if !self.calm && self.random.chance(60_000) {
            return Err(match self.random.below(3) {
                0 => StartFailure::NoFile("No such file".into()),
                1 => StartFailure::Program("Exec format error".into()),
                _ => StartFailure::Refused("no process left".into()),
            });
        }
        let role = if matches!(start.purpose, Purpose::Control { .. }) { Role::Active } else { Role::Standby };
        self.next_pid += 1;
        let locks = self.locks.len() - 1;
        let mut engine = Engine::new(self.next_pid, role, locks, self.now, &mut self.random);
        if !self.calm {
            engine.may_be_ill(self.now, &mut self.random);
        }
        self.engines.insert(start.engine, engine);
        assert!(self.engines.len() <= crate::limits::ENGINES_MAX, "the starter would refuse: {:#?}", self.engines);
        Ok(self.next_pid)
    }

    fn order(&mut self, id: EngineId, order: &Order) {
        let at = self.within(Duration::from_millis(1200));
        let Some(engine) = self.engines.get_mut(&id).filter(|engine| !engine.deaf) else { return };
        match order {
            Order::Stop | Order::Yield { .. } => engine.leave = Some(at),
            // An engine that has left already does not come back.
            Order::Stay { .. } => engine.leave = None,
            _ => {}
        }
    }

    /// Something that was due of this engine is due now.
    fn happen(&mut self, id: EngineId) {
        let now = self.now;
        let longest = if self.random.chance(50_000) { 4000 } else { 30 };
        let taken_apart = self.within(Duration::from_millis(longest));
        let soon = self.within(Duration::from_millis(20));
        let lingers = if self.random.chance(500_000) { self.within(Duration::from_secs(8)) } else { Nanos(u64::MAX) };
        let Some(engine) = self.engines.get_mut(&id) else { return };
        let says = |engine: &mut Engine, notice| {
            if !engine.is_mute {
                engine.says.push_back(Input::Notice(id, notice));
            }
        };
        let is_over = |due: Nanos| due <= now;
        if engine.runs() && engine.kill.is_some_and(is_over) {
            engine.state = State::Dying(taken_apart, ExitStatus::Kill);
        } else if let Some((_, ill)) = engine.ill.take_if(|(at, _)| is_over(*at)).filter(|_| engine.works()) {
            engine.is_ill = true;
            let gives_up = |engine: &mut Engine, ends: bool| {
                if ends {
                    engine.state = State::Leaves(soon, ExitStatus::Code(1));
                }
                engine.leave = None;
                engine.deaf = true;
            };
            match ill {
                Ill::Dies(status, table_is_bad) => {
                    engine.table_is_bad = table_is_bad;
                    engine.state = State::Dying(taken_apart, status);
                }
                Ill::Hangs => engine.still = Some(now),
                Ill::Fails(ends) => {
                    says(engine, Notice::Failed { why: "no good".into() });
                    if engine.role == Role::Active || engine.has_locks() {
                        self.locks[engine.locks] = true;
                    }
                    gives_up(engine, ends);
                }
                Ill::Fenced(ends) if engine.state == State::Controls => {
                    says(engine, Notice::Fenced { epoch: 7 });
                    self.locks[engine.locks] = true;
                    gives_up(engine, ends);
                }
                Ill::Fenced(_) => {}
                Ill::Babbles => {
                    engine.says.push_back(Input::Distrusted(id, "said what makes no sense"));
                    engine.is_mute = true;
                }
                Ill::Closes => {
                    engine.says.push_back(Input::Silent(id));
                    engine.is_mute = true;
                }
            }
        } else if engine.works() && engine.leave.take_if(|at| is_over(*at)).is_some() {
            engine.state = State::Leaves(if engine.is_ill { lingers } else { soon }, ExitStatus::SUCCESS);
        } else if engine.works() && engine.complete.take_if(|at| is_over(*at)).is_some() {
            says(engine, Notice::Complete);
        } else {
            match engine.state {
                State::Starting(_) => {
                    engine.state = State::Waits;
                    if engine.role == Role::Standby {
                        let program = engine.identity.clone();
                        // One that does not match ends by itself, or waits all the same.
                        says(engine, Notice::Standing { program });
                    }
                }
                State::TakesOver(_) => {
                    engine.state = State::Controls;
                    engine.complete = Some(soon);
                    says(engine, Notice::Ready);
                }
                State::Leaves(_, status) => engine.state = State::Dying(soon, status),
                State::Dying(_, status) => engine.state = State::Ended(status),
                State::Waits | State::Controls | State::Ended(_) => {}
            }
        }
    }

    /// The kernel hands locks that nobody has to one that waits for them.
    fn hand_locks_on(&mut self) {
        for locks in 0..self.locks.len() {
            let of_these = |engine: &Engine| engine.locks == locks && engine.works();
            if self.engines.values().any(|engine| of_these(engine) && engine.has_locks()) {
                continue;
            }
            let waits = |engine: &Engine| of_these(engine) && engine.state == State::Waits;
            let waiting: Vec<_> = self.engines.iter().filter(|(_, engine)| waits(engine)).map(|(id, _)| *id).collect();
            if waiting.is_empty() {
                continue;
            }
            if self.locks[locks] {
                let soon = self.within(Duration::from_millis(5));
                for id in waiting {
                    let engine = self.engines.get_mut(&id).expect("it was just there");
                    engine.state = State::Leaves(soon, ExitStatus::SUCCESS);
                }
                continue;
            }
            let next = waiting[self.random.below(waiting.len() as u64) as usize];
            let at = self.within(Duration::from_millis(10));
            self.engines.get_mut(&next).expect("it was just there").state = State::TakesOver(at);
        }
    }
}
