//! Text for people: figures in a suitable unit, and which characters may be shown.

use std::time::Duration;

/// Whether a character could control a terminal, or disguise its line: control characters, line
/// separators, and those that change the direction of writing.
pub fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A time in a suitable unit, with three digits.
pub fn time(microseconds: f64) -> String {
    let (value, unit) = match microseconds {
        us if us < 1e3 => (us, "µs"),
        us if us < 1e6 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    let digits = if value < 10.0 {
        2
    } else if value < 100.0 {
        1
    } else {
        0
    };
    format!("{value:.digits$} {unit}")
}

/// A time in microseconds, as reports state them.
pub fn microseconds(time: Duration) -> f64 {
    (time.as_nanos() as f64) / 1e3
}

/// `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 report`, `2,000 reports`.
pub fn count(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", thousands(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_parted() {
        let shown = [0, 12, 999, 1000, 1_234_567].map(thousands);
        assert_eq!(shown, ["0", "12", "999", "1,000", "1,234,567"]);
    }
}
