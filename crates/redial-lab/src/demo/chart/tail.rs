//! The tail of latencies: for each time, how many of a thousand calls took longer.

use crate::{
    demo::chapters::hedging::Hedged,
    report::{
        room::{NARROW, Room},
        scale::{Scale, duration, reached},
        series::legend,
        svg::{Anchor, Svg},
    },
};

const TOP: f64 = 12.0;
const BOTTOM: f64 = 270.0;
/// The lowest share that is drawn.
const LEAST: f64 = 0.0002;
/// The shares that have names.
const NAMED: [(f64, &str); 3] = [(0.5, "p50"), (0.01, "p99"), (0.001, "p99.9")];

/// What the curves are, with their percentiles.
pub(crate) fn key(runs: &[Hedged]) -> String {
    legend(runs.iter().map(|run| {
        let [p50, p99, p999] = percentiles(run);
        let name = run.policy.name;
        let text = format!("second request: {name} (p50 {p50}, p99 {p99}, p99.9 {p999})");
        (run.policy.series.curve_key(), text)
    }))
}

/// A curve for each policy, falling: the lower and the more to the left, the better.
pub(crate) fn draw(runs: &[Hedged], room: Room) -> String {
    let title = "Share of calls that took longer";
    let (width, left) = (room.pick(860.0, NARROW), room.pick(96.0, 46.0));
    let right = width - 14.0;
    let size = (width, BOTTOM + 46.0);
    let mut svg = Svg::new(&room.slug("tail"), size, title, &describe(runs));
    let all = || runs.iter().flat_map(|run| run.sorted_us.iter().copied());
    let low = all().fold(1e3, f64::min).max(100.0);
    let high = all().fold(1e4, f64::max) * 1.1;
    let x = Scale::log((low, high), (left, right));
    let y = Scale::log((LEAST, 1.0), (BOTTOM, TOP));
    for tick in x.ticks(0.0) {
        svg.line("grid", (x.at(tick), TOP), (x.at(tick), BOTTOM));
        let label = duration(tick).replace(".0 ", " ");
        svg.text("tick", (x.at(tick), BOTTOM + 17.0), Anchor::Middle, &label);
    }
    for (share, name) in NAMED {
        svg.line("grid", (left, y.at(share)), (right, y.at(share)));
        let label = room.pick(format!("{name}, {} %", share * 100.0), name.to_owned());
        svg.text("tick", (left - 8.0, y.at(share) + 4.0), Anchor::End, &label);
    }
    let middle = (width / 2.0, BOTTOM + 38.0);
    let text = room.pick(
        "so many of all calls took longer than this (both scales log)",
        "so many calls took longer than this (log scales)",
    );
    svg.text("axis", middle, Anchor::Middle, text);
    svg.line("base", (left, BOTTOM), (right, BOTTOM));
    for run in runs {
        draw_one(&mut svg, run, (x, y));
    }
    svg.finish()
}

fn draw_one(svg: &mut Svg, run: &Hedged, (x, y): (Scale, Scale)) {
    let series = run.policy.series;
    let calls = run.summary.calls as usize;
    let class = format!("curve {}", series.class());
    svg.path(&class, &curve(&run.sorted_us, calls, x, y));
    for ((share, name), text) in NAMED.into_iter().zip(percentiles(run)) {
        if let Some(at) = reached(&run.sorted_us, calls, 1.0 - share) {
            svg.mark(series, (x.at(at), y.at(share)), &format!("{name} {text}"));
        }
    }
}

/// Those that have names, as the table has them.
fn percentiles(run: &Hedged) -> [String; NAMED.len()] {
    NAMED.map(|(share, _)| run.percentile(1.0 - share))
}

/// Steps down by one call at each latency.
fn curve(sorted: &[f64], calls: usize, x: Scale, y: Scale) -> String {
    let mut path = format!("M{:.1} {:.1}", x.at(0.0), y.at(1.0));
    for (index, latency) in sorted.iter().enumerate() {
        let longer = 1.0 - (index + 1) as f64 / calls as f64;
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
        let path = curve(&[10.0, 100.0], 2, x, y);
        assert_eq!(path, "M0.0 0.0H50.0V15.1H100.0V100.0");
    }
}
