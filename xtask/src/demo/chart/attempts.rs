//! How many attempts the calls took.

use crate::{
    demo::{run::Run, scenario::Mode},
    report::{
        scale::Scale,
        svg::{Anchor, Svg},
    },
};

const SIZE: (f64, f64) = (280.0, 186.0);
const LEFT: f64 = 44.0;
const RIGHT: f64 = 268.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 144.0;
/// Calls with more attempts than this share the last pair of bars.
const MOST: u32 = 10;

/// One scenario: a pair of bars for each number of attempts.
pub(crate) fn draw(runs: &[&Run]) -> String {
    let Some(first) = runs.first() else {
        return String::new();
    };
    let name = first.scenario.name;
    let title = format!("Attempts per call: {name}");
    let slug = super::slug("attempts", name, "both");
    let mut svg = Svg::new(&slug, SIZE, &title, &describe(runs));
    let y = Scale::linear((0.0, 1.0), (BOTTOM, TOP));
    for tick in y.ticks(4.0) {
        svg.line("grid", (LEFT, y.at(tick)), (RIGHT, y.at(tick)));
        let label = format!("{:.0} %", tick * 100.0);
        svg.text("tick", (LEFT - 6.0, y.at(tick) + 4.0), Anchor::End, &label);
    }
    let step = (RIGHT - LEFT) / f64::from(MOST);
    let width = step * 0.36;
    for attempts in 1..=MOST {
        let middle = LEFT + step * (f64::from(attempts) - 0.5);
        let more = if attempts == MOST { "+" } else { "" };
        svg.text(
            "tick",
            (middle, BOTTOM + 16.0),
            Anchor::Middle,
            &format!("{attempts}{more}"),
        );
        for run in runs {
            let (class, left) = match run.mode {
                Mode::Table => ("table", middle - width - 0.5),
                Mode::Naive => ("naive", middle + 0.5),
            };
            let share = share(run, attempts);
            if share > 0.0 {
                // A single call among hundreds must not vanish.
                let height = (BOTTOM - y.at(share)).max(1.5);
                let tip = format!("{}: {:.1} % of calls", run.mode.name(), share * 100.0);
                svg.rect(class, (left, BOTTOM - height), (width, height), &tip);
            }
        }
    }
    svg.line("base", (LEFT, BOTTOM), (RIGHT, BOTTOM));
    let middle = f64::midpoint(LEFT, RIGHT);
    svg.text(
        "axis",
        (middle, BOTTOM + 38.0),
        Anchor::Middle,
        "attempts that a call took",
    );
    svg.finish()
}

/// The share of calls that took this many attempts, or at least so many at the end of the axis.
fn share(run: &Run, attempts: u32) -> f64 {
    let range = if attempts == MOST {
        attempts..=u32::MAX
    } else {
        attempts..=attempts
    };
    let calls: u64 = run
        .summary
        .attempts_histogram
        .range(range)
        .map(|(_, calls)| calls)
        .sum();
    calls as f64 / run.summary.calls.max(1) as f64
}

fn describe(runs: &[&Run]) -> String {
    let one = |run: &&Run| {
        format!(
            "{}: {:.2} attempts per call",
            run.mode.name(),
            run.summary.attempts_per_call()
        )
    };
    runs.iter().map(one).collect::<Vec<_>>().join("; ")
}
