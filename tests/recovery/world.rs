//! What the tests of recovery ask of a cluster.

use std::time::Duration;

use baton::lab::sim::NetworkSettings;
use baton::lab::sim::cluster::{Cluster, ClusterSettings, Engine};
use baton::recovery::{Event, Report};
use baton::table::Capacity;
use baton::wire::MeetingId;

/// Domains from 1 on, each with this many terminals; no meeting yet, and nobody dispatches.
pub fn cluster(seed: u64, domains: u64, terminals: u16, network: NetworkSettings) -> Cluster {
    let capacity = Capacity { meetings: 4096, terminals: 8192 };
    let mut cluster = Cluster::new(ClusterSettings { seed, domains, terminals, network, capacity });
    // A disk that takes its time: what waits for it dies with an engine.
    cluster.disk.flush_max = Duration::from_millis(10);
    cluster
}

pub fn engine(cluster: &Cluster) -> &Engine {
    cluster.engine.as_ref().expect("alive")
}

pub fn report(cluster: &Cluster) -> Report {
    engine(cluster).recovery()
}

pub fn events(cluster: &Cluster) -> &[Event] {
    engine(cluster).events()
}

/// Nothing that came from a snapshot is in doubt any more.
pub fn refresh(cluster: &mut Cluster) {
    let is_refreshed = |cluster: &Cluster| cluster.engine.as_ref().is_some_and(Engine::is_refreshed);
    assert!(cluster.run_until(Duration::from_secs(600), is_refreshed), "{:#?}", report(cluster));
}

/// Terminals report nothing new any more, and what is under way arrives.
pub fn settle(cluster: &mut Cluster) {
    for site in &mut cluster.sites {
        site.server.set_quiesced(true);
    }
    cluster.run_for(Duration::from_secs(60));
}

/// Asserts that the table is what the autonomous servers are, but for parts that they lack, which
/// are missing in it.
pub fn assert_table(cluster: &Cluster, orphans: &[MeetingId]) {
    assert_eq!(cluster.differences_of_table(orphans), Vec::<String>::new());
    assert_eq!(cluster.parts_in_doubt(), [], "each is as its autonomous server has it");
}

/// Asserts that the database holds of each part what the table holds.
pub fn assert_database(cluster: &Cluster) {
    assert_eq!(cluster.differences_of_database(), Vec::<String>::new());
}
