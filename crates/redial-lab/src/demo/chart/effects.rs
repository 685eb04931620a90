//! The picture that matters most: effects found per call made, where one is right.

use crate::{
    demo::run::Run,
    harness::mode::Mode,
    report::{
        room::{NARROW, Room},
        scale::{Scale, thousands},
        series::Series,
        svg::{Anchor, Svg},
    },
};

const TOP: f64 = 28.0;
const TICKS: [f64; 8] = [0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0];

/// Where the rows are.
struct EffectsLayout {
    room: Room,
    width: f64,
    left: f64,
    right: f64,
    row: f64,
}

fn layout(room: Room) -> EffectsLayout {
    match room {
        Room::Wide => EffectsLayout {
            room,
            width: 860.0,
            left: 130.0,
            right: 800.0,
            row: 34.0,
        },
        Room::Narrow => EffectsLayout {
            room,
            width: NARROW,
            left: 8.0,
            right: NARROW - 8.0,
            row: 46.0,
        },
    }
}

/// One row per scenario, with a mark for each way of calling.
pub(crate) fn draw(runs: &[Run], room: Room) -> String {
    let (rows, layout) = (scenarios(runs), layout(room));
    let bottom = TOP + layout.row * rows.len() as f64;
    let title = "Effects found per call made";
    let size = (layout.width, bottom + 48.0);
    let mut svg = Svg::new(&room.slug("effects"), size, title, &description(runs));
    let least = runs.iter().map(ratio).fold(0.8, f64::min).max(0.01);
    let most = runs.iter().map(ratio).fold(1.5, f64::max) * 1.1;
    // Logarithmic, since it is a ratio: a quarter too much and ten times too much are both visible.
    let x = Scale::log((least, most), (layout.left, layout.right));
    let ticks = TICKS
        .into_iter()
        .filter(|tick| (least..most).contains(tick));
    axis(&mut svg, &layout, x, ticks, bottom);
    for (row, name) in rows.iter().enumerate() {
        let top = TOP + layout.row * row as f64;
        let y = top + room.pick(layout.row / 2.0, 33.0);
        match room {
            Room::Wide => svg.text("label", (layout.left - 14.0, y + 4.5), Anchor::End, name),
            Room::Narrow => svg.text("label halo", (0.0, top + 17.0), Anchor::Start, name),
        }
        let here: Vec<_> = runs
            .iter()
            .filter(|run| run.scenario.name == *name)
            .collect();
        draw_row(&mut svg, &layout, x, y, &here);
    }
    svg.finish()
}

fn axis(
    svg: &mut Svg,
    layout: &EffectsLayout,
    x: Scale,
    ticks: impl Iterator<Item = f64>,
    bottom: f64,
) {
    for tick in ticks {
        let right = (tick - 1.0).abs() < 1e-9;
        let class = if right { "right" } else { "grid" };
        svg.line(class, (x.at(tick), TOP - 6.0), (x.at(tick), bottom));
        let label = tick.to_string();
        svg.text("tick", (x.at(tick), bottom + 16.0), Anchor::Middle, &label);
    }
    // Half of its letters are to the left of the line.
    let at = (x.at(1.0).max(46.0), TOP - 12.0);
    svg.text("note right-text", at, Anchor::Middle, "each call once");
    let at = (f64::midpoint(layout.left, layout.right), bottom + 36.0);
    let text = "effects found on the server per call made (log scale)";
    svg.text("axis", at, Anchor::Middle, text);
}

fn draw_row(svg: &mut Svg, layout: &EffectsLayout, x: Scale, y: f64, runs: &[&Run]) {
    let find = |mode| runs.iter().find(|run| run.mode == mode);
    let (Some(session), Some(naive)) = (find(Mode::Session), find(Mode::Naive)) else {
        return;
    };
    let (from, to) = (x.at(ratio(session)), x.at(ratio(naive)));
    svg.line("stem", (from, y), (to, y));
    svg.mark(Series::Naive, (to, y), &tip(naive));
    svg.mark(Series::Session, (from, y), &tip(session));
    let text = if naive.effects > naive.summary.calls {
        format!(
            "{:.2}: {} effects of {} calls",
            ratio(naive),
            thousands(naive.effects),
            thousands(naive.summary.calls)
        )
    } else {
        format!("both {:.2}", ratio(naive))
    };
    let (at, anchor) = match layout.room {
        Room::Narrow => ((layout.width, y - 16.0), Anchor::End),
        Room::Wide if to > f64::midpoint(layout.left, layout.right) => {
            ((to - 14.0, y - 5.0), Anchor::End)
        }
        Room::Wide => ((to + 14.0, y + 4.5), Anchor::Start),
    };
    svg.text("note halo", at, anchor, &text);
}

/// Effects per call that was made.
fn ratio(run: &Run) -> f64 {
    run.effects as f64 / run.summary.calls.max(1) as f64
}

fn tip(run: &Run) -> String {
    let (effects, calls) = (thousands(run.effects), thousands(run.summary.calls));
    format!("{effects} effects of {calls} calls")
}

fn scenarios(runs: &[Run]) -> Vec<&'static str> {
    let mut names: Vec<_> = runs.iter().map(|run| run.scenario.name).collect();
    names.dedup();
    names
}

fn description(runs: &[Run]) -> String {
    let one = |run: &Run| {
        format!(
            "{} {}: {:.2}",
            run.scenario.name,
            run.mode.name(),
            ratio(run)
        )
    };
    runs.iter().map(one).collect::<Vec<_>>().join("; ")
}
