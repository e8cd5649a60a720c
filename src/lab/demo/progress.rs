//! What the demonstration prints while it runs: a bar, and a line of plain words for each thing
//! done.

use crate::output::tell;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The talk, on standard error.
pub struct Progress {
    bar: ProgressBar,
    colour: bool,
}

impl Progress {
    /// A progress with a bar of so many steps. No bar where nobody watches.
    pub fn new(steps: u64) -> Self {
        let watched = std::io::stderr().is_terminal();
        let target = if watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(steps), target);
        let style =
            ProgressStyle::with_template("  {spinner} {wide_msg}\n  {bar:60.cyan/dim} {percent:>3} %  {elapsed}")
                .expect("the template is one")
                .progress_chars("━━─")
                .tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ");
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar, colour: watched && std::env::var_os("NO_COLOR").is_none() }
    }

    /// A line that stays.
    pub fn say(&self, line: &str) {
        // A hidden bar would swallow the line.
        if self.bar.is_hidden() { tell!("{line}") } else { self.bar.println(line) }
    }

    /// What is being done at the moment, beside the bar.
    pub fn now(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    /// Something was done: a tick, what it is about, and how it went.
    pub fn done(&self, about: &str, how: &str) {
        self.say(&format!("  {}  {}  {how}", self.paint("32", "✓"), self.paint("1", &format!("{about:<13}"))));
    }

    /// A fault begins.
    pub fn fault(&self, number: usize, words: &str) {
        self.say(&format!("\n  {}  {}", self.paint("33;1", &format!("{number}")), self.paint("1", words)));
    }

    /// What came of it; in red if it is not as it must be.
    pub fn outcome(&self, well: bool, words: &str) {
        let (colour, sign) = if well { ("32", "✓") } else { ("31;1", "✗") };
        self.say(&format!("     {}  {words}", self.paint(colour, sign)));
    }

    /// So many steps further.
    pub fn advance(&self, steps: u64) {
        self.bar.inc(steps);
    }

    /// The bar goes.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}
