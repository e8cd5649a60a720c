//! Meetings, by part.

use crate::wire::{Address, Domain, Epoch, Layout, Level, MeetingId, MeetingState};

/// A meeting's part in one autonomous domain: what is known, controlled and taken over as one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// The meeting.
    pub meeting: MeetingId,
    /// The autonomous domain whose server holds this part of it.
    pub domain: Domain,
    /// Counts the changes to it at that server.
    pub version: u64,
    /// The epoch under which it was taken; [`Epoch::NONE`] while it is not.
    pub epoch: Epoch,
    /// What it is in.
    pub state: MeetingState,
    /// Its level.
    pub level: Level,
    /// Windows on the screen.
    pub layout: Layout,
    /// How many members the table holds of it. Joining and leaving keep it; what a caller writes here counts for nothing.
    pub participants: u16,
    /// The chairman's address; 0 where there is none.
    pub chairman: Address,
}
