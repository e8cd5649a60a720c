//! Key parameters: what must be known of a conference to take it over and to control it.

use serde::{Deserialize, Serialize};

use crate::wire::{Address, Domain, Flags, Layout, Level, MeetingId, MeetingState, Role, Run};

/// What the database keeps of a conference that has not ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyParameters {
    /// Its id, the same in every domain.
    pub meeting: MeetingId,
    /// Which conference it is that bears the number.
    #[serde(default)]
    pub run: Run,
    /// What people call it; may be empty. At most [`crate::limits::NAME_BYTES_MAX`] bytes.
    pub name: String,
    /// Its level.
    pub level: Level,
    /// Windows on the screen.
    pub layout: Layout,
    /// Its chairman; [`Address`] 0 where there is none.
    pub chairman: Address,
    /// When it was asked for, milliseconds since 1970.
    pub created_ms: u64,
    /// One per autonomous server, by ascending domain.
    pub parts: Vec<PartParameters>,
    /// Who is in it, or is to be, by ascending address.
    pub members: Vec<Member>,
}

impl KeyParameters {
    /// Its part in a domain.
    pub fn part(&self, domain: Domain) -> Option<&PartParameters> {
        self.parts.iter().find(|part| part.domain == domain)
    }

    /// Its members in a domain.
    pub fn members_in(&self, domain: Domain) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.terminal.domain() == Some(domain))
    }

    /// Whether an operation on it was begun and is not known to have been finished: a part is
    /// `starting` or `ending`.
    pub fn is_unfinished(&self) -> bool {
        self.parts.iter().any(|part| matches!(part.state, MeetingState::Starting | MeetingState::Ending))
    }
}

/// What belongs to one autonomous server of a conference.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PartParameters {
    /// Where.
    pub domain: Domain,
    /// The last version that the autonomous server is known to have said.
    pub version: u64,
    /// `starting` and `ending` are written ahead of the first command; see
    /// [`KeyParameters::is_unfinished`].
    pub state: MeetingState,
}

/// One terminal of a conference.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub terminal: Address,
    /// Its part in the conference.
    pub role: Role,
    /// Muted and so on, as last set by an operation.
    pub flags: Flags,
    /// The window that it is shown in, from 0; [`WINDOW_NONE`](crate::wire::WINDOW_NONE).
    pub window: u8,
}
