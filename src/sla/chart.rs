//! What the plots have in common: a logarithmic axis, and SVG that is drawn on it.

use std::fmt::Display;

use maud::{Markup, html};

use crate::text::seconds;

/// A logarithmic scale between two places of a picture, from a whole decade to a whole decade.
#[derive(Clone, Copy, Debug)]
pub struct LogAxis {
    /// Logarithms of the first and of the last decade.
    low: f64,
    high: f64,
    /// Where in the picture these are.
    begin: f64,
    end: f64,
}

impl LogAxis {
    /// Around all of these values, of which those that are not above zero count for nothing; one
    /// decade at least. `begin` is where the lowest is in the picture.
    pub fn around(values: impl IntoIterator<Item = f64>, begin: f64, end: f64) -> Self {
        let logs = values.into_iter().filter(|&value| value > 0.0).map(f64::log10);
        let (low, high) = logs.fold((f64::MAX, f64::MIN), |(low, high), log| (low.min(log), high.max(log)));
        let low = if low > high { 0.0 } else { low.floor() };
        Self { low, high: high.ceil().max(low + 1.0), begin, end }
    }

    /// Where a value is, as a share of the scale from its begin; values beyond it are at its ends.
    pub fn share(self, value: f64) -> f64 {
        ((value.max(f64::MIN_POSITIVE).log10() - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// Where a value is in the picture.
    pub fn at(self, value: f64) -> f64 {
        self.begin + self.share(value) * (self.end - self.begin)
    }

    /// Each decade of the scale.
    pub fn decades(self) -> impl Iterator<Item = f64> + use<> {
        (self.low as i32..=self.high as i32).map(|power| 10_f64.powi(power))
    }
}

/// A decade of seconds, in the unit that suits it: `100 µs`.
pub fn decade(of_seconds: f64) -> String {
    // A power of ten has no digits behind the point but zeros.
    seconds(of_seconds).replace(".00", "").replace(".0", "")
}

/// A place as it is written in SVG.
pub fn px(place: f64) -> String {
    format!("{place:.1}")
}

/// A text at a place: `anchor` is `start`, `middle` or `end`.
pub fn text(x: f64, y: f64, anchor: &str, words: impl Display) -> Markup {
    html! { text x=(px(x)) y=(px(y)) text-anchor=(anchor) { (maud::display(words)) } }
}

/// A line from a place to another, of this colour, or of the page's style.
pub fn line(from: (f64, f64), to: (f64, f64), colour: Option<&str>) -> Markup {
    let class = colour.is_none().then_some("axis");
    html! { line class=[class] x1=(px(from.0)) y1=(px(from.1)) x2=(px(to.0)) y2=(px(to.1)) stroke=[colour] {} }
}

/// A curve through these places.
pub fn curve(points: impl IntoIterator<Item = (f64, f64)>, colour: Option<&str>) -> Markup {
    let points: Vec<_> = points.into_iter().map(|(x, y)| format!("{},{}", px(x), px(y))).collect();
    let class = colour.is_none().then_some("curve");
    let width = colour.map(|_| "2");
    html! { polyline class=[class] points=(points.join(" ")) fill="none" stroke=[colour] stroke-width=[width] {} }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_whole_decades_around_its_values() {
        let axis = LogAxis::around([20.0, 0.0, 3000.0], 100.0, 0.0);
        assert_eq!(axis.decades().collect::<Vec<_>>(), [10.0, 100.0, 1000.0, 10_000.0]);
        assert_eq!([10.0, 10_000.0, 1e9, 0.0].map(|value| axis.at(value)), [100.0, 0.0, 0.0, 100.0]);
        assert_eq!(LogAxis::around([], 0.0, 1.0).decades().collect::<Vec<_>>(), [1.0, 10.0]);
        assert_eq!(LogAxis::around([100.0], 0.0, 1.0).decades().collect::<Vec<_>>(), [100.0, 1000.0]);
        assert_eq!([1e-6, 1e-4, 1.0, 10.0].map(decade), ["1 µs", "100 µs", "1 s", "10 s"]);
    }
}
