//! The page: one HTML file with everything in it, which needs no script, no network and no other
//! file.

mod plot;
mod when;

use maud::{DOCTYPE, Markup, PreEscaped, html};

pub use when::when;

use self::when::at;
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
