//! How many attempts the calls took.

use super::panel::{LEFT, RIGHT, WIDTH, frame};
use crate::{
    demo::run::Run,
    harness::mode::Mode,
    report::{
        scale::Scale,
        svg::{Anchor, Svg},
    },
};

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
    let mut svg = Svg::new(&slug, (WIDTH, BOTTOM + 42.0), &title, &describe(runs));
    let y = frame(&mut svg, BOTTOM, "attempts that a call took");
    let step = (RIGHT - LEFT) / f64::from(MOST);
    for attempts in 1..=MOST {
        let middle = LEFT + step * (f64::from(attempts) - 0.5);
        let label = format!("{attempts}{}", if attempts == MOST { "+" } else { "" });
        svg.text("tick", (middle, BOTTOM + 16.0), Anchor::Middle, &label);
        for run in runs {
            draw_bar(&mut svg, run, attempts, (middle, step * 0.36), y);
        }
    }
    svg.line("base", (LEFT, BOTTOM), (RIGHT, BOTTOM));
    svg.finish()
}

/// To the left of the pair's middle with a session, to the right naively.
fn draw_bar(svg: &mut Svg, run: &Run, attempts: u32, (middle, width): (f64, f64), y: Scale) {
    let share = share(run, attempts);
    if share <= 0.0 {
        return;
    }
    let left = match run.mode {
        Mode::Session => middle - width - 0.5,
        _ => middle + 0.5,
    };
    // A single call among hundreds must not vanish.
    let height = (BOTTOM - y.at(share)).max(1.5);
    let mode = run.mode.name();
    let tip = format!("{mode}: {:.1} % of calls", share * 100.0);
    svg.rect(mode, (left, BOTTOM - height), (width, height), &tip);
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
