//! When what of a recovery was seen at this end of the wire, epoch by epoch.

use std::collections::VecDeque;

use serde::Serialize;

use crate::time::Nanos;
use crate::wire::{Epoch, MeetingState, Status};

/// Epochs that are remembered.
const EPOCHS_MAX: usize = 64;

/// What an autonomous server saw of one epoch. Times are arrival times of frames, in nanoseconds of
/// `CLOCK_MONOTONIC` on an interface, of the simulation's clock in a simulation; none where it did
/// not come to that.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EpochSeen {
    /// Of the controller whose frames these are.
    pub epoch: Epoch,
    /// The first authentic frame under it.
    pub first_frame_ns: Option<u64>,
    /// The first CONNECT.
    pub connect_ns: Option<u64>,
    /// The first TAKEOVER or TAKEOVER_BATCH.
    pub takeover_first_ns: Option<u64>,
    /// The last one that took over a meeting not taken over before; it was answered at once.
    pub takeover_last_ns: Option<u64>,
    /// Frames of TAKEOVER and TAKEOVER_BATCH, repeated ones included.
    pub takeover_frames: u64,
    /// Meetings taken over.
    pub taken_over: u64,
    /// Takeovers answered ALREADY.
    pub already: u64,
    /// Takeovers of meetings that this server does not hold.
    pub unknown: u64,
    /// Of these, meetings that have ended here.
    pub ended: u64,
    /// The first INFO_QUERY.
    pub info_query_ns: Option<u64>,
    /// When the first STATE_QUERY came; none if there was none.
    pub state_query_first_ns: Option<u64>,
    /// When the last STATE_QUERY came; none if there was none.
    pub state_query_last_ns: Option<u64>,
    /// The first REPLAY_DONE whose count and digest were those of this server.
    pub replay_done_ns: Option<u64>,
    /// How often count or digest differed.
    pub audits_differing: u64,
    /// The last audit.
    pub audit: Option<AuditSeen>,
    /// The first command about a meeting (MEETING_START to TERMINAL_RELEASE).
    pub command_first_ns: Option<u64>,
}

/// What the two sides said in REPLAY_DONE and AUDIT.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct AuditSeen {
    /// Meetings that the dispatch server believes it controls here.
    pub theirs: u32,
    /// Meetings under its epoch.
    pub ours: u32,
    /// Whether counts and digests are the same.
    pub same: bool,
}

/// The epochs seen, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Timeline(VecDeque<EpochSeen>);

impl Timeline {
    /// The entry of an epoch, made when it is first seen.
    pub fn at(&mut self, epoch: Epoch, now: Nanos) -> &mut EpochSeen {
        let found = self.0.iter().rposition(|seen| seen.epoch == epoch);
        let index = found.unwrap_or_else(|| {
            if self.0.len() >= EPOCHS_MAX {
                self.0.pop_front();
            }
            self.0.push_back(EpochSeen { epoch, first_frame_ns: Some(now.0), ..EpochSeen::default() });
            self.0.len() - 1
        });
        &mut self.0[index]
    }

    pub fn epochs(&self) -> impl ExactSizeIterator<Item = &EpochSeen> {
        self.0.iter()
    }
}

impl EpochSeen {
    pub(super) fn takeover(&mut self, now: Nanos, results: impl Iterator<Item = (Status, MeetingState)>) {
        self.takeover_first_ns.get_or_insert(now.0);
        self.takeover_frames += 1;
        for (status, state) in results {
            match status {
                Status::Ok => {
                    self.taken_over += 1;
                    self.takeover_last_ns = Some(now.0);
                }
                Status::Already => self.already += 1,
                _ => {
                    self.unknown += 1;
                    self.ended += u64::from(state == MeetingState::Ended);
                }
            }
        }
    }

    pub(super) fn audit(&mut self, now: Nanos, theirs: (u32, u64), ours: (u32, u64)) {
        let same = theirs == ours;
        self.audit = Some(AuditSeen { theirs: theirs.0, ours: ours.0, same });
        if same {
            self.replay_done_ns.get_or_insert(now.0);
        } else {
            self.audits_differing += 1;
        }
    }
}
