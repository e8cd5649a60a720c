//! The pictures of the page, as SVG.

use hdrhistogram::Histogram;
use maud::{Markup, html};

use super::when::at;
use crate::sla::chart::{LogAxis, curve, decade, line, px, text};
use crate::sla::{History, Phase, Reset};
use crate::text::{nanoseconds, seconds};

const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 260.0;
/// Margins for the labels of the axes: left, bottom, right, top.
const LEFT: f64 = 62.0;
const BOTTOM: f64 = 34.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
/// Cells of a heat map, across and up.
const ACROSS: usize = 120;
const UP: usize = 36;

/// Latencies in nanoseconds, upwards.
fn latencies(lowest_ns: u64, highest_ns: u64) -> LogAxis {
    LogAxis::around([lowest_ns, highest_ns].map(|ns| ns.max(1) as f64), HEIGHT - BOTTOM, TOP)
}

fn latency_axis(scale: LogAxis) -> Markup {
    html! {
        @for ns in scale.decades() {
            (line((LEFT, scale.at(ns)), (WIDTH - RIGHT, scale.at(ns)), None))
            (text(LEFT - 6.0, scale.at(ns) + 4.0, "end", decade(ns / 1e9)))
        }
    }
}

fn svg(height: f64, what: &str, inside: &Markup) -> Markup {
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {height}")) width=(WIDTH) height=(height) role="img" aria-label=(what) {
            title { (what) }
            (inside)
        }
    }
}

/// The horizontal position of a time.
fn x_of(history: &History, seconds: f64) -> f64 {
    let (start, end) = history.span().unwrap_or((0.0, 1.0));
    LEFT + (seconds - start) / (end - start).max(f64::MIN_POSITIVE) * (WIDTH - LEFT - RIGHT)
}

fn time_axis(history: &History, height: f64) -> Markup {
    let (start, end) = history.span().unwrap_or((0.0, 1.0));
    html! {
        (text(LEFT, height - 8.0, "start", at(start)))
        (text(WIDTH - RIGHT, height - 8.0, "end", format!("+ {}", seconds(end - start))))
    }
}

/// Latency over percentiles, spaced by the share of values beyond: each tenth has the width of the
/// one before it.
pub(super) fn percentiles(all: &Histogram<u64>) -> Markup {
    const LAST: f64 = 5.0;
    let scale = latencies(all.min(), all.max());
    let x = |quantile: f64| {
        let nines = -(1.0 - quantile).max(1e-12).log10();
        LEFT + nines.min(LAST) / LAST * (WIDTH - LEFT - RIGHT)
    };
    // Beyond the share of the last value, all percentiles are the same.
    let finest = (1.0 - 1.0 / all.len().max(1) as f64).min(1.0 - 10_f64.powf(-LAST));
    let steps = (0..=200).map(|step| 1.0 - 10_f64.powf(-LAST * f64::from(step) / 200.0));
    let points = steps
        .take_while(|&quantile| quantile <= finest)
        .map(|quantile| (x(quantile), scale.at(all.value_at_quantile(quantile) as f64)));
    let marks = [(0.0, "0"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (0.9999, "99.99 %")];
    svg(
        HEIGHT,
        "Latency over percentiles",
        &html! {
            (latency_axis(scale))
            @for (quantile, name) in marks {
                (line((x(quantile), TOP), (x(quantile), HEIGHT - BOTTOM), None))
                (text(x(quantile), HEIGHT - 16.0, "middle", name))
            }
            (curve(points, None))
        },
    )
}

/// How often each latency occurred over time.
pub(super) fn heat_map(history: &History, tag: &str) -> Markup {
    let (start, end) = history.span().unwrap_or((0.0, 1.0));
    let of_tag = || history.intervals().filter(|interval| interval.tag == tag);
    let bounds = of_tag()
        .map(|interval| interval.histogram())
        .fold((u64::MAX, 1), |(low, high), histogram| (low.min(histogram.min()), high.max(histogram.max())));
    let scale = latencies(bounds.0.min(bounds.1), bounds.1);
    let mut cells = vec![0_u64; ACROSS * UP];
    for interval in of_tag() {
        let share = (interval.start_s - start) / (end - start).max(f64::MIN_POSITIVE);
        let column = ((share * ACROSS as f64) as usize).min(ACROSS - 1);
        // An interval that is wider than a column fills all columns that it spans.
        let wide = (interval.length_s / (end - start).max(f64::MIN_POSITIVE) * ACROSS as f64).ceil().max(1.0) as usize;
        for value in interval.histogram().iter_recorded() {
            let row = ((scale.share(value.value_iterated_to() as f64) * UP as f64) as usize).min(UP - 1);
            for column in column..(column + wide).min(ACROSS) {
                cells[column * UP + row] += value.count_at_value();
            }
        }
    }
    let most = cells.iter().copied().max().unwrap_or(1).max(1) as f64;
    let (width, height) = ((WIDTH - LEFT - RIGHT) / ACROSS as f64, (HEIGHT - BOTTOM - TOP) / UP as f64);
    let filled = cells.iter().enumerate().filter(|&(_, &count)| count > 0).map(|(at, &count)| {
        let (column, row) = (at / UP, at % UP);
        // Logarithmic, so that one slow answer among a million is visible.
        let shade = 0.15 + 0.85 * (count as f64).ln_1p() / most.ln_1p();
        (LEFT + column as f64 * width, HEIGHT - BOTTOM - (row + 1) as f64 * height, shade)
    });
    svg(
        HEIGHT,
        "Latency over time",
        &html! {
            (latency_axis(scale))
            @for (x, y, shade) in filled {
                rect.heat x=(px(x)) y=(px(y)) width=(px(width + 0.2)) height=(px(height)) fill-opacity=(format!("{shade:.2}")) {}
            }
            (time_axis(history, HEIGHT - 8.0))
        },
    )
}

/// Frames a second over time, and those lost.
pub(super) fn frames(history: &History) -> Markup {
    const HIGH: f64 = 150.0;
    let rate = |count: u64, seconds: f64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
    let most = history.frames().map(|it| rate(it.received + it.dropped, it.length_s)).fold(1.0, f64::max);
    let floor = HIGH - BOTTOM;
    let bar = |rate: f64| rate / most * (floor - TOP);
    svg(
        HIGH,
        "Frames a second over time",
        &html! {
            (line((LEFT, floor), (WIDTH - RIGHT, floor), None))
            (text(LEFT - 6.0, TOP + 6.0, "end", format!("{most:.0}/s")))
            @for note in history.frames() {
                @let x = x_of(history, note.start_s);
                @let width = (x_of(history, note.start_s + note.length_s) - x).max(0.5);
                @let came = bar(rate(note.received, note.length_s));
                @let lost = bar(rate(note.shed + note.dropped, note.length_s));
                rect.one x=(px(x)) y=(px(floor - came)) width=(px(width)) height=(px(came)) {}
                @if note.shed + note.dropped > 0 {
                    rect.lost x=(px(x)) y=(px(floor - lost.max(2.0))) width=(px(width)) height=(px(lost.max(2.0))) {}
                }
            }
            (time_axis(history, HIGH))
        },
    )
}

/// A bar for each recovery, by its phases.
pub(super) fn timelines(resets: &[Reset]) -> Markup {
    const ROW: f64 = 22.0;
    /// Further recoveries appear only in the table.
    const SHOWN: usize = 40;
    const NAME: f64 = 160.0;
    let shown = &resets[..resets.len().min(SHOWN)];
    let longest = shown.iter().filter_map(|reset| reset.until(Phase::Reconciled)).max().unwrap_or(1).max(1) as f64;
    let x = |ns: u64| NAME + ns as f64 / longest * (WIDTH - NAME - 80.0);
    let height = ROW * shown.len() as f64 + 34.0;
    let classes = ["one", "two", "three"];
    svg(
        height,
        "Recoveries by their phases",
        &html! {
            @for (name, (class, at)) in ["first takeover frame", "all acknowledged", "reconciled"].iter().zip(classes.iter().zip([0.0, 150.0, 280.0])) {
                rect class=(class) x=(NAME + at) y="4" width="10" height="10" {}
                text x=(NAME + at + 14.0) y="13" { (name) }
            }
            @for (row, reset) in shown.iter().enumerate() {
                @let y = 24.0 + ROW * row as f64;
                text x="0" y=(px(y + 12.0)) { (at(reset.at_s)) }
                @let ends = Phase::ALL.map(|phase| reset.until(phase).unwrap_or(0));
                @for (number, class) in classes.iter().enumerate() {
                    @let from = if number == 0 { 0 } else { ends[number - 1] };
                    rect class=(class) x=(px(x(from))) y=(px(y)) width=(px((x(ends[number]) - x(from)).max(1.0))) height=(ROW - 8.0) {}
                }
                text x=(px(x(ends[2]) + 6.0)) y=(px(y + 12.0)) { (nanoseconds(ends[2])) }
            }
        },
    )
}
