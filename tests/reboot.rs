//! A reboot of real processes: everything is killed, and all memory is gone. What the last snapshot
//! held is in the next table, as far as the database confirms it; without one, or with a damaged
//! one, the database serves alone. In the end both sides hold the same.

use std::fs;
use std::path::Path;

use baton::lab::testbed::checker::{differences, operations_lost};
use baton::lab::testbed::cluster::{Cluster, ClusterConfig};
use baton::lab::testbed::processes::signal_to;
use baton::lab::testbed::workload::Ledger;
use baton::lab::testbed::{Testbed, need_root, own_name, scenario};
use rustix::process::Signal;
use serde_json::Value;

const DOMAINS: u64 = 2;
const MEETINGS: usize = 40;

/// The engine, its standby and the keeper die, and what was in memory is gone.
fn reboot(testbed: &Testbed, cluster: &mut Cluster<'_>) {
    // Not by its own choice, the keeper first: it would start the next engine.
    let engines = cluster.dispatch.engines();
    cluster.dispatch.signal(Signal::KILL).unwrap();
    for engine in engines {
        let _ = signal_to(engine, Signal::KILL);
    }
    cluster.dispatch.wait().unwrap();
    testbed.forget_memory().unwrap();
}

/// Starts the dispatch server again, and waits until nothing is left to be asked; gives its status
/// as it was when it came to control.
fn come_back(cluster: &mut Cluster<'_>) -> Value {
    cluster.start_again().unwrap();
    let status = cluster
        .wait("control", |cluster| Ok(cluster.ask("/status").ok().filter(|status| status["state"] == "in control")))
        .unwrap();
    cluster
        .wait("all terminals to be asked for", |cluster| {
            let last = cluster.ask("/recovery/last")?;
            let is_over = |server: &Value| last["path"] != "snapshot" || !server["refreshed_ns"].is_null();
            Ok(last["servers"].as_array().is_some_and(|servers| servers.iter().all(is_over)).then_some(()))
        })
        .unwrap();
    status
}

fn compare(cluster: &mut Cluster<'_>, ledger: &Ledger) {
    cluster.come_to_rest().unwrap();
    let (ours, theirs) = cluster.dumps().unwrap();
    let found = differences(&ours, &theirs);
    assert!(found.meetings.is_empty() && found.terminals.is_empty(), "{found:#?}");
    assert_eq!(operations_lost(ledger, "dispatch server", &ours.parts, &ours.terminals), Vec::<String>::new());
    cluster.servers.rate(2_000, 0).unwrap();
}

fn wait_for_snapshot(cluster: &mut Cluster<'_>, snapshot: &Path) {
    cluster.wait("a snapshot", |_| Ok(snapshot.exists().then_some(()))).unwrap();
}

#[test]
fn the_snapshot_serves_as_far_as_the_database_confirms_it() {
    need_root("network namespaces and XDP");
    let mut testbed = Testbed::set_with(&own_name(), 0).unwrap();
    testbed.set_program(env!("CARGO_BIN_EXE_baton").into());
    let snapshot = testbed.database().with_extension("snapshot");
    let mut ledger = scenario::conferences(DOMAINS, MEETINGS, 10);
    // Some are started after the snapshot was taken.
    let later = Ledger { meetings: ledger.meetings.split_off(&baton::wire::MeetingId(31)), ..Ledger::default() };
    let terminals = scenario::terminals_per_domain(&later).max(scenario::terminals_per_domain(&ledger));
    let simulation = vec!["--terminals".into(), terminals.to_string()];
    let mut cluster = Cluster::start(&testbed, &ClusterConfig { simulation, ..ClusterConfig::new(DOMAINS) }).unwrap();
    cluster.wait("control", |cluster| Ok(cluster.in_control().then_some(()))).unwrap();
    cluster.start_meetings(&ledger, || ()).unwrap();
    cluster.servers.rate(2_000, 0).unwrap();
    wait_for_snapshot(&mut cluster, &snapshot);
    cluster.start_meetings(&later, || ()).unwrap();
    ledger.meetings.extend(later.meetings);

    reboot(&testbed, &mut cluster);
    let status = come_back(&mut cluster);
    assert_eq!(status["path"], "snapshot", "{status:#}");
    let warmed = &status["snapshot"];
    let [parts, confirmed] = ["parts", "confirmed"].map(|name| warmed[name].as_u64().unwrap());
    assert!(confirmed > 0 && confirmed <= parts && warmed["refused"].is_null(), "{warmed}");
    assert_eq!(cluster.ask("/recovery/last").unwrap()["snapshot"], cluster.ask("/status").unwrap()["snapshot"]);
    compare(&mut cluster, &ledger);

    // The next one is damaged: refused by name, and left as it is until another takes its place.
    fs::remove_file(&snapshot).unwrap();
    wait_for_snapshot(&mut cluster, &snapshot);
    reboot(&testbed, &mut cluster);
    let mut damaged = fs::read(&snapshot).unwrap();
    let at = damaged.len() - 40;
    damaged[at] ^= 1;
    fs::write(&snapshot, &damaged).unwrap();
    cluster.start_again().unwrap();
    let status = cluster
        .wait("control", |cluster| Ok(cluster.ask("/status").ok().filter(|status| status["state"] == "in control")))
        .unwrap();
    assert!(fs::read(&snapshot).unwrap() == damaged, "it is as it was");
    assert_eq!(status["path"], "database");
    let why = status["snapshot"]["refused"].as_str().unwrap();
    assert!(why.contains("its bytes do not fit its digest") && why.contains(snapshot.to_str().unwrap()), "{why}");
    compare(&mut cluster, &ledger);

    // And there is none.
    reboot(&testbed, &mut cluster);
    fs::remove_file(&snapshot).unwrap();
    let status = come_back(&mut cluster);
    assert_eq!((&status["path"], &status["snapshot"]), (&"database".into(), &Value::Null));
    compare(&mut cluster, &ledger);
}
