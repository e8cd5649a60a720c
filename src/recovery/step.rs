//! What has become of one meeting.

/// What has become of one meeting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Its takeover is wanted or on its way.
    Asked,
    /// It is taken over; its update is wanted or on its way.
    Taken,
    /// It is taken over and agreed on, and what its terminals did since the snapshot is being asked
    /// for.
    Refreshing,
    /// It is taken over, and its members cannot be had: they are asked for again later.
    Untold,
    /// The autonomous server's state is written over ours.
    Updated,
    /// The autonomous server does not have it.
    Missing,
    /// Nor this one: another conference has its number.
    Replaced,
    /// Its start or end is the engine's to finish.
    Unfinished,
    /// The autonomous server does not give it.
    Refused,
    /// We do not know it, and leave it.
    Orphan,
    /// We do not know it, and end it.
    OrphanEnding,
    /// We did not know it, and ended it.
    OrphanEnded,
}

impl Step {
    /// Whether it is none of ours.
    pub const fn is_orphan(self) -> bool {
        matches!(self, Self::Orphan | Self::OrphanEnding | Self::OrphanEnded)
    }

    /// Whether we control it.
    pub const fn is_taken_over(self) -> bool {
        matches!(self, Self::Taken | Self::Refreshing | Self::Untold | Self::Updated)
    }
}
