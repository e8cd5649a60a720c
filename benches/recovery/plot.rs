//! Time over size, both by powers of ten, as an SVG.

use std::fmt::Write as _;

use baton::text::{thousands, time};

use super::figures::{OfFault, OfSize, Phase};

const WIDTH: f64 = 820.0;
const HEIGHT: f64 = 500.0;
/// Of the plane itself.
const LEFT: f64 = 86.0;
const RIGHT: f64 = 610.0;
const TOP: f64 = 62.0;
const BOTTOM: f64 = 430.0;

/// Name, colour, and which of a fault's phases.
type Curve = (&'static str, &'static str, fn(&OfFault) -> &Phase);

const CURVES: [Curve; 4] = [
    ("reconciled", "#7a5195", |of| &of.reconciled),
    ("all acknowledged", "#2f6db5", |of| &of.all_acknowledged),
    ("first takeover frame", "#d1495b", |of| &of.first_takeover),
    ("noticed", "#8a8a8a", |of| &of.detect),
];

/// From a logarithm to a place.
struct Axis {
    from: f64,
    to: f64,
    begin: f64,
    end: f64,
}

impl Axis {
    fn of(values: impl Iterator<Item = f64>, begin: f64, end: f64) -> Self {
        let logs = values.filter(|&value| value > 0.0).map(f64::log10);
        let (from, to) = logs.fold((f64::MAX, f64::MIN), |(from, to), log| (from.min(log), to.max(log)));
        if from > to {
            return Self { from: 0.0, to: 1.0, begin, end };
        }
        Self { from: from.floor(), to: to.ceil().max(from.floor() + 1.0), begin, end }
    }

    fn at(&self, value: f64) -> f64 {
        self.begin + (value.log10() - self.from) / (self.to - self.from) * (self.end - self.begin)
    }

    fn powers(&self) -> impl Iterator<Item = f64> + use<> {
        (self.from as i32..=self.to as i32).map(|power| 10_f64.powi(power))
    }
}

/// The plot of engine kills over the sizes.
pub fn svg(sizes: &[OfSize], subtitle: &str) -> String {
    let kills: Vec<_> = sizes.iter().filter_map(|size| Some((size, size.engine_kill()?))).collect();
    let times = kills
        .iter()
        .flat_map(|(_, of)| CURVES.iter().flat_map(|(.., phase)| [phase(of).p50_us, phase(of).p99_us]).flatten());
    let x = Axis::of(kills.iter().map(|(size, _)| size.meetings.into()), LEFT, RIGHT);
    let y = Axis::of(times, BOTTOM, TOP);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\" fill=\"#333\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"26\" font-size=\"17\" fill=\"#111\">From the kill of the engine, by number of meetings</text>\n\
         <text x=\"{LEFT}\" y=\"46\" fill=\"#666\">{subtitle}</text>\n"
    );
    for value in y.powers() {
        let at = y.at(value);
        line(&mut text, (LEFT, at), (RIGHT, at), "#e4e4e4");
        let _ =
            writeln!(text, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>", LEFT - 8.0, at + 4.5, tick(value));
    }
    for value in x.powers() {
        line(&mut text, (x.at(value), TOP), (x.at(value), BOTTOM), "#e4e4e4");
        let (at, label) = (x.at(value), thousands(value as u64));
        let _ = writeln!(text, "<text x=\"{at}\" y=\"{}\" text-anchor=\"middle\">{label}</text>", BOTTOM + 20.0);
    }
    let middle = (LEFT + RIGHT) / 2.0;
    let _ = writeln!(text, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">meetings</text>", BOTTOM + 42.0);
    let mut labels: Vec<(f64, String, &str)> = Vec::new();
    for (name, colour, phase) in CURVES {
        // The field's network has other servers than the rest: a mark of its own, and no part of
        // the curve.
        let points = |field: bool| {
            let of = kills.iter().filter(move |(size, _)| size.field == field);
            of.filter_map(|(size, of)| Some((x.at(size.meetings.into()), phase(of))).filter(|(_, it)| it.seen > 0))
        };
        let path: Vec<_> =
            points(false).filter_map(|(x, it)| Some(format!("{x:.1},{:.1}", y.at(it.p50_us?)))).collect();
        let _ = writeln!(
            text,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for field in [false, true] {
            for (x, it) in points(field) {
                let (Some(p50), Some(p99)) = (it.p50_us, it.p99_us) else { continue };
                line(&mut text, (x, y.at(p50)), (x, y.at(p99)), colour);
                line(&mut text, (x - 4.0, y.at(p99)), (x + 4.0, y.at(p99)), colour);
                let fill = if field { "#fff" } else { colour };
                let _ = writeln!(
                    text,
                    "<circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"4.5\" fill=\"{fill}\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                    y.at(p50)
                );
            }
        }
        if let Some(p50) = points(false).next_back().and_then(|(_, it)| it.p50_us) {
            labels.push((y.at(p50), format!("{name}, {}", time(p50)), colour));
        }
    }
    // Names beside the ends of their curves, apart from each other.
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut below = f64::MIN;
    for (at, name, colour) in labels {
        below = (at + 4.5).max(below + 17.0);
        let _ = writeln!(text, "<text x=\"{}\" y=\"{below:.1}\" fill=\"{colour}\">{name}</text>", RIGHT + 12.0);
    }
    let _ = writeln!(
        text,
        "<text x=\"{LEFT}\" y=\"{}\" fill=\"#666\">Dots: median; whiskers: 99th percentile; hollow: the field's network, 44 \
         autonomous servers, else 4.</text>\n</svg>",
        HEIGHT - 10.0
    );
    text
}

fn line(text: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let _ = writeln!(
        text,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"/>",
        from.0, from.1, to.0, to.1
    );
}

/// A power of ten of microseconds.
fn tick(us: f64) -> String {
    let (value, unit) = match us {
        us if us < 1e3 => (us, "µs"),
        us if us < 1e6 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    format!("{value} {unit}")
}
