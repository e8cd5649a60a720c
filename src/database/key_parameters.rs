//! Key parameters: what must be known of a conference to take it over and to control it.

use serde::{Deserialize, Serialize};

use crate::wire::{Address, Domain, Flags, Layout, Level, MeetingId, MeetingState, Role, Run, mix};

/// What the database keeps of a conference that has not ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyParameters {
    /// The same in every domain.
    pub meeting: MeetingId,
    /// Tells this conference from others that had or have the same number.
    #[serde(default)]
    pub run: Run,
    /// What people call it; may be empty. At most [`crate::limits::NAME_BYTES_MAX`] bytes.
    pub name: String,
    #[expect(missing_docs, reason = "see the type")]
    pub level: Level,
    /// Windows on the screen.
    pub layout: Layout,
    /// [`Address`] 0 where there is none.
    pub chairman: Address,
    /// When it was asked for, milliseconds since 1970.
    pub created_ms: u64,
    /// One per autonomous server, by ascending domain.
    pub parts: Vec<PartParameters>,
    /// Terminals that are in it, or are to be, by ascending address.
    pub members: Vec<Member>,
}

impl KeyParameters {
    #[expect(missing_docs, reason = "a conference has one part in a domain, or none")]
    pub fn part(&self, domain: Domain) -> Option<&PartParameters> {
        self.parts.iter().find(|part| part.domain == domain)
    }

    /// By the domains of their addresses.
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
    #[expect(missing_docs, reason = "a part is in one domain")]
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
    #[expect(missing_docs, reason = "a member is a terminal")]
    pub terminal: Address,
    /// As last set by an operation.
    pub role: Role,
    /// Muted and so on, as last set by an operation.
    pub flags: Flags,
    /// The window that it is shown in, from 0; [`WINDOW_NONE`](crate::wire::WINDOW_NONE).
    pub window: u8,
}

impl Member {
    /// Of one member. The sum of all says in one number who is a member, and with which role by its
    /// number on the wire.
    pub const fn digest(terminal: Address, role: u8) -> u64 {
        mix(terminal.number() << 8 | role as u64)
    }
}
