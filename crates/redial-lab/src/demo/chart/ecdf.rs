//! Latency distributions: for each time, the share of all calls that were ok by then.

use super::panel::{LEFT, RIGHT, TOP, WIDTH, frame};
use crate::{
    demo::run::Run,
    harness::mode::Mode,
    report::{
        scale::{Scale, duration, reached, round_up},
        svg::{Anchor, Svg},
    },
};

const BOTTOM: f64 = 162.0;

/// The latencies of one run, sorted, and how many calls there were in all.
struct Latencies {
    mode: Mode,
    sorted: Vec<f64>,
    calls: usize,
}

/// The shared axis of all panels, in microseconds, with round ends around every latency.
pub(crate) fn domain(runs: &[Run]) -> (f64, f64) {
    let all: Vec<f64> = runs.iter().flat_map(|run| latencies(run).sorted).collect();
    let low = all.iter().copied().fold(f64::INFINITY, f64::min);
    let high = all.iter().copied().fold(0.0, f64::max);
    if high <= 0.0 {
        return (1e3, 1e6);
    }
    let low = 10f64.powf(low.max(1.0).log10().floor());
    (low, round_up(high))
}

/// One scenario: both ways of calling in one panel.
pub(crate) fn draw(runs: &[&Run], domain: (f64, f64)) -> String {
    let Some(first) = runs.first() else {
        return String::new();
    };
    let name = first.scenario.name;
    let all: Vec<_> = runs.iter().map(|run| latencies(run)).collect();
    let title = format!("Latency of calls: {name}");
    let slug = super::slug("latency", name, "both");
    let mut svg = Svg::new(&slug, (WIDTH, BOTTOM + 42.0), &title, &describe(&all));
    let y = frame(&mut svg, BOTTOM, "ok within this time (log scale)");
    let x = Scale::log(domain, (LEFT, RIGHT));
    for tick in x.ticks(0.0) {
        svg.line("grid", (x.at(tick), TOP), (x.at(tick), BOTTOM));
        let label = duration(tick).replace(".0 ", " ");
        svg.text("tick", (x.at(tick), BOTTOM + 16.0), Anchor::Middle, &label);
    }
    svg.line("base", (LEFT, BOTTOM), (RIGHT, BOTTOM));
    // The naive line last and dashed: where both agree, both are visible.
    for latencies in &all {
        draw_one(&mut svg, latencies, x, y);
    }
    svg.finish()
}

fn draw_one(svg: &mut Svg, latencies: &Latencies, x: Scale, y: Scale) {
    let mode = latencies.mode.name();
    if latencies.sorted.is_empty() {
        let text = format!("{mode}: no call was ever ok");
        let class = format!("note {mode}-text halo");
        svg.text(&class, (RIGHT - 6.0, BOTTOM - 8.0), Anchor::End, &text);
        return;
    }
    svg.path(&format!("curve {mode}"), &curve(latencies, x, y));
    for share in [0.5, 0.99] {
        if let Some(at) = reached(&latencies.sorted, latencies.calls, share) {
            let tip = format!("{:.0} % within {}", share * 100.0, duration(at));
            svg.mark(latencies.mode.series(), (x.at(at), y.at(share)), &tip);
        }
    }
}

/// Steps up by one call at each latency; ends flat at the share that was ever ok.
fn curve(latencies: &Latencies, x: Scale, y: Scale) -> String {
    let mut path = format!("M{LEFT:.1} {BOTTOM:.1}");
    for (index, latency) in latencies.sorted.iter().enumerate() {
        let share = (index + 1) as f64 / latencies.calls as f64;
        path.push_str(&format!("H{:.1}V{:.1}", x.at(*latency), y.at(share)));
    }
    path.push_str(&format!("H{RIGHT:.1}"));
    path
}

fn latencies(run: &Run) -> Latencies {
    Latencies {
        mode: run.mode,
        sorted: run.sorted_us(),
        calls: run.calls.len(),
    }
}

fn describe(all: &[Latencies]) -> String {
    let one = |latencies: &Latencies| {
        let at = |share| {
            reached(&latencies.sorted, latencies.calls, share)
                .map_or_else(|| "never".to_owned(), duration)
        };
        let mode = latencies.mode.name();
        format!(
            "{mode}: half of the calls were ok within {}, 99 % within {}",
            at(0.5),
            at(0.99)
        )
    };
    all.iter().map(one).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_ends_at_the_share_that_was_ok() {
        let x = Scale::log((1.0, 100.0), (0.0, 100.0));
        let y = Scale::linear((0.0, 1.0), (100.0, 0.0));
        let latencies = Latencies {
            mode: Mode::Session,
            sorted: vec![1.0, 10.0],
            calls: 4,
        };
        let path = curve(&latencies, x, y);
        assert!(path.ends_with("H0.0V75.0H50.0V50.0H258.0"), "{path}");
        let never = Latencies {
            mode: Mode::Naive,
            sorted: vec![],
            calls: 4,
        };
        assert!(describe(&[never]).contains("half of the calls were ok within never"));
    }
}
