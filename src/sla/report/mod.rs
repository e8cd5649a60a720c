//! The page: one HTML file with everything in it, which needs no script, no network and no other
//! file.

mod plot;

use std::time::{Duration, SystemTime};

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::engine_runs::{History, Reset};
use super::evaluate::{Verdict, Verdicts, any_histogram, merge};
use super::percentile::percentile;
use super::rules::{Phase, Rules};
use crate::text::{nanoseconds, seconds, share};

const STYLE: &str = include_str!("style.css");
/// Quantiles of the table of latencies.
const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 0.9999];

/// With fewer values, the table is enough.
const DRAWN_MIN: u64 = 100;

/// The content of the page.
pub struct Page<'a> {
    /// Text, not HTML: it is escaped.
    pub title: &'a str,
    /// What was to be achieved.
    pub rules: &'a Rules,
    /// What happened.
    pub history: &'a History,
    /// The result of comparing the two.
    pub verdicts: &'a Verdicts,
}

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

fn at(seconds: f64) -> String {
    when(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds.max(0.0)))
}

/// A figure with its unit: a time in a suitable unit, a share in percent.
pub fn figure(unit: &str, value: f64) -> String {
    if unit == "s" { seconds(value) } else { share(value) }
}

impl Page<'_> {
    /// The whole page.
    pub fn render(&self) -> String {
        let span = self.history.span();
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (self.title) " – service level" }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    h1 { (self.title) " – service level" }
                    @if let Some((start, end)) = span {
                        p.sub { (at(start)) " to " (at(end)) " UTC, " (seconds(end - start)) }
                    }
                    p class=(if self.verdicts.held { "verdict held" } else { "verdict breached" }) {
                        @if self.verdicts.held { "Every rule was held." } @else { "Not every rule was held." }
                    }
                    (self.verdict_table())
                    (self.latencies())
                    (self.frames())
                    (self.resets())
                    (self.sources())
                }
            }
        };
        page.into_string()
    }

    fn verdict_table(&self) -> Markup {
        let row = |verdict: &Verdict| {
            html! {
                tr {
                    td { (verdict.rule) }
                    td class=(verdict.verdict.replace(' ', "-")) { (verdict.verdict) }
                    td.number { (figure(verdict.unit, verdict.bound)) }
                    td.number { @if let Some(worst) = verdict.worst { (figure(verdict.unit, worst)) } @else { "–" } }
                    td {
                        @if let (Some(start), Some(window)) = (verdict.at_s, verdict.window_s) {
                            (at(start)) ", " (seconds(window))
                        }
                    }
                    td.number { (verdict.breached) " of " (verdict.looked_at) }
                }
            }
        };
        html! {
            h2 { "Verdicts" }
            table {
                tr { th { "Rule" } th { "Verdict" } th { "Bound" } th { "Worst" } th { "In the window from (UTC)" } th { "Breached" } }
                @for verdict in &self.verdicts.rules { (row(verdict)) }
            }
        }
    }

    fn latencies(&self) -> Markup {
        let tags = self.history.tags();
        let whole = |tag: &str| {
            let intervals = self.history.intervals().filter(|interval| interval.tag == tag);
            intervals.fold(any_histogram(), |mut whole, interval| {
                merge(&mut whole, &interval.histogram());
                whole
            })
        };
        html! {
            h2 { "Latency" }
            table {
                tr { th { "Stage" } th { "Count" } @for quantile in QUANTILES { th { "p" (quantile * 100.0) } } th { "Slowest" } }
                @for tag in &tags {
                    @let all = whole(tag);
                    tr {
                        td { (tag) }
                        td.number { (all.len()) }
                        @for quantile in QUANTILES { td.number { (nanoseconds(all.value_at_quantile(quantile))) } }
                        td.number { (nanoseconds(all.max())) }
                    }
                }
            }
            @for tag in &tags {
                @let all = whole(tag);
                @if all.len() >= DRAWN_MIN {
                    section.stage {
                        h3 { (tag) }
                        div.pair {
                            (plot::percentiles(&all))
                            (plot::heat_map(self.history, tag))
                        }
                    }
                }
            }
        }
    }

    fn frames(&self) -> Markup {
        let sum = |read: fn(&crate::telemetry::FramesNote) -> u64| self.history.frames().map(read).sum::<u64>();
        let (received, shed, dropped) = (sum(|it| it.received), sum(|it| it.shed), sum(|it| it.dropped));
        html! {
            h2 { "Frames" }
            p { (received) " received, " (shed) " of them shed, " (dropped) " dropped by the kernel." }
            (plot::frames(self.history))
        }
    }

    fn resets(&self) -> Markup {
        let resets = self.history.resets();
        html! {
            h2 { "Recoveries" }
            @if resets.is_empty() {
                p { "These logs contain no death and no stop." }
            } @else {
                (plot::timelines(&resets))
                (reset_table(&resets))
            }
        }
    }

    fn sources(&self) -> Markup {
        html! {
            h2 { "Made from" }
            p { "Rules " code { (self.rules.file.display()) } " and these logs:" }
            ul {
                @for (path, broken) in self.history.files() {
                    li {
                        code { (path.display()) }
                        @for line in broken { br; span.breached { "line " (line.line) ": " (line.why) } }
                    }
                }
            }
            p.sub { "Percentiles are HdrHistogram's, to two digits of what the server recorded. Times are UTC." }
        }
    }
}

/// The reset times in the form of RFC 6201: one in each line, then a summary.
fn reset_table(resets: &[Reset]) -> Markup {
    let time = |ns: Option<u64>| ns.map_or("–".into(), nanoseconds);
    let how = |reset: &Reset| if reset.recovery.succeeds { "death" } else { "stop, or death of all" };
    let over = |phase: Phase| {
        let mut all: Vec<_> = resets.iter().filter_map(|reset| reset.until(phase)).collect();
        all.sort_unstable();
        [0.0, 0.5, 0.99, 1.0].map(|share| percentile(&all, share))
    };
    let columns = Phase::ALL.map(over);
    html! {
        table {
            caption { "Reset times (RFC 6201), from the notice of the death" }
            tr {
                th { "At (UTC)" } th { "Reset" } th { "Recovered by" } th { "Meetings' parts" } th { "Frames dropped" }
                th { "First takeover frame" } th { "All acknowledged" } th { "Reconciled" }
            }
            @for reset in resets {
                tr {
                    td { (at(reset.at_s)) }
                    td { (how(reset)) }
                    td { (reset.recovery.path) }
                    td.number {
                        (reset.recovery.meetings)
                        @if reset.recovery.unreached > 0 { ", " (reset.recovery.unreached) " servers not reached" }
                    }
                    td.number { (reset.dropped) }
                    @for phase in Phase::ALL { td.number { (time(reset.until(phase))) } }
                }
            }
            @for (row, name) in ["Fastest", "Median", "p99", "Slowest"].into_iter().enumerate() {
                tr.over { td colspan="5" { (name) " of " (resets.len()) } @for column in &columns { td.number { (time(column[row])) } } }
            }
        }
    }
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
