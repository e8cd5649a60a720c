//! Dates and times in UTC.

use std::time::{Duration, SystemTime};

/// A date and time in UTC, to milliseconds.
pub fn when(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Computes the calendar date from a day number: years are taken to start in March, so that the
    // leap day is the last.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{:03}", since.subsec_millis())
}

pub(super) fn at(seconds: f64) -> String {
    when(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds.max(0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_the_calendars() {
        let at = |seconds: u64| when(SystemTime::UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 7));
        // According to `date -u -d @…`.
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00.007"),
            (951_782_400, "2000-02-29 00:00:00.007"),
            (1_763_990_000, "2025-11-24 13:13:20.007"),
            (4_107_542_399, "2100-02-28 23:59:59.007"),
            (4_107_542_400, "2100-03-01 00:00:00.007"),
        ] {
            assert_eq!(at(seconds), expected);
        }
    }
}
