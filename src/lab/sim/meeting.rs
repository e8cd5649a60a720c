//! One meeting that a simulated autonomous server holds.

use super::members::Members;
use crate::wire::{Address, Epoch, Layout, Level, MeetingId, MeetingState, MeetingSummary, Run, Status};

/// One meeting, as this domain knows it.
#[derive(Clone, Debug)]
pub(super) struct Meeting {
    pub version: u64,
    pub controller: Epoch,
    pub state: MeetingState,
    pub level: Level,
    pub layout: Layout,
    pub chairman: Address,
    pub run: Run,
    pub members: Members,
}

impl Meeting {
    pub fn summary(&self, meeting: MeetingId) -> MeetingSummary {
        MeetingSummary {
            meeting,
            version: self.version,
            controller: self.controller,
            state: self.state,
            level: self.level,
            participants: self.members.len() as u16,
            layout: self.layout,
            chairman: self.chairman,
            run: self.run,
        }
    }

    /// Counts a change, if it was one.
    pub fn changed(&mut self, changed: bool) -> (Status, u64) {
        if changed {
            self.version += 1;
        }
        (if changed { Status::Ok } else { Status::Already }, self.version)
    }

    pub fn forget_chairman(&mut self, terminal: Address) {
        if self.chairman == terminal {
            self.chairman = Address::default();
        }
    }
}
