//! One size: its testbed, its cluster, and each fault as often as asked for.

use std::error::Error;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use baton::lab::sim::RecoveryNow;
use baton::lab::testbed::Testbed;
use baton::lab::testbed::cluster::{Cluster, ClusterConfig};
use baton::lab::testbed::workload::Operators;
use baton::sla::percentile;
use baton::table::Table;
use baton::text::{count, microseconds, thousands, time};
use baton::time::Nanos;
use baton::wire::Epoch;
use serde_json::Value;

use super::Args;
use super::faults::{Fault, Kill, UNDISTURBED};
use super::figures::{Memory, OfFault, OfSize, Process, Trial};
use super::losses;
use super::prepare::{self, OPERATED};
use super::sizes::{FIRST_DEVICE, MEMBERS, Size};

/// Huge pages for the rings of both sides.
const PAGES_OF_RINGS: u64 = 48;
const HUGE_PAGE: u64 = 2 << 20;
/// What a dispatch server that does not tell of its standby is given to have one.
const STANDBY_PAUSE: Duration = Duration::from_millis(150);
/// Between two looks at the autonomous servers: seldom enough not to disturb what is measured.
const LOOK: Duration = Duration::from_millis(2);
/// Between two questions to a dispatch server that is busy.
const ASK: Duration = Duration::from_millis(250);
/// How old a snapshot is when the power goes.
const SINCE_SNAPSHOT: Duration = Duration::from_secs(2);
/// For anything that must come.
const PATIENCE: Duration = Duration::from_secs(120);

/// What runs at one size.
struct Measurement<'a> {
    size: Size,
    args: &'a Args,
    testbed: &'a Testbed,
    cluster: Cluster<'a>,
    /// None while there is none: what we had mapped of it would not be free for the next.
    table: Option<Arc<Table>>,
    operators: Operators,
}

/// Runs every fault at one size, trial after trial.
pub fn measure(size: Size, args: &Args, testbed_name: &str) -> Result<OfSize, Box<dyn Error>> {
    let preload = size.preload()?;
    let begun = Instant::now();
    let bytes = Table::bytes(prepare::capacity(&size));
    let pages_of_table = bytes.div_ceil(HUGE_PAGE);
    let mut testbed = Testbed::set_with(testbed_name, PAGES_OF_RINGS + pages_of_table)?;
    testbed.set_program(env!("CARGO_BIN_EXE_baton").into());
    let huge = testbed.huge_pages() >= PAGES_OF_RINGS + pages_of_table && testbed.mount_huge_pages().is_ok();
    let reservation = prepare::database(&testbed, &size, &preload)?;
    let (table, on) = match prepare::table(&testbed, &size, &preload, reservation) {
        Ok(table) => (table, if huge { "hugetlbfs" } else { "tmpfs" }),
        Err(error) if huge => {
            say(&format!("no table on hugetlbfs ({error}): it lies on tmpfs"));
            testbed.unmount_huge_pages()?;
            (prepare::table(&testbed, &size, &preload, reservation)?, "tmpfs")
        }
        Err(error) => return Err(error),
    };
    let prepared = begun.elapsed();
    say(&format!(
        "prepared in {}: table of {} MiB on {on}, {} huge pages borrowed",
        time(prepared),
        thousands(bytes >> 20),
        testbed.huge_pages()
    ));

    let mut cluster = Cluster::start(&testbed, &config(&size, args))?;
    let begun = Instant::now();
    let mut reconciled = recovered(&mut cluster, preload.epoch(), &size, args.reconcile());
    if let Ok(RecoveryNow { replay_done_ns: None, .. }) = reconciled {
        say(&format!("the first recovery is not over after {}", time(begun.elapsed())));
        reconciled = recovered(&mut cluster, preload.epoch(), &size, PATIENCE);
    }
    reconciled?;
    cluster.servers.rate(args.reports, args.probes)?;
    let operators = Operators::begin(cluster.api.clone(), prepare::ledger(&size, &preload));
    let mut measurement = Measurement { size, args, testbed: &testbed, cluster, table: Some(table), operators };
    let mut faults = Vec::new();
    for fault in Fault::KILLS.into_iter().filter(|_| !args.reboots_only) {
        let trials = fault.trials(args.trials.unwrap_or(size.trials));
        faults.push(measurement.fault(fault, trials)?);
    }
    let reboots = args.reboots_at(&size);
    for fault in Fault::REBOOTS.into_iter().filter(|_| reboots > 0) {
        faults.push(measurement.fault(fault, reboots)?);
    }
    let memory = measurement.memory(bytes)?;
    Ok(OfSize {
        name: size.name(),
        meetings: size.meetings,
        terminals: size.terminals,
        autonomous_servers: size.domains,
        field: size.is_field(),
        operations_acknowledged: measurement.operators.acknowledged(),
        table_on: on,
        prepared_ms: prepared.as_millis() as u64,
        memory,
        faults,
    })
}

impl Measurement<'_> {
    fn fault(&mut self, fault: Fault, trials: u32) -> Result<OfFault, Box<dyn Error>> {
        let mut all = Vec::new();
        let begun = Instant::now();
        for number in 0..trials {
            let trial = self.trial(fault).map_err(|error| format!("{}, trial {number}: {error}", fault.words()))?;
            for example in &trial.losses.examples {
                say(&format!("LOST: {example}"));
            }
            all.push(trial);
            if begun.elapsed() > self.args.budget() && number + 1 < trials {
                say(&format!("{} of {trials} trials, for they take too long", number + 1));
                break;
            }
        }
        let of = OfFault::of(fault, all);
        let p50 = |phase: &super::figures::Phase| phase.p50_us.map_or("–".into(), microseconds);
        say(&format!(
            "{:<44} {:>3} trials: noticed {:>8}, first takeover {:>8} (p99 {:>8}), all {:>8}, reconciled {:>8}, refreshed \
             {:>8}; {} lost",
            fault.words(),
            of.trials,
            p50(&of.detect),
            p50(&of.first_takeover),
            percentile(&of.first_takeover.raw_us, 0.99).map_or("–".into(), microseconds),
            p50(&of.all_acknowledged),
            p50(&of.reconciled),
            p50(&of.refreshed),
            count(of.frames_lost, "frame"),
        ));
        Ok(of)
    }

    /// One fault under load, and what it cost.
    fn trial(&mut self, fault: Fault) -> Result<Trial, Box<dyn Error>> {
        self.wait_for_standby()?;
        self.cluster.servers.reset_counters()?;
        thread::sleep(UNDISTURBED);
        let (kill, seen) = if fault.keeps_table() { self.kill(fault)? } else { self.reboot(fault)? };
        let last = self.last_recovery()?;
        let table = Arc::clone(self.table.as_ref().ok_or("the table is there again")?);
        let detected = kill.detected.or_else(|| last["predecessor"]["noticed_ns"].as_u64().map(Nanos));
        let cold = last["main_to_first_takeover_ns"].as_u64();
        let (losses, rest) = {
            let (ledger, _held) = self.operators.hold()?;
            losses::count(&mut self.cluster, &table, &ledger, seen.replay_done_ns.is_some())?
        };
        self.cluster.servers.rate(self.args.reports, self.args.probes)?;
        let since = |at: Nanos, kill: &Kill| at.since(kill.killed).as_secs_f64() * 1e6;
        let all = seen.taken_over + u64::from(OPERATED) >= u64::from(self.size.meetings);
        Ok(Trial {
            detect_us: detected.filter(|&at| at >= kill.killed).map(|at| since(at, &kill)),
            first_takeover_us: seen.takeover_first_ns.map(|at| since(Nanos(at), &kill)),
            all_acknowledged_us: seen.takeover_last_ns.filter(|_| all).map(|at| since(Nanos(at), &kill)),
            reconciled_us: seen.replay_done_ns.map(|at| since(Nanos(at), &kill)),
            refreshed_us: refreshed(&last).map(|at| since(at, &kill)),
            main_to_first_takeover_us: cold.map(|ns| ns as f64 / 1e3),
            meetings_taken_over: seen.taken_over,
            reports_acknowledged: rest.counters.reports_acknowledged,
            requests_stale: rest.counters.requests_stale,
            losses,
        })
    }

    fn kill(&mut self, fault: Fault) -> Result<(Kill, RecoveryNow), Box<dyn Error>> {
        let table = Arc::clone(self.table.as_ref().ok_or("there is a table")?);
        let kill = fault.strike(self.testbed, &mut self.cluster, &move || table.epoch())?;
        let seen = recovered(&mut self.cluster, kill.old, &self.size, self.args.reconcile())?;
        Ok((kill, seen))
    }

    /// Takes a snapshot, lets operators and terminals go on, and takes all memory away.
    fn reboot(&mut self, fault: Fault) -> Result<(Kill, RecoveryNow), Box<dyn Error>> {
        let table = self.table.take().ok_or("there is a table")?;
        let begun = Instant::now();
        let written = prepare::take_snapshot(self.testbed, &table)?;
        say(&format!("a snapshot of {} MiB, in {}", written.head.bytes >> 20, time(begun.elapsed())));
        thread::sleep(SINCE_SNAPSHOT);
        let old = table.epoch();
        drop(table);
        let kill = fault.strike(self.testbed, &mut self.cluster, &|| old)?;
        let seen = recovered(&mut self.cluster, kill.old, &self.size, self.args.reboot())?;
        // Until then the table has not its name.
        let (file, patience) = (self.testbed.table(), Instant::now() + self.args.reboot());
        while !file.exists() {
            if Instant::now() > patience {
                return Err("the table is not whole in time".into());
            }
            thread::sleep(LOOK);
        }
        self.table = Some(Arc::new(Table::open_at(&file)?));
        while refreshed(&self.last_recovery()?).is_none() {
            if Instant::now() > patience {
                return Err("not all terminals were asked for in time".into());
            }
            thread::sleep(ASK);
        }
        Ok((kill, seen))
    }

    /// Asks until the engine is there to answer.
    fn last_recovery(&mut self) -> Result<Value, Box<dyn Error>> {
        let mut answer = Value::Null;
        self.cluster.wait("the report of the recovery", |cluster| {
            answer = cluster.ask("/recovery/last").unwrap_or_default();
            Ok((!answer.is_null()).then_some(()))
        })?;
        Ok(answer)
    }

    /// Waits until another engine could take over at once.
    fn wait_for_standby(&mut self) -> Result<(), Box<dyn Error>> {
        let (mut tells, mut said) = (false, String::new());
        let waited = self.cluster.wait("a standby", |cluster| {
            let status = match cluster.ask("/status") {
                Ok(status) => status,
                Err(error) => {
                    said = error.to_string();
                    return Ok(None);
                }
            };
            said = status["standby"].to_string();
            tells = !status["standby"].is_null();
            Ok((!tells || status["standby"] == "ready").then_some(()))
        });
        waited.map_err(|error| format!("the engine says of its standby: {said}; {error}"))?;
        if !tells {
            thread::sleep(STANDBY_PAUSE);
        }
        Ok(())
    }

    fn memory(&mut self, table_bytes: u64) -> Result<Memory, Box<dyn Error>> {
        self.wait_for_standby()?;
        let engine = self.cluster.engine()?;
        let others = self.cluster.dispatch.engines().into_iter().filter(|&child| child != engine);
        let simulation = self.cluster.simulation.pid();
        Ok(Memory {
            table_bytes,
            engine: Process::of(engine),
            standby: others.filter_map(Process::of).next(),
            keeper: Process::of(self.cluster.dispatch.pid()),
            simulation: Process::of(simulation),
        })
    }
}

/// When the terminals of all that came from a snapshot had been asked for; where none was read,
/// when both sides agreed.
fn refreshed(last: &Value) -> Option<Nanos> {
    let began = last["began_ns"].as_u64()?;
    let moment = if last["path"] == "snapshot" { "refreshed_ns" } else { "reconciled_ns" };
    let all: Option<Vec<u64>> = last["servers"].as_array()?.iter().map(|server| server[moment].as_u64()).collect();
    Some(Nanos(began + all?.into_iter().max()?))
}

/// Waits until every autonomous server is reconciled under an epoch after `old`, or for so long;
/// gives what is then.
fn recovered(
    cluster: &mut Cluster<'_>,
    old: Epoch,
    size: &Size,
    patience: Duration,
) -> Result<RecoveryNow, Box<dyn Error>> {
    let begun = Instant::now();
    loop {
        let seen = cluster.servers.recovery(old)?;
        cluster.dispatch.must_live()?;
        if seen.replay_done_ns.is_some() || (begun.elapsed() > patience && seen.takeover_first_ns.is_some()) {
            return Ok(seen);
        }
        if begun.elapsed() > patience.max(PATIENCE) {
            return Err(format!("no takeover of {} meetings in {patience:?}", size.meetings).into());
        }
        thread::sleep(LOOK);
    }
}

/// Rooms as they are needed, threads where they are wanted, and the conferences that are there from
/// the beginning.
fn config(size: &Size, args: &Args) -> ClusterConfig {
    let capacity = prepare::capacity(size);
    let mut simulation: Vec<String> = [
        ("--preload", size.meetings.to_string()),
        ("--members", MEMBERS.to_string()),
        ("--preload-terminals", size.terminals.to_string()),
        ("--base", FIRST_DEVICE.to_string()),
    ]
    .into_iter()
    .flat_map(|(option, value)| [option.to_owned(), value])
    .collect();
    simulation.extend(args.spins().then(|| "--spin".to_owned()));
    if args.pins() {
        simulation.extend(["--core".to_owned(), "0".to_owned()]);
    }
    let cores = if args.pins() { "cores = [1]\ncontrol_core = 1\n" } else { "" };
    ClusterConfig {
        // All of them, though this program is pinned to one.
        cpus: args.pins().then(|| format!("0-{}", Args::cores() - 1)),
        table: format!("meetings = {}\nterminals = {}", capacity.meetings, capacity.terminals),
        sections: format!("[worker]\n{cores}wait = {:?}\n", args.wait.word()),
        simulation,
        patience: PATIENCE,
        preload: size.preload().ok(),
        ..ClusterConfig::new(size.domains.into())
    }
}

pub fn say(what: &str) {
    eprintln!("    {what}");
}
