//! What `BATON_LOG` asks for.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::sys::stderr;

/// The environment variable that filters log lines.
const VARIABLE: &str = "BATON_LOG";

/// What it asks for; none where it is not set, empty, or makes no sense: then all from INFO on is
/// logged.
pub(super) fn filter() -> Option<EnvFilter> {
    let text = std::env::var(VARIABLE).ok()?;
    read(&text).ok().flatten()
}

/// What an operator should know of it.
pub(super) fn complaint() -> Option<String> {
    let text = std::env::var_os(VARIABLE)?;
    let what = match text.to_str().map(read) {
        Some(Ok(_)) => return None,
        Some(Err(what)) => what,
        None => "it is no UTF-8".into(),
    };
    Some(format!(
        "{VARIABLE} is ignored: {what}; say a level (off, error, warn, info, debug, trace), or one of a module: \
         baton::keeper=debug"
    ))
}

fn read(text: &str) -> Result<Option<EnvFilter>, String> {
    let is_level = |word: &str| word.parse::<LevelFilter>().is_ok();
    for directive in text.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
        let makes_sense = match directive.rsplit_once('=') {
            Some((_, level)) => is_level(level),
            // What is neither would be taken for a module, and silence all others.
            None => is_level(directive) || directive == "baton" || directive.starts_with("baton::"),
        };
        if !makes_sense {
            return Err(format!("`{directive}` is neither a level nor a module of Baton's"));
        }
    }
    if text.trim().is_empty() {
        return Ok(None);
    }
    EnvFilter::try_new(text).map(Some).map_err(|error| error.to_string())
}

/// Log lines of keeper and engine: to standard error, without colour where that is no terminal.
/// `BATON_LOG` filters (`debug`, or by module such as `baton::keeper=debug`). Nobody waits for who
/// reads them ([`stderr`]).
pub(super) fn log_to_stderr() {
    let log = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_writer(|| stderr::Log)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        // It would say on standard error that standard error cannot be written to, and panic over
        // that: nobody may lose a conference because a log's reader went away.
        .log_internal_errors(false);
    let _ = match filter() {
        Some(filter) => log.with_env_filter(filter).try_init(),
        None => log.try_init(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_told_and_nothing_is_silenced_by_it() {
        for good in ["debug", "baton::keeper=debug", "info,baton::link=trace", "hyper=warn,info", "off", "baton"] {
            assert!(matches!(read(good), Ok(Some(_))), "{good}");
        }
        for none in ["", "  "] {
            assert!(matches!(read(none), Ok(None)), "an empty one asks for nothing");
        }
        for bad in ["nonsense", "debug,verbose", "baton=loud", "7;8"] {
            assert!(read(bad).is_err_and(|what| what.contains('`')), "{bad}");
        }
    }
}
