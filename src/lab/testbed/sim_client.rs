//! The autonomous servers as the demonstration sees them: through the control socket of
//! `baton sim`.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::lab::sim::{Digest, RecoveryNow, TerminalChanged};
use crate::time::Nanos;
use crate::wire::{Epoch, MeetingId};

/// The simulation answers from its own loop: later than this, it hangs.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A conversation with the simulation.
pub struct Servers {
    lines: BufReader<UnixStream>,
}

/// How the autonomous servers do.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// Whether nothing happens, and every report was answered.
    pub quiet: bool,
    /// What was counted since the last reset.
    pub counters: Counters,
    /// Probes that did not come back, or not yet. None is ever sent twice.
    pub probes_unanswered: u64,
    /// Each of them.
    pub domains: Vec<DomainStatus>,
}

/// Of all that is counted, what the demonstration is about.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Counters {
    /// Reports that were answered.
    pub reports_acknowledged: u64,
}

/// One autonomous server.
#[derive(Clone, Debug, Deserialize)]
pub struct DomainStatus {
    /// Epochs seen, oldest first.
    pub epochs: Vec<EpochSeen>,
}

/// What was seen of one epoch at this end of the wire.
#[derive(Clone, Debug, Deserialize)]
pub struct EpochSeen {
    /// As the frames of the controller bore it.
    pub epoch: Epoch,
    /// The first takeover frame's arrival.
    pub takeover_first_ns: Option<u64>,
    /// The last takeover's answer.
    pub takeover_last_ns: Option<u64>,
    /// The audit that agreed.
    pub replay_done_ns: Option<u64>,
}

/// A recovery as all autonomous servers saw it. Times of the whole are those of the first or the
/// last of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recovery {
    /// Under which epoch it ended.
    pub epoch: Epoch,
    /// The first takeover frame under any epoch after the old one.
    pub first_takeover: Nanos,
    /// The last answer to a takeover.
    pub all_acknowledged: Nanos,
    /// The last audit that agreed.
    pub reconciled: Nanos,
}

impl Servers {
    /// Connects to the simulation's control socket.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self { lines: BufReader::new(stream) })
    }

    /// Asks and waits for the answer.
    fn ask(&mut self, question: &Value) -> io::Result<Value> {
        let mut line = question.to_string();
        line.push('\n');
        self.lines.get_mut().write_all(line.as_bytes())?;
        line.clear();
        self.lines.read_line(&mut line)?;
        let answer: Value = serde_json::from_str(&line)?;
        match answer.get("error") {
            Some(error) => Err(io::Error::other(format!("the simulation answers {question} with {error}"))),
            None => Ok(answer),
        }
    }

    /// How they do.
    pub fn status(&mut self) -> io::Result<Status> {
        Ok(serde_json::from_value(self.ask(&json!({ "ask": "status" }))?)?)
    }

    /// All meetings and terminals that they hold.
    pub fn dump(&mut self) -> io::Result<Value> {
        self.ask(&json!({ "ask": "dump" }))
    }

    /// In few words, how the recovery after an epoch stands.
    pub fn recovery(&mut self, after: Epoch) -> io::Result<RecoveryNow> {
        Ok(serde_json::from_value(self.ask(&json!({ "ask": "recovery", "after": after }))?)?)
    }

    /// All terminals with which something has happened.
    pub fn changed(&mut self) -> io::Result<Vec<TerminalChanged>> {
        Ok(serde_json::from_value(self.ask(&json!({ "ask": "changed" }))?)?)
    }

    /// As a dump, the meetings up to an id, and of the others one in so many.
    pub fn sample(&mut self, up_to: MeetingId, one_in: u64) -> io::Result<Value> {
        self.ask(&json!({ "ask": "sample", "up_to": up_to, "one_in": one_in }))
    }

    /// Each domain's count and digest of the meetings under an epoch.
    pub fn digests(&mut self, epoch: Epoch) -> io::Result<Vec<Digest>> {
        Ok(serde_json::from_value(self.ask(&json!({ "ask": "digests", "epoch": epoch }))?)?)
    }

    /// Reports and probes a second, over all of them.
    pub fn rate(&mut self, reports: u64, probes: u64) -> io::Result<()> {
        self.ask(&json!({ "ask": "rate", "reports": reports, "probes": probes })).map(drop)
    }

    /// Nothing new; reports that are not answered are still repeated.
    pub fn quiesce(&mut self) -> io::Result<()> {
        self.ask(&json!({ "ask": "quiesce" })).map(drop)
    }

    /// Counting begins anew.
    pub fn reset_counters(&mut self) -> io::Result<()> {
        self.ask(&json!({ "ask": "reset_counters" })).map(drop)
    }
}

impl Status {
    /// The highest epoch that any of them has seen.
    pub fn epoch(&self) -> Epoch {
        self.seen().map(|seen| seen.epoch).max().unwrap_or(Epoch::NONE)
    }

    /// The first takeover frame under an epoch after `old`.
    pub fn first_takeover_after(&self, old: Epoch) -> Option<Nanos> {
        self.seen().filter(|seen| seen.epoch > old).filter_map(|seen| seen.takeover_first_ns).min().map(Nanos)
    }

    /// The recovery after `old`, once every one of them is reconciled under one epoch.
    pub fn recovery_after(&self, old: Epoch) -> Option<Recovery> {
        let epoch = Some(self.epoch()).filter(|&epoch| epoch > old)?;
        let under = |domain: &DomainStatus| domain.epochs.iter().find(|seen| seen.epoch == epoch).cloned();
        let all: Vec<_> = self.domains.iter().map(under).collect::<Option<_>>()?;
        let reconciled = all.iter().map(|seen| seen.replay_done_ns).collect::<Option<Vec<_>>>()?;
        Some(Recovery {
            epoch,
            first_takeover: self.first_takeover_after(old)?,
            all_acknowledged: Nanos(all.iter().filter_map(|seen| seen.takeover_last_ns).max()?),
            reconciled: Nanos(reconciled.into_iter().max()?),
        })
    }

    /// When each of them was reconciled under the first epoch after `old`, if that came about at
    /// all.
    pub fn reconciled_under_next(&self, old: Epoch) -> Option<Nanos> {
        let epoch = self.seen().map(|seen| seen.epoch).filter(|&epoch| epoch > old).min()?;
        let mut last = Nanos(0);
        for domain in &self.domains {
            let seen = domain.epochs.iter().find(|seen| seen.epoch == epoch)?;
            last = last.max(Nanos(seen.replay_done_ns?));
        }
        Some(last)
    }

    fn seen(&self) -> impl Iterator<Item = &EpochSeen> {
        self.domains.iter().flat_map(|domain| &domain.epochs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Epoch, first takeover, last answer, audit.
    type Times = (u64, Option<u64>, Option<u64>, Option<u64>);

    fn status(domains: &[&[Times]]) -> Status {
        let domains = domains.iter().map(|epochs| DomainStatus {
            epochs: epochs
                .iter()
                .map(|&(epoch, takeover_first_ns, takeover_last_ns, replay_done_ns)| EpochSeen {
                    epoch: Epoch(epoch),
                    takeover_first_ns,
                    takeover_last_ns,
                    replay_done_ns,
                })
                .collect(),
        });
        let counters = Counters { reports_acknowledged: 0 };
        Status { quiet: true, counters, probes_unanswered: 0, domains: domains.collect() }
    }

    #[test]
    fn a_recovery_is_over_when_the_last_server_agrees() {
        let old = (1, Some(1), Some(2), Some(3));
        let one = (2, Some(10), Some(20), Some(30));
        let not_yet = status(&[&[old, one], &[old, (2, Some(9), Some(22), None)]]);
        assert_eq!(not_yet.recovery_after(Epoch(1)), None);
        assert_eq!(not_yet.first_takeover_after(Epoch(1)), Some(Nanos(9)));
        let over = status(&[&[old, one], &[old, (2, Some(9), Some(22), Some(29))]]);
        let recovery = over.recovery_after(Epoch(1)).unwrap();
        assert_eq!((recovery.first_takeover, recovery.all_acknowledged), (Nanos(9), Nanos(22)));
        assert_eq!((recovery.epoch, recovery.reconciled), (Epoch(2), Nanos(30)));
        assert_eq!(over.recovery_after(Epoch(2)), None, "nothing came after");
    }

    #[test]
    fn a_recovery_that_was_cut_short_ends_under_a_later_epoch() {
        let old = (1, Some(1), Some(2), Some(3));
        let cut = (2, Some(10), Some(20), None);
        let last = (3, Some(40), Some(50), Some(60));
        let seen = status(&[&[old, cut, last], &[old, last]]);
        let recovery = seen.recovery_after(Epoch(1)).unwrap();
        assert_eq!((recovery.epoch, recovery.first_takeover), (Epoch(3), Nanos(10)));
        assert_eq!(seen.reconciled_under_next(Epoch(1)), None, "the second recovery was never finished");
        assert_eq!(seen.reconciled_under_next(Epoch(2)), Some(Nanos(60)));
    }
}
