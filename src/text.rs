//! Text for people: figures in a suitable unit, and which characters may be shown.

use std::time::Duration;

/// Whether a character could control a terminal, or disguise its line: control characters, line
/// separators, and those that change the direction of writing.
pub fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A time in the unit that suits it, with three digits: `1.34 ms`.
pub fn time(time: Duration) -> String {
    seconds(time.as_secs_f64())
}

/// As [`time`], of a number of seconds.
pub fn seconds(seconds: f64) -> String {
    let (value, unit) = match seconds {
        _ if seconds >= 1.0 => (seconds, "s"),
        _ if seconds >= 1e-3 => (seconds * 1e3, "ms"),
        _ if seconds >= 1e-6 => (seconds * 1e6, "µs"),
        _ => (seconds * 1e9, "ns"),
    };
    let digits = if value >= 100.0 || unit == "ns" {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {unit}")
}

/// As [`time`], of a number of microseconds.
pub fn microseconds(microseconds: f64) -> String {
    seconds(microseconds / 1e6)
}

/// As [`time`], of a number of nanoseconds.
pub fn nanoseconds(nanoseconds: u64) -> String {
    seconds(nanoseconds as f64 / 1e9)
}

/// A share in percent: `99.9990 %`.
pub fn share(share: f64) -> String {
    let digits = if share == 0.0 || share == 1.0 { 0 } else { 4 };
    format!("{:.digits$} %", share * 100.0)
}

/// A count in five characters at most: `12`, `3.4k`, `1.2M`.
pub fn short(count: f64) -> String {
    match count {
        _ if count < 1_000.0 => format!("{count:.0}"),
        _ if count < 10_000.0 => format!("{:.1}k", count / 1e3),
        _ if count < 1_000_000.0 => format!("{:.0}k", count / 1e3),
        _ => format!("{:.1}M", count / 1e6),
    }
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

    #[test]
    fn figures_have_the_unit_that_fits() {
        let shown = [2.5, 0.0125, 0.000_15, 0.000_000_9].map(seconds);
        assert_eq!(shown, ["2.50 s", "12.5 ms", "150 µs", "900 ns"]);
        assert_eq!([0.0, 0.000_012, 0.999_99, 1.0].map(share), ["0 %", "0.0012 %", "99.9990 %", "100 %"]);
        assert_eq!([999.4, 1_500.0, 12_345.0, 4.5e6].map(short), ["999", "1.5k", "12k", "4.5M"]);
    }
}
