//! The demonstration: each fault under load, and what was lost.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::progress::Progress;
use super::report::{Fault, Path, Report, What};
use crate::lab::testbed::checker::{differences, operations_lost};
use crate::lab::testbed::cluster::{Cluster, ClusterConfig, ClusterError, doing};
use crate::lab::testbed::processes::{ProcessError, signal_to};
use crate::lab::testbed::sim_client::Status;
use crate::lab::testbed::workload::{Ledger, OPERATORS, Operators};
use crate::lab::testbed::{Testbed, scenario};
use crate::sys::clock;
use crate::text::{count, microseconds, time};
use crate::time::Nanos;
use crate::wire::Epoch;

/// Autonomous servers.
pub const DOMAINS: u64 = 4;
/// Steps of the bar: the setting up, six faults, the comparison.
pub const STEPS: u64 = 8;
/// Probes a second, over all domains: each one unanswered is a frame lost.
const PROBES: u64 = 2000;
/// How long things run undisturbed before a fault, and after it.
const UNDISTURBED: Duration = Duration::from_millis(1500);
/// How often a kill during a recovery is tried.
const TRIES: usize = 20;
/// Differences that are printed in full.
const TOLD: usize = 5;

/// How large the demonstration is.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Conferences.
    pub meetings: usize,
    /// Members of each.
    pub members: usize,
    /// Reports a second.
    pub reports: u64,
}

/// One kill, or stop.
struct Kill {
    what: What,
    /// Just before it.
    killed: Nanos,
    /// When it was noticed; none where the dispatch server is asked for that afterwards.
    detected: Option<Nanos>,
    /// The epoch until then.
    old: Epoch,
}

/// What is done to the dispatch server.
type Action = fn(&mut Cluster<'_>, &Testbed) -> Result<Vec<Kill>, ClusterError>;

/// Runs it.
///
/// # Errors
/// It could not be brought to its end.
pub fn run(testbed: &Testbed, scale: &Scale, progress: &Progress) -> Result<Report, ClusterError> {
    let pages = match testbed.huge_pages() {
        0 => "no huge pages to be had".to_owned(),
        pages => format!("{pages} huge pages of 2 MiB borrowed"),
    };
    progress.done("testbed", &format!("two network namespaces, a veth pair between them, {pages}"));
    progress.now("starting autonomous servers and dispatch server");
    let ledger = scenario::conferences(DOMAINS, scale.meetings, scale.members);
    let mut cluster = Cluster::start(testbed, &config(&ledger))?;
    cluster.wait("control", |cluster| Ok(cluster.in_control().then_some(())))?;
    let (keeper, engine) = (cluster.dispatch.pid(), cluster.engine()?);
    progress.done("dispatch", &format!("baton run: keeper {keeper}, engine {engine}"));
    progress.done("servers", &format!("baton sim: {}", count(DOMAINS, "autonomous server")));

    progress.now("starting conferences");
    let begun = Instant::now();
    cluster.start_meetings(&ledger, || ())?;
    let (meetings, terminals) = (scale.meetings as u64, (scale.meetings * scale.members) as u64);
    let took = time(begun.elapsed());
    let held = format!("{} with {}", count(meetings, "conference"), count(terminals, "terminal"));
    progress.done("meetings", &format!("{held} started in {took}, each durable before it was answered"));
    let operators = Operators::begin(cluster.api.clone(), ledger);
    load(&mut cluster, scale)?;
    let load = format!("{} and {} a second", count(scale.reports, "report"), count(PROBES, "probe"));
    progress.done("load", &format!("{load}, {OPERATORS} operators who change conferences without pause"));
    progress.advance(1);

    let mut run = Run { testbed, scale, progress, cluster, operators, reports_acknowledged: 0, faults: Vec::new() };
    run.fault(&["The engine is killed (SIGKILL)."], kill_engine)?;
    let twice = ["The engine is killed again …", "… and its successor, in the middle of the recovery."];
    run.fault(&twice, kill_engine_twice)?;
    run.fault(&["Engine and keeper are killed together, and started again."], kill_both)?;
    run.fault(&["Both are killed and their memory is gone, as after a reboot."], reboot)?;
    run.fault(&["The dispatch server is stopped (SIGTERM) and started again."], restart)?;
    run.end()
}

/// The dispatch server as it is by default, and terminals enough for all conferences.
fn config(ledger: &Ledger) -> ClusterConfig {
    let simulation = vec!["--terminals".into(), scenario::terminals_per_domain(ledger).to_string()];
    ClusterConfig { simulation, ..ClusterConfig::new(DOMAINS) }
}

struct Run<'a> {
    testbed: &'a Testbed,
    scale: &'a Scale,
    progress: &'a Progress,
    cluster: Cluster<'a>,
    operators: Operators,
    reports_acknowledged: u64,
    faults: Vec<Fault>,
}

impl Run<'_> {
    /// Does it to a server under load, waits until control is back, and finds out what was lost.
    /// `words` are those for each kill of the action.
    fn fault(&mut self, words: &[&str], action: Action) -> Result<(), ClusterError> {
        self.progress.fault(self.faults.len() + 1, words[0]);
        self.progress.now("undisturbed");
        self.cluster.servers.reset_counters().map_err(doing("resetting the simulation's counters"))?;
        thread::sleep(UNDISTURBED);
        self.progress.now("waiting for control to come back");
        let kills = action(&mut self.cluster, self.testbed)?;
        let old = kills.last().expect("an action kills").old;
        let status = recovered(&mut self.cluster, old)?;
        // Asked before anything else can die.
        let last = self.cluster.ask("/recovery/last")?;
        let path = match self.cluster.ask("/status")?["path"].as_str() {
            Some("database") => Path::Database,
            Some("snapshot") => Path::Snapshot,
            _ => Path::Cache,
        };
        thread::sleep(UNDISTURBED);

        self.progress.now("counting what was lost");
        let (ledger, held) = self.operators.hold().map_err(ClusterError::Operator)?;
        let rest = self.cluster.come_to_rest()?;
        self.reports_acknowledged += rest.counters.reports_acknowledged;
        let frames_lost = rest.probes_unanswered;
        let (ours, theirs) = self.cluster.dumps()?;
        let mut lost = operations_lost(&ledger, "dispatch server", &ours.parts, &ours.terminals);
        lost.extend(operations_lost(&ledger, "autonomous servers", theirs.parts(), theirs.terminals()));
        let epoch = status.epoch();
        let under = theirs.parts().filter(|part| part.epoch == epoch).map(|part| part.meeting);
        let meetings_taken_over = under.collect::<BTreeSet<_>>().len();

        for (kill, words) in kills.iter().zip(words) {
            if kill.what == What::EngineDuringRecovery {
                self.progress.fault(self.faults.len() + 1, words);
            }
            let seen = status.recovery_after(kill.old).expect("a recovery after the last kill is one after each");
            let since = |at: Nanos| at.since(kill.killed).as_secs_f64() * 1e6;
            let detected = kill.detected.or_else(|| noticed(&last)).ok_or(ClusterError::Unnoticed)?;
            self.faults.push(Fault {
                what: kill.what,
                path,
                kill_to_detect_us: since(detected),
                kill_to_first_takeover_us: since(seen.first_takeover),
                kill_to_all_acknowledged_us: since(seen.all_acknowledged),
                kill_to_reconciled_us: since(seen.reconciled),
                meetings_taken_over,
                frames_lost,
                operations_acknowledged_then_lost: lost.len() as u64,
            });
            self.tell(self.faults.len() - 1);
        }
        for why in lost.iter().take(TOLD) {
            self.progress.outcome(false, why);
        }
        self.progress.advance(kills.len() as u64);
        load(&mut self.cluster, self.scale)?;
        drop(held);
        Ok(())
    }

    /// Prints a line about a fault.
    fn tell(&self, number: usize) {
        let fault = &self.faults[number];
        let after = format!(
            "first takeover after {}, all {} after {}, reconciled after {}",
            microseconds(fault.kill_to_first_takeover_us),
            count(fault.meetings_taken_over as u64, "meeting"),
            microseconds(fault.kill_to_all_acknowledged_us),
            microseconds(fault.kill_to_reconciled_us),
        );
        let frames = match fault.frames_lost {
            0 => "no frame lost".to_owned(),
            lost => format!("{} lost", count(lost, "frame")),
        };
        let operations = match fault.operations_acknowledged_then_lost {
            0 => "no operation lost".to_owned(),
            lost => format!("{} lost", count(lost, "operation")),
        };
        let well =
            fault.operations_acknowledged_then_lost == 0 && (fault.frames_lost == 0 || !fault.what.keeps_frames());
        let by = match fault.path {
            Path::Cache => "from the table",
            Path::Snapshot => "from the snapshot",
            Path::Database => "from the database",
        };
        self.progress.outcome(well, &format!("Control is back {by}: {after}; {frames}, {operations}."));
    }

    /// Compares both sides, at rest.
    fn end(mut self) -> Result<Report, ClusterError> {
        self.progress.now("comparing both sides");
        let (_, held) = self.operators.hold().map_err(ClusterError::Operator)?;
        self.reports_acknowledged += self.cluster.come_to_rest()?.counters.reports_acknowledged;
        let (ours, theirs) = self.cluster.dumps()?;
        drop(held);
        let found = differences(&ours, &theirs);
        for why in found.meetings.values().chain(found.terminals.values()).take(TOLD) {
            self.progress.outcome(false, why);
        }
        self.progress.advance(1);
        Ok(Report {
            meetings: self.scale.meetings,
            terminals: self.scale.meetings * self.scale.members,
            autonomous_servers: DOMAINS as usize,
            reports_acknowledged: self.reports_acknowledged,
            reports_acknowledged_then_lost: found.reports_lost.len() as u64,
            operations_acknowledged: self.operators.acknowledged(),
            meetings_differing: found.meetings.len(),
            terminals_differing: found.terminals.len(),
            faults: self.faults,
        })
    }
}

/// Reports and probes at their full rates.
fn load(cluster: &mut Cluster<'_>, scale: &Scale) -> Result<(), ClusterError> {
    cluster.servers.rate(scale.reports, PROBES).map_err(doing("setting the rate of reports"))
}

/// Waits until every autonomous server is reconciled under an epoch after `old`.
fn recovered(cluster: &mut Cluster<'_>, old: Epoch) -> Result<Status, ClusterError> {
    cluster.wait("the end of the recovery", |cluster| {
        let status = cluster.status()?;
        Ok(status.recovery_after(old).is_some().then_some(status))
    })
}

/// When the keeper noticed a death, by the report of the recovery from it.
fn noticed(last: &serde_json::Value) -> Option<Nanos> {
    last["predecessor"]["noticed_ns"].as_u64().map(Nanos)
}

fn kill_engine(cluster: &mut Cluster<'_>, _: &Testbed) -> Result<Vec<Kill>, ClusterError> {
    let (old, engine) = (cluster.status()?.epoch(), cluster.engine()?);
    let killed = signal_to(engine, Signal::KILL)?;
    Ok(vec![Kill { what: What::Engine, killed, detected: None, old }])
}

/// Kills an engine, waits for the first takeover frame of the next, and kills that one before it is
/// through.
fn kill_engine_twice(cluster: &mut Cluster<'_>, _: &Testbed) -> Result<Vec<Kill>, ClusterError> {
    for _ in 0..TRIES {
        let (old, engine) = (cluster.status()?.epoch(), cluster.engine()?);
        let killed = signal_to(engine, Signal::KILL)?;
        // The keeper has noticed when it has reaped the dead one; the first of its other children
        // takes over.
        let (second, detected) = cluster.at_once("the keeper to notice", |cluster| {
            let engines = cluster.dispatch.engines();
            let noticed = (!engines.contains(&engine)).then(clock::now);
            Ok(noticed.and_then(|at| Some((engines.first().copied()?, at))))
        })?;
        let first = Kill { what: What::Engine, killed, detected: Some(detected), old };
        let status = cluster.at_once("its first takeover frame", |cluster| {
            let status = cluster.status()?;
            Ok(status.first_takeover_after(old).is_some().then_some(status))
        })?;
        let killed = signal_to(second, Signal::KILL)?;
        let second = Kill { what: What::EngineDuringRecovery, killed, detected: None, old: status.epoch() };
        let status = recovered(cluster, second.old)?;
        if status.reconciled_under_next(old).is_none_or(|at| at > second.killed) {
            return Ok(vec![first, second]);
        }
    }
    Err(ClusterError::TooQuick(TRIES))
}

/// Kills the keeper and its engines, and waits until the keeper is gone, as a service manager does.
fn both(cluster: &mut Cluster<'_>, what: What) -> Result<Vec<Kill>, ClusterError> {
    let (old, engine) = (cluster.status()?.epoch(), cluster.engine()?);
    let mut engines = cluster.dispatch.engines();
    // The standby before the engine, or it would see it die and take over.
    engines.sort_by_key(|&process| process == engine);
    // The keeper first, or it would start the next engine.
    let killed = cluster.dispatch.signal(Signal::KILL)?;
    for process in engines {
        // An engine without a keeper may have ended already.
        let _ = signal_to(process, Signal::KILL);
    }
    cluster.dispatch.wait()?;
    let detected = Some(clock::now());
    Ok(vec![Kill { what, killed, detected, old }])
}

fn kill_both(cluster: &mut Cluster<'_>, _: &Testbed) -> Result<Vec<Kill>, ClusterError> {
    let kills = both(cluster, What::EngineAndKeeper)?;
    cluster.start_again()?;
    Ok(kills)
}

fn reboot(cluster: &mut Cluster<'_>, testbed: &Testbed) -> Result<Vec<Kill>, ClusterError> {
    let kills = both(cluster, What::Reboot)?;
    testbed.forget_memory()?;
    cluster.start_again()?;
    Ok(kills)
}

fn restart(cluster: &mut Cluster<'_>, _: &Testbed) -> Result<Vec<Kill>, ClusterError> {
    let old = cluster.status()?.epoch();
    let killed = cluster.dispatch.signal(Signal::TERM)?;
    let status = cluster.dispatch.wait()?;
    let detected = Some(clock::now());
    if !status.success() {
        let ended: ProcessError = cluster.dispatch.ended(status);
        return Err(ClusterError::Unclean(ended));
    }
    cluster.start_again()?;
    Ok(vec![Kill { what: What::CleanRestart, killed, detected, old }])
}
