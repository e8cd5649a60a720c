//! The offline check of the service level: rules, compared with histogram logs.
//!
//! A rule limits a percentile of a stage's latency, the share of lost frames, availability, or how
//! long the effect of a death lasts. It must hold in every window of its length, or once over all
//! logs. Everything is computed from the logs alone, so everybody who has the logs gets the same
//! verdicts.

pub mod chart;
mod engine_runs;
mod evaluate;
mod junit;
mod percentile;
pub mod report;
mod rules;

pub use engine_runs::{History, Outage, Reset};
pub use evaluate::{Verdict, Verdicts, evaluate};
pub use junit::junit;
pub use percentile::{median, percentile};
pub use rules::{Kind, Phase, Rule, Rules, RulesError, parse_duration};
