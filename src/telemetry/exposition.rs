//! Metrics as text: in Prometheus' own format (0.0.4), and in OpenMetrics (1.0) for clients that
//! ask for it.
//!
//! The two differ in the names of counter families, in units, and in the last line. The official
//! library writes only the latter, which `promtool check metrics` does not accept; so both are
//! written here, from one description of each family.

use std::fmt::{Display, Write as _};

use hdrhistogram::Histogram;

/// The format of the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// `text/plain; version=0.0.4`.
    Prometheus,
    /// `application/openmetrics-text; version=1.0.0`.
    OpenMetrics,
}

impl Dialect {
    /// The format that a client wants, according to its Accept headers.
    pub fn accepted<'a>(mut accept: impl Iterator<Item = &'a str>) -> Self {
        if accept.any(|value| value.contains("application/openmetrics-text")) {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// The content type of an answer in this format.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The upper bounds of a histogram's buckets, in nanoseconds: from a microsecond to a minute, three
/// for each decade.
const BUCKETS_NS: [u64; 24] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];

/// The text, built one family at a time.
pub struct Exposition {
    dialect: Dialect,
    out: String,
}

/// Adds samples to the family that was begun last.
pub struct Samples<'a> {
    out: &'a mut String,
    name: String,
}

impl Exposition {
    /// An empty text.
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, out: String::with_capacity(16 << 10) }
    }

    /// Begins a family of counters. `name` is without `_total`.
    pub fn counters(&mut self, name: &str, help: &str) -> Samples<'_> {
        let family = match self.dialect {
            Dialect::Prometheus => format!("{name}_total"),
            Dialect::OpenMetrics => name.to_owned(),
        };
        self.describe(&family, "counter", help);
        Samples { out: &mut self.out, name: format!("{name}_total") }
    }

    /// Begins a family of gauges.
    pub fn gauges(&mut self, name: &str, help: &str) -> Samples<'_> {
        self.describe(name, "gauge", help);
        Samples { out: &mut self.out, name: name.to_owned() }
    }

    /// Begins a family of histograms. `name` ends in `_seconds`.
    pub fn histograms(&mut self, name: &str, help: &str) -> Samples<'_> {
        self.describe(name, "histogram", help);
        Samples { out: &mut self.out, name: name.to_owned() }
    }

    fn describe(&mut self, family: &str, kind: &str, help: &str) {
        let out = &mut self.out;
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# HELP {family} {help}\n# TYPE {family} {kind}");
        if self.dialect == Dialect::OpenMetrics && family.ends_with("_seconds") {
            let _ = writeln!(out, "# UNIT {family} seconds");
        }
    }

    /// The complete text.
    pub fn finish(mut self) -> String {
        if self.dialect == Dialect::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }
}

impl Samples<'_> {
    /// Adds a sample with its labels.
    pub fn sample(&mut self, labels: &[(&str, &dyn Display)], value: impl Display) -> &mut Self {
        let name = self.name.clone();
        self.line(&name, labels, value)
    }

    /// Adds a histogram of nanoseconds, in seconds.
    pub fn histogram(&mut self, labels: &[(&str, &dyn Display)], recorded: &Histogram<u64>) -> &mut Self {
        let [bucket, sum, count] = ["bucket", "sum", "count"].map(|part| format!("{}_{part}", self.name));
        let with = |bound: &dyn Display, samples: &mut Self, value: u64| {
            let mut all = labels.to_vec();
            all.push(("le", bound));
            samples.line(&bucket, &all, value);
        };
        for bound in BUCKETS_NS {
            with(&(bound as f64 / 1e9), self, recorded.count_between(0, bound));
        }
        with(&"+Inf", self, recorded.len());
        // Uses each value as it was recorded, to two digits.
        let ns: f64 = recorded
            .iter_recorded()
            .map(|value| value.value_iterated_to() as f64 * value.count_at_value() as f64)
            .sum();
        self.line(&sum, labels, ns / 1e9).line(&count, labels, recorded.len())
    }

    fn line(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: impl Display) -> &mut Self {
        self.out.push_str(name);
        for (number, (label, value)) in labels.iter().enumerate() {
            let value = value.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.out, "{}{label}=\"{value}\"", if number == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.out, "{} {value}", if labels.is_empty() { "" } else { "}" });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(dialect: Dialect) -> String {
        let mut all = Exposition::new(dialect);
        all.counters("baton_frames_received", "Frames.").sample(&[], 7);
        all.gauges("baton_link_round_trip_seconds", "Time.").sample(&[("domain", &366), ("why", &"a \"b\"\\")], 0.5);
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 2).unwrap();
        histogram.record_n(1_000_000, 3).unwrap();
        histogram.record(2_000_000_000).unwrap();
        all.histograms("baton_stage_seconds", "Stages.").histogram(&[("stage", &"x")], &histogram);
        all.finish()
    }

    #[test]
    fn both_forms_say_the_same() {
        let (classic, open) = (text(Dialect::Prometheus), text(Dialect::OpenMetrics));
        assert!(
            classic.contains("# TYPE baton_frames_received_total counter\nbaton_frames_received_total 7\n"),
            "{classic}"
        );
        assert!(open.contains("# TYPE baton_frames_received counter\nbaton_frames_received_total 7\n"), "{open}");
        assert!(open.contains("# UNIT baton_link_round_trip_seconds seconds\n") && open.ends_with("# EOF\n"), "{open}");
        let samples =
            |text: &str| text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(samples(&classic), samples(&open));
        assert!(classic.contains(r#"baton_link_round_trip_seconds{domain="366",why="a \"b\"\\"} 0.5"#), "{classic}");
    }

    #[test]
    fn buckets_are_cumulative_and_in_seconds() {
        let text = text(Dialect::Prometheus);
        for line in [
            r#"baton_stage_seconds_bucket{stage="x",le="0.0005"} 0"#,
            r#"baton_stage_seconds_bucket{stage="x",le="0.0025"} 3"#,
            r#"baton_stage_seconds_bucket{stage="x",le="60"} 4"#,
            r#"baton_stage_seconds_bucket{stage="x",le="+Inf"} 4"#,
            r#"baton_stage_seconds_count{stage="x"} 4"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        let sum = text.lines().find_map(|line| line.strip_prefix("baton_stage_seconds_sum{stage=\"x\"} ")).unwrap();
        let sum: f64 = sum.parse().unwrap();
        assert!((sum - 2.003).abs() < 0.03, "two digits: {sum}");
    }

    #[test]
    fn a_client_gets_the_form_that_it_asks_for() {
        let of = |accept: &[&str]| Dialect::accepted(accept.iter().copied());
        assert_eq!(of(&[]), Dialect::Prometheus);
        assert_eq!(of(&["text/plain;version=0.0.4"]), Dialect::Prometheus);
        assert_eq!(of(&["application/openmetrics-text;version=1.0.0,text/plain;q=0.5"]), Dialect::OpenMetrics);
    }
}
