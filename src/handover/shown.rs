//! What the keeper tells the engine for the status.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::sys::bpf::Mode;

/// How the standby does. In JSON it is its text: `ready`, `starting`, or why there is none.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum StandbyState {
    /// It stands by.
    Ready,
    /// It is on its way there.
    Starting,
    /// There is none; why, in words.
    Absent(String),
}

impl Default for StandbyState {
    /// Nothing is known of it.
    fn default() -> Self {
        Self::Absent(String::new())
    }
}

impl fmt::Display for StandbyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Absent(why) => why,
        })
    }
}

impl From<StandbyState> for String {
    fn from(state: StandbyState) -> Self {
        match state {
            StandbyState::Absent(why) => why,
            state => state.to_string(),
        }
    }
}

impl From<String> for StandbyState {
    fn from(text: String) -> Self {
        match &*text {
            "ready" => Self::Ready,
            "starting" => Self::Starting,
            _ => Self::Absent(text),
        }
    }
}

/// How steering is attached to an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attached {
    /// In the driver, before the kernel makes a packet of the frame.
    Native,
    /// In the network stack: works with every driver, slower.
    Generic,
    /// It is loaded and not attached.
    Nowhere,
}

impl From<Option<Mode>> for Attached {
    fn from(mode: Option<Mode>) -> Self {
        match mode {
            Some(Mode::Native) => Self::Native,
            Some(Mode::Generic) => Self::Generic,
            None => Self::Nowhere,
        }
    }
}

impl fmt::Display for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Nowhere => "nowhere",
        })
    }
}

/// How steering is attached, for the status: once, or once for each interface where they differ. In
/// JSON it is its text, the words parted by commas.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AttachedAll(Vec<Attached>);

impl AttachedAll {
    /// Of all interfaces, in their order.
    pub fn of(interfaces: impl Iterator<Item = Attached>) -> Self {
        let mut all: Vec<_> = interfaces.collect();
        all.dedup();
        Self(all)
    }
}

impl fmt::Display for AttachedAll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, attached) in self.0.iter().enumerate() {
            write!(f, "{}{attached}", if at > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

impl From<AttachedAll> for String {
    fn from(all: AttachedAll) -> Self {
        all.to_string()
    }
}

impl TryFrom<String> for AttachedAll {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let known = [Attached::Native, Attached::Generic, Attached::Nowhere];
        let words = text.split(", ").filter(|word| !word.is_empty());
        let find = |word: &str| known.into_iter().find(|it| it.to_string() == word).ok_or_else(|| word.to_owned());
        words.map(find).collect::<Result<_, _>>().map(Self).map_err(|word| format!("steering is attached `{word}`"))
    }
}
