//! Resident memory over time, a curve for each way of naming calls.

use super::measure::Curve;
use crate::report::{
    room::{NARROW, Room},
    scale::{self, Scale, rate, thousands},
    series::legend,
    svg::{Anchor, Svg},
};

const TOP: f64 = 12.0;
const BOTTOM: f64 = 270.0;
const LEFT: f64 = 70.0;

/// What the curves are, with what they end with.
pub(crate) fn key(curves: &[&Curve]) -> String {
    legend(curves.iter().map(|curve| {
        let last = scale::memory(curve.growth(0).0);
        let speed = rate(curve.summary.calls_per_s());
        let text = format!("{}: {last} in the end, {speed} calls/s", curve.ids.text());
        (curve.ids.series().curve_key(), text)
    }))
}

/// The curves over one axis.
pub(crate) fn draw(curves: &[&Curve], room: Room) -> String {
    let title = "Resident memory of the server over time";
    let width = room.pick(860.0, NARROW);
    let right = width - 16.0;
    let size = (width, BOTTOM + 46.0);
    let mut svg = Svg::new(&room.slug("memory"), size, title, &describe(curves));
    let samples = || curves.iter().flat_map(|curve| &curve.samples);
    let seconds = samples().map(|sample| sample.at_s).fold(0.1, f64::max);
    let mib = samples().map(|s| mib(s.rss_kib)).fold(1.0, f64::max);
    let x = Scale::linear((0.0, seconds), (LEFT, right));
    let y = Scale::linear((0.0, mib * 1.05), (BOTTOM, TOP));
    for tick in y.ticks(5.0) {
        svg.line("grid", (LEFT, y.at(tick)), (right, y.at(tick)));
        let at = (LEFT - 8.0, y.at(tick) + 4.0);
        svg.text("tick", at, Anchor::End, &format!("{} MiB", tick_text(tick)));
    }
    for tick in x.ticks(room.pick(8.0, 4.0)) {
        let at = (x.at(tick), BOTTOM + 18.0);
        let label = format!("{} s", (tick * 1000.0).round() / 1000.0);
        svg.text("tick", at, Anchor::Middle, &label);
    }
    let middle = (width / 2.0, BOTTOM + 40.0);
    let text = "since the client was started, to its last call";
    svg.text("axis", middle, Anchor::Middle, text);
    svg.line("base", (LEFT, BOTTOM), (right, BOTTOM));
    for curve in curves {
        draw_one(&mut svg, curve, x, y);
    }
    svg.finish()
}

fn draw_one(svg: &mut Svg, curve: &Curve, x: Scale, y: Scale) {
    let Some(last) = curve.samples.last() else {
        return;
    };
    let points = curve.samples.iter().enumerate().map(|(index, sample)| {
        let verb = if index == 0 { 'M' } else { 'L' };
        format!(
            "{verb}{:.1} {:.1}",
            x.at(sample.at_s),
            y.at(mib(sample.rss_kib))
        )
    });
    let class = curve.ids.series().class();
    svg.path(&format!("curve {class}"), &points.collect::<String>());
    let end = (x.at(last.at_s), y.at(mib(last.rss_kib)));
    svg.mark(curve.ids.series(), end, &scale::memory(last.rss_kib));
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
    fn both_curves_are_drawn_and_named() {
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
        for room in [Room::Wide, Room::Narrow] {
            let svg = draw(&[&plain, &session], room);
            assert_eq!(svg.matches("class=\"curve ").count(), 2);
            assert_eq!(svg.matches("class=\"mark ").count(), 2);
        }
        let key = key(&[&plain, &session]);
        assert!(key.contains("with plain ids: 4.0 MiB") && key.contains("with a session: 4.0 MiB"));
        assert!(!draw(&[], Room::Wide).contains("NaN"));
    }
}
