//! What restarts did to the calls that they met: a bar for each way of naming them.

use crate::{
    demo::chapters::restart::Restarted,
    report::{
        scale::{Scale, round_up, thousands},
        svg::{Anchor, Svg},
    },
};

const WIDTH: f64 = 860.0;
const LEFT: f64 = 130.0;
const RIGHT: f64 = 600.0;
const TOP: f64 = 10.0;
const ROW: f64 = 42.0;
const BAR: f64 = 20.0;

/// For each way the calls that did not simply end: doubled, and unknown to their callers.
pub(crate) fn draw(runs: &[Restarted]) -> String {
    let bottom = TOP + ROW * runs.len() as f64;
    let title = "Calls that restarts doubled, or left unknown";
    let mut svg = Svg::new("outcomes", (WIDTH, bottom + 48.0), title, &describe(runs));
    let most = runs.iter().map(|run| run.doubled + run.unknown).max();
    let most = round_up(most.unwrap_or(0).max(10) as f64);
    let x = Scale::linear((0.0, most), (LEFT, RIGHT));
    for tick in x.ticks(5.0) {
        svg.line("grid", (x.at(tick), TOP), (x.at(tick), bottom));
        let label = thousands(tick as u64);
        svg.text("tick", (x.at(tick), bottom + 16.0), Anchor::Middle, &label);
    }
    for (row, run) in runs.iter().enumerate() {
        draw_row(&mut svg, run, x, TOP + ROW * (row as f64 + 0.5));
    }
    svg.line("base", (LEFT, TOP), (LEFT, bottom));
    let middle = (f64::midpoint(LEFT, RIGHT), bottom + 36.0);
    let calls = runs.first().map_or(0, |run| run.calls);
    let text = format!("calls, of {}", thousands(calls));
    svg.text("axis", middle, Anchor::Middle, &text);
    svg.finish()
}

fn draw_row(svg: &mut Svg, run: &Restarted, x: Scale, y: f64) {
    let name = run.way.name;
    svg.text("label", (LEFT - 14.0, y + 4.5), Anchor::End, name);
    let top = y - BAR / 2.0;
    let parts = [
        ("lost-bar", run.doubled, "took effect twice"),
        ("soft-bar", run.unknown, "unknown to their callers"),
    ];
    let mut below = 0;
    for (class, count, tip) in parts {
        let from = x.at(below as f64);
        below += count;
        let width = x.at(below as f64) - from;
        if count > 0 {
            let tip = format!("{} {tip}", thousands(count));
            svg.rect(class, (from, top), (width, BAR), &tip);
        }
    }
    let (class, text) = match (run.doubled, run.unknown) {
        (0, 0) => ("note right-text", "each call once, and known".to_owned()),
        (0, unknown) => {
            let text = format!("none twice, {} unknown", thousands(unknown));
            ("note right-text", text)
        }
        (doubled, _) => ("note lost-text", format!("{} twice", thousands(doubled))),
    };
    let at = (x.at(below as f64) + 10.0, y + 4.5);
    svg.text(class, at, Anchor::Start, &text);
}

fn describe(runs: &[Restarted]) -> String {
    let one = |run: &Restarted| {
        let numbers = [run.effects, run.calls, run.doubled].map(thousands);
        let [effects, calls, doubled] = numbers;
        let way = run.way.name;
        format!("{way}: {effects} effects of {calls} calls, {doubled} doubled")
    };
    runs.iter().map(one).collect::<Vec<_>>().join("; ")
}
