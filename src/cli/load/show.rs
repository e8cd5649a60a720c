//! A load for people: a bar while it lasts, its figures afterwards.

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};

use crate::lab::load::{LatencySummary, Moment, Plan, Summary, Tally};
use crate::output::say;
use crate::text::nanoseconds;

/// A bar on standard error, and none where that is no terminal.
pub(super) fn bar(plan: &Plan) -> ProgressBar {
    let counted = plan.time.is_none() || plan.rate.is_some();
    let bar = if counted { ProgressBar::new(plan.count) } else { ProgressBar::new_spinner() };
    let style = if counted {
        "{bar:30} {human_pos} of {human_len} frames, {msg} ({eta} left)"
    } else {
        "{spinner} {human_pos} frames in {elapsed}, {msg}"
    };
    bar.with_style(ProgressStyle::with_template(style).expect("a constant template"))
}

pub(super) fn advance(bar: &ProgressBar, plan: &Plan, moment: Moment, tally: &Tally) {
    if bar.is_hidden() {
        return;
    }
    bar.set_position(moment.sent.min(plan.count));
    bar.set_message(format!("{} answered", tally.counts().answered));
}

/// The name of a value as it is typed.
pub(super) fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Prints what came of a load.
pub(super) fn summary(summary: &Summary) {
    let Summary { sent, rate, seconds, frame_bytes_max, .. } = summary;
    say!("sent        {sent} {}, {rate:.0} a second for {seconds:.3} s, {frame_bytes_max} bytes", name(&summary.what));
    if let Some(late) = summary.late_ns_max {
        say!("sent late   by {} at most", nanoseconds(late));
    }
    let Some(answers) = &summary.answers else { return };
    let counts = &answers.counts;
    if answers.expected > 0 {
        let lost = match (answers.lost, answers.loss_ratio) {
            (Some(lost), Some(ratio)) => format!("lost {lost} ({:.4} %)", ratio * 100.0),
            _ => "prepared frames were sent again: which ones were lost is not known".into(),
        };
        say!("answered    {} of {}, {lost}", counts.answered, answers.expected);
    }
    let rows = [
        ("covered", counts.covered, "by the acknowledgement of a later report"),
        ("refused", counts.refused, "terminals or meetings that the server does not know"),
        ("reordered", counts.reordered, "answers that came after a later frame's"),
        ("repeated", counts.repeated, "answers to what was answered before"),
        ("strange", counts.strange, "answers to nothing that was sent"),
        ("unauthentic", counts.unauthentic, "frames with a wrong tag, or of other domains"),
        ("other", counts.other, "frames that a dispatch server sends of its own accord"),
        ("dropped", summary.dropped_here, "answers that this sender was too slow for: they count as lost"),
    ];
    for (what, count, meaning) in rows {
        if count > 0 {
            say!("{what:<12}{count} {meaning}");
        }
    }
    for (class, latency) in &answers.latency {
        let LatencySummary { p50_ns, p90_ns, p99_ns, p999_ns, max_ns, .. } = *latency;
        let [p50, p90, p99, p999, max] = [p50_ns, p90_ns, p99_ns, p999_ns, max_ns].map(nanoseconds);
        say!("{class:<12}p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, max {max}");
    }
}
