//! What clients send, parsed; and the refusals where that fails.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::cms::{NewMember, Refusal, RefusalKind, object};
use crate::wire::{Address, Domain, Flags, Layout, MeetingId, Role};

/// How long a request may take that has no `deadline_ms`.
pub const DEADLINE: Duration = Duration::from_secs(8);
/// The longest that a request may ask for.
const DEADLINE_MAX: Duration = Duration::from_secs(60);

/// The query, which any request may have.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    deadline_ms: Option<u64>,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let remedy = "say ?deadline_ms= and a whole number of milliseconds, or nothing";
        let asked = Query::try_from_uri(&parts.uri);
        asked.map(|Query(asked)| asked).map_err(|error| bad(format!("the query: {}", error.body_text()), remedy))
    }
}

/// The variable parts of a path.
#[derive(Debug)]
pub(super) struct Within<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Within<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let said = Path::from_request_parts(parts, state).await;
        said.map(|Path(said)| Self(said)).map_err(|error| {
            bad(
                format!("the path {}: {}", parts.uri.path(), error.body_text()),
                "see docs/api.md for the paths there are",
            )
        })
    }
}

impl Asked {
    /// How long the request may take.
    pub fn deadline(&self) -> Duration {
        self.deadline_ms.map_or(DEADLINE, Duration::from_millis).min(DEADLINE_MAX)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AddForm {
    pub members: Vec<NewMember>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LayoutForm {
    pub layout: Layout,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RoleForm {
    pub role: Role,
}

/// Flags by number, as the wire has them, or by name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FlagsForm {
    #[serde(default)]
    mask: Flags,
    #[serde(default)]
    value: Flags,
    #[serde(default)]
    set: Vec<String>,
    #[serde(default)]
    clear: Vec<String>,
}

impl FlagsForm {
    /// Mask and value.
    pub fn flags(&self) -> Result<(Flags, Flags), Refusal> {
        let (set, clear) = (named(&self.set)?, named(&self.clear)?);
        let unknown = (self.mask.0 | self.value.0) & !Flags::ALL.0;
        if unknown != 0 {
            return Err(bad(
                format!("mask or value has bits that are no flag: {unknown:#010b}"),
                &format!("use bits of {:#010b} alone, or name flags with set and clear", Flags::ALL.0),
            ));
        }
        let mask = Flags(self.mask.0 | set.0 | clear.0);
        let value = Flags((self.value.0 & self.mask.0 | set.0) & !clear.0);
        if set.0 & clear.0 != 0 {
            return Err(bad("a flag is both set and cleared", "name it once"));
        }
        if mask.0 == 0 {
            return Err(bad(
                "no flag is named",
                r#"send {"set": ["muted"]}, {"clear": ["muted"]} or {"mask": 1, "value": 1}"#,
            ));
        }
        Ok((mask, value))
    }
}

fn named(names: &[String]) -> Result<Flags, Refusal> {
    names.iter().try_fold(Flags::default(), |all, name| {
        let found = Flags::NAMES.iter().find(|(_, known)| known == name);
        let Some((flag, _)) = found else {
            let known: Vec<_> = Flags::NAMES.iter().map(|&(_, name)| name).collect();
            return Err(bad(format!("`{name}` is no flag"), &format!("name some of: {}", known.join(", "))));
        };
        Ok(Flags(all.0 | flag.0))
    })
}

fn bad(what: impl Into<String>, remedy: &str) -> Refusal {
    Refusal::new(RefusalKind::BadRequest, what, remedy)
}

/// A body that must be this form.
pub(super) fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Refusal> {
    object(bytes).map_err(|error| {
        let at = error.place.map_or(String::new(), |(line, column)| format!(" (line {line}, column {column})"));
        bad(format!("the body: {}{at}", error.what), "see docs/api.md for what it must hold")
    })
}

/// The conference that a path names.
pub(super) fn meeting(id: &str) -> Result<MeetingId, Refusal> {
    id.parse().map_err(|error: String| bad(error, "see `baton meeting list` for the ids that there are"))
}

/// The terminal that a path names.
pub(super) fn terminal(domain: &str, device: &str) -> Result<Address, Refusal> {
    let parsed = domain.parse().ok().and_then(Domain::new).zip(device.parse().ok());
    match parsed {
        Some((domain, device)) if device != 0 => Ok(domain.device(device)),
        _ => Err(bad(format!("{domain}/{device} is not a terminal"), "name domain and device, both from 1: 366/1001")),
    }
}
