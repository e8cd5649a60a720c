//! What clients send, parsed; and what they are told when it cannot be.

use std::time::Duration;

use axum::body::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{DEADLINE, DEADLINE_MAX};
use crate::cms::{NewMember, Refusal, RefusalKind};
use crate::wire::{Address, Domain, Flags, Layout, MeetingId, Role};

/// What any request may say besides its body.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    pub deadline_ms: Option<u64>,
}

impl Asked {
    /// How long it may take.
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
    serde_json::from_slice(bytes)
        .map_err(|error| bad(format!("the body: {error}"), "see docs/api.md for what it must hold"))
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
