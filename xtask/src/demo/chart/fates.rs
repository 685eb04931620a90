//! What became of the calls that met restarts: a bar for each way of naming them.

use crate::{
    demo::chapters::restart::Restarted,
    report::{
        scale::{Scale, thousands},
        svg::{Anchor, Svg},
    },
};

const WIDTH: f64 = 860.0;
const LEFT: f64 = 130.0;
const RIGHT: f64 = 640.0;
const TOP: f64 = 10.0;
const ROW: f64 = 42.0;
const BAR: f64 = 22.0;

/// One bar each: a call that took effect twice stands out at its end, beyond all that was made.
pub(crate) fn draw(runs: &[Restarted]) -> String {
    let bottom = TOP + ROW * runs.len() as f64;
    let title = "Effects of calls that met restarts";
    let mut svg = Svg::new("fates", (WIDTH, bottom + 48.0), title, &describe(runs));
    let most = runs.iter().map(|run| run.effects.max(run.calls)).max();
    let x = Scale::linear((0.0, most.unwrap_or(1) as f64 * 1.02), (LEFT, RIGHT));
    for tick in x.ticks(5.0) {
        svg.line("grid", (x.at(tick), TOP), (x.at(tick), bottom));
        let label = thousands(tick as u64);
        svg.text("tick", (x.at(tick), bottom + 16.0), Anchor::Middle, &label);
    }
    for (row, run) in runs.iter().enumerate() {
        draw_row(&mut svg, run, x, TOP + ROW * (row as f64 + 0.5));
    }
    let middle = (f64::midpoint(LEFT, RIGHT), bottom + 36.0);
    let text = "effects in the ledgers of all lives of the server; the line: calls made";
    svg.text("axis", middle, Anchor::Middle, text);
    svg.finish()
}

fn draw_row(svg: &mut Svg, run: &Restarted, x: Scale, y: f64) {
    let name = run.mode.text();
    svg.text("label", (LEFT - 14.0, y + 4.5), Anchor::End, name);
    let once = run.effects.min(run.calls);
    let top = y - BAR / 2.0;
    let width = x.at(once as f64) - LEFT;
    let tip = format!("{} effects", thousands(run.effects));
    svg.rect(run.mode.name(), (LEFT, top), (width, BAR), &tip);
    if run.effects > run.calls {
        let from = x.at(run.calls as f64);
        let width = (x.at(run.effects as f64) - from).max(2.0);
        svg.rect("lost-bar", (from, top), (width, BAR), &tip);
    }
    let made = x.at(run.calls as f64);
    svg.line("right", (made, y - BAR * 0.8), (made, y + BAR * 0.8));
    let (class, text) = match (run.doubled, run.unknown) {
        (0, 0) => ("note right-text", "each call once".to_owned()),
        (0, unknown) => (
            "note right-text",
            format!("none twice; {unknown} unknown, and told so"),
        ),
        (doubled, _) => (
            "note lost-text",
            format!("{} calls twice", thousands(doubled)),
        ),
    };
    svg.text(class, (RIGHT + 12.0, y + 4.5), Anchor::Start, &text);
}

fn describe(runs: &[Restarted]) -> String {
    let one = |run: &Restarted| {
        let (mode, effects, calls) = (run.mode.text(), run.effects, run.calls);
        format!(
            "{mode}: {effects} effects of {calls} calls, {} doubled",
            run.doubled
        )
    };
    runs.iter().map(one).collect::<Vec<_>>().join("; ")
}
