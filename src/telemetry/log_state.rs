//! How the writing of histogram logs goes, as the status says it.

use std::fmt;

use serde::{Deserialize, Serialize};

const OFF: &str = "off";
const WRITES: &str = "writes to ";

/// How the writing goes. In JSON it is its text.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum LogState {
    /// Nothing is recorded: its text is empty.
    #[default]
    None,
    /// It is recorded, and not written: no folder is configured, or none has been opened yet.
    Off,
    /// It is written to this folder.
    Writes(String),
    /// Why it is not written, in a sentence.
    Fails(String),
}

impl fmt::Display for LogState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Off => f.write_str(OFF),
            Self::Writes(folder) => write!(f, "{WRITES}{folder}"),
            Self::Fails(why) => f.write_str(why),
        }
    }
}

impl From<LogState> for String {
    fn from(state: LogState) -> Self {
        state.to_string()
    }
}

impl From<String> for LogState {
    fn from(text: String) -> Self {
        match (&*text, text.strip_prefix(WRITES)) {
            ("", _) => Self::None,
            (OFF, _) => Self::Off,
            (_, Some(folder)) => Self::Writes(folder.to_owned()),
            _ => Self::Fails(text),
        }
    }
}
