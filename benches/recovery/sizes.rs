//! The sizes that recovery is measured at.

use baton::lab::sim::Preload;
use baton::text::thousands;
use baton::wire::Domain;

/// Conferences, terminals in them, and autonomous servers that hold them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    pub meetings: u32,
    pub terminals: u32,
    pub domains: u32,
    /// Engine kills at this size, unless said otherwise.
    pub trials: u32,
}

/// Members of a conference.
pub const MEMBERS: u16 = 10;
/// The device number of each domain's first terminal.
pub const FIRST_DEVICE: u16 = 1001;
/// The size of the field's network.
pub const FIELD: Size = Size { meetings: 20_736, terminals: 207_359, domains: 44, trials: 30 };

const fn of_four(meetings: u32, trials: u32) -> Size {
    Size { meetings, terminals: meetings * MEMBERS as u32, domains: 4, trials }
}

/// What is measured by default, smallest first.
pub const ALL: [Size; 4] = [of_four(1000, 30), FIELD, of_four(100_000, 30), of_four(1_000_000, 30)];

impl Size {
    /// The size with so many conferences: one of [`ALL`], or one over four autonomous servers.
    pub fn with(meetings: u32) -> Self {
        let known = ALL.into_iter().find(|size| size.meetings == meetings);
        known.unwrap_or(of_four(meetings, 30))
    }

    pub fn is_field(&self) -> bool {
        self.meetings == FIELD.meetings
    }

    pub fn name(&self) -> String {
        let meetings = thousands(self.meetings.into());
        if self.is_field() { format!("{meetings} (the field's network)") } else { meetings }
    }

    /// The rule that both sides begin with.
    pub fn preload(&self) -> Result<Preload, String> {
        Preload::new(self.meetings, MEMBERS, Some(self.terminals), self.domains)
    }

    pub fn domains(&self) -> impl Iterator<Item = (u32, Domain)> + use<> {
        (0..self.domains).map(|position| (position, Domain::new(u64::from(position) + 1).expect("counted from 1")))
    }
}
