//! What restarts did to the calls that they met: a bar for each way of naming them.

use crate::{
    demo::chapters::restart::Restarted,
    report::{
        room::{NARROW, Room},
        scale::{Scale, round_up, thousands},
        svg::{Anchor, Svg},
    },
};

const TOP: f64 = 10.0;
const BAR: f64 = 20.0;

/// Where the bars are.
struct OutcomesLayout {
    room: Room,
    width: f64,
    left: f64,
    right: f64,
    row: f64,
}

fn layout(room: Room) -> OutcomesLayout {
    match room {
        Room::Wide => OutcomesLayout {
            room,
            width: 860.0,
            left: 130.0,
            right: 600.0,
            row: 42.0,
        },
        Room::Narrow => OutcomesLayout {
            room,
            width: NARROW,
            left: 5.0,
            right: NARROW - 20.0,
            row: 50.0,
        },
    }
}

/// For each way the calls that did not simply end: doubled, and unknown to their callers.
pub(crate) fn draw(runs: &[Restarted], room: Room) -> String {
    let layout = layout(room);
    let bottom = TOP + layout.row * runs.len() as f64;
    let title = "Calls that restarts doubled, or left unknown";
    let size = (layout.width, bottom + 48.0);
    let mut svg = Svg::new(&room.slug("outcomes"), size, title, &describe(runs));
    let most = runs.iter().map(|run| run.doubled + run.unknown).max();
    let most = round_up(most.unwrap_or(0).max(10) as f64);
    let x = Scale::linear((0.0, most), (layout.left, layout.right));
    for tick in x.ticks(5.0) {
        svg.line("grid", (x.at(tick), TOP), (x.at(tick), bottom));
        let label = thousands(tick as u64);
        svg.text("tick", (x.at(tick), bottom + 16.0), Anchor::Middle, &label);
    }
    for (row, run) in runs.iter().enumerate() {
        draw_row(&mut svg, &layout, run, x, TOP + layout.row * row as f64);
    }
    if !room.is_narrow() {
        svg.line("base", (layout.left, TOP), (layout.left, bottom));
    }
    let middle = (f64::midpoint(layout.left, layout.right), bottom + 36.0);
    let calls = runs.first().map_or(0, |run| run.calls);
    let text = format!("calls, of {}", thousands(calls));
    svg.text("axis", middle, Anchor::Middle, &text);
    svg.finish()
}

fn draw_row(svg: &mut Svg, layout: &OutcomesLayout, run: &Restarted, x: Scale, top: f64) {
    let name = run.way.name;
    let y = top + layout.room.pick(layout.row / 2.0, 32.0);
    match layout.room {
        Room::Wide => svg.text("label", (layout.left - 14.0, y + 4.5), Anchor::End, name),
        Room::Narrow => svg.text("label halo", (0.0, top + 16.0), Anchor::Start, name),
    }
    let top = y - BAR / 2.0;
    let parts = [
        ("doubled", run.doubled, "took effect twice"),
        ("unknown", run.unknown, "unknown to their callers"),
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
        (0, 0) => (
            "note right-text halo",
            "each call once, and known".to_owned(),
        ),
        (0, unknown) => {
            let text = format!("none twice, {} unknown", thousands(unknown));
            ("note right-text halo", text)
        }
        (doubled, _) => (
            "note lost-text halo",
            format!("{} twice", thousands(doubled)),
        ),
    };
    let (at, anchor) = match layout.room {
        Room::Wide => ((x.at(below as f64) + 10.0, y + 4.5), Anchor::Start),
        Room::Narrow => ((layout.width, y - 16.0), Anchor::End),
    };
    svg.text(class, at, anchor, &text);
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
