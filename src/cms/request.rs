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
#[expect(missing_docs, reason = "a file of `operations` says of each what it does")]
pub enum ConferenceRequest {
    Start(StartMeeting),
    Add {
        meeting: MeetingId,
        members: Vec<NewMember>,
    },
    Remove {
        meeting: MeetingId,
        terminal: Address,
    },
    /// The chairman becomes a participant when another member becomes chairman.
    SetRole {
        meeting: MeetingId,
        terminal: Address,
        role: Role,
    },
    /// In every domain.
    SetLayout {
        meeting: MeetingId,
        layout: Layout,
    },
    SetFlags {
        meeting: MeetingId,
        terminal: Address,
        /// The flags that are changed.
        mask: Flags,
        /// What they are changed to.
        value: Flags,
    },
    /// In every domain.
    End {
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

/// Reads an object. An array is refused: serde would take it for the object's values in their
/// order.
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
    /// The next free id where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meeting: Option<MeetingId>,
    /// What people call it.
    #[serde(default, deserialize_with = "name", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// 3 where none is given.
    #[serde(default = "level_default")]
    pub level: Level,
    /// Windows on the screen; 4 where none is given.
    #[serde(default = "layout_default")]
    pub layout: Layout,
    /// One of the members, whose role becomes that. Instead, a member may be given with that role.
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
    #[expect(missing_docs, reason = "the address says it all")]
    pub terminal: Address,
    /// Participant where none is given.
    pub role: Role,
}

impl NewMember {
    #[expect(missing_docs, reason = "the role is the name")]
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

/// Tells the two forms apart by what comes, so that an error is about the form that was meant.
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

/// The answer to a [`ConferenceRequest`].
pub type ConferenceReply = Result<ConferenceAnswer, Refusal>;

/// The answer when a request is carried out: durable, and known to the autonomous servers.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "the types say it")]
pub enum ConferenceAnswer {
    Started(Started),
    Changed(Changed),
}

/// A conference that was started.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Started {
    /// The id that was asked for, or the one that was chosen.
    pub meeting: MeetingId,
    /// One per autonomous server.
    pub parts: Vec<PartParameters>,
    /// The number of terminals in it.
    pub members: usize,
    /// Members that their autonomous server did not take.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
}

/// A conference that was changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Changed {
    #[expect(missing_docs, reason = "the request names it")]
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
    #[expect(missing_docs, reason = "the request names it")]
    pub terminal: Address,
    /// The status of its autonomous server's answer.
    pub why: wire::Status,
}

/// Why a request was not carried out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
#[error("{what}; {remedy}")]
pub struct Refusal {
    /// At whose fault, for scripts.
    #[serde(rename = "error")]
    pub kind: RefusalKind,
    /// What is wrong, in a sentence without a full stop.
    pub what: String,
    /// What the reader can do about it.
    #[serde(rename = "do")]
    pub remedy: String,
}

impl Refusal {
    #[expect(missing_docs, reason = "the fields say it")]
    pub fn new(kind: RefusalKind, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { kind, what: what.into(), remedy: remedy.into() }
    }
}

/// At whose fault a request is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// The request makes no sense.
    BadRequest,
    /// There is no such meeting, member or domain.
    NotFound,
    /// The id, or the terminal, belongs to another conference.
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
    /// A bug of Baton.
    Internal,
}

impl RefusalKind {
    /// The HTTP status of the answer.
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
