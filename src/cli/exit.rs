//! How a command ends that could not be done.

use crate::output::tell;

/// It was typed wrong, or the configuration is.
pub const WRONG: u8 = 2;
/// Exit code of a server that another one has replaced.
pub const FENCED: u8 = 3;

/// Says on standard error what went wrong, with what caused it.
pub(super) fn complain(error: &dyn std::error::Error) {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some errors repeat their cause in their own words already.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    // By a writer that takes it if nobody reads it any more.
    tell!("baton: {text}");
}
