//! How wide comments are: a line that holds one ends within [`WIDTH_MAX`] columns.
//!
//! Free are lines that cannot be broken: those with an address of the web, of a table, and of a
//! block between fences, which is a drawing or code.

use proc_macro2::{TokenStream, TokenTree};
use unicode_width::UnicodeWidthChar;

use super::tree::Files;

/// Columns of a line with a comment. Code alone may be wider: that is rustfmt's to see to.
const WIDTH_MAX: usize = 100;
const TAB: usize = 8;

/// How a language marks comments.
enum Language {
    /// `//` and `/* … */`, beside literals of many forms.
    Rust,
    /// Comments as in Rust; strings have one form, and end on their line.
    C,
    /// `#`: shell, TOML, YAML, Python, units of systemd.
    Hash,
}

fn language(path: &str, text: &str) -> Option<Language> {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("rs") => Some(Language::Rust),
        Some("c" | "h") => Some(Language::C),
        Some("sh" | "toml" | "py" | "yml" | "service") => Some(Language::Hash),
        None if text.starts_with("#!") => Some(Language::Hash),
        _ => None,
    }
}

/// Lines with a comment that are too wide, as `file:line: columns`.
pub fn wide_comments(files: &Files) -> Vec<String> {
    let mut breaches = Vec::new();
    for (path, text) in files {
        let Some(language) = language(path, text) else { continue };
        let code = match language {
            Language::Rust => without_literals(path, text),
            Language::C => without_strings(text),
            Language::Hash => text.clone(),
        };
        let comments = match language {
            Language::Hash => code.lines().map(hashed).collect(),
            _ => slashed(&code),
        };
        let mut is_fenced = false;
        for (at, (line, comment)) in text.lines().zip(comments).enumerate() {
            let Some(comment) = comment else {
                is_fenced = false;
                continue;
            };
            let words = comment.trim_start_matches(['/', '!', '*', '#', ' ', '\t']);
            let is_fence = words.starts_with("```");
            is_fenced ^= is_fence;
            let width = width(line);
            if width > WIDTH_MAX && !(is_fenced || is_fence || words.starts_with('|') || words.contains("://")) {
                breaches.push(format!("{path}:{}: {width} columns", at + 1));
            }
        }
    }
    breaches
}

fn width(line: &str) -> usize {
    line.chars().fold(0, |at, c| if c == '\t' { (at / TAB + 1) * TAB } else { at + c.width().unwrap_or(0) })
}

/// The comment of each line, in a text whose strings are blank.
fn slashed(text: &str) -> Vec<Option<&str>> {
    let mut is_open = false;
    let comment = |line| {
        let line: &str = line;
        let mut first = is_open.then_some(0);
        let mut at = 0;
        while let Some(found) = line[at..].find(if is_open { "*/" } else { "/" }) {
            let rest = &line[at + found..];
            if is_open || rest.starts_with("/*") {
                first = first.or(Some(at + found));
                is_open = !is_open;
            } else if rest.starts_with("//") {
                first = first.or(Some(at + found));
                break;
            }
            at += found + if rest.starts_with("/*") { 2 } else { 1 };
        }
        first.map(|first| &line[first..])
    };
    text.lines().map(comment).collect()
}

/// The comment of a line: from a `#` on with nothing before it, or space and no open quote.
fn hashed(line: &str) -> Option<&str> {
    let is_comment = |&(at, _): &(usize, &str)| {
        let before = &line[..at];
        let is_closed = |quote| before.matches(quote).count() % 2 == 0;
        before.trim().is_empty() || before.ends_with([' ', '\t']) && is_closed('"') && is_closed('\'')
    };
    line.match_indices('#').find(is_comment).map(|(at, _)| &line[at..])
}

/// The text with spaces for its literals, and of the same length.
fn without_literals(path: &str, text: &str) -> String {
    fn blank(tokens: TokenStream, lines: &mut [Vec<char>]) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => blank(group.stream(), lines),
                TokenTree::Literal(literal) => {
                    let (start, end) = (literal.span().start(), literal.span().end());
                    // The text of a doc comment is a literal too.
                    if lines[start.line - 1].get(start.column) == Some(&'/') {
                        continue;
                    }
                    for line in start.line..=end.line {
                        let from = if line == start.line { start.column } else { 0 };
                        let to = if line == end.line { end.column } else { lines[line - 1].len() };
                        lines[line - 1][from..to].fill(' ');
                    }
                }
                _ => {}
            }
        }
    }
    let tokens = text.parse::<TokenStream>().unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut lines = text.lines().map(|line| line.chars().collect::<Vec<_>>()).collect::<Vec<_>>();
    blank(tokens, &mut lines);
    lines.iter().map(|line| line.iter().collect::<String>() + "\n").collect()
}

/// The text with spaces for what is between the quotes of code in C.
fn without_strings(text: &str) -> String {
    let mut blanked = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let until = |end: &str| rest[1..].find(end).map_or(rest.len(), |at| at + 1 + end.len());
        let (length, is_string) = match c {
            '"' => (quoted(rest), true),
            '\'' if rest.starts_with("'\"'") => (3, false),
            '/' if rest.starts_with("/*") => (until("*/"), false),
            '/' if rest.starts_with("//") => (until("\n"), false),
            c => (c.len_utf8(), false),
        };
        let (part, behind) = rest.split_at(length);
        if is_string {
            blanked.extend(part.chars().map(|c| if c == '\n' { c } else { ' ' }))
        } else {
            blanked.push_str(part)
        }
        rest = behind;
    }
    blanked
}

/// Bytes of a string with its quotes.
fn quoted(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text.char_indices().skip(1).find(|&(_, c)| {
        let is_end = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_end
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}
