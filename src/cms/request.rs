//! What may be asked for of a conference, and what is answered.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::database::PartParameters;
use crate::text::is_unprintable;
use crate::wire::{self, Address, Flags, Layout, Level, MeetingId, Role};

/// What may be done to a conference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConferenceRequest {
    /// Start one.
    Start(StartMeeting),
    /// Add members.
    Add {
        /// Which.
        meeting: MeetingId,
        /// Whom.
        members: Vec<NewMember>,
    },
    /// Take a member out.
    Remove {
        /// Which.
        meeting: MeetingId,
        /// Whom.
        terminal: Address,
    },
    /// Give a member another role. Who was chairman becomes a participant when another becomes
    /// chairman.
    SetRole {
        /// Which.
        meeting: MeetingId,
        /// Whom.
        terminal: Address,
        /// What it becomes.
        role: Role,
    },
    /// Give it another layout, in every domain.
    SetLayout {
        /// Which.
        meeting: MeetingId,
        /// How many windows.
        layout: Layout,
    },
    /// Set and clear flags of a member.
    SetFlags {
        /// Which.
        meeting: MeetingId,
        /// Whom.
        terminal: Address,
        /// The flags that are changed.
        mask: Flags,
        /// What they are changed to.
        value: Flags,
    },
    /// End it, in every domain.
    End {
        /// Which.
        meeting: MeetingId,
    },
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    match name.chars().find(|&character| is_unprintable(character)) {
        Some(character) => Err(de::Error::custom(format_args!(
            "the name holds the character {}: give one without control characters",
            character.escape_unicode()
        ))),
        None => Ok(name),
    }
}

/// Why JSON is not what was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotThat {
    /// What is wrong, without its place.
    pub what: String,
    /// Line and column, from 1.
    pub place: Option<(usize, usize)>,
}

/// Reads an object. An array, which would be taken for the object's values in their order, is none.
pub fn object<T: DeserializeOwned>(text: &[u8]) -> Result<T, NotThat> {
    let is_array = text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    if is_array {
        return Err(NotThat { what: "an array stands here, and an object is expected".into(), place: None });
    }
    serde_json::from_slice(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let words = error.to_string();
        let what = words.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&words).to_owned();
        NotThat { what, place: Some((line, column)).filter(|&(line, _)| line > 0) }
    })
}

/// A conference to be started.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartMeeting {
    /// Its id; the next free one where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meeting: Option<MeetingId>,
    /// What people call it.
    #[serde(default, deserialize_with = "name", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its level; 3 where none is given.
    #[serde(default = "level_default")]
    pub level: Level,
    /// Windows on the screen; 4 where none is given.
    #[serde(default = "layout_default")]
    pub layout: Layout,
    /// Its chairman: a member, whose role becomes that. A member with that role may say so too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chairman: Option<Address>,
    /// At least one.
    pub members: Vec<NewMember>,
    /// When it was asked for, milliseconds since 1970. Stamped by the API.
    #[serde(skip)]
    pub created_ms: u64,
}

fn level_default() -> Level {
    Level::new(3).expect("1 to 5")
}

fn layout_default() -> Layout {
    Layout::new(4).expect("1 to 13")
}

/// A member to be added. In JSON either an object or, for a participant, the address alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct NewMember {
    /// Who.
    pub terminal: Address,
    /// Its role; participant where none is given.
    pub role: Role,
}

impl NewMember {
    /// A participant.
    pub const fn participant(terminal: Address) -> Self {
        Self { terminal, role: Role::Participant }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewMemberObject {
    terminal: Address,
    role: Option<Role>,
}

impl<'de> Deserialize<'de> for NewMember {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NewMemberVisitor)
    }
}

/// Tells the two forms apart by what comes, so that what is wrong is told of the form that was
/// meant.
struct NewMemberVisitor;

impl<'de> Visitor<'de> for NewMemberVisitor {
    type Value = NewMember;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a member: "domain/device", or {"terminal": …, "role": …}"#)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<NewMember, E> {
        text.parse().map(NewMember::participant).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<NewMember, A::Error> {
        let NewMemberObject { terminal, role } = Deserialize::deserialize(MapAccessDeserializer::new(map))?;
        Ok(NewMember { terminal, role: role.unwrap_or(Role::Participant) })
    }
}

/// What became of a request to do something to a conference.
pub type ConferenceReply = Result<ConferenceAnswer, Refusal>;

/// What a client is told when what it asked for is done: durable, and known to the autonomous
/// servers.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(untagged)]
pub enum ConferenceAnswer {
    /// The conference goes on.
    Started(Started),
    /// The change is made.
    Changed(Changed),
}

/// A conference that was started.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Started {
    /// Its id.
    pub meeting: MeetingId,
    /// One per autonomous server.
    pub parts: Vec<PartParameters>,
    /// How many terminals are in it.
    pub members: usize,
    /// Those that their autonomous server did not take.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
}

/// A conference that was changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Changed {
    /// Its id.
    pub meeting: MeetingId,
    /// The parts that changed, as they are now; none after an end.
    pub parts: Vec<PartParameters>,
    /// Members that their autonomous server did not take.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
}

/// A terminal that an autonomous server did not take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refused {
    /// Whom.
    pub terminal: Address,
    /// What its autonomous server said.
    pub why: wire::Status,
}

/// Why a request was not done.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
#[error("{what}; {remedy}")]
pub struct Refusal {
    /// Who is at fault, for scripts.
    #[serde(rename = "error")]
    pub kind: RefusalKind,
    /// What is wrong, in a sentence.
    pub what: String,
    /// What to do about it.
    #[serde(rename = "do")]
    pub remedy: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(kind: RefusalKind, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { kind, what: what.into(), remedy: remedy.into() }
    }
}

/// Who is at fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// The request makes no sense.
    BadRequest,
    /// There is no such meeting, member or domain.
    NotFound,
    /// Something else has what is asked for.
    Conflict,
    /// The table, or an autonomous server, is full.
    Capacity,
    /// Too much is under way, or the part is not taken over yet.
    Busy,
    /// An autonomous server does not answer.
    Unreachable,
    /// An autonomous server answered that it will not.
    Declined,
    /// Another dispatch server controls.
    NotInControl,
    /// The database failed.
    Database,
    /// A fault of ours.
    Internal,
}

impl RefusalKind {
    /// The HTTP status that says so.
    pub const fn http(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::NotFound => 404,
            Self::Conflict | Self::NotInControl => 409,
            Self::Declined => 422,
            Self::Internal => 500,
            Self::Busy | Self::Database => 503,
            Self::Unreachable => 504,
            Self::Capacity => 507,
        }
    }
}
