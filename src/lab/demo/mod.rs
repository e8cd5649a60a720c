//! The demonstration: every way for a dispatch server to end, and what is lost by it.

pub mod progress;
pub mod report;
pub mod run;
