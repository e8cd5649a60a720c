//! What an operator may set about recovery.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{config, limits};

/// What becomes of a meeting that an autonomous server holds and we do not know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Orphans {
    /// It is listed and alarmed, and goes on without us.
    #[default]
    Leave,
    /// It is taken over and kept from now on.
    Adopt,
    /// It is ended.
    End,
}

/// How recovery behaves. Durations are bounds of pauses, never of how long recovery tries: that is
/// for ever.
#[derive(Clone, Debug)]
pub struct Settings {
    /// TAKEOVER_BATCH pages that may be outstanding at one autonomous server; its CONNECT_ACK may
    /// say fewer.
    pub window: u16,
    /// STATE_QUERY and MEETING_END requests that may be outstanding at one autonomous server.
    pub queries: u16,
    /// The shortest pause before an unanswered request is repeated.
    pub rto_min: Duration,
    /// The longest.
    pub rto_max: Duration,
    /// The longest that a BUSY is believed, so that a nonsense value does not stop recovery.
    pub busy_max: Duration,
    /// Rounds of listing after a differing AUDIT that follow at once.
    pub audit_rounds: u32,
    /// The pause before each further round.
    pub audit_pause: Duration,
    /// After how long agreement is proven once more.
    pub prove_every: Duration,
    /// What becomes of what we do not know.
    pub orphans: Orphans,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window: 32,
            queries: 32,
            rto_min: Duration::from_millis(20),
            rto_max: Duration::from_secs(1),
            busy_max: Duration::from_secs(30),
            audit_rounds: 3,
            audit_pause: Duration::from_secs(10),
            prove_every: Duration::from_secs(10),
            orphans: Orphans::Leave,
        }
    }
}

impl Settings {
    /// The settings with every bound kept: windows within 1 and their limit, pauses in order.
    #[must_use]
    pub(super) fn bounded(mut self) -> Self {
        self.window = self.window.clamp(1, limits::TAKEOVER_WINDOW_MAX);
        self.queries = self.queries.clamp(1, limits::STATE_QUERIES_MAX);
        self.rto_min = self.rto_min.max(Duration::from_micros(100));
        self.rto_max = self.rto_max.max(self.rto_min);
        self.prove_every = self.prove_every.max(self.rto_max);
        self
    }
}

impl From<&config::Recovery> for Settings {
    fn from(configured: &config::Recovery) -> Self {
        let &config::Recovery { window, rto_min, rto_max, ref orphans, .. } = configured;
        let orphans = match orphans {
            config::Orphans::Leave => Orphans::Leave,
            config::Orphans::Adopt => Orphans::Adopt,
            config::Orphans::End => Orphans::End,
        };
        Self { window, rto_min, rto_max, orphans, ..Self::default() }
    }
}
