//! What a world of any size tells in few words: how a recovery stands, which terminals
//! changed.

use serde::{Deserialize, Serialize};

use super::world::World;
use super::{AutonomousServer, Counters};
use crate::time::Nanos;
use crate::wire::{Address, Domain, Epoch, MeetingId};

/// A recovery as all domains together see it at this moment. Times are arrival times, as in
/// [`EpochSeen`](super::EpochSeen).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RecoveryNow {
    /// When this was true.
    pub now_ns: u64,
    /// The highest epoch seen after the one that was named; none was: 0.
    pub epoch: Epoch,
    /// The first takeover frame under any epoch after it.
    pub takeover_first_ns: Option<u64>,
    /// The last takeover of a meeting not taken over before, under the highest epoch.
    pub takeover_last_ns: Option<u64>,
    /// When the last domain found count and digest the same under the highest epoch; none while one
    /// has not.
    pub replay_done_ns: Option<u64>,
    /// When each domain had under the first epoch after the one that was named; none while one has
    /// not.
    pub replay_done_under_next_ns: Option<u64>,
    /// Meetings taken over under the highest epoch.
    pub taken_over: u64,
    /// Meetings held.
    pub meetings: usize,
    /// Whether nothing is outstanding anywhere.
    pub quiet: bool,
    /// Probes whose echo did not come, or not yet.
    pub probes_unanswered: u64,
    /// What was counted, over all domains.
    pub counters: Counters,
}

/// What a terminal that changed since the beginning has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TerminalChanged(
    /// Which.
    pub Address,
    /// The meeting that it is in; 0 none.
    pub MeetingId,
    /// Its version.
    pub u32,
    /// The last version that was acknowledged.
    pub Option<u32>,
);

/// Count and digest of a domain's meetings under an epoch, as AUDIT tells them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Digest {
    /// Where.
    pub domain: Domain,
    /// How many.
    pub count: u32,
    /// Their digest.
    pub digest: u64,
}

impl World {
    /// How the recovery after an epoch stands.
    pub fn recovery_after(&self, after: Epoch, now: Nanos) -> RecoveryNow {
        let servers = self.all();
        let later = || servers.iter().flat_map(AutonomousServer::timeline).filter(|seen| seen.epoch > after);
        let (first, last) = (later().map(|seen| seen.epoch).min(), later().map(|seen| seen.epoch).max());
        let under = |epoch: Option<Epoch>| later().filter(move |seen| Some(seen.epoch) == epoch);
        let done = |epoch| {
            let times = || under(epoch).filter_map(|seen| seen.replay_done_ns);
            (times().count() == servers.len()).then(|| times().max()).flatten()
        };
        let mut counters = Counters::default();
        servers.iter().for_each(|server| counters += server.counters());
        RecoveryNow {
            now_ns: now.0,
            epoch: last.unwrap_or_default(),
            takeover_first_ns: later().filter_map(|seen| seen.takeover_first_ns).min(),
            takeover_last_ns: under(last).filter_map(|seen| seen.takeover_last_ns).max(),
            replay_done_ns: done(last),
            replay_done_under_next_ns: done(first),
            taken_over: under(last).map(|seen| seen.taken_over).sum(),
            meetings: servers.iter().map(AutonomousServer::count_meetings).sum(),
            quiet: servers.iter().all(AutonomousServer::is_quiet),
            probes_unanswered: counters.probes_unanswered(),
            counters,
        }
    }

    /// Every terminal with which something has happened.
    pub fn terminals_changed(&self) -> Vec<TerminalChanged> {
        let all = self.all().iter().flat_map(AutonomousServer::terminals_changed);
        all.map(|(state, acked)| TerminalChanged(state.terminal, state.meeting, state.version, acked)).collect()
    }

    /// Count and digest of what each domain has under an epoch.
    pub fn digests(&self, epoch: Epoch) -> Vec<Digest> {
        let digest = |server: &AutonomousServer| {
            let (count, digest) = server.digest(epoch);
            Digest { domain: server.domain(), count, digest }
        };
        self.all().iter().map(digest).collect()
    }
}
