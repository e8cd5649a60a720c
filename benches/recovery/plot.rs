//! Time over size, both by powers of ten, as an SVG.

use baton::sla::chart::{LogAxis, curve, decade, line, px, text};
use baton::text::{microseconds, thousands};
use maud::{Markup, html};

use super::figures::{OfFault, OfSize, Phase};

const WIDTH: f64 = 820.0;
const HEIGHT: f64 = 500.0;
/// Of the plane itself.
const LEFT: f64 = 86.0;
const RIGHT: f64 = 610.0;
const TOP: f64 = 62.0;
const BOTTOM: f64 = 430.0;
const GRID: &str = "#e4e4e4";

/// Name, colour, and which of a fault's phases.
type Curve = (&'static str, &'static str, fn(&OfFault) -> &Phase);

const CURVES: [Curve; 4] = [
    ("reconciled", "#7a5195", |of| &of.reconciled),
    ("all acknowledged", "#2f6db5", |of| &of.all_acknowledged),
    ("first takeover frame", "#d1495b", |of| &of.first_takeover),
    ("noticed", "#8a8a8a", |of| &of.detect),
];

/// The plot of engine kills over the sizes.
pub fn svg(sizes: &[OfSize], subtitle: &str) -> String {
    let kills: Vec<_> = sizes.iter().filter_map(|size| Some((size, size.engine_kill()?))).collect();
    let times = kills
        .iter()
        .flat_map(|(_, of)| CURVES.iter().flat_map(|(.., phase)| [phase(of).p50_us, phase(of).p99_us]).flatten());
    let x = LogAxis::around(kills.iter().map(|(size, _)| size.meetings.into()), LEFT, RIGHT);
    let y = LogAxis::around(times, BOTTOM, TOP);
    let mut labels: Vec<(f64, String, &str)> = Vec::new();
    let curves = CURVES.map(|(name, colour, phase)| {
        // The field's network has other servers than the rest: a mark of its own, and no part of
        // the curve.
        let points = |field: bool| -> Vec<_> {
            let of = kills.iter().filter(move |(size, _)| size.field == field);
            of.filter_map(|(size, of)| {
                let (p50, p99) = (phase(of).p50_us?, phase(of).p99_us?);
                Some((x.at(size.meetings.into()), p50, p99))
            })
            .collect()
        };
        let (others, field) = (points(false), points(true));
        if let Some((_, p50, _)) = others.last() {
            labels.push((y.at(*p50), format!("{name}, {}", microseconds(*p50)), colour));
        }
        html! {
            (curve(others.iter().map(|&(x, p50, _)| (x, y.at(p50))), Some(colour)))
            @for (points, fill) in [(&others, colour), (&field, "#fff")] {
                @for &(x, p50, p99) in points { (mark(x, y.at(p50), y.at(p99), (colour, fill))) }
            }
        }
    });
    // Names beside the ends of their curves, apart from each other.
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut below = f64::MIN;
    for (at, ..) in &mut labels {
        below = (*at + 4.5).max(below + 17.0);
        *at = below;
    }
    let picture = html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) width=(WIDTH) height=(HEIGHT)
            font-family="sans-serif" font-size="13" fill="#333" {
            rect width=(WIDTH) height=(HEIGHT) fill="#fff" {}
            text x=(LEFT) y="26" font-size="17" fill="#111" { "From the kill of the engine, by number of meetings" }
            text x=(LEFT) y="46" fill="#666" { (subtitle) }
            @for us in y.decades() {
                (line((LEFT, y.at(us)), (RIGHT, y.at(us)), Some(GRID)))
                (text(LEFT - 8.0, y.at(us) + 4.5, "end", decade(us / 1e6)))
            }
            @for meetings in x.decades() {
                (line((x.at(meetings), TOP), (x.at(meetings), BOTTOM), Some(GRID)))
                (text(x.at(meetings), BOTTOM + 20.0, "middle", thousands(meetings as u64)))
            }
            (text((LEFT + RIGHT) / 2.0, BOTTOM + 42.0, "middle", "meetings"))
            @for curve in &curves { (curve) }
            @for (at, name, colour) in &labels { text x=(px(RIGHT + 12.0)) y=(px(*at)) fill=(colour) { (name) } }
            text x=(LEFT) y=(HEIGHT - 10.0) fill="#666" {
                "Dots: median; whiskers: 99th percentile; hollow: the field's network, 44 autonomous servers, else 4."
            }
        }
    };
    picture.into_string() + "\n"
}

/// A median, and a whisker to its 99th percentile.
fn mark(x: f64, p50: f64, p99: f64, (colour, fill): (&str, &str)) -> Markup {
    html! {
        (line((x, p50), (x, p99), Some(colour)))
        (line((x - 4.0, p99), (x + 4.0, p99), Some(colour)))
        circle cx=(px(x)) cy=(px(p50)) r="4.5" fill=(fill) stroke=(colour) stroke-width="2" {}
    }
}
