//! What a fault cost: frames, reports and operations that were acknowledged, and who controls.
//!
//! At any size: the autonomous servers tell only what changed since the beginning, and the table is
//! read where it lies, by readers who take no lock.

use std::error::Error;
use std::time::{Duration, Instant};

use baton::lab::sim::{Dump, RecoveryNow};
use baton::lab::testbed::checker::operations_lost;
use baton::lab::testbed::cluster::Cluster;
use baton::lab::testbed::workload::Ledger;
use baton::table::{Part, Table, Terminal};
use baton::wire::MeetingId;
use serde::Serialize;

use super::prepare::OPERATED;

/// How long everything may take to come to rest: a report is repeated after a second, then two,
/// then four.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// Nothing is on its way for longer.
const ON_ITS_WAY: Duration = Duration::from_millis(300);

/// What was lost in one fault; all zero is what must be.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Losses {
    /// Probes that were never answered. None is sent twice.
    pub frames: u64,
    /// Terminals of which a report was acknowledged that the table does not have.
    pub reports_acknowledged: u64,
    /// Operations that were answered as done and are not so, on either side.
    pub operations_acknowledged: u64,
    /// Meetings that are under another epoch than the newest, once reconciled: somebody else's
    /// command took effect.
    pub second_controller: u64,
    /// Domains in which count or digest of both sides differ, once reconciled.
    pub domains_differing: u64,
    /// Some of it, in sentences.
    pub examples: Vec<String>,
}

impl Losses {
    /// What must not be, after any fault.
    pub fn of_promises(&self) -> u64 {
        self.reports_acknowledged + self.operations_acknowledged + self.second_controller + self.domains_differing
    }
}

/// Counts, with operators held and all at rest. `reconciled` where the recovery was over.
pub fn count(
    cluster: &mut Cluster<'_>,
    table: &Table,
    ledger: &Ledger,
    reconciled: bool,
) -> Result<(Losses, RecoveryNow), Box<dyn Error>> {
    let rest = come_to_rest(cluster)?;
    let mut losses = Losses { frames: rest.probes_unanswered, ..Losses::default() };
    for changed in cluster.servers.changed()? {
        let Some(acknowledged) = changed.3.filter(|_| changed.1 != MeetingId::NONE) else { continue };
        let held = table.terminal(changed.0).map(|terminal| terminal.version);
        // Versions wrap, so the later one is told by the sign of the difference.
        if held.is_none_or(|held| (held.wrapping_sub(acknowledged) as i32) < 0) {
            losses.reports_acknowledged += 1;
            losses.examples.push(format!("{}: version {acknowledged} acknowledged, {held:?} held", changed.0));
        }
    }
    let theirs: Dump = serde_json::from_value(cluster.servers.sample(MeetingId(OPERATED.into()), 0)?)?;
    let (parts, terminals) = ours(table, ledger);
    let mut lost = operations_lost(ledger, "dispatch server", &parts, &terminals);
    lost.extend(operations_lost(ledger, "autonomous servers", theirs.parts(), theirs.terminals()));
    losses.operations_acknowledged = lost.len() as u64;
    losses.examples.extend(lost);
    if reconciled {
        let epoch = table.epoch();
        let digests = cluster.servers.digests(epoch)?;
        let under: u64 = digests.iter().map(|one| u64::from(one.count)).sum();
        losses.second_controller = (rest.meetings as u64).abs_diff(under);
        let differs =
            |one: &&baton::lab::sim::Digest| table.digest_of_parts(one.domain, epoch) != (one.count, one.digest);
        losses.domains_differing = digests.iter().filter(differs).count() as u64;
    }
    losses.examples.truncate(8);
    Ok((losses, rest))
}

/// Nothing new happens, and what is on its way arrives.
fn come_to_rest(cluster: &mut Cluster<'_>) -> Result<RecoveryNow, Box<dyn Error>> {
    cluster.servers.quiesce()?;
    let begun = Instant::now();
    loop {
        let now = cluster.servers.recovery(Default::default())?;
        if now.quiet && now.probes_unanswered == 0 {
            return Ok(now);
        }
        if now.quiet && begun.elapsed() > ON_ITS_WAY {
            return Ok(now);
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("{} reports are still not acknowledged", now.counters.reports_sent).into());
        }
        std::thread::sleep(LOOK);
    }
}

/// The conferences that operators change, as the table has them.
fn ours(table: &Table, ledger: &Ledger) -> (Vec<Part>, Vec<Terminal>) {
    let meetings = ledger.meetings.keys().chain(&ledger.ended);
    let parts: Vec<_> = meetings.flat_map(|&meeting| table.parts_of(meeting)).collect();
    let terminals = parts.iter().flat_map(|part| table.members(part.meeting, part.domain)).collect();
    (parts, terminals)
}
