//! What was found, and how grave it is.

use serde::Serialize;

/// How grave a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It could not be determined, or does not matter here.
    Note,
    /// Baton runs, but slower or less safely than it could.
    Warning,
    /// Baton will not run.
    Problem,
}

impl Level {
    /// Its name in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "PROBLEM",
        }
    }
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// What was checked, in a word or two.
    pub check: &'static str,
    /// How grave it is.
    pub level: Level,
    /// The state that was found.
    pub is: String,
    /// What that costs; empty if all is well.
    pub costs: String,
    /// What to do; empty if there is nothing to do.
    pub todo: String,
}

impl Finding {
    pub(super) fn ok(check: &'static str, is: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, is: is.into(), costs: String::new(), todo: String::new() }
    }

    pub(super) fn note(check: &'static str, is: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { level: Level::Note, todo: todo.into(), ..Self::ok(check, is) }
    }

    pub(super) fn warning(
        check: &'static str,
        is: impl Into<String>,
        costs: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Self { level: Level::Warning, costs: costs.into(), todo: todo.into(), ..Self::ok(check, is) }
    }

    pub(super) fn problem(
        check: &'static str,
        is: impl Into<String>,
        costs: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Self { level: Level::Problem, ..Self::warning(check, is, costs, todo) }
    }
}
