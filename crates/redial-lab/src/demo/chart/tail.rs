//! The tail of latencies: for each time, how many of a thousand calls took longer.

use crate::{
    demo::chapters::hedging::Hedged,
    report::{
        scale::{Scale, duration, reached},
        svg::{Anchor, Svg},
    },
};

const WIDTH: f64 = 860.0;
const LEFT: f64 = 96.0;
const RIGHT: f64 = 640.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 270.0;
/// The lowest share that is drawn.
const LEAST: f64 = 0.0002;
/// The shares that have names.
const NAMED: [(f64, &str); 3] = [(0.5, "p50"), (0.01, "p99"), (0.001, "p99.9")];

/// A curve for each policy, falling: the lower and the more to the left, the better.
pub(crate) fn draw(runs: &[Hedged]) -> String {
    let title = "Share of calls that took longer";
    let mut svg = Svg::new("tail", (WIDTH, BOTTOM + 46.0), title, &describe(runs));
    let all = || runs.iter().flat_map(|run| run.sorted_us.iter().copied());
    let low = all().fold(1e3, f64::min).max(100.0);
    let high = all().fold(1e4, f64::max) * 1.1;
    let x = Scale::log((low, high), (LEFT, RIGHT));
    let y = Scale::log((LEAST, 1.0), (BOTTOM, TOP));
    for tick in x.ticks(0.0) {
        svg.line("grid", (x.at(tick), TOP), (x.at(tick), BOTTOM));
        let label = duration(tick).replace(".0 ", " ");
        svg.text("tick", (x.at(tick), BOTTOM + 17.0), Anchor::Middle, &label);
    }
    for (share, name) in NAMED {
        svg.line("grid", (LEFT, y.at(share)), (RIGHT, y.at(share)));
        let label = format!("{name}, {} %", share * 100.0);
        svg.text("tick", (LEFT - 8.0, y.at(share) + 4.0), Anchor::End, &label);
    }
    let middle = (f64::midpoint(LEFT, RIGHT), BOTTOM + 38.0);
    let text = "so many of all calls took longer than this (both scales log)";
    svg.text("axis", middle, Anchor::Middle, text);
    svg.line("base", (LEFT, BOTTOM), (RIGHT, BOTTOM));
    for (index, run) in runs.iter().enumerate() {
        draw_one(&mut svg, run, index, (x, y));
    }
    svg.finish()
}

fn draw_one(svg: &mut Svg, run: &Hedged, index: usize, (x, y): (Scale, Scale)) {
    let (class, sorted) = (run.policy.class, &run.sorted_us);
    svg.path(&format!("curve {class}"), &curve(sorted, x, y));
    for (index, (share, name)) in NAMED.into_iter().enumerate() {
        if let Some(at) = reached(sorted, sorted.len(), 1.0 - share) {
            let tip = format!("{name} {}", percentiles(run)[index]);
            svg.circle(class, (x.at(at), y.at(share)), 4.0, &tip);
        }
    }
    let [_, p99, _] = percentiles(run);
    let at = (RIGHT + 12.0, TOP + 16.0 + 40.0 * index as f64);
    let text = format!("second request: {}", run.policy.name);
    svg.text(&format!("label {class}-text"), at, Anchor::Start, &text);
    svg.text(
        "note",
        (at.0, at.1 + 16.0),
        Anchor::Start,
        &format!("p99 {p99}"),
    );
}

/// Those that have names, as the table has them: by the client's own count, which rounds to three
/// digits.
fn percentiles(run: &Hedged) -> [String; NAMED.len()] {
    let latency = run.summary.latency_us;
    let text = |us: Option<f64>| us.map_or_else(|| "-".to_owned(), duration);
    [latency.p50, latency.p99, latency.p999].map(text)
}

/// Steps down by one call at each latency.
fn curve(sorted: &[f64], x: Scale, y: Scale) -> String {
    let mut path = format!("M{:.1} {:.1}", x.at(0.0), y.at(1.0));
    for (index, latency) in sorted.iter().enumerate() {
        let longer = 1.0 - (index + 1) as f64 / sorted.len() as f64;
        path.push_str(&format!("H{:.1}V{:.1}", x.at(*latency), y.at(longer)));
    }
    path
}

fn describe(runs: &[Hedged]) -> String {
    let one = |run: &Hedged| {
        let [p50, p99, _] = percentiles(run);
        format!("second request {}: p50 {p50}, p99 {p99}", run.policy.name)
    };
    runs.iter().map(one).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_falls_by_one_call_at_each_latency() {
        let x = Scale::log((1.0, 100.0), (0.0, 100.0));
        let y = Scale::log((0.01, 1.0), (100.0, 0.0));
        let path = curve(&[10.0, 100.0], x, y);
        assert_eq!(path, "M0.0 0.0H50.0V15.1H100.0V100.0");
    }
}
