//! Whether the server kept its promise: rules, held against histogram logs.
//!
//! A rule bounds a percentile of a stage's latency, the share of frames lost, availability, or how
//! long a death was felt. It is held in every window of its length, or once over all of the logs.
//! All is computed from the logs alone, so that whoever has them gets the same verdicts.

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
