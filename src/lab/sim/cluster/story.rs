//! One seed's story: operators work while disks, links and autonomous servers do what they do and
//! engines die at any step; then everything is well again, and all is held against all.

use std::time::Duration;

use super::operators::errand;
use super::{Cluster, ClusterSettings, Fate, Trace, free_terminals};
use crate::engine::control::dispatcher::End;
use crate::handover::Upgrading;
use crate::handover::protocol::{Notice, Order};
use crate::lab::sim::{NetworkSettings, Random};
use crate::recovery::{Orphans, Path, Settings};
use crate::table::Capacity;
use crate::wire::{Layout, Level, MeetingId, Message, Role};

/// Long enough for all to come to rest, in simulated time.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long both sides are left alone before they are held against each other.
const REST: Duration = Duration::from_secs(15);
/// The first number of meetings that autonomous servers hold of themselves.
const STRANGER: u64 = 7000;
/// Terminals of a domain, and those of them that are operators'.
const TERMINALS: u16 = 24;
const OPERATED: usize = 10;

/// What has happened in a story: that it was one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Told {
    /// Engines that were started.
    pub engines: u32,
    /// Engines that were killed.
    pub killed: u32,
    /// Of these, with the table.
    pub reboots: u32,
    /// Of these, those that a snapshot was left of.
    pub warmed: u32,
    /// Parts that came into a table from a snapshot, because the database confirmed them.
    pub confirmed: u64,
    /// Requests that were done.
    pub done: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Requests whose answer died with the engine.
    pub unheard: u64,
    /// Frames that engines sent.
    pub frames: u64,
    /// The clock at the end, in nanoseconds.
    pub ended_ns: u64,
}

/// Tells the story of a seed. Gives what is wrong at its end.
///
/// # Errors
/// All that is wrong, a line each.
///
/// # Panics
/// If something goes on without end.
pub fn tell(seed: u64) -> Result<Told, Vec<String>> {
    tell_traced(seed, Trace::default()).0
}

/// As [`tell`], with what happened.
///
/// # Panics
/// As [`tell`].
pub fn tell_traced(seed: u64, trace: Trace) -> (Result<Told, Vec<String>>, Trace) {
    let mut story = Story::new(seed, trace);
    story.chaos();
    story.heal();
    let flaws = story.flaws();
    let told = if flaws.is_empty() { Ok(story.told()) } else { Err(flaws) };
    (told, story.cluster.trace)
}

struct Story {
    cluster: Cluster,
    settings: Settings,
    strangers: Vec<MeetingId>,
    told: Told,
}

impl Story {
    fn new(seed: u64, trace: Trace) -> Self {
        let mut random = Random::new(seed ^ 0x5745);
        let network = match random.below(3) {
            0 => NetworkSettings::PERFECT,
            1 => NetworkSettings { loss: 10_000, ..NetworkSettings::BAD },
            _ => NetworkSettings::BAD,
        };
        let orphans = [Orphans::Leave, Orphans::Adopt, Orphans::End][random.below(3) as usize];
        let capacity = Capacity { meetings: 64, terminals: 128 };
        let domains = 1 + random.below(3);
        let mut cluster = Cluster::new(ClusterSettings { seed, domains, terminals: TERMINALS, network, capacity });
        cluster.trace = trace;
        cluster.confer(1..=1 + random.below(6), 1 + random.below(2));
        let mut free: Vec<Vec<_>> = cluster
            .sites
            .iter()
            .map(|site| {
                let mut free: Vec<_> = free_terminals(&site.server).collect();
                free.split_off(free.len().saturating_sub(OPERATED))
            })
            .collect();
        let operators = 2 + random.below(2) as usize;
        for _ in 0..operators {
            let share = |free: &mut Vec<_>| free.split_off(free.len().saturating_sub(OPERATED / operators));
            let terminals = free.iter_mut().flat_map(share).collect();
            cluster.operators.add(terminals, cluster.now, Random::new(random.number()));
        }
        let settings = Settings { orphans, ..Settings::default() };
        let mut story = Self { cluster, settings, strangers: Vec::new(), told: Told::default() };
        story.cluster.disk.flush_max = Duration::from_micros(random.below(20_000));
        story.start();
        story
    }

    fn start(&mut self) {
        self.told.engines += 1;
        self.cluster.restart(&self.settings);
    }

    /// Some spells in which things happen, each of which may end in a death.
    fn chaos(&mut self) {
        for _ in 0..3 + self.cluster.random.below(4) {
            self.something_happens();
            if self.cluster.random.below(4) != 0 {
                // Small numbers often: a death just after a start is as likely as any.
                let bound = 10 << self.cluster.random.below(10);
                self.cluster.fate = Fate::after(self.cluster.random.below(bound) as u32);
            }
            let spell = Duration::from_micros(self.cluster.random.below(6_000_000));
            let before = Duration::from_micros(self.cluster.random.below(1 + spell.as_micros() as u64));
            self.live(before);
            self.remember();
            self.live(spell - before);
            self.remember();
            self.cluster.fate = Fate::default();
        }
    }

    /// Lets things happen, with a keeper that starts an engine where there is none.
    fn live(&mut self, time: Duration) {
        let end = self.cluster.now + time;
        while self.cluster.now < end {
            self.cluster.run_for(end.since(self.cluster.now));
            self.keep();
        }
    }

    /// What a keeper does: it heeds notices, and sees to it that there is an engine.
    fn keep(&mut self) {
        let now = self.cluster.now;
        for notice in std::mem::take(&mut self.cluster.notices) {
            let (Notice::Upgrade { .. }, Some(engine)) = (notice, &mut self.cluster.engine) else { continue };
            let order = if self.cluster.random.below(3) == 0 {
                Order::Stay { why: "the new program does not start".into() }
            } else {
                let upgrading = Upgrading { successor: 2, version: "9.9.9".into(), within: 1 };
                Order::Yield { upgrading }
            };
            engine.order(now, order);
        }
        match self.cluster.engine.as_ref().and_then(|engine| engine.end()) {
            Some(End::Fenced(by)) => panic!("fenced by {by}, and nobody else is there"),
            Some(End::Leaves | End::Stopped) => {
                self.cluster.close();
                self.start();
            }
            None if self.cluster.engine.is_none() => self.follow_a_death(),
            None => {}
        }
    }

    fn follow_a_death(&mut self) {
        self.told.killed += 1;
        let pause = Duration::from_micros(self.cluster.random.below(300_000));
        self.cluster.run_for(pause);
        self.live_on();
        self.told.engines += 1;
        if self.cluster.random.below(4) == 0 {
            self.told.reboots += 1;
            self.reboot();
        } else {
            self.cluster.restart(&self.settings);
        }
        // A second death is as likely as the first.
        if self.cluster.random.below(3) == 0 {
            self.cluster.fate = Fate::after(self.cluster.random.below(200) as u32);
        }
    }

    /// The table is gone. The last snapshot is there, or it is damaged, or gone as well.
    fn reboot(&mut self) {
        let cluster = &mut self.cluster;
        let path = match (&mut cluster.snapshot, cluster.random.below(8)) {
            (Some(bytes), 0) => {
                let at = cluster.random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << cluster.random.below(8);
                Path::Snapshot
            }
            (Some(_), 1..6) => Path::Snapshot,
            _ => {
                cluster.snapshot = None;
                Path::Database
            }
        };
        self.told.warmed += u32::from(path == Path::Snapshot);
        cluster.start(path, &self.settings);
    }

    /// A snapshot is taken now, of a table that holds all that it is to hold.
    fn remember(&mut self) {
        let is_settled = self.cluster.engine.as_ref().is_some_and(|engine| engine.is_settled());
        if is_settled && self.cluster.random.below(3) != 0 {
            self.cluster.take_snapshot();
        }
    }

    fn something_happens(&mut self) {
        let cluster = &mut self.cluster;
        let at = cluster.random.below(cluster.sites.len() as u64) as usize;
        let while_ = Duration::from_micros(cluster.random.below(4_000_000));
        let what = cluster.random.below(10);
        cluster.trace.say(cluster.now, || format!("{what} happens to site {at} for {while_:?}"));
        match what {
            0 => cluster.sites[at].server.set_busy(cluster.now + while_),
            1 => cluster.sites[at].server.restart(),
            2 => {
                let (port, is_cut) = (cluster.sites[at].port, cluster.random.below(2) == 0);
                cluster.network.set_cut(port, is_cut);
            }
            3 => cluster.disk.fails_until = cluster.now + while_,
            4 => cluster.disk.flush_max = while_ / 8,
            5 => {
                cluster.disk.opens = cluster.now + while_;
                cluster.disk.is_broken = cluster.random.below(2) == 0;
            }
            6 => {
                let stranger = MeetingId(STRANGER + self.strangers.len() as u64);
                let site = &mut cluster.sites[at];
                let member = free_terminals(&site.server).next();
                let members: Vec<_> = member.into_iter().map(|member| (member, Role::Participant)).collect();
                site.server.hold(cluster.now, stranger, Level::LOWEST, Layout::new(2).expect("2"), &members);
                self.strangers.push(stranger);
            }
            7 => cluster.sites.iter_mut().for_each(|site| site.server.set_rates(50, 0)),
            8 => {
                let orphan = self.strangers.last().copied().unwrap_or(MeetingId(STRANGER));
                let request = errand(&mut cluster.random, orphan);
                cluster.operators.ask(request);
            }
            _ => {
                if let Some(engine) = &mut cluster.engine {
                    engine.order(cluster.now, Order::Stop);
                }
            }
        }
    }

    /// What goes on at the autonomous servers while nobody dispatches, in conferences that are no
    /// operator's.
    fn live_on(&mut self) {
        let cluster = &mut self.cluster;
        for site in &mut cluster.sites {
            let held: Vec<_> = site.server.meetings().map(|summary| summary.meeting).collect();
            for meeting in held.into_iter().filter(|meeting| meeting.0 < STRANGER) {
                let first = site.server.members(meeting).next();
                let command = match (cluster.random.below(8), first) {
                    (0, _) => Message::LayoutSet { layout: Layout::new(9).expect("9") },
                    (1, Some(terminal)) => Message::RoleSet { terminal, role: Role::SpeakerOne },
                    (2, Some(terminal)) => Message::MemberRemove { terminal },
                    (3, _) => {
                        site.server.forget(meeting);
                        continue;
                    }
                    _ => continue,
                };
                site.server.command_here(cluster.now, meeting, &command).expect("it can be done there");
            }
        }
    }

    /// Everything is well again, nobody asks for more, and all that is under way comes to its end.
    fn heal(&mut self) {
        let cluster = &mut self.cluster;
        cluster.network.set_settings(NetworkSettings::PERFECT);
        for site in &mut cluster.sites {
            cluster.network.set_cut(site.port, false);
            site.server.set_busy(cluster.now);
            site.server.set_quiesced(true);
        }
        cluster.disk.fails_until = cluster.now;
        cluster.disk.opens = cluster.now;
        cluster.disk.flush_max = Duration::ZERO;
        cluster.operators.rest();
        let end = self.cluster.now + PATIENCE;
        let mut rested = self.cluster.now;
        while self.cluster.now < end && self.cluster.now.since(rested) < REST {
            self.live(Duration::from_millis(500));
            if !self.cluster.is_at_rest() {
                rested = self.cluster.now;
            }
        }
    }

    fn flaws(&self) -> Vec<String> {
        let cluster = &self.cluster;
        let mut flaws = cluster.operators.flaws(&cluster.sites, &cluster.table, &cluster.disk.database);
        if !cluster.is_at_rest() {
            let recovery = cluster.engine.as_ref().map(|engine| engine.recovery());
            let idle = cluster.engine.as_ref().map(|engine| engine.is_idle());
            let operators = cluster.operators.is_idle();
            flaws.push(format!("it does not come to rest: idle {idle:?}, operators {operators}, {recovery:?}"));
        }
        let is_ours = |meeting: MeetingId| cluster.table.parts_of(meeting).next().is_some();
        let orphans: Vec<_> = self.strangers.iter().copied().filter(|&meeting| !is_ours(meeting)).collect();
        let held = |&meeting: &MeetingId| cluster.sites.iter().any(|site| site.server.meeting(meeting).is_some());
        if self.settings.orphans != Orphans::Leave && orphans.iter().any(held) {
            flaws.push(format!("orphans are to be {:?}, and are still there: {orphans:?}", self.settings.orphans));
        }
        flaws.extend(cluster.differences_of_table(&orphans));
        flaws.extend(
            cluster.parts_in_doubt().iter().map(|(meeting, domain)| format!("{meeting} in {domain} is in doubt")),
        );
        flaws.extend(cluster.differences_of_database());
        flaws.extend(cluster.table.verify());
        flaws
    }

    fn told(&self) -> Told {
        let operators = &self.cluster.operators;
        Told {
            done: operators.done,
            refused: operators.refused,
            unheard: operators.unheard,
            frames: self.cluster.sent,
            confirmed: self.cluster.confirmed + self.cluster.engine.as_ref().map_or(0, |engine| engine.confirmed()),
            ended_ns: self.cluster.now.0,
            ..self.told
        }
    }
}

impl Cluster {
    /// The engine ends in order: what waits for the database is written.
    fn close(&mut self) {
        let Some(engine) = self.engine.take() else { return };
        self.confirmed += engine.confirmed();
        engine.database.close(self.now, &self.disk);
        self.operators.handle_death();
    }

    /// Whether both sides agree and nothing is under way. Reports are not asked about: those of an
    /// orphan's members are refused, and repeated for ever.
    fn is_at_rest(&self) -> bool {
        let engine = self
            .engine
            .as_ref()
            .is_some_and(|engine| engine.is_idle() && engine.is_reconciled() && engine.is_refreshed());
        engine && self.operators.is_idle()
    }
}
