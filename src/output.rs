//! The only module that writes to standard output and standard error.
//!
//! What always holds: nothing that is printed here ends the process, neither by a panic nor by a
//! signal, so that a command finishes what it began. If the reader of standard output stops
//! reading, that is not a failure, and nothing more is written for it. Any other failure to write
//! results, such as a full disk, is reported at the end, and makes the exit code that of a failure
//! ([`settle`]). Characters that could control a terminal, or disguise a line, are shown in escaped
//! form.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

use serde_json::Value;

use crate::text::is_unprintable;

/// Exit code of a command that was understood and failed.
pub const FAILED: u8 = 1;
/// The error that ended writing to standard output.
static ENDED: OnceLock<io::Error> = OnceLock::new();

/// A line of results, on standard output.
macro_rules! say {
    () => { $crate::output::put("\n") };
    ($($words:tt)*) => { $crate::output::line(format_args!($($words)*)) };
}

/// A message for people, on standard error.
macro_rules! tell {
    ($($words:tt)*) => { $crate::output::talk(format_args!($($words)*)) };
}

pub(crate) use {say, tell};

/// Writes a line of results.
pub(crate) fn line(words: Arguments<'_>) {
    put(&(shown(&words.to_string()) + "\n"));
}

/// Writes results unchanged.
pub(crate) fn put(text: &str) {
    if ENDED.get().is_none() {
        note(io::stdout().lock().write_all(text.as_bytes()));
    }
}

/// Writes JSON for people and scripts. In its strings, characters that could control a terminal are
/// escaped in JSON's way.
pub(crate) fn json(value: &Value) {
    line_of_json(&format!("{value:#}"));
}

/// As [`json`], in one line.
pub(crate) fn json_line(value: &Value) {
    line_of_json(&value.to_string());
}

fn line_of_json(text: &str) {
    put(&(escaped(text, |code| format!("\\u{code:04x}")) + "\n"));
}

/// Writes a line to standard error. If that fails, there is no other place to report it.
pub(crate) fn talk(words: Arguments<'_>) {
    let _ = io::stderr().lock().write_all((shown(&words.to_string()) + "\n").as_bytes());
}

/// Whether standard output is a terminal.
pub(crate) fn is_watched() -> bool {
    io::stdout().is_terminal()
}

/// Whether standard output accepts nothing more: a command without an end may end then.
pub(crate) fn has_ended() -> bool {
    ENDED.get().is_some()
}

/// Records the result of a write to standard output.
pub(super) fn note(wrote: io::Result<()>) {
    if let Err(error) = wrote {
        // The first error is the cause of later ones.
        let _ = ENDED.set(error);
    }
}

/// Flushes the results, and returns the resulting exit code of the command.
pub(super) fn settle(code: ExitCode) -> ExitCode {
    if ENDED.get().is_none() {
        note(io::stdout().lock().flush());
    }
    match ENDED.get() {
        Some(error) if error.kind() != ErrorKind::BrokenPipe => {
            tell!("baton: the results could not be written to standard output: {error}");
            if code == ExitCode::SUCCESS { ExitCode::from(FAILED) } else { code }
        }
        _ => code,
    }
}

/// A text in the form in which it is shown: ends of lines stay, and characters that could control a
/// terminal are escaped.
pub(crate) fn shown(text: &str) -> String {
    escaped(text, |code| format!("\\u{{{code:x}}}"))
}

/// A text in the form in which it is shown within a line.
pub(crate) fn shown_in_line(text: &str) -> String {
    shown(text).replace('\n', "\\n")
}

fn escaped(text: &str, escape: impl Fn(u32) -> String) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut all, character| {
        if is_unprintable(character) && character != '\n' {
            all += &escape(character.into());
        } else {
            all.push(character);
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        assert_eq!(shown("Board\u{1b}[2J\n会议室"), "Board\\u{1b}[2J\n会议室");
        assert_eq!(shown_in_line("one\ntwo\u{9b}\u{202e}\u{7f}"), "one\\ntwo\\u{9b}\\u{202e}\\u{7f}");
    }

    #[test]
    fn escaped_json_is_the_same_json() {
        let value = serde_json::json!({ "name": "a\u{9b}2J\u{202e}\n\u{1b}会" });
        let text = escaped(&value.to_string(), |code| format!("\\u{code:04x}"));
        assert!(!text.contains(is_unprintable), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
