//! A hand-over to another program, as clients ask for it and see it.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::limits::{UPGRADE_TRIAL_S, UPGRADE_TRIAL_S_MAX};

/// What a client may set when it asks for an upgrade. The program is not among it: that is the one
/// on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpgradeForm {
    /// Seconds for which the new program is on trial.
    pub within: u64,
}

impl Default for UpgradeForm {
    fn default() -> Self {
        Self { within: UPGRADE_TRIAL_S }
    }
}

impl UpgradeForm {
    /// For how long the new program is on trial.
    ///
    /// # Errors
    /// It is no time that a trial can take.
    pub fn trial(self) -> Result<Duration, TrialTime> {
        if !(1..=UPGRADE_TRIAL_S_MAX).contains(&self.within) {
            return Err(TrialTime(self.within));
        }
        Ok(Duration::from_secs(self.within))
    }
}

/// Seconds that no trial may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a trial of {0} seconds: ask for 1 to {UPGRADE_TRIAL_S_MAX}")]
pub struct TrialTime(pub u64);

/// What a process runs.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Program {
    /// Its version, as `baton --version` says it.
    pub version: String,
    /// Where it was started from. The file may be another by now: then `(deleted)` is behind it.
    pub path: String,
}

impl Program {
    /// Of this process.
    pub fn running() -> Self {
        let path = std::env::current_exe().map_or_else(|_| "unknown".into(), |path| path.display().to_string());
        Self { version: env!("CARGO_PKG_VERSION").into(), path }
    }
}

/// Answer to a client that asked for an upgrade: the hand-over begins now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Upgrading {
    /// The engine that takes over.
    #[serde(alias = "heir")]
    pub successor: u32,
    /// The version that it runs.
    pub version: String,
    /// Seconds for which it is on trial.
    pub within: u64,
}

/// How the last upgrade does.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum UpgradeState {
    /// This keeper has been asked for none.
    #[default]
    None,
    /// The new program controls, and the one before stands by.
    Trial {
        /// Until when, in milliseconds since 1970.
        until_ms: u64,
    },
    /// The new program has stood its trial.
    Kept,
    /// The new program failed in its trial, and the one before controls again.
    Returned {
        /// What became of the new one.
        why: String,
    },
}

impl UpgradeState {
    /// A trial that ends after this time.
    pub fn trial(left: Duration) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::Trial { until_ms: (now + left).as_millis() as u64 }
    }
}

impl fmt::Display for UpgradeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Trial { until_ms } => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
                write!(f, "on trial for {} s more", until_ms.saturating_sub(now).div_ceil(1000))
            }
            Self::Kept => f.write_str("kept"),
            Self::Returned { why } => write!(f, "returned to the program of before: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_takes_a_time_that_a_trial_can_take() {
        assert_eq!(UpgradeForm::default().trial(), Ok(Duration::from_secs(UPGRADE_TRIAL_S)));
        for within in [0, UPGRADE_TRIAL_S_MAX + 1, u64::MAX] {
            assert_eq!(UpgradeForm { within }.trial().unwrap_err(), TrialTime(within));
        }
    }

    #[test]
    fn no_program_is_taken_from_a_client() {
        assert!(serde_json::from_str::<UpgradeForm>(r#"{"within": 5, "path": "/tmp/mine"}"#).is_err());
        assert_eq!(serde_json::from_str::<UpgradeForm>("{}").unwrap(), UpgradeForm::default());
    }

    /// The name of the field before 0.2, for one version more.
    #[test]
    fn an_older_servers_answer_is_understood() {
        let old = r#"{"heir": 7, "version": "0.1.0", "within": 30}"#;
        assert_eq!(serde_json::from_str::<Upgrading>(old).unwrap().successor, 7);
    }
}
