//! Resident memory over time, a curve for each way of naming calls.

use super::measure::Curve;
use crate::report::{
    scale::{self, Scale, rate, thousands},
    svg::{Anchor, Svg},
};

const WIDTH: f64 = 860.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 660.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 280.0;
/// Two names at the ends of their curves stand at least this far apart.
const LABEL: f64 = 32.0;

/// The curves over one axis.
pub(crate) fn draw(curves: &[&Curve]) -> String {
    let title = "Resident memory of the server over time";
    let size = (WIDTH, BOTTOM + 46.0);
    let mut svg = Svg::new("memory", size, title, &describe(curves));
    let samples = || curves.iter().flat_map(|curve| &curve.samples);
    let seconds = samples().map(|sample| sample.at_s).fold(0.1, f64::max);
    let mib = samples().map(|s| mib(s.rss_kib)).fold(1.0, f64::max);
    let x = Scale::linear((0.0, seconds), (LEFT, RIGHT));
    let y = Scale::linear((0.0, mib * 1.05), (BOTTOM, TOP));
    for tick in y.ticks(5.0) {
        svg.line("grid", (LEFT, y.at(tick)), (RIGHT, y.at(tick)));
        let at = (LEFT - 8.0, y.at(tick) + 4.0);
        svg.text("tick", at, Anchor::End, &format!("{} MiB", tick_text(tick)));
    }
    for tick in x.ticks(8.0) {
        let at = (x.at(tick), BOTTOM + 18.0);
        let label = format!("{} s", (tick * 1000.0).round() / 1000.0);
        svg.text("tick", at, Anchor::Middle, &label);
    }
    let middle = (f64::midpoint(LEFT, RIGHT), BOTTOM + 40.0);
    let text = "since the client was started; each curve ends with its last call";
    svg.text("axis", middle, Anchor::Middle, text);
    svg.line("base", (LEFT, BOTTOM), (RIGHT, BOTTOM));
    let mut free = f64::INFINITY;
    // From the ground up, so that a name is moved up where it would cover the one below.
    let mut ordered = curves.to_vec();
    ordered.sort_by_key(|curve| curve.growth(0).0);
    for curve in ordered {
        free = draw_one(&mut svg, curve, x, y, free);
    }
    svg.finish()
}

/// Draws a curve and its name, and returns how high the next name must stand.
fn draw_one(svg: &mut Svg, curve: &Curve, x: Scale, y: Scale, free: f64) -> f64 {
    let Some(last) = curve.samples.last() else {
        return free;
    };
    let points = curve.samples.iter().enumerate().map(|(index, sample)| {
        let verb = if index == 0 { 'M' } else { 'L' };
        format!(
            "{verb}{:.1} {:.1}",
            x.at(sample.at_s),
            y.at(mib(sample.rss_kib))
        )
    });
    let class = curve.ids.name();
    svg.path(&format!("curve {class}"), &points.collect::<String>());
    let (end, height) = (x.at(last.at_s), y.at(mib(last.rss_kib)));
    let tip = scale::memory(last.rss_kib);
    svg.circle(class, (end, height), 4.0, &tip);
    let height = height.min(free - LABEL).min(BOTTOM - 14.0);
    let text = format!("{}: {tip}", curve.ids.text());
    let class = format!("label {class}-text halo");
    svg.text(&class, (RIGHT + 12.0, height + 2.0), Anchor::Start, &text);
    let text = format!("{} calls/s", rate(curve.summary.calls_per_s()));
    svg.text(
        "tick halo",
        (RIGHT + 12.0, height + 16.0),
        Anchor::Start,
        &text,
    );
    height
}

fn tick_text(mib: f64) -> String {
    if mib < 1000.0 {
        mib.to_string()
    } else {
        thousands(mib as u64)
    }
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

fn describe(curves: &[&Curve]) -> String {
    let one = |curve: &&Curve| {
        let last = curve.samples.last().map_or(0, |sample| sample.rss_kib);
        format!("{}: {} in the end", curve.ids.text(), scale::memory(last))
    };
    curves.iter().map(one).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        harness::{events::Summary, mode::Mode},
        memory::measure::MemorySample,
    };

    #[test]
    fn both_curves_are_drawn_and_their_names_stand_apart() {
        let curve = |ids, rss_kib| Curve {
            ids,
            summary: Summary::default(),
            samples: (0..4)
                .map(|n| MemorySample {
                    at_s: n as f64,
                    calls: n * 100,
                    rss_kib: rss_kib * (n + 1),
                })
                .collect(),
        };
        let (plain, session) = (curve(Mode::Plain, 1024), curve(Mode::Session, 1023));
        let svg = draw(&[&plain, &session]);
        assert_eq!(svg.matches("class=\"curve ").count(), 2);
        assert!(svg.contains("with plain ids: 4.0 MiB") && svg.contains("with a session: 4.0 MiB"));
        let heights: Vec<f64> = svg
            .split("label ")
            .skip(1)
            .map(|rest| rest.split("y=\"").nth(1).unwrap())
            .map(|rest| rest.split('"').next().unwrap().parse().unwrap())
            .collect();
        assert!(heights[0] - heights[1] > LABEL - 0.1, "{heights:?}");
        assert!(!draw(&[]).contains("NaN"));
    }
}
